//! A broker with one channel, as simple as it can be: what it is given, it keeps in order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use protocol::Progress;
use protocol::command::{Bounds, Command, Parser, Situation, State, parse_magic};
use protocol::error::{CommandError, NotInFlight, Verb};
use protocol::frame::{self, Message};
use protocol::id::{MessageId, WireId};
use protocol::identify::{Offer, Ranges, Reply, Request, Settings};

/// How a peer behaves.
#[derive(Debug, Clone)]
pub struct Manner {
    pub bounds: Bounds,
    pub msg_timeout: Duration,
    /// Publishes that it still fails with `E_MPUB_FAILED`.
    pub failing: u32,
}

impl Default for Manner {
    fn default() -> Self {
        let msg_timeout = Duration::from_secs(60);
        Self {
            bounds: Bounds::default(),
            msg_timeout,
            failing: 0,
        }
    }
}

#[derive(Debug, Clone)]
struct Kept {
    id: MessageId,
    attempts: u16,
    body: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Peer {
    pub manner: Manner,
    /// Everything that was published, by topic.
    pub published: BTreeMap<String, Vec<Vec<u8>>>,
    queue: VecDeque<Kept>,
    deferred: Vec<(Duration, Kept)>,
    /// By id: session, when it times out, message.
    in_flight: BTreeMap<MessageId, (u64, Duration, Kept)>,
    next: u64,
    pub requeues: usize,
    pub timeouts: usize,
    pub publishes: usize,
}

/// One connection as the peer sees it.
#[derive(Debug)]
pub struct Session {
    number: u64,
    buffer: Vec<u8>,
    parser: Parser,
    settings: Settings,
    situation: Situation,
    greeted: bool,
    ready: u32,
    heartbeat_at: Duration,
    pub out: Vec<u8>,
    /// The peer has ended it.
    pub over: bool,
}

impl Session {
    pub fn new(number: u64, now: Duration) -> Self {
        let settings = Settings::new(&Ranges::default());
        let heartbeat_at = now + Duration::from_secs(30);
        Self {
            number,
            buffer: Vec::new(),
            parser: Parser::new(),
            settings,
            situation: Situation::default(),
            greeted: false,
            ready: 0,
            heartbeat_at,
            out: Vec::new(),
            over: false,
        }
    }

    pub fn next_heartbeat(&self) -> Duration {
        self.heartbeat_at
    }

    pub fn beat(&mut self, now: Duration) {
        if now >= self.heartbeat_at {
            self.out.extend_from_slice(frame::HEARTBEAT_FRAME);
            self.heartbeat_at = now + self.settings.heartbeat.unwrap();
        }
    }
}

impl Peer {
    /// A message for the channel.
    pub fn offer(&mut self, body: &[u8]) {
        let id = MessageId(self.next);
        self.next += 1;
        self.queue.push_back(Kept {
            id,
            attempts: 0,
            body: body.to_vec(),
        });
    }

    /// Messages of the channel that are not finished.
    pub fn unfinished(&self) -> usize {
        self.queue.len() + self.deferred.len() + self.in_flight.len()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn handle(&mut self, session: &mut Session, now: Duration, bytes: &[u8]) {
        session.buffer.extend_from_slice(bytes);
        let mut buffer = std::mem::take(&mut session.buffer);
        if let Err(error) = self.commands(session, now, &mut buffer) {
            error.encode(&mut session.out);
            session.over = true;
        }
        session.buffer = buffer;
    }

    fn commands(
        &mut self,
        session: &mut Session,
        now: Duration,
        buffer: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        if !session.greeted {
            let Some(bytes) = parse_magic(buffer)? else {
                return Ok(());
            };
            buffer.drain(..bytes);
            session.greeted = true;
        }
        while let Progress::Done { value, consumed } =
            session
                .parser
                .parse(buffer, session.situation, &self.manner.bounds)?
        {
            if let Err(error) = self.execute(session, now, &value) {
                if error.fatality() == protocol::error::Fatality::Closes {
                    return Err(error);
                }
                error.encode(&mut session.out);
            }
            buffer.drain(..consumed);
        }
        Ok(())
    }

    fn execute(
        &mut self,
        session: &mut Session,
        now: Duration,
        command: &Command<'_>,
    ) -> Result<(), CommandError> {
        match command {
            Command::Identify { body } => {
                let request = Request::from_json(body)?;
                let ranges = Ranges {
                    msg_timeout_default: self.manner.msg_timeout,
                    ..Ranges::default()
                };
                session.settings.msg_timeout = self.manner.msg_timeout;
                session.settings.apply(&request, &ranges)?;
                session.heartbeat_at = now + session.settings.heartbeat.unwrap();
                let offer = Offer {
                    version: "1.3.0",
                    rdy_count_max: self.manner.bounds.rdy_count_max,
                    tls: false,
                    deflate: false,
                    deflate_level_max: 6,
                    snappy: false,
                    auth_required: false,
                };
                let reply = Reply::new(&request, &session.settings, &ranges, &offer)?;
                frame::encode_response(&reply.to_json(), &mut session.out);
            }
            Command::Subscribe { .. } => {
                session.situation.state = State::Subscribed;
                session.out.extend_from_slice(frame::OK_FRAME);
            }
            Command::Ready { count } => session.ready = *count,
            Command::Finish { id } => {
                self.take(session, Verb::Fin, *id)?;
            }
            Command::Requeue { id, delay } => {
                let kept = self.take(session, Verb::Req, *id)?;
                self.requeues += 1;
                self.deferred.push((now + *delay, kept));
            }
            Command::Touch { id } => {
                let kept = self.take(session, Verb::Touch, *id)?;
                let deadline = now + self.manner.msg_timeout;
                self.in_flight
                    .insert(kept.id, (session.number, deadline, kept));
            }
            Command::Close => {
                session.ready = 0;
                session.situation.state = State::Closing;
                session.out.extend_from_slice(frame::CLOSE_WAIT_FRAME);
            }
            Command::Nop => {}
            Command::Publish { topic, body } => {
                self.publish(Verb::Pub, topic, std::iter::once(*body))?;
                session.out.extend_from_slice(frame::OK_FRAME);
            }
            Command::PublishMany { topic, batch } => {
                self.publish(Verb::Mpub, topic, batch.iter())?;
                session.out.extend_from_slice(frame::OK_FRAME);
            }
            other => panic!("a forwarder does not send {other:?}"),
        }
        Ok(())
    }

    fn publish<'a>(
        &mut self,
        verb: Verb,
        topic: &str,
        bodies: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), CommandError> {
        self.publishes += 1;
        if self.manner.failing > 0 {
            self.manner.failing -= 1;
            return Err(CommandError::PublishFailed(verb, "no space".into()));
        }
        let stored = self.published.entry(topic.to_owned()).or_default();
        stored.extend(bodies.map(<[u8]>::to_vec));
        Ok(())
    }

    fn take(&mut self, session: &Session, verb: Verb, id: WireId) -> Result<Kept, CommandError> {
        let number = id.message_id().unwrap();
        match self.in_flight.get(&number) {
            Some((owner, ..)) if *owner == session.number => {
                Ok(self.in_flight.remove(&number).unwrap().2)
            }
            Some(_) => Err(CommandError::NotInFlight(verb, id, NotInFlight::NotOwner)),
            None => Err(CommandError::NotInFlight(verb, id, NotInFlight::Unknown)),
        }
    }

    /// The session is gone: its messages go back.
    pub fn left(&mut self, session: &Session) {
        let (theirs, others) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|(_, (owner, ..))| *owner == session.number);
        self.in_flight = others;
        let theirs: BTreeMap<_, _> = theirs;
        for (_, (_, _, kept)) in theirs.into_iter().rev() {
            self.queue.push_front(kept);
        }
    }

    /// Time-outs and deferrals that are due.
    pub fn tick(&mut self, now: Duration) {
        let due: Vec<MessageId> = self
            .in_flight
            .iter()
            .filter(|(_, (_, at, _))| now >= *at)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.timeouts += 1;
            self.queue.push_back(self.in_flight.remove(&id).unwrap().2);
        }
        for (at, kept) in std::mem::take(&mut self.deferred) {
            if now >= at {
                self.queue.push_back(kept);
            } else {
                self.deferred.push((at, kept));
            }
        }
    }

    pub fn next_tick(&self) -> Option<Duration> {
        let timeouts = self.in_flight.values().map(|(_, at, _)| *at);
        timeouts
            .chain(self.deferred.iter().map(|(at, _)| *at))
            .min()
    }

    /// Sends what the session's window allows.
    pub fn deliver(&mut self, session: &mut Session, now: Duration) {
        let theirs = |peer: &Self| {
            peer.in_flight
                .values()
                .filter(|(owner, ..)| *owner == session.number)
                .count()
        };
        let mut in_flight = theirs(self);
        while !session.over && in_flight < session.ready as usize {
            let Some(mut kept) = self.queue.pop_front() else {
                return;
            };
            kept.attempts += 1;
            let message = Message {
                timestamp_ns: 1,
                attempts: kept.attempts,
                id: kept.id.to_wire(),
                body: &kept.body,
            };
            frame::encode_message(&message, &mut session.out);
            let deadline = now + self.manner.msg_timeout;
            self.in_flight
                .insert(kept.id, (session.number, deadline, kept));
            in_flight += 1;
        }
    }
}
