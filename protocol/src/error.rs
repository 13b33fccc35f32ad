//! The one table of what a broker refuses: code, text, whether the connection ends.
//!
//! Texts are nsqd v1.3.0's. Only `E_FIN_FAILED`, `E_REQ_FAILED` and `E_TOUCH_FAILED` leave the
//! connection open; clients hard-code that list.

use std::fmt;

use crate::frame::encode_error;
use crate::id::WireId;
use crate::quote::quote;

/// The first word of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the codes")]
pub enum ErrorCode {
    BadProtocol,
    Invalid,
    BadBody,
    BadTopic,
    BadChannel,
    BadMessage,
    IdentifyFailed,
    AuthDisabled,
    SubFailed,
    PubFailed,
    MpubFailed,
    DpubFailed,
    FinFailed,
    ReqFailed,
    TouchFailed,
}

/// What an error does to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fatality {
    /// The frame is sent and the connection goes on.
    GoesOn,
    /// The frame is sent and the connection is closed.
    Closes,
}

impl ErrorCode {
    /// The code as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadProtocol => "E_BAD_PROTOCOL",
            Self::Invalid => "E_INVALID",
            Self::BadBody => "E_BAD_BODY",
            Self::BadTopic => "E_BAD_TOPIC",
            Self::BadChannel => "E_BAD_CHANNEL",
            Self::BadMessage => "E_BAD_MESSAGE",
            Self::IdentifyFailed => "E_IDENTIFY_FAILED",
            Self::AuthDisabled => "E_AUTH_DISABLED",
            Self::SubFailed => "E_SUB_FAILED",
            Self::PubFailed => "E_PUB_FAILED",
            Self::MpubFailed => "E_MPUB_FAILED",
            Self::DpubFailed => "E_DPUB_FAILED",
            Self::FinFailed => "E_FIN_FAILED",
            Self::ReqFailed => "E_REQ_FAILED",
            Self::TouchFailed => "E_TOUCH_FAILED",
        }
    }

    /// Whether the connection survives an error with this code.
    pub const fn fatality(self) -> Fatality {
        match self {
            Self::FinFailed | Self::ReqFailed | Self::TouchFailed => Fatality::GoesOn,
            _ => Fatality::Closes,
        }
    }
}

/// The first word of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the verbs")]
pub enum Verb {
    Identify,
    Auth,
    Sub,
    Rdy,
    Fin,
    Req,
    Touch,
    Cls,
    Pub,
    Dpub,
    Mpub,
}

impl Verb {
    /// The verb as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "IDENTIFY",
            Self::Auth => "AUTH",
            Self::Sub => "SUB",
            Self::Rdy => "RDY",
            Self::Fin => "FIN",
            Self::Req => "REQ",
            Self::Touch => "TOUCH",
            Self::Cls => "CLS",
            Self::Pub => "PUB",
            Self::Dpub => "DPUB",
            Self::Mpub => "MPUB",
        }
    }
}

/// Why FIN, REQ or TOUCH found nothing to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotInFlight {
    /// Finished, timed out, or never delivered.
    Unknown,
    /// In flight to another connection.
    NotOwner,
}

/// Everything that a broker answers with an error frame (except [`CommandError::LineTooLong`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The first four bytes were not `"  V2"`.
    BadProtocol,
    /// No `\n` within the longest line: nsqd closes without a frame.
    LineTooLong,
    /// A verb that does not exist; the word as it came.
    UnknownCommand(Box<[u8]>),
    /// The connection is not in a state for this verb.
    WrongState(Verb),
    /// SUB on a connection that turned heartbeats off.
    SubWithoutHeartbeats,
    /// Too few parameters; for AUTH, any.
    Parameters(Verb),
    /// The topic's name as it came.
    BadTopic(Verb, Box<[u8]>),
    /// The channel's name as it came (SUB).
    BadChannel(Box<[u8]>),
    /// An id that is not 16 bytes long.
    BadMessageId,
    /// RDY's count is no number; the word as it came.
    BadCount(Box<[u8]>),
    /// RDY's count is above the broker's largest.
    CountRange {
        /// As asked.
        count: u64,
        /// As allowed.
        max: u32,
    },
    /// REQ's or DPUB's milliseconds are no number; the word as it came.
    BadTimeout(Verb, Box<[u8]>),
    /// DPUB's delay is above the broker's longest.
    TimeoutRange {
        /// As asked.
        millis: u64,
        /// As allowed, ms.
        max: u64,
    },
    /// The input ended inside the four length bytes.
    NoBodySize(Verb),
    /// A body's length is zero or negative.
    BodySize(Verb, i32),
    /// A body's length is above its bound.
    BodyTooBig {
        /// Of which command.
        verb: Verb,
        /// As announced.
        size: u32,
        /// As allowed.
        max: u32,
    },
    /// The input ended inside the body.
    NoBody(Verb),
    /// IDENTIFY's or AUTH's body is not the JSON it should be.
    BadJson,
    /// IDENTIFY asks for a setting out of its range.
    Setting {
        /// What the setting is called in the error, such as `heartbeat interval`.
        name: &'static str,
        /// As asked.
        value: i64,
    },
    /// IDENTIFY asks for deflate and snappy together.
    TwoCompressions,
    /// AUTH on a broker that asks for none.
    AuthDisabled,
    /// The input ended before MPUB's count.
    NoMessageCount,
    /// MPUB's count is not positive or cannot fit the largest body.
    MessageCount(i32),
    /// The input ended before the length of MPUB's message of this number.
    NoMessageSize(u32),
    /// The length of MPUB's message of this number is zero or negative.
    MessageSize(u32, i32),
    /// A message in MPUB is above the bound.
    MessageTooBig {
        /// As announced.
        size: u32,
        /// As allowed.
        max: u32,
    },
    /// The input ended inside a message of MPUB.
    NoMessageBody,
    /// MPUB's messages do not fill the announced total. nsqd ignores the total and reads on; here
    /// the connection ends, because what follows would be read out of step.
    BatchTotal(u32),
    /// FIN, REQ or TOUCH of something that is not in flight to this connection.
    NotInFlight(Verb, WireId, NotInFlight),
    /// SUB to a channel that is being deleted.
    SubDeleted,
    /// SUB to a channel that has its largest number of consumers: topic, channel, number.
    SubLimit(Box<str>, Box<str>, u32),
    /// SUB could not make its topic or channel (a limit, a full disk); the reason.
    SubFailed(Box<str>),
    /// PUB, DPUB or MPUB could not be stored; the reason.
    PublishFailed(Verb, Box<str>),
}

impl CommandError {
    /// The code; `None` where nsqd closes without a frame.
    pub const fn code(&self) -> Option<ErrorCode> {
        Some(match self {
            Self::LineTooLong => return None,
            Self::BadProtocol => ErrorCode::BadProtocol,
            Self::UnknownCommand(_)
            | Self::WrongState(_)
            | Self::SubWithoutHeartbeats
            | Self::Parameters(_)
            | Self::BadMessageId
            | Self::BadCount(_)
            | Self::CountRange { .. }
            | Self::BadTimeout(..)
            | Self::TimeoutRange { .. } => ErrorCode::Invalid,
            Self::BadTopic(..) => ErrorCode::BadTopic,
            Self::BadChannel(_) => ErrorCode::BadChannel,
            Self::NoBodySize(verb)
            | Self::BodySize(verb, _)
            | Self::BodyTooBig { verb, .. }
            | Self::NoBody(verb) => match verb {
                Verb::Pub | Verb::Dpub => ErrorCode::BadMessage,
                _ => ErrorCode::BadBody,
            },
            Self::BadJson | Self::Setting { .. } => ErrorCode::BadBody,
            Self::TwoCompressions => ErrorCode::IdentifyFailed,
            Self::AuthDisabled => ErrorCode::AuthDisabled,
            Self::NoMessageCount | Self::MessageCount(_) | Self::BatchTotal(_) => {
                ErrorCode::BadBody
            }
            Self::NoMessageSize(_)
            | Self::MessageSize(..)
            | Self::MessageTooBig { .. }
            | Self::NoMessageBody => ErrorCode::BadMessage,
            Self::NotInFlight(verb, ..) => match verb {
                Verb::Fin => ErrorCode::FinFailed,
                Verb::Req => ErrorCode::ReqFailed,
                _ => ErrorCode::TouchFailed,
            },
            Self::SubDeleted | Self::SubLimit(..) | Self::SubFailed(_) => ErrorCode::SubFailed,
            Self::PublishFailed(verb, _) => match verb {
                Verb::Mpub => ErrorCode::MpubFailed,
                Verb::Dpub => ErrorCode::DpubFailed,
                _ => ErrorCode::PubFailed,
            },
        })
    }

    /// Whether the connection goes on after this error.
    pub const fn fatality(&self) -> Fatality {
        match self.code() {
            Some(code) => code.fatality(),
            None => Fatality::Closes,
        }
    }

    /// Appends the error frame, if this error has one.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = self.text();
        if !text.is_empty() {
            encode_error(&text, out);
        }
    }

    /// `CODE description` as sent; empty where nsqd closes without a frame. Bytes, because an
    /// error repeats what the client sent.
    pub fn text(&self) -> Vec<u8> {
        let Some(code) = self.code() else {
            return Vec::new();
        };
        let mut out = code.as_str().as_bytes().to_vec();
        if !matches!(self, Self::BadProtocol) {
            out.push(b' ');
            self.describe(&mut out);
        }
        out
    }

    fn describe(&self, out: &mut Vec<u8>) {
        let plain = match self {
            Self::BadProtocol | Self::LineTooLong => String::new(),
            Self::UnknownCommand(word) => return echo("invalid command ", word, out),
            Self::BadCount(word) => return echo("RDY could not parse count ", word, out),
            Self::BadTimeout(verb, word) => {
                return echo(
                    &format!("{} could not parse timeout ", verb.as_str()),
                    word,
                    out,
                );
            }
            Self::BadTopic(verb, name) => {
                // nsqd repeats the code in MPUB's text.
                let doubled = if *verb == Verb::Mpub {
                    "E_BAD_TOPIC "
                } else {
                    ""
                };
                return refuse_name(&format!("{doubled}{} topic", verb.as_str()), name, out);
            }
            Self::BadChannel(name) => return refuse_name("SUB channel", name, out),
            Self::NotInFlight(verb, id, why) => {
                let why = match why {
                    NotInFlight::Unknown => "ID not in flight",
                    NotInFlight::NotOwner => "client does not own message",
                };
                echo(&format!("{} ", verb.as_str()), &id.0, out);
                return echo(" failed ", why.as_bytes(), out);
            }
            Self::WrongState(verb) => format!("cannot {} in current state", verb.as_str()),
            Self::SubWithoutHeartbeats => "cannot SUB with heartbeats disabled".to_owned(),
            Self::Parameters(verb) => match verb {
                Verb::Fin | Verb::Req | Verb::Touch => {
                    format!("{} insufficient number of params", verb.as_str())
                }
                Verb::Auth => "AUTH invalid number of parameters".to_owned(),
                _ => format!("{} insufficient number of parameters", verb.as_str()),
            },
            Self::BadMessageId => "invalid message ID".to_owned(),
            Self::CountRange { count, max } => format!("RDY count {count} out of range 0-{max}"),
            Self::TimeoutRange { millis, max } => {
                format!("DPUB timeout {millis} out of range 0-{max}")
            }
            Self::NoBodySize(_)
            | Self::BodySize(..)
            | Self::BodyTooBig { .. }
            | Self::NoBody(_) => self.describe_body(),
            Self::BadJson => "IDENTIFY failed to decode JSON body".to_owned(),
            Self::Setting { name, value } => format!("IDENTIFY {name} ({value}) is invalid"),
            Self::TwoCompressions => "cannot enable both deflate and snappy compression".to_owned(),
            Self::AuthDisabled => "AUTH disabled".to_owned(),
            Self::NoMessageCount => "MPUB failed to read message count".to_owned(),
            Self::MessageCount(count) => format!("MPUB invalid message count {count}"),
            Self::NoMessageSize(at) => format!("MPUB failed to read message({at}) body size"),
            Self::MessageSize(at, size) => {
                format!("MPUB invalid message({at}) body size {size}")
            }
            Self::MessageTooBig { size, max } => format!("MPUB message too big {size} > {max}"),
            Self::NoMessageBody => "MPUB failed to read message body".to_owned(),
            Self::BatchTotal(total) => {
                format!("MPUB body size {total} is not that of its messages")
            }
            Self::SubDeleted => "SUB failed to deleted topic/channel".to_owned(),
            Self::SubLimit(topic, channel, limit) => {
                format!("SUB failed consumers for {topic}:{channel} exceeds limit of {limit}")
            }
            Self::SubFailed(reason) => format!("SUB failed {reason}"),
            Self::PublishFailed(verb, reason) => format!("{} failed {reason}", verb.as_str()),
        };
        out.extend_from_slice(plain.as_bytes());
    }

    fn describe_body(&self) -> String {
        // PUB and DPUB call it a message body; PUB's "too big" is about the message.
        let words = |verb: &Verb| match verb {
            Verb::Pub | Verb::Dpub => ("message body", "message"),
            _ => ("body", "body"),
        };
        match self {
            Self::NoBodySize(verb) => {
                format!("{} failed to read {} size", verb.as_str(), words(verb).0)
            }
            Self::BodySize(verb, size) => {
                format!("{} invalid {} size {size}", verb.as_str(), words(verb).0)
            }
            Self::BodyTooBig { verb, size, max } => {
                format!("{} {} too big {size} > {max}", verb.as_str(), words(verb).1)
            }
            Self::NoBody(verb) => format!("{} failed to read {}", verb.as_str(), words(verb).0),
            _ => String::new(),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            None => f.write_str("command line too long"),
            Some(_) => write!(f, "{}", self.text().escape_ascii()),
        }
    }
}

impl std::error::Error for CommandError {}

fn echo(before: &str, word: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(word);
}

fn refuse_name(what: &str, name: &[u8], out: &mut Vec<u8>) {
    echo(what, b" name ", out);
    quote(name, out);
    out.extend_from_slice(b" is not valid");
}
