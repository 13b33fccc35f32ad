//! One V2 connection, without I/O: the handshake, ordered answers, heartbeats, deliveries.
//!
//! Call order: [`Connection::new`] when the socket is open, then in any order [`handle_bytes`],
//! commands, [`handle_timeout`]; after each of them [`poll_event`] until it has none, and send what
//! [`output`] holds. After an error or [`Event::Refused`] the connection is over; [`into_lost`]
//! tells which publishes were never answered.
//!
//! [`handle_bytes`]: Connection::handle_bytes
//! [`handle_timeout`]: Connection::handle_timeout
//! [`poll_event`]: Connection::poll_event
//! [`output`]: Connection::output
//! [`into_lost`]: Connection::into_lost

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use protocol::frame::{self, Frame, FrameError, Message};
use protocol::id::WireId;
use protocol::identify::{Reply, Request};
use protocol::names::{ChannelName, TopicName};
use protocol::{MAGIC_V2, Progress, encode};

use crate::limits::{
    ANSWER_BYTES_MAX, BUFFER_KEPT_BYTES, RDY_COUNT_MAX_DEFAULT, SILENT_HEARTBEATS_MAX,
};

/// What a client tells a broker and expects of it.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// Name shown in the broker's statistics.
    pub client_id: String,
    /// Host shown there.
    pub hostname: String,
    /// Program and version shown there.
    pub user_agent: String,
    /// Asked of the broker: 1 s to 60 s. Silence for twice as long ends the connection.
    pub heartbeat: Duration,
    /// Asked of the broker: until an unfinished message comes again. `ZERO`: the broker's default.
    pub msg_timeout: Duration,
    /// Asked of the broker: how long it may gather messages before it sends them, 25 ms to 30 s.
    /// `ZERO`: its default (250 ms).
    pub output_buffer_timeout: Duration,
    /// Largest message taken from the broker.
    pub message_bytes_max: u32,
    /// Longest wait for an answer: to the handshake, to a publish.
    pub answer_timeout: Duration,
    /// What to consume; `None` for a producer.
    pub subscription: Option<(TopicName, ChannelName)>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            client_id: "nsq-edge".to_owned(),
            hostname: String::new(),
            user_agent: concat!("nsq-edge/", env!("CARGO_PKG_VERSION")).to_owned(),
            heartbeat: Duration::from_secs(10),
            msg_timeout: Duration::ZERO,
            output_buffer_timeout: Duration::ZERO,
            message_bytes_max: 1024 * 1024,
            answer_timeout: Duration::from_secs(30),
            subscription: None,
        }
    }
}

/// The caller's name for a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What happened on a connection.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// The handshake is done (for a consumer, the subscription too): publish, or set a window.
    Established,
    /// The broker has this publish.
    Answered(Token),
    /// An error that ends the connection. With a token it is the answer to that publish; publishes
    /// after it were not read. The text is `CODE description`.
    Refused(Option<Token>, String),
    /// A delivery.
    Message(Message<'a>),
    /// FIN, REQ or TOUCH came too late: `E_FIN_FAILED ..`. The connection goes on.
    TooLate(&'a [u8]),
    /// The answer to CLS: no more deliveries.
    CloseWait,
    /// The broker lives (or the handshake went a step on).
    Heartbeat,
}

/// Why a connection is given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// Not the bytes of a broker.
    #[error("not a frame of nsqd: {0}")]
    Frame(#[from] FrameError),
    /// An answer to nothing.
    #[error("an answer without a command: {0}")]
    Unexpected(String),
    /// Nothing was heard for too long.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// The handshake or a publish was not answered in time.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
}

/// An [`Event`] with places in the input instead of borrows.
#[derive(Debug)]
pub(crate) enum Step {
    Nothing,
    Established,
    Answered(Token),
    Refused(Option<Token>, String),
    Message {
        timestamp_ns: i64,
        attempts: u16,
        id: WireId,
        body: Range<usize>,
    },
    TooLate(Range<usize>),
    CloseWait,
    Heartbeat,
}

#[derive(Debug)]
enum Answer {
    Ok,
    Reply(Reply),
    CloseWait,
}

#[derive(Debug)]
enum Expect {
    Identify,
    Subscribe,
    Publish(Token),
    Close,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    input: Vec<u8>,
    /// Bytes of `input` already parsed.
    parsed: usize,
    output: Vec<u8>,
    /// Commands not yet answered, oldest first, and since when they wait.
    expects: VecDeque<(Expect, Duration)>,
    /// How many of them are publishes.
    unanswered: usize,
    established: bool,
    rdy_count_max: u32,
    msg_timeout: Option<Duration>,
    /// When bytes last came.
    heard: Duration,
    subscription: Option<(TopicName, ChannelName)>,
    frame_bytes_max: u32,
    silence_max: Duration,
    answer_timeout: Duration,
}

impl Connection {
    /// The socket is open: the magic and IDENTIFY wait in the output.
    pub fn new(options: &ConnectionOptions, now: Duration) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let request = Request {
            client_id: options.client_id.clone(),
            hostname: options.hostname.clone(),
            user_agent: options.user_agent.clone(),
            feature_negotiation: true,
            heartbeat_interval: millis(options.heartbeat),
            msg_timeout: millis(options.msg_timeout),
            output_buffer_timeout: millis(options.output_buffer_timeout),
            ..Request::default()
        };
        let mut output = MAGIC_V2.to_vec();
        encode::identify(&request.to_json(), &mut output);
        let message_frame_max = options.message_bytes_max.saturating_add(64);
        Self {
            input: Vec::new(),
            parsed: 0,
            output,
            expects: VecDeque::from([(Expect::Identify, now)]),
            unanswered: 0,
            established: false,
            rdy_count_max: RDY_COUNT_MAX_DEFAULT,
            msg_timeout: None,
            heard: now,
            subscription: options.subscription.clone(),
            frame_bytes_max: match options.subscription {
                Some(_) => message_frame_max.max(ANSWER_BYTES_MAX),
                None => ANSWER_BYTES_MAX,
            },
            silence_max: options.heartbeat * SILENT_HEARTBEATS_MAX,
            answer_timeout: options.answer_timeout,
        }
    }

    /// Whether the handshake is done.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Largest window that the broker takes.
    pub fn rdy_count_max(&self) -> u32 {
        self.rdy_count_max
    }

    /// Until the broker gives an unfinished message again, if it said so.
    pub fn msg_timeout(&self) -> Option<Duration> {
        self.msg_timeout
    }

    /// Publishes without an answer yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Bytes to send; the caller takes what it sent from the front.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether there are bytes to send.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Sends an encoded PUB, DPUB or MPUB; its answer will carry the token.
    pub fn publish(&mut self, now: Duration, token: Token, command: &[u8]) {
        self.output.extend_from_slice(command);
        self.expects.push_back((Expect::Publish(token), now));
        self.unanswered += 1;
    }

    /// Sets the window; more than the broker takes becomes what it takes.
    pub fn ready(&mut self, count: u32) {
        encode::ready(count.min(self.rdy_count_max), &mut self.output);
    }

    /// The message is done with.
    pub fn finish(&mut self, id: WireId) {
        encode::finish(id, &mut self.output);
    }

    /// The message shall come again.
    pub fn requeue(&mut self, id: WireId, delay: Duration) {
        encode::requeue(id, delay, &mut self.output);
    }

    /// More time for the message.
    pub fn touch(&mut self, id: WireId) {
        encode::touch(id, &mut self.output);
    }

    /// No more deliveries, please.
    pub fn close(&mut self, now: Duration) {
        encode::close(&mut self.output);
        self.expects.push_back((Expect::Close, now));
    }

    /// Bytes came.
    pub fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) {
        self.heard = now;
        if self.parsed == self.input.len() {
            self.input.clear();
            if self.input.capacity() > BUFFER_KEPT_BYTES {
                self.input = Vec::new();
            }
        } else {
            self.input.drain(..self.parsed);
        }
        self.parsed = 0;
        self.input.extend_from_slice(bytes);
    }

    /// When [`Connection::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Duration {
        let silent = self.heard.saturating_add(self.silence_max);
        match self.expects.front() {
            Some((_, since)) => silent.min(since.saturating_add(self.answer_timeout)),
            None => silent,
        }
    }

    /// # Errors
    /// The broker was silent, or owes an answer, for too long.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), ConnectionError> {
        if now >= self.heard.saturating_add(self.silence_max) {
            return Err(ConnectionError::Silent(self.silence_max));
        }
        match self.expects.front() {
            Some((_, since)) if now >= since.saturating_add(self.answer_timeout) => {
                Err(ConnectionError::NoAnswer(self.answer_timeout))
            }
            _ => Ok(()),
        }
    }

    /// What happened next.
    ///
    /// # Errors
    /// The peer is no broker.
    pub fn poll_event(&mut self, now: Duration) -> Result<Option<Event<'_>>, ConnectionError> {
        Ok(self.step(now)?.map(|step| self.event(step)))
    }

    /// [`Connection::poll_event`] without a borrow; [`Connection::event`] turns it into one before
    /// the next call.
    pub(crate) fn step(&mut self, now: Duration) -> Result<Option<Step>, ConnectionError> {
        let input = self.input.get(self.parsed..).unwrap_or_default();
        let (frame, consumed) = match frame::decode(input, self.frame_bytes_max)? {
            Progress::Done { value, consumed } => (value, consumed),
            Progress::NeedBytes { .. } => return Ok(None),
        };
        self.parsed += consumed;
        let step = match frame {
            Frame::Message(message) => Step::Message {
                timestamp_ns: message.timestamp_ns,
                attempts: message.attempts,
                id: message.id,
                body: self.parsed - message.body.len()..self.parsed,
            },
            Frame::Error(text) if goes_on(text) => {
                Step::TooLate(self.parsed - text.len()..self.parsed)
            }
            Frame::Error(text) => {
                let text = String::from_utf8_lossy(text).into_owned();
                match self.expects.pop_front() {
                    Some((Expect::Publish(token), _)) => {
                        self.unanswered -= 1;
                        Step::Refused(Some(token), text)
                    }
                    _ => Step::Refused(None, text),
                }
            }
            Frame::Response(frame::HEARTBEAT) => {
                encode::nop(&mut self.output);
                Step::Heartbeat
            }
            Frame::Response(data) => {
                let answer = match data {
                    frame::OK => Answer::Ok,
                    frame::CLOSE_WAIT => Answer::CloseWait,
                    data => match Reply::from_json(data) {
                        Some(reply) => Answer::Reply(reply),
                        None => return Err(ConnectionError::Unexpected(printable(data))),
                    },
                };
                self.answered(now, answer)?
            }
        };
        Ok(Some(step))
    }

    pub(crate) fn event(&self, step: Step) -> Event<'_> {
        match step {
            Step::Nothing | Step::Heartbeat => Event::Heartbeat,
            Step::Established => Event::Established,
            Step::Answered(token) => Event::Answered(token),
            Step::Refused(token, text) => Event::Refused(token, text),
            Step::Message {
                timestamp_ns,
                attempts,
                id,
                body,
            } => {
                let body = self.input.get(body).unwrap_or_default();
                Event::Message(Message {
                    timestamp_ns,
                    attempts,
                    id,
                    body,
                })
            }
            Step::TooLate(text) => Event::TooLate(self.input.get(text).unwrap_or_default()),
            Step::CloseWait => Event::CloseWait,
        }
    }

    fn answered(&mut self, now: Duration, answer: Answer) -> Result<Step, ConnectionError> {
        let Some((expect, since)) = self.expects.pop_front() else {
            return Err(ConnectionError::Unexpected(format!("{answer:?}")));
        };
        match (expect, answer) {
            (Expect::Identify, answer @ (Answer::Ok | Answer::Reply(_))) => {
                if let Answer::Reply(reply) = answer {
                    let max = u32::try_from(reply.max_rdy_count)
                        .ok()
                        .filter(|max| *max > 0);
                    self.rdy_count_max = max.unwrap_or(RDY_COUNT_MAX_DEFAULT);
                    let millis = u64::try_from(reply.msg_timeout).ok().filter(|ms| *ms > 0);
                    self.msg_timeout = millis.map(Duration::from_millis);
                }
                if let Some((topic, channel)) = &self.subscription {
                    encode::subscribe(topic.as_str(), channel.as_str(), &mut self.output);
                    self.expects.push_back((Expect::Subscribe, now));
                    return Ok(Step::Nothing);
                }
                self.established = true;
                Ok(Step::Established)
            }
            (Expect::Subscribe, Answer::Ok) => {
                self.established = true;
                Ok(Step::Established)
            }
            (Expect::Publish(token), Answer::Ok) => {
                self.unanswered -= 1;
                Ok(Step::Answered(token))
            }
            (Expect::Close, Answer::CloseWait) => Ok(Step::CloseWait),
            (expect, answer) => {
                // A publish among them is still owed to its owner.
                self.expects.push_front((expect, since));
                Err(ConnectionError::Unexpected(format!("{answer:?}")))
            }
        }
    }

    /// The connection is over: the publishes that the broker never answered, oldest first. It may
    /// have them or not.
    pub fn into_lost(self) -> impl Iterator<Item = Token> {
        self.expects
            .into_iter()
            .filter_map(|(expect, _)| match expect {
                Expect::Publish(token) => Some(token),
                _ => None,
            })
    }
}

/// Whether a refused publish was refused for its own sake, so that no broker of this kind will ever
/// take it. Everything else (no room, not allowed, shutting down) is the broker's state.
pub fn is_own_fault(text: &str) -> bool {
    let code = text.split(' ').next().unwrap_or_default();
    matches!(code, "E_BAD_MESSAGE" | "E_BAD_BODY" | "E_BAD_TOPIC")
}

/// The three errors that do not end a connection.
fn goes_on(text: &[u8]) -> bool {
    let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(code, b"E_FIN_FAILED" | b"E_REQ_FAILED" | b"E_TOUCH_FAILED")
}

fn printable(data: &[u8]) -> String {
    data.iter()
        .take(80)
        .flat_map(|byte| byte.escape_ascii())
        .map(char::from)
        .collect()
}
