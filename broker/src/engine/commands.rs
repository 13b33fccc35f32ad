//! What a connection sends: bytes to commands, commands to replies.

use std::time::Duration;

use protocol::Progress as Parsed;
use protocol::command::{Command, State, parse_magic};
use protocol::error::{CommandError, Fatality, Verb};
use protocol::frame;
use protocol::identify::{Offer, Reply as IdentifyReply, Request};
use storage::disk::Disk;
use storage::{Stamp, Ticket};

use super::catalogue::Refusal;
use super::session::{Blocked, Ending, Session};
use super::{Engine, SessionNo};
use crate::limits;

/// What became of some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes at the input's start that are done with.
    pub consumed: usize,
    /// What to do next.
    pub next: Next,
}

/// What a connection does after some input was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read until the rest holds this many bytes, counted from its start; it may be that large.
    Read(usize),
    /// Others first, then call again with the rest: the turn is over.
    Yield,
    /// Do not read until the session is woken, then call again with the rest.
    Wait,
    /// Never read again: the session ends once its output is written.
    End,
}

/// How a command ended.
enum Handled {
    Done,
    /// Nothing was changed; the same command again when the session is woken.
    Later(Blocked),
}

impl<D: Disk> Engine<D> {
    /// Takes what a connection has read and not consumed yet.
    pub fn input(&mut self, no: SessionNo, stamp: Stamp, bytes: &[u8]) -> Progress {
        let mut consumed = 0;
        for _ in 0..limits::COMMANDS_PER_TURN_MAX {
            let rest = bytes.get(consumed..).unwrap_or_default();
            match self.next_command(no, stamp, rest) {
                Step::Consumed(more) => consumed += more,
                Step::Stop(next) => {
                    self.rearm(no);
                    return Progress { consumed, next };
                }
            }
        }
        self.rearm(no);
        Progress {
            consumed,
            next: Next::Yield,
        }
    }

    /// The connection's input has ended. What it is owed is still written.
    pub fn input_ended(&mut self, no: SessionNo, now: Duration) {
        let Some(session) = self.sessions.get_mut(no) else {
            return;
        };
        if session.ending == Ending::Open && session.magic_seen {
            if let Some(error) = session.parser.end_of_input() {
                self.refuse(no, &error, now);
                return;
            }
        }
        self.end_session(no, Ending::Draining, now);
    }

    fn next_command(&mut self, no: SessionNo, stamp: Stamp, rest: &[u8]) -> Step {
        let Some(session) = self.sessions.get_mut(no) else {
            return Step::Stop(Next::End);
        };
        if session.ending != Ending::Open {
            return Step::Stop(Next::End);
        }
        if session.owes_too_much() {
            return self.block(no, Blocked::Replies);
        }
        if !session.magic_seen {
            return self.magic(no, stamp.now, rest);
        }
        let situation = session.situation();
        let parsed = session.parser.parse(rest, situation, &self.settings.bounds);
        match parsed {
            Ok(Parsed::Done { value, consumed }) => match self.execute(no, stamp, value) {
                Ok(Handled::Done) => {
                    self.command_done(no, stamp.now);
                    Step::Consumed(consumed)
                }
                Ok(Handled::Later(blocked)) => self.block(no, blocked),
                Err(error) => match self.refuse(no, &error, stamp.now) {
                    Fatality::GoesOn => {
                        self.command_done(no, stamp.now);
                        Step::Consumed(consumed)
                    }
                    Fatality::Closes => Step::Stop(Next::End),
                },
            },
            Ok(Parsed::NeedBytes { total }) => self.wants(no, total, stamp.now),
            Err(error) => {
                self.refuse(no, &error, stamp.now);
                Step::Stop(Next::End)
            }
        }
    }

    fn magic(&mut self, no: SessionNo, now: Duration, rest: &[u8]) -> Step {
        match parse_magic(rest) {
            Ok(None) => Step::Stop(Next::Read(protocol::MAGIC_V2.len())),
            Ok(Some(consumed)) => {
                if let Some(session) = self.sessions.get_mut(no) {
                    session.magic_seen = true;
                    session.heard_at = now;
                }
                Step::Consumed(consumed)
            }
            Err(error) => {
                self.refuse(no, &error, now);
                Step::Stop(Next::End)
            }
        }
    }

    /// The input's buffer has to hold `total` bytes; what is beyond the small buffer comes from the
    /// pool.
    fn wants(&mut self, no: SessionNo, total: usize, now: Duration) -> Step {
        let Some(session) = self.sessions.get_mut(no) else {
            return Step::Stop(Next::End);
        };
        if total > limits::INPUT_BYTES_MAX && !self.pool.reserve(&mut session.input_held, total) {
            self.pool.wait(no);
            return self.block(no, Blocked::Pool);
        }
        if session.blocked.take().is_some() {
            // Its silence was ours.
            session.heard_at = now;
        }
        Step::Stop(Next::Read(total))
    }

    fn command_done(&mut self, no: SessionNo, now: Duration) {
        let Some(session) = self.sessions.get_mut(no) else {
            return;
        };
        session.heard_at = now;
        session.blocked = None;
        let mut held = std::mem::take(&mut session.input_held);
        self.release_to_pool(&mut held);
    }

    fn block(&mut self, no: SessionNo, blocked: Blocked) -> Step {
        let Some(session) = self.sessions.get_mut(no) else {
            return Step::Stop(Next::End);
        };
        let list = match blocked {
            Blocked::Room { .. } => Some(&mut self.awaiting_room),
            Blocked::Lookup => Some(&mut self.lookups.waiting),
            Blocked::Pool | Blocked::Replies => None,
        };
        if let Some(list) = list {
            if !list.contains(&no) {
                list.push(no);
            }
        }
        session.blocked = match (session.blocked, blocked) {
            (Some(Blocked::Room { since }), Blocked::Room { .. }) => Some(Blocked::Room { since }),
            (_, blocked) => Some(blocked),
        };
        Step::Stop(Next::Wait)
    }

    /// Answers with an error; most end the session.
    fn refuse(&mut self, no: SessionNo, error: &CommandError, now: Duration) -> Fatality {
        let fatality = error.fatality();
        if let Some(session) = self.sessions.get_mut(no) {
            match fatality {
                Fatality::Closes => log::info!("{}: {error}", session.peer),
                // A consumer that is too slow may cause many of these.
                Fatality::GoesOn => log::debug!("{}: {error}", session.peer),
            }
            let mut framed = Vec::new();
            error.encode(&mut framed);
            if !framed.is_empty() {
                session.reply(&framed);
            }
        }
        self.wake(no);
        if fatality == Fatality::Closes {
            self.end_session(no, Ending::Draining, now);
        }
        fatality
    }

    fn execute(
        &mut self,
        no: SessionNo,
        stamp: Stamp,
        command: Command<'_>,
    ) -> Result<Handled, CommandError> {
        match command {
            Command::Finish { id } => {
                self.finish(no, id)
                    .map_err(|why| CommandError::NotInFlight(Verb::Fin, id, why))?;
            }
            Command::Requeue { id, delay } => {
                self.requeue(no, id, delay, stamp.now)
                    .map_err(|why| CommandError::NotInFlight(Verb::Req, id, why))?;
            }
            Command::Touch { id } => {
                self.touch(no, id, stamp.now)
                    .map_err(|why| CommandError::NotInFlight(Verb::Touch, id, why))?;
            }
            Command::Ready { count } => self.set_ready(no, count),
            Command::Nop => {}
            Command::Publish { topic, body } => {
                let bodies = std::iter::once(body);
                return self.publish_from(no, stamp, Verb::Pub, topic, bodies, Duration::ZERO);
            }
            Command::PublishDeferred { topic, delay, body } => {
                let bodies = std::iter::once(body);
                return self.publish_from(no, stamp, Verb::Dpub, topic, bodies, delay);
            }
            Command::PublishMany { topic, batch } => {
                let bodies = batch.iter();
                return self.publish_from(no, stamp, Verb::Mpub, topic, bodies, Duration::ZERO);
            }
            Command::Subscribe { topic, channel } => {
                return match self.subscribe(no, topic, channel, stamp.now) {
                    Ok(ticket) => Ok(self.answer_after(no, ticket, Verb::Sub, stamp.now)),
                    Err(Refusal::Wait(blocked)) => Ok(Handled::Later(blocked)),
                    Err(Refusal::Error(reason)) => Err(CommandError::SubFailed(reason)),
                };
            }
            Command::Close => {
                if let Some(session) = self.sessions.get_mut(no) {
                    session.state = State::Closing;
                    session.ready_count = 0;
                    session.reply(frame::CLOSE_WAIT_FRAME);
                }
                self.wake(no);
            }
            Command::Identify { body } => self.identify(no, stamp.now, body)?,
            Command::Auth { .. } => return Err(CommandError::AuthDisabled),
        }
        Ok(Handled::Done)
    }

    fn set_ready(&mut self, no: SessionNo, count: u32) {
        let Some(session) = self.sessions.get_mut(no) else {
            return;
        };
        session.ready_count = count;
        if let Some(channel) = session.channel {
            self.queue_channel(channel);
        }
    }

    fn identify(&mut self, no: SessionNo, now: Duration, body: &[u8]) -> Result<(), CommandError> {
        let Some(session) = self.sessions.get_mut(no) else {
            return Ok(());
        };
        let request = Request::from_json(body)?;
        let ranges = &self.settings.ranges;
        session.negotiated.apply(&request, ranges)?;
        if let Some(interval) = session.negotiated.heartbeat {
            session.heartbeat_at = now + interval;
        }
        if request.feature_negotiation {
            let offer = Offer {
                version: limits::NSQ_VERSION,
                rdy_count_max: self.settings.bounds.rdy_count_max,
                tls: false,
                deflate: false,
                deflate_level_max: limits::DEFLATE_LEVEL_MAX,
                snappy: false,
                auth_required: false,
            };
            let reply = IdentifyReply::new(&request, &session.negotiated, ranges, &offer)?;
            let mut framed = Vec::new();
            frame::encode_response(&reply.to_json(), &mut framed);
            session.reply(&framed);
        } else {
            session.reply(frame::OK_FRAME);
        }
        self.wake(no);
        Ok(())
    }

    fn publish_from<'a>(
        &mut self,
        no: SessionNo,
        stamp: Stamp,
        verb: Verb,
        topic: &str,
        bodies: impl ExactCount<'a>,
        defer: Duration,
    ) -> Result<Handled, CommandError> {
        let waited_since = match self.sessions.get(no).and_then(|session| session.blocked) {
            Some(Blocked::Room { since }) => since,
            _ => stamp.now,
        };
        let count = bodies.clone().count() as u64;
        match self.publish(topic, bodies, defer, stamp) {
            Ok((topic, ticket)) => {
                if let Some(session) = self.sessions.get_mut(no) {
                    count_published(session, topic, count);
                }
                Ok(self.answer_after(no, ticket, verb, stamp.now))
            }
            Err(Refusal::Wait(Blocked::Room { .. }))
                if waited_since + limits::ROOM_WAIT_MAX <= stamp.now =>
            {
                Err(CommandError::PublishFailed(
                    verb,
                    "no room in the store".into(),
                ))
            }
            Err(Refusal::Wait(blocked)) => Ok(Handled::Later(blocked)),
            Err(Refusal::Error(reason)) => Err(CommandError::PublishFailed(verb, reason)),
        }
    }

    /// Answers `OK` once `ticket` is resolved, behind the replies before it.
    fn answer_after(
        &mut self,
        no: SessionNo,
        ticket: Ticket,
        verb: Verb,
        now: Duration,
    ) -> Handled {
        let resolved = self.is_resolved(ticket);
        let Some(session) = self.sessions.get_mut(no) else {
            return Handled::Done;
        };
        session.reply_after(ticket, verb);
        if !std::mem::replace(&mut session.awaits_commit, true) {
            self.awaiting_commit.push(no);
        }
        if resolved {
            self.release_replies(no, &Ok(()), now);
        }
        Handled::Done
    }
}

/// Bodies that can be walked twice: once for their size, once to store them.
pub(crate) trait ExactCount<'a>: Iterator<Item = &'a [u8]> + Clone {}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> ExactCount<'a> for I {}

enum Step {
    Consumed(usize),
    Stop(Next),
}

fn count_published(session: &mut Session, topic: storage::TopicNo, count: u64) {
    let known = session.published.len() < limits::TOPICS_PER_PRODUCER_MAX
        || session.published.contains_key(&topic);
    if known {
        *session.published.entry(topic).or_default() += count;
    }
}
