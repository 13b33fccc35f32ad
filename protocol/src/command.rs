//! Commands as a broker reads them.
//!
//! A command is a line, some with a body after it: `VERB args\n` or `VERB args\n<i32 length><body>`.
//! A line is split at every single space; verbs are case-sensitive; one `\r` before the `\n` is
//! dropped. The order of checks is nsqd's: state, parameters, names, length, body. A length is
//! checked as soon as its four bytes are there.

use std::time::Duration;

use crate::batch::{Batch, BatchBounds, Scan};
use crate::error::{CommandError, Verb};
use crate::id::WireId;
use crate::limits::{BATCH_HEADER_BYTES, LINE_BYTES_MAX};
use crate::{MAGIC_V2, Progress, names, read_u32};

/// What an operator allows; checked while parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Largest message of PUB, DPUB, MPUB.
    pub message_bytes_max: u32,
    /// Largest body of MPUB, IDENTIFY, AUTH.
    pub body_bytes_max: u32,
    /// Largest RDY.
    pub rdy_count_max: u32,
    /// Longest delay of DPUB; REQ's is cut to it.
    pub req_timeout_max: Duration,
}

impl Default for Bounds {
    /// nsqd's defaults.
    fn default() -> Self {
        Self {
            message_bytes_max: 1024 * 1024,
            body_bytes_max: 5 * 1024 * 1024,
            rdy_count_max: 2500,
            req_timeout_max: Duration::from_secs(3600),
        }
    }
}

/// Where a connection stands. The numbers are those of `/stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum State {
    /// Nothing subscribed.
    #[default]
    Init = 0,
    /// Subscribed.
    Subscribed = 3,
    /// CLS was sent.
    Closing = 4,
}

/// What of a connection decides which commands it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// Where it stands.
    pub state: State,
    /// Whether heartbeats are on; without them SUB is refused.
    pub heartbeats: bool,
}

impl Default for Situation {
    fn default() -> Self {
        Self {
            state: State::Init,
            heartbeats: true,
        }
    }
}

/// A command with everything checked that can be checked without topics and channels. Names are
/// valid (`TopicName::new` and `ChannelName::new` take them).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command<'a> {
    /// See [`crate::identify::Request::from_json`].
    Identify {
        /// JSON.
        body: &'a [u8],
    },
    /// A secret.
    Auth {
        /// As sent.
        secret: &'a [u8],
    },
    /// Consume from a channel.
    Subscribe {
        /// Valid topic name.
        topic: &'a str,
        /// Valid channel name.
        channel: &'a str,
    },
    /// The window, at most the bound.
    Ready {
        /// Messages that may be in flight.
        count: u32,
    },
    /// Done with.
    Finish {
        /// Which one.
        id: WireId,
    },
    /// Again, later.
    Requeue {
        /// Which one.
        id: WireId,
        /// Cut to the bound.
        delay: Duration,
    },
    /// More time.
    Touch {
        /// Which one.
        id: WireId,
    },
    /// No more messages.
    Close,
    /// Nothing; also a RDY after CLS, which nsqd ignores unread.
    Nop,
    /// One message.
    Publish {
        /// Valid topic name.
        topic: &'a str,
        /// Never empty.
        body: &'a [u8],
    },
    /// One message for later.
    PublishDeferred {
        /// Valid topic name.
        topic: &'a str,
        /// Within the bound.
        delay: Duration,
        /// Never empty.
        body: &'a [u8],
    },
    /// Messages that belong together.
    PublishMany {
        /// Valid topic name.
        topic: &'a str,
        /// At least one.
        batch: Batch<'a>,
    },
}

/// Checks the first bytes of a connection: `Ok(Some(4))` bytes to drop, `Ok(None)` to wait for
/// more (a wrong start is refused at once).
pub fn parse_magic(buffer: &[u8]) -> Result<Option<usize>, CommandError> {
    let there = buffer.get(..MAGIC_V2.len()).unwrap_or(buffer);
    if !MAGIC_V2.starts_with(there) {
        return Err(CommandError::BadProtocol);
    }
    Ok((there.len() == MAGIC_V2.len()).then_some(MAGIC_V2.len()))
}

/// One connection's parser. It keeps only how far it looked into an unfinished command, so that
/// input that trickles in is not looked at again and again.
///
/// Call [`Parser::parse`] with a buffer that starts at a command. After `Done` drop `consumed`
/// bytes; after `NeedBytes` keep the buffer's start and append. After an error parse no more.
#[derive(Debug, Clone, Default)]
pub struct Parser {
    /// Bytes without a `\n` at the start of the unfinished line.
    line_seen: usize,
    scan: Scan,
    awaits: Awaits,
}

/// What the unfinished command lacks.
#[derive(Debug, Clone, Copy, Default)]
enum Awaits {
    #[default]
    Line,
    Size(Verb),
    Body(Verb),
    Batch,
}

impl Parser {
    /// For a new connection, after its magic.
    pub fn new() -> Self {
        Self::default()
    }

    /// The command at the start of `buffer`.
    ///
    /// # Errors
    /// What nsqd would answer. All of them close the connection.
    pub fn parse<'a>(
        &mut self,
        buffer: &'a [u8],
        situation: Situation,
        bounds: &Bounds,
    ) -> Result<Progress<Command<'a>>, CommandError> {
        self.awaits = Awaits::Line;
        let unseen = buffer.get(self.line_seen..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            if buffer.len() >= LINE_BYTES_MAX {
                return Err(CommandError::LineTooLong);
            }
            self.line_seen = buffer.len();
            return Ok(Progress::NeedBytes {
                total: buffer.len() + 1,
            });
        };
        let end = self.line_seen + at;
        if end >= LINE_BYTES_MAX {
            return Err(CommandError::LineTooLong);
        }
        // An unfinished body comes back here with the line complete: its end is found at once.
        self.line_seen = end;
        let line = buffer.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut input = Input {
            parser: self,
            buffer,
            header: end + 1,
            bounds,
        };
        let progress = input.command(line, situation)?;
        if let Progress::Done { .. } = progress {
            *self = Self::default();
        }
        Ok(progress)
    }

    /// The error for input that ends where the last `NeedBytes` left it; `None` where nsqd closes
    /// without a frame (between commands, or inside a line).
    pub fn end_of_input(&self) -> Option<CommandError> {
        match self.awaits {
            Awaits::Line => None,
            Awaits::Size(verb) => Some(CommandError::NoBodySize(verb)),
            Awaits::Body(verb) => Some(CommandError::NoBody(verb)),
            Awaits::Batch => Some(self.scan.cut_short()),
        }
    }
}

struct Input<'p, 'a, 'b> {
    parser: &'p mut Parser,
    buffer: &'a [u8],
    /// Bytes of the line with its `\n`.
    header: usize,
    bounds: &'b Bounds,
}

impl<'a> Input<'_, 'a, '_> {
    fn command(
        &mut self,
        line: &'a [u8],
        situation: Situation,
    ) -> Result<Progress<Command<'a>>, CommandError> {
        let mut params = line.split(|byte| *byte == b' ');
        let verb = params.next().unwrap_or_default();
        // Most frequent first.
        let command = match verb {
            b"FIN" => {
                let id = message_id(Verb::Fin, situation, params.next(), true)?;
                Command::Finish { id }
            }
            b"RDY" => ready(situation, params.next(), self.bounds)?,
            b"PUB" => return self.publish(params.next()),
            b"MPUB" => return self.publish_many(params.next()),
            b"NOP" => Command::Nop,
            b"REQ" => requeue(situation, params.next(), params.next(), self.bounds)?,
            b"DPUB" => return self.publish_deferred(params.next(), params.next()),
            b"TOUCH" => {
                let id = message_id(Verb::Touch, situation, params.next(), true)?;
                Command::Touch { id }
            }
            b"SUB" => subscribe(situation, params.next(), params.next())?,
            b"CLS" => match situation.state {
                State::Subscribed => Command::Close,
                _ => return Err(CommandError::WrongState(Verb::Cls)),
            },
            b"IDENTIFY" => {
                if situation.state != State::Init {
                    return Err(CommandError::WrongState(Verb::Identify));
                }
                return self.body(Verb::Identify, |body| Command::Identify { body });
            }
            b"AUTH" => {
                if situation.state != State::Init {
                    return Err(CommandError::WrongState(Verb::Auth));
                }
                if params.next().is_some() {
                    return Err(CommandError::Parameters(Verb::Auth));
                }
                return self.body(Verb::Auth, |secret| Command::Auth { secret });
            }
            _ => return Err(CommandError::UnknownCommand(verb.into())),
        };
        Ok(Progress::Done {
            value: command,
            consumed: self.header,
        })
    }

    fn publish(&mut self, topic: Option<&'a [u8]>) -> Result<Progress<Command<'a>>, CommandError> {
        let topic = topic.ok_or(CommandError::Parameters(Verb::Pub))?;
        let topic = topic_name(Verb::Pub, topic)?;
        self.body(Verb::Pub, |body| Command::Publish { topic, body })
    }

    fn publish_deferred(
        &mut self,
        topic: Option<&'a [u8]>,
        delay: Option<&'a [u8]>,
    ) -> Result<Progress<Command<'a>>, CommandError> {
        let (Some(topic), Some(delay)) = (topic, delay) else {
            return Err(CommandError::Parameters(Verb::Dpub));
        };
        let topic = topic_name(Verb::Dpub, topic)?;
        let millis =
            base10(delay).ok_or_else(|| CommandError::BadTimeout(Verb::Dpub, delay.into()))?;
        let delay = Duration::from_millis(millis);
        if delay > self.bounds.req_timeout_max {
            let max = self.bounds.req_timeout_max.as_millis() as u64;
            return Err(CommandError::TimeoutRange { millis, max });
        }
        self.body(Verb::Dpub, |body| Command::PublishDeferred {
            topic,
            delay,
            body,
        })
    }

    fn publish_many(
        &mut self,
        topic: Option<&'a [u8]>,
    ) -> Result<Progress<Command<'a>>, CommandError> {
        let topic = topic.ok_or(CommandError::Parameters(Verb::Mpub))?;
        let topic = topic_name(Verb::Mpub, topic)?;
        let Some(size) = self.size(Verb::Mpub)? else {
            self.parser.awaits = Awaits::Size(Verb::Mpub);
            return Ok(Progress::NeedBytes {
                total: self.header + 4,
            });
        };
        if size < 4 {
            return Err(CommandError::BatchTotal(size));
        }
        let start = self.header + 4;
        let total = start + size as usize;
        let available = self
            .buffer
            .get(start..total.min(self.buffer.len()))
            .unwrap_or_default();
        let bounds = BatchBounds {
            message_bytes_max: self.bounds.message_bytes_max,
            body_bytes_max: self.bounds.body_bytes_max,
        };
        let whole = self.parser.scan.advance(available, &bounds)?;
        if whole && self.parser.scan.end() == size as usize {
            let value = Command::PublishMany {
                topic,
                batch: self.parser.scan.batch(available),
            };
            return Ok(Progress::Done {
                value,
                consumed: total,
            });
        }
        if whole || available.len() == size as usize {
            return Err(CommandError::BatchTotal(size));
        }
        self.parser.awaits = Awaits::Batch;
        let total = if available.len() < 4 {
            self.header + BATCH_HEADER_BYTES
        } else {
            total
        };
        Ok(Progress::NeedBytes { total })
    }

    /// A command that ends in one sized body.
    fn body(
        &mut self,
        verb: Verb,
        make: impl FnOnce(&'a [u8]) -> Command<'a>,
    ) -> Result<Progress<Command<'a>>, CommandError> {
        let start = self.header + 4;
        let Some(size) = self.size(verb)? else {
            self.parser.awaits = Awaits::Size(verb);
            return Ok(Progress::NeedBytes { total: start });
        };
        let total = start + size as usize;
        match self.buffer.get(start..total) {
            Some(body) => Ok(Progress::Done {
                value: make(body),
                consumed: total,
            }),
            None => {
                self.parser.awaits = Awaits::Body(verb);
                Ok(Progress::NeedBytes { total })
            }
        }
    }

    /// The checked length after the line, if its bytes are there.
    fn size(&self, verb: Verb) -> Result<Option<u32>, CommandError> {
        let Some(size) = read_u32(self.buffer, self.header) else {
            return Ok(None);
        };
        if size as i32 <= 0 {
            return Err(CommandError::BodySize(verb, size as i32));
        }
        let max = match verb {
            Verb::Pub | Verb::Dpub => self.bounds.message_bytes_max,
            _ => self.bounds.body_bytes_max,
        };
        if size > max {
            return Err(CommandError::BodyTooBig { verb, size, max });
        }
        Ok(Some(size))
    }
}

fn subscribe<'a>(
    situation: Situation,
    topic: Option<&'a [u8]>,
    channel: Option<&'a [u8]>,
) -> Result<Command<'a>, CommandError> {
    if situation.state != State::Init {
        return Err(CommandError::WrongState(Verb::Sub));
    }
    if !situation.heartbeats {
        return Err(CommandError::SubWithoutHeartbeats);
    }
    let (Some(topic), Some(channel)) = (topic, channel) else {
        return Err(CommandError::Parameters(Verb::Sub));
    };
    let topic = topic_name(Verb::Sub, topic)?;
    let channel = names::check(channel).ok_or_else(|| CommandError::BadChannel(channel.into()))?;
    Ok(Command::Subscribe { topic, channel })
}

fn ready<'a>(
    situation: Situation,
    count: Option<&'a [u8]>,
    bounds: &Bounds,
) -> Result<Command<'a>, CommandError> {
    match situation.state {
        State::Init => return Err(CommandError::WrongState(Verb::Rdy)),
        State::Closing => return Ok(Command::Nop),
        State::Subscribed => {}
    }
    let count = match count {
        None => 1,
        Some(word) => base10(word).ok_or_else(|| CommandError::BadCount(word.into()))?,
    };
    let max = bounds.rdy_count_max;
    match u32::try_from(count) {
        Ok(count) if count <= max => Ok(Command::Ready { count }),
        _ => Err(CommandError::CountRange { count, max }),
    }
}

fn requeue<'a>(
    situation: Situation,
    id: Option<&'a [u8]>,
    delay: Option<&'a [u8]>,
    bounds: &Bounds,
) -> Result<Command<'a>, CommandError> {
    let id = message_id(Verb::Req, situation, id, delay.is_some())?;
    let word = delay.unwrap_or_default();
    let millis = base10(word).ok_or_else(|| CommandError::BadTimeout(Verb::Req, word.into()))?;
    let delay = Duration::from_millis(millis).min(bounds.req_timeout_max);
    Ok(Command::Requeue { id, delay })
}

fn message_id(
    verb: Verb,
    situation: Situation,
    id: Option<&[u8]>,
    enough: bool,
) -> Result<WireId, CommandError> {
    if situation.state == State::Init {
        return Err(CommandError::WrongState(verb));
    }
    let id = id
        .filter(|_| enough)
        .ok_or(CommandError::Parameters(verb))?;
    id.try_into()
        .map(WireId)
        .map_err(|_| CommandError::BadMessageId)
}

fn topic_name(verb: Verb, name: &[u8]) -> Result<&str, CommandError> {
    names::check(name).ok_or_else(|| CommandError::BadTopic(verb, name.into()))
}

/// ASCII digits only; an empty word is 0, as in nsqd. A number beyond 64 bits stands at the
/// largest one, where nsqd wraps around.
fn base10(word: &[u8]) -> Option<u64> {
    word.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}
