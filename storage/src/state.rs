//! The state: the catalogue and all cursors as of one block, in two preallocated files in turn.
//!
//! Little-endian:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `NET1` |
//! | 4 | 4 | CRC-32/ISCSI of 8..64, seeded with the store id |
//! | 8 | 8 | generation; file `state-a` holds even ones, `state-b` odd ones |
//! | 16 | 8 | number of the last ring block that this includes |
//! | 24 | 4 | payload bytes |
//! | 28 | 4 | CRC-32/ISCSI of the payload, seeded with store id and generation |
//! | 32 | 8 | live from: number of the oldest ring block that is needed with this state |
//! | 40 | 4 | live from: ring offset |
//! | 44 | 20 | zero |
//! | 64 | n | payload: postcard [`Image`] |
//!
//! A state is written over the older one of the two and synced before anything relies on it, so one whole state
//! is there at any time. It may say more than its block (what is on its way to the ring already): every entry
//! may be applied twice.

use serde::{Deserialize, Serialize};

use crate::block::Place;
use crate::codec::{checksum, open_header, seal_header, start_header};
use crate::entry::SegmentImage;
use crate::ids::{BlockNo, ChannelNo, Seq, TopicNo};

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 64;

/// The two files; a generation's parity picks one.
pub(crate) const FILE_NAMES: [&str; 2] = ["state-a", "state-b"];

const MAGIC: u32 = u32::from_le_bytes(*b"NET1");

/// Everything but the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// The epoch in which it was written.
    pub(crate) epoch: u32,
    pub(crate) next_topic: TopicNo,
    pub(crate) next_channel: ChannelNo,
    pub(crate) topics: Vec<TopicImage>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TopicImage {
    pub(crate) number: TopicNo,
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) standing: Option<Seq>,
    pub(crate) end: Seq,
    pub(crate) next_segment: u32,
    pub(crate) segments: Vec<SegmentImage>,
    pub(crate) channels: Vec<ChannelImage>,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChannelImage {
    pub(crate) number: ChannelNo,
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) floor: Seq,
    /// Finished above the floor: first, count.
    pub(crate) finished: Vec<(Seq, u64)>,
    /// Given back: sequence, attempts, delay in ms.
    pub(crate) retries: Vec<(Seq, u16, u64)>,
}

impl Image {
    /// Adds a segment to a topic, or what was written to it since.
    pub(crate) fn name_segment(&mut self, number: TopicNo, segment: SegmentImage) {
        let Some(topic) = self.topics.iter_mut().find(|topic| topic.number == number) else {
            return;
        };
        let mut known = topic.segments.iter_mut();
        match known.find(|known| known.number == segment.number) {
            Some(known) => *known = segment,
            None => topic.segments.push(segment),
        }
    }
}

/// A state file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) generation: u64,
    pub(crate) through: BlockNo,
    pub(crate) payload_bytes: u32,
    payload_crc: u32,
    pub(crate) live_from: Place,
}

impl Header {
    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8], store: u64) -> Option<Header> {
        let (_, mut fields) = open_header(bytes, MAGIC, HEADER_BYTES, &[store])?;
        Some(Header {
            generation: fields.u64()?,
            through: BlockNo(fields.u64()?),
            payload_bytes: fields.u32()?,
            payload_crc: fields.u32()?,
            live_from: Place {
                number: BlockNo(fields.u64()?),
                offset: fields.u32()?,
            },
        })
    }

    /// The image in `payload`, if it is whole.
    pub(crate) fn image(&self, payload: &[u8], store: u64) -> Option<Image> {
        if checksum(&[store, self.generation], payload) != self.payload_crc {
            return None;
        }
        postcard::from_bytes(payload).ok()
    }
}

/// The bytes of a state.
#[expect(
    clippy::expect_used,
    reason = "postcard fails on a full buffer only; a Vec grows"
)]
pub(crate) fn encode(
    image: &Image,
    generation: u64,
    through: BlockNo,
    live_from: Place,
    store: u64,
) -> Vec<u8> {
    let out = postcard::to_extend(image, vec![0; HEADER_BYTES]).expect("a Vec takes every image");
    let payload = out.get(HEADER_BYTES..).unwrap_or_default();
    let mut head = Vec::with_capacity(HEADER_BYTES);
    start_header(&mut head, MAGIC);
    head.extend_from_slice(&generation.to_le_bytes());
    head.extend_from_slice(&through.0.to_le_bytes());
    head.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    head.extend_from_slice(&checksum(&[store, generation], payload).to_le_bytes());
    head.extend_from_slice(&live_from.number.0.to_le_bytes());
    head.extend_from_slice(&live_from.offset.to_le_bytes());
    seal_header(&mut head, 0, HEADER_BYTES, &[store]);
    let mut out = out;
    if let Some(slot) = out.get_mut(..HEADER_BYTES) {
        slot.copy_from_slice(&head);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_and_a_damaged_one_does_not() {
        let image = Image {
            epoch: 5,
            next_topic: TopicNo(4),
            next_channel: ChannelNo(9),
            topics: vec![TopicImage {
                number: TopicNo(3),
                name: "clicks".into(),
                paused: true,
                standing: Some(Seq(7)),
                end: Seq(12),
                next_segment: 2,
                segments: Vec::new(),
                channels: Vec::new(),
            }],
        };
        let mut bytes = encode(&image, 6, BlockNo(40), Place::default(), 99);
        let header = Header::decode(&bytes, 99).unwrap();
        assert_eq!((header.generation, header.through), (6, BlockNo(40)));
        assert_eq!(header.payload_bytes as usize, bytes.len() - HEADER_BYTES);
        assert_eq!(header.image(&bytes[HEADER_BYTES..], 99), Some(image));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(header.image(&bytes[HEADER_BYTES..], 99), None);
    }
}
