//! nsqlookupd's words: V1 commands and replies over TCP, JSON over HTTP.
//!
//! A command is a line, trimmed and split at single spaces; IDENTIFY has `i32 length | json` after
//! it. A reply, an error too, is `u32 length | data` without a type. All errors are fatal.

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::json::{self, go_object};
use crate::limits::{LINE_BYTES_MAX, LOOKUP_BODY_BYTES_MAX};
use crate::{MAGIC_V1, Progress, names, read_u32};

/// Data of the reply to everything but IDENTIFY.
pub const OK: &[u8] = b"OK";

/// Who a broker is, as it tells nsqlookupd in IDENTIFY.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PeerInfo {
    /// Where clients reach it.
    pub broadcast_address: String,
    /// Its own name.
    pub hostname: String,
    /// V2 port.
    pub tcp_port: i32,
    /// HTTP port.
    pub http_port: i32,
    /// Plain `major.minor.patch`.
    pub version: String,
}

go_object!(PeerInfo {
    broadcast_address,
    hostname,
    tcp_port,
    http_port,
    version
});

impl PeerInfo {
    /// Reads the body of IDENTIFY and checks that nothing is missing.
    ///
    /// # Errors
    /// [`LookupError::BadJson`], [`LookupError::MissingFields`].
    pub fn from_json(body: &[u8]) -> Result<Self, LookupError> {
        let peer: Self = json::from_slice(body).ok_or(LookupError::BadJson)?;
        let named = !peer.broadcast_address.is_empty() && !peer.version.is_empty();
        if !named || peer.tcp_port == 0 || peer.http_port == 0 {
            return Err(LookupError::MissingFields);
        }
        Ok(peer)
    }

    /// The body of IDENTIFY; the same keys answer it, with nsqlookupd's own values.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads nsqlookupd's answer to IDENTIFY (old ones answer `OK`: `None`).
    pub fn from_reply(data: &[u8]) -> Option<Self> {
        json::from_slice(data)
    }
}

/// A command to nsqlookupd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupCommand<'a> {
    /// See [`PeerInfo::from_json`].
    Identify {
        /// JSON.
        body: &'a [u8],
    },
    /// The broker has this topic, or this channel (and so the topic).
    Register {
        /// Valid topic name.
        topic: &'a str,
        /// Valid channel name.
        channel: Option<&'a str>,
    },
    /// It no longer has it.
    Unregister {
        /// Valid topic name.
        topic: &'a str,
        /// Valid channel name.
        channel: Option<&'a str>,
    },
    /// It lives.
    Ping,
}

/// What nsqlookupd answers with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// The first four bytes were not `"  V1"`.
    BadProtocol,
    /// No `\n` within the longest line: closed without a reply. (nsqlookupd reads on for ever.)
    LineTooLong,
    /// A verb that does not exist.
    UnknownCommand(Box<[u8]>),
    /// REGISTER or UNREGISTER before IDENTIFY.
    NotIdentified,
    /// A second IDENTIFY.
    IdentifiedTwice,
    /// The verb that lacks its topic.
    Parameters(&'static str),
    /// Verb, name.
    BadTopic(&'static str, Box<[u8]>),
    /// Verb, name.
    BadChannel(&'static str, Box<[u8]>),
    /// The input ended inside the length, or the length is negative or above
    /// [`LOOKUP_BODY_BYTES_MAX`]. (nsqlookupd does not look at it.)
    NoBodySize,
    /// The input ended inside the body.
    NoBody,
    /// The body is no JSON object of the right types.
    BadJson,
    /// The body lacks an address, a port or the version.
    MissingFields,
}

impl LookupError {
    /// The reply's data; empty for [`LookupError::LineTooLong`].
    pub fn text(&self) -> Vec<u8> {
        let (code, before, echo, after): (_, _, &[u8], _) = match self {
            Self::LineTooLong => return Vec::new(),
            Self::BadProtocol => return ErrorCode::BadProtocol.as_str().into(),
            Self::UnknownCommand(word) => {
                (ErrorCode::Invalid, "invalid command ".to_owned(), word, "")
            }
            Self::NotIdentified => (
                ErrorCode::Invalid,
                "client must IDENTIFY".to_owned(),
                b"",
                "",
            ),
            Self::IdentifiedTwice => (
                ErrorCode::Invalid,
                "cannot IDENTIFY again".to_owned(),
                b"",
                "",
            ),
            Self::Parameters(verb) => (
                ErrorCode::Invalid,
                format!("{verb} insufficient number of params"),
                b"",
                "",
            ),
            Self::BadTopic(verb, name) => (
                ErrorCode::BadTopic,
                format!("{verb} topic name '"),
                name,
                "' is not valid",
            ),
            Self::BadChannel(verb, name) => (
                ErrorCode::BadChannel,
                format!("{verb} channel name '"),
                name,
                "' is not valid",
            ),
            Self::NoBodySize | Self::NoBody | Self::BadJson | Self::MissingFields => {
                let what = match self {
                    Self::NoBodySize => "failed to read body size",
                    Self::NoBody => "failed to read body",
                    Self::BadJson => "failed to decode JSON body",
                    _ => "missing fields",
                };
                (ErrorCode::BadBody, format!("IDENTIFY {what}"), b"", "")
            }
        };
        let head = format!("{} {before}", code.as_str());
        [head.as_bytes(), echo, after.as_bytes()].concat()
    }

    /// Appends the reply, if this error has one.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = self.text();
        if !text.is_empty() {
            encode_reply(&text, out);
        }
    }
}

impl std::fmt::Display for LookupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LineTooLong => f.write_str("command line too long"),
            _ => write!(f, "{}", self.text().escape_ascii()),
        }
    }
}

impl std::error::Error for LookupError {}

/// Checks the first bytes of a connection, as [`crate::command::parse_magic`] does.
pub fn parse_magic(buffer: &[u8]) -> Result<Option<usize>, LookupError> {
    let there = buffer.get(..MAGIC_V1.len()).unwrap_or(buffer);
    if !MAGIC_V1.starts_with(there) {
        return Err(LookupError::BadProtocol);
    }
    Ok((there.len() == MAGIC_V1.len()).then_some(MAGIC_V1.len()))
}

/// The command at the start of `buffer`. `identified`: whether this connection's IDENTIFY went
/// well.
pub fn parse(buffer: &[u8], identified: bool) -> Result<Progress<LookupCommand<'_>>, LookupError> {
    let searched = buffer.get(..LINE_BYTES_MAX).unwrap_or(buffer);
    let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
        if buffer.len() >= LINE_BYTES_MAX {
            return Err(LookupError::LineTooLong);
        }
        return Ok(Progress::NeedBytes {
            total: buffer.len() + 1,
        });
    };
    let line = buffer.get(..end).unwrap_or_default();
    let mut params = trim(line).split(|byte| *byte == b' ');
    let header = end + 1;
    let value = match params.next().unwrap_or_default() {
        b"PING" => LookupCommand::Ping,
        b"IDENTIFY" => return parse_identify(buffer, header, identified),
        b"REGISTER" => {
            let (topic, channel) = parse_names("REGISTER", identified, params)?;
            LookupCommand::Register { topic, channel }
        }
        b"UNREGISTER" => {
            let (topic, channel) = parse_names("UNREGISTER", identified, params)?;
            LookupCommand::Unregister { topic, channel }
        }
        other => return Err(LookupError::UnknownCommand(other.into())),
    };
    Ok(Progress::Done {
        value,
        consumed: header,
    })
}

/// The error for input that ends in the middle of `buffer`; `None` where the connection is closed
/// without a reply.
pub fn end_of_input(buffer: &[u8]) -> Option<LookupError> {
    let end = buffer.iter().position(|byte| *byte == b'\n')?;
    let body = buffer.len() - end - 1;
    Some(if body < 4 {
        LookupError::NoBodySize
    } else {
        LookupError::NoBody
    })
}

/// Appends a reply.
pub fn encode_reply(data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
}

/// Reads the reply at the start of `buffer`; `None` when it is longer than `bytes_max`.
pub fn decode_reply(buffer: &[u8], bytes_max: u32) -> Option<Progress<&[u8]>> {
    let Some(size) = read_u32(buffer, 0) else {
        return Some(Progress::NeedBytes { total: 4 });
    };
    if size > bytes_max {
        return None;
    }
    let total = size as usize + 4;
    Some(match buffer.get(4..total) {
        Some(value) => Progress::Done {
            value,
            consumed: total,
        },
        None => Progress::NeedBytes { total },
    })
}

/// Appends IDENTIFY.
pub fn encode_identify(peer: &PeerInfo, out: &mut Vec<u8>) {
    out.extend_from_slice(b"IDENTIFY\n");
    encode_reply(&peer.to_json(), out); // a body has the form of a reply
}

/// Appends REGISTER.
pub fn encode_register(topic: &str, channel: Option<&str>, out: &mut Vec<u8>) {
    encode_names(b"REGISTER ", topic, channel, out);
}

/// Appends UNREGISTER.
pub fn encode_unregister(topic: &str, channel: Option<&str>, out: &mut Vec<u8>) {
    encode_names(b"UNREGISTER ", topic, channel, out);
}

/// Appends PING.
pub fn encode_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PING\n");
}

/// A broker in the answers of /lookup and /nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "nsqlookupd's keys; see `PeerInfo`")]
pub struct Producer {
    /// `ip:port` of its connection to nsqlookupd.
    pub remote_address: String,
    pub hostname: String,
    pub broadcast_address: String,
    pub tcp_port: i32,
    pub http_port: i32,
    pub version: String,
}

/// The answer of /lookup. Lists are written as `[]`, never null: pynsq and nsqjs iterate. Null is
/// read as an empty one, because Go writes an unset list so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "nsqlookupd's keys")]
pub struct LookupAnswer {
    #[serde(deserialize_with = "json::list")]
    pub channels: Vec<String>,
    #[serde(deserialize_with = "json::list")]
    pub producers: Vec<Producer>,
}

/// A broker in the answer of /nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Who it is.
    #[serde(flatten)]
    pub producer: Producer,
    /// For each of `topics`, whether this broker is tombstoned for it.
    #[serde(deserialize_with = "json::list")]
    pub tombstones: Vec<bool>,
    /// What it registered.
    #[serde(deserialize_with = "json::list")]
    pub topics: Vec<String>,
}

/// The answer of /nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "nsqlookupd's keys")]
pub struct NodesAnswer {
    #[serde(deserialize_with = "json::list")]
    pub producers: Vec<Node>,
}

/// The answer of /topics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "nsqlookupd's keys")]
pub struct TopicsAnswer {
    #[serde(deserialize_with = "json::list")]
    pub topics: Vec<String>,
}

/// The answer of /channels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "nsqlookupd's keys")]
pub struct ChannelsAnswer {
    #[serde(deserialize_with = "json::list")]
    pub channels: Vec<String>,
}

fn parse_identify(
    buffer: &[u8],
    header: usize,
    identified: bool,
) -> Result<Progress<LookupCommand<'_>>, LookupError> {
    if identified {
        return Err(LookupError::IdentifiedTwice);
    }
    let start = header + 4;
    let Some(size) = read_u32(buffer, header) else {
        return Ok(Progress::NeedBytes { total: start });
    };
    if size > LOOKUP_BODY_BYTES_MAX {
        return Err(LookupError::NoBodySize);
    }
    let total = start + size as usize;
    Ok(match buffer.get(start..total) {
        Some(body) => Progress::Done {
            value: LookupCommand::Identify { body },
            consumed: total,
        },
        None => Progress::NeedBytes { total },
    })
}

fn parse_names<'a>(
    verb: &'static str,
    identified: bool,
    mut params: impl Iterator<Item = &'a [u8]>,
) -> Result<(&'a str, Option<&'a str>), LookupError> {
    if !identified {
        return Err(LookupError::NotIdentified);
    }
    let topic = params.next().ok_or(LookupError::Parameters(verb))?;
    let topic = names::check(topic).ok_or_else(|| LookupError::BadTopic(verb, topic.into()))?;
    let channel = match params.next() {
        None | Some(b"") => None,
        Some(name) => {
            let name = names::check(name).ok_or_else(|| LookupError::BadChannel(verb, name.into()));
            Some(name?)
        }
    };
    Ok((topic, channel))
}

/// Without white space at both ends. (Go also trims Unicode's.)
fn trim(line: &[u8]) -> &[u8] {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let start = line
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(line.len());
    let end = line
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(start, |at| at + 1);
    line.get(start..end).unwrap_or_default()
}

fn encode_names(verb: &[u8], topic: &str, channel: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(verb);
    out.extend_from_slice(topic.as_bytes());
    if let Some(channel) = channel {
        out.push(b' ');
        out.extend_from_slice(channel.as_bytes());
    }
    out.push(b'\n');
}
