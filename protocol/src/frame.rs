//! Frames from nsqd to its clients: `u32 size | u32 type | data`, size = 4 + data.
//! A message's data is `i64 timestamp ns | u16 attempts | 16 bytes id | body`.

use crate::id::{ID_BYTES, WireId};
use crate::{Progress, read_u32};

/// Bytes before a frame's data.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Bytes of a message frame before the body: frame header, timestamp, attempts, id.
pub const MESSAGE_HEADER_BYTES: usize = FRAME_HEADER_BYTES + MESSAGE_META_BYTES;

const MESSAGE_META_BYTES: usize = 8 + 2 + ID_BYTES;

/// The response `OK` as a whole frame.
pub const OK_FRAME: &[u8] = b"\0\0\0\x06\0\0\0\0OK";

/// The heartbeat as a whole frame.
pub const HEARTBEAT_FRAME: &[u8] = b"\0\0\0\x0f\0\0\0\0_heartbeat_";

/// The answer to CLS as a whole frame.
pub const CLOSE_WAIT_FRAME: &[u8] = b"\0\0\0\x0e\0\0\0\0CLOSE_WAIT";

/// Data of the response to a publish or SUB.
pub const OK: &[u8] = b"OK";

/// Data of a heartbeat.
pub const HEARTBEAT: &[u8] = b"_heartbeat_";

/// Data of the answer to CLS.
pub const CLOSE_WAIT: &[u8] = b"CLOSE_WAIT";

const TYPE_RESPONSE: u32 = 0;
const TYPE_ERROR: u32 = 1;
const TYPE_MESSAGE: u32 = 2;

/// Appends a response frame.
pub fn encode_response(data: &[u8], out: &mut Vec<u8>) {
    encode_frame(TYPE_RESPONSE, data, out);
}

/// Appends an error frame; `text` is `CODE description`.
pub fn encode_error(text: &[u8], out: &mut Vec<u8>) {
    encode_frame(TYPE_ERROR, text, out);
}

/// Appends a message frame.
pub fn encode_message(message: &Message<'_>, out: &mut Vec<u8>) {
    let size = 4 + MESSAGE_META_BYTES + message.body.len();
    out.reserve(4 + size);
    // One piece for everything before the body: this runs for each delivery.
    let mut header = [0u8; MESSAGE_HEADER_BYTES];
    let fields = (size as u32)
        .to_be_bytes()
        .into_iter()
        .chain(TYPE_MESSAGE.to_be_bytes())
        .chain(message.timestamp_ns.to_be_bytes())
        .chain(message.attempts.to_be_bytes())
        .chain(message.id.0);
    for (place, byte) in header.iter_mut().zip(fields) {
        *place = byte;
    }
    out.extend_from_slice(&header);
    out.extend_from_slice(message.body);
}

/// A message as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Wall time at which the broker accepted it, ns since 1970; the same in every delivery.
    pub timestamp_ns: i64,
    /// Deliveries including this one; 1 at the first. It stops at its largest value.
    pub attempts: u16,
    /// What FIN, REQ and TOUCH name it by.
    pub id: WireId,
    /// The producer's bytes.
    pub body: &'a [u8],
}

/// A frame as a client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The answer to a command, or a heartbeat.
    Response(&'a [u8]),
    /// `CODE description`.
    Error(&'a [u8]),
    /// A delivery.
    Message(Message<'a>),
}

/// Bytes that no broker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A size below the type field's, or above what the reader takes.
    #[error("frame of {size} bytes, {min} to {max} expected")]
    Size {
        /// The size field.
        size: u32,
        /// Least size for a frame of its type.
        min: u32,
        /// Largest size that the reader takes.
        max: u32,
    },
    /// A type that is none of response, error, message.
    #[error("frame of unknown type {0}")]
    Type(u32),
}

/// Reads the frame at the start of `buffer`. `size_max` bounds the frame's size field, and so what
/// a reader ever has to hold.
pub fn decode(buffer: &[u8], size_max: u32) -> Result<Progress<Frame<'_>>, FrameError> {
    let Some(size) = read_u32(buffer, 0) else {
        return Ok(Progress::NeedBytes {
            total: FRAME_HEADER_BYTES,
        });
    };
    let check = |min: u32| match size {
        size if size < min || size > size_max => Err(FrameError::Size {
            size,
            min,
            max: size_max,
        }),
        _ => Ok(()),
    };
    check(4)?;
    let Some(kind) = read_u32(buffer, 4) else {
        return Ok(Progress::NeedBytes {
            total: FRAME_HEADER_BYTES,
        });
    };
    match kind {
        TYPE_RESPONSE | TYPE_ERROR => {}
        TYPE_MESSAGE => check(4 + MESSAGE_META_BYTES as u32)?,
        _ => return Err(FrameError::Type(kind)),
    }
    let total = size as usize + 4;
    let Some(data) = buffer.get(FRAME_HEADER_BYTES..total) else {
        return Ok(Progress::NeedBytes { total });
    };
    let frame = match kind {
        TYPE_RESPONSE => Frame::Response(data),
        TYPE_ERROR => Frame::Error(data),
        _ => match decode_message(data) {
            Some(message) => Frame::Message(message),
            None => return Err(FrameError::Type(kind)), // not reached: the size was checked
        },
    };
    Ok(Progress::Done {
        value: frame,
        consumed: total,
    })
}

fn decode_message(data: &[u8]) -> Option<Message<'_>> {
    let (timestamp, rest) = data.split_first_chunk::<8>()?;
    let (attempts, rest) = rest.split_first_chunk::<2>()?;
    let (id, body) = rest.split_first_chunk::<ID_BYTES>()?;
    Some(Message {
        timestamp_ns: i64::from_be_bytes(*timestamp),
        attempts: u16::from_be_bytes(*attempts),
        id: WireId(*id),
        body,
    })
}

fn encode_frame(kind: u32, data: &[u8], out: &mut Vec<u8>) {
    out.reserve(FRAME_HEADER_BYTES + data.len());
    out.extend_from_slice(&(data.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(data);
}
