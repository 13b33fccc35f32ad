//! From the log to consumers, and back when they fail: delivery, finish, requeue, timeouts.

use std::time::Duration;

use protocol::error::NotInFlight;
use protocol::frame::{self, MESSAGE_HEADER_BYTES};
use protocol::id::{MessageId as WireNumber, WireId};
use storage::disk::Disk;
use storage::{ChannelNo, Message, MessageId, Store};

use super::channel::Channel;
use super::inflight::{Entry, Slot};
use super::session::{Ending, Session, Sessions, append, make_room};
use super::timers::Timer;
use super::{Engine, SessionNo};
use crate::limits;

/// Why a channel's turn ended.
enum TurnEnd {
    /// Nothing to deliver, or nobody to deliver to: something has to happen first.
    Idle,
    /// Its share is used up.
    Share,
    /// Too many messages are outstanding.
    Outstanding,
}

impl<D: Disk> Engine<D> {
    /// Writes messages to consumers that are ready. True if there is more to do: let sockets be
    /// served, then call it again.
    pub fn deliver(&mut self, now: Duration) -> bool {
        let mut budget = limits::MESSAGES_PER_TURN_MAX;
        while budget > 0 {
            let Some(no) = self.queue.pop_front() else {
                return false;
            };
            let share = budget.min(limits::MESSAGES_PER_CHANNEL_TURN_MAX);
            let mut left = share;
            let Some(channel) = self.catalogue.channels.get_mut(&no) else {
                continue;
            };
            channel.queued = false;
            match self.channel_turn(no, now, &mut left) {
                TurnEnd::Idle => {}
                TurnEnd::Share => self.queue_channel(no),
                TurnEnd::Outstanding => {
                    self.stalled.insert(no);
                }
            }
            budget -= share - left;
        }
        !self.queue.is_empty()
    }

    pub(super) fn queue_channel(&mut self, no: ChannelNo) {
        if let Some(channel) = self.catalogue.channels.get_mut(&no) {
            let nothing_to_do = channel.paused || channel.consumers.is_empty();
            if !nothing_to_do && !std::mem::replace(&mut channel.queued, true) {
                self.queue.push_back(no);
            }
        }
    }

    /// One fewer message is outstanding; who stood still because of that goes on.
    fn one_less_outstanding(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.unstall();
    }

    pub(super) fn unstall(&mut self) {
        for no in std::mem::take(&mut self.stalled) {
            self.queue_channel(no);
        }
    }

    fn channel_turn(&mut self, no: ChannelNo, now: Duration, left: &mut u32) -> TurnEnd {
        loop {
            if *left == 0 {
                return TurnEnd::Share;
            }
            let Some(channel) = self.catalogue.channels.get_mut(&no) else {
                return TurnEnd::Idle;
            };
            if channel.paused {
                return TurnEnd::Idle;
            }
            let Some(consumer) = next_ready(channel, &self.sessions) else {
                return TurnEnd::Idle;
            };
            *left -= 1;
            // One channel may not take all of what may be outstanding: four times of what is left,
            // so that the others always find something.
            let free = self
                .settings
                .outstanding_max
                .saturating_sub(self.outstanding);
            let takes_new = channel.outstanding() < free.saturating_mul(4);
            let (message, attempts) = match fetch(&mut self.store, no, channel, takes_new) {
                Fetched::Again(message, attempts) => (message, attempts),
                Fetched::New(message) => {
                    self.outstanding += 1;
                    let attempts = message.attempts;
                    if message.not_before > now {
                        let key = (message.not_before, message.seq);
                        channel.deferred.insert(key, attempts);
                        self.timers
                            .arm(&mut channel.armed, Timer::Channel(no), key.0);
                        continue;
                    }
                    (message, attempts)
                }
                Fetched::Gone => {
                    self.one_less_outstanding();
                    continue;
                }
                Fetched::Nothing => return TurnEnd::Idle,
                Fetched::TooMany => return TurnEnd::Outstanding,
                Fetched::Unreadable => {
                    let again_at = now + limits::READ_RETRY;
                    self.timers
                        .arm(&mut channel.armed, Timer::Channel(no), again_at);
                    return TurnEnd::Idle;
                }
            };
            let Some(session) = self.sessions.get_mut(consumer) else {
                return TurnEnd::Idle;
            };
            let sample_rate = u64::from(session.negotiated.sample_rate);
            if sample_rate > 0 && self.random.next() % 100 > sample_rate {
                let seq = message.seq;
                self.store.finish(no, seq);
                self.one_less_outstanding();
                continue;
            }
            let frame_bytes = MESSAGE_HEADER_BYTES + message.body.len();
            if !fits(session, &mut self.pool, frame_bytes) {
                channel.requeued.insert(message.seq, attempts);
                session.full = true;
                if session.output.is_empty() {
                    // The pool is used up: the session waits for what comes back.
                    self.pool.wait(consumer);
                }
                continue;
            }
            let attempts = attempts.saturating_add(1).min(limits::ATTEMPTS_MAX);
            let entry = Entry {
                channel: no,
                session: consumer,
                seq: message.seq,
                id: message.id,
                attempts,
                delivered_at: now,
                deadline: now + session.negotiated.msg_timeout,
            };
            write_message(&mut session.output, &message, attempts);
            channel.in_flight += 1;
            session.messages += 1;
            self.in_flight.insert(&mut session.in_flight, entry);
            self.wake(consumer);
            self.rearm(consumer);
        }
    }

    /// FIN.
    pub(super) fn finish(&mut self, no: SessionNo, id: WireId) -> Result<(), NotInFlight> {
        let slot = self.owned(no, id)?;
        if let Some(entry) = self.take_in_flight(no, slot) {
            self.store.finish(entry.channel, entry.seq);
            if let Some(session) = self.sessions.get_mut(no) {
                session.finishes += 1;
            }
            self.one_less_outstanding();
            self.queue_channel(entry.channel);
        }
        Ok(())
    }

    /// REQ.
    pub(super) fn requeue(
        &mut self,
        no: SessionNo,
        id: WireId,
        delay: Duration,
        now: Duration,
    ) -> Result<(), NotInFlight> {
        let slot = self.owned(no, id)?;
        if let Some(entry) = self.take_in_flight(no, slot) {
            if let Some(session) = self.sessions.get_mut(no) {
                session.requeues += 1;
            }
            if let Some(channel) = self.catalogue.channels.get_mut(&entry.channel) {
                channel.requeues += 1;
            }
            self.put_back(&entry, delay, now);
        }
        Ok(())
    }

    /// TOUCH: a whole message timeout from now, but not beyond the longest since the delivery.
    pub(super) fn touch(
        &mut self,
        no: SessionNo,
        id: WireId,
        now: Duration,
    ) -> Result<(), NotInFlight> {
        let slot = self.owned(no, id)?;
        let Some(entry) = self.in_flight.get(slot) else {
            return Ok(());
        };
        let Some(session) = self.sessions.get_mut(no) else {
            return Ok(());
        };
        let latest = entry.delivered_at + self.settings.ranges.msg_timeout_max;
        let deadline = (now + session.negotiated.msg_timeout).min(latest);
        self.in_flight
            .set_deadline(&mut session.in_flight, slot, deadline);
        self.rearm(no);
        Ok(())
    }

    fn owned(&self, no: SessionNo, id: WireId) -> Result<Slot, NotInFlight> {
        let channel = self.sessions.get(no).and_then(|session| session.channel);
        let slot = channel
            .zip(id.message_id())
            .and_then(|(channel, id)| self.in_flight.find(channel, MessageId(id.0)))
            .ok_or(NotInFlight::Unknown)?;
        match self.in_flight.get(slot) {
            Some(entry) if entry.session == no => Ok(slot),
            Some(_) => Err(NotInFlight::NotOwner),
            None => Err(NotInFlight::Unknown),
        }
    }

    /// Takes an entry out of its session and channel; it still counts as outstanding.
    fn take_in_flight(&mut self, no: SessionNo, slot: Slot) -> Option<Entry> {
        let session = self.sessions.get_mut(no)?;
        let entry = self.in_flight.remove(&mut session.in_flight, slot)?;
        if let Some(channel) = self.catalogue.channels.get_mut(&entry.channel) {
            channel.in_flight = channel.in_flight.saturating_sub(1);
        }
        Some(entry)
    }

    /// Queues what was in flight again, now or later.
    fn put_back(&mut self, entry: &Entry, delay: Duration, now: Duration) {
        let Some(channel) = self.catalogue.channels.get_mut(&entry.channel) else {
            return;
        };
        self.store
            .requeue(entry.channel, entry.seq, entry.attempts, delay);
        if delay.is_zero() {
            channel.requeued.insert(entry.seq, entry.attempts);
        } else {
            let at = now + delay;
            channel.deferred.insert((at, entry.seq), entry.attempts);
            self.timers
                .arm(&mut channel.armed, Timer::Channel(entry.channel), at);
        }
        self.queue_channel(entry.channel);
    }

    /// Everything that a session has in flight goes back to its channel, which it leaves.
    pub(super) fn leave_channel(&mut self, no: SessionNo, now: Duration) {
        let Some(session) = self.sessions.get_mut(no) else {
            return;
        };
        let Some(channel_no) = session.channel.take() else {
            return;
        };
        session.delivering = false;
        while let Some(slot) = self.first_in_flight(no) {
            match self.take_in_flight(no, slot) {
                Some(entry) => self.put_back(&entry, Duration::ZERO, now),
                None => break,
            }
        }
        if let Some(channel) = self.catalogue.channels.get_mut(&channel_no) {
            channel.remove_consumer(no);
        }
        self.channel_left(channel_no, now);
    }

    pub(super) fn first_in_flight(&self, no: SessionNo) -> Option<Slot> {
        let session = self.sessions.get(no)?;
        self.in_flight
            .first(&session.in_flight)
            .map(|(slot, _)| slot)
    }

    /// Forgets everything outstanding of a channel: it was emptied or deleted.
    pub(super) fn drop_outstanding(&mut self, no: ChannelNo) {
        let Some(channel) = self.catalogue.channels.get_mut(&no) else {
            return;
        };
        self.timers.disarm(&mut channel.armed, Timer::Channel(no));
        let mut dropped = channel.outstanding();
        channel.requeued.clear();
        channel.deferred.clear();
        for consumer in channel.consumers.clone() {
            while let Some(slot) = self.first_in_flight(consumer) {
                if self.take_in_flight(consumer, slot).is_none() {
                    break;
                }
            }
        }
        dropped = dropped.min(self.outstanding);
        self.outstanding -= dropped;
        self.unstall();
    }

    /// A session's timer fired.
    pub(super) fn session_due(&mut self, no: SessionNo, now: Duration) {
        let Some(session) = self.sessions.get_mut(no) else {
            return;
        };
        session.armed = None;
        let silent = session.read_deadline().is_some_and(|at| at <= now);
        let stuck = session.write_deadline().is_some_and(|at| at <= now);
        if silent || stuck {
            let what = if silent { "silent" } else { "not reading" };
            log::info!("{}: closed, {what} for too long", session.peer);
            self.end_session(no, Ending::Cut, now);
            return;
        }
        if let Some(interval) = session.negotiated.heartbeat {
            let open = session.magic_seen && session.ending == Ending::Open;
            if open && session.heartbeat_at <= now {
                append(&mut session.output, frame::HEARTBEAT_FRAME);
                // One that is late (the device slept) is not made up for.
                session.heartbeat_at += interval;
                if session.heartbeat_at <= now {
                    session.heartbeat_at = now + interval;
                }
                self.wake(no);
            }
        }
        self.expire_in_flight(no, now);
        if self
            .sessions
            .get(no)
            .is_some_and(|session| session.blocked.is_some())
        {
            self.wake(no);
        }
        self.rearm(no);
    }

    fn expire_in_flight(&mut self, no: SessionNo, now: Duration) {
        for _ in 0..limits::EXPIRIES_PER_TURN_MAX {
            let Some(session) = self.sessions.get(no) else {
                return;
            };
            let Some((slot, entry)) = self.in_flight.first(&session.in_flight) else {
                return;
            };
            if entry.deadline > now {
                return;
            }
            let Some(entry) = self.take_in_flight(no, slot) else {
                return;
            };
            if let Some(channel) = self.catalogue.channels.get_mut(&entry.channel) {
                channel.timeouts += 1;
            }
            self.put_back(&entry, Duration::ZERO, now);
        }
    }

    /// A channel's first deferred message is due.
    pub(super) fn channel_due(&mut self, no: ChannelNo, now: Duration) {
        let Some(channel) = self.catalogue.channels.get_mut(&no) else {
            return;
        };
        channel.armed = None;
        for _ in 0..limits::EXPIRIES_PER_TURN_MAX {
            let Some(first) = channel.deferred.first_entry() else {
                break;
            };
            if first.key().0 > now {
                break;
            }
            let ((_, seq), attempts) = first.remove_entry();
            channel.requeued.insert(seq, attempts);
        }
        if let Some(((at, _), _)) = channel.deferred.first_key_value() {
            self.timers.arm(&mut channel.armed, Timer::Channel(no), *at);
        }
        self.queue_channel(no);
    }
}

/// What a channel finds to deliver.
enum Fetched<'a> {
    /// Requeued, after so many sends.
    Again(Message<'a>, u16),
    New(Message<'a>),
    /// Requeued, and gone from the log meanwhile (dropped or damaged, and counted there).
    Gone,
    Nothing,
    /// There is nothing requeued, and the channel may take no more from the log.
    TooMany,
    /// The medium fails; it has been logged.
    Unreadable,
}

fn fetch<'a, D: Disk>(
    store: &'a mut Store<D>,
    no: ChannelNo,
    channel: &mut Channel,
    takes_new: bool,
) -> Fetched<'a> {
    let again = channel.requeued.pop_first();
    let message = match again {
        Some((seq, _)) => store.read(no, seq),
        None if !takes_new => return Fetched::TooMany,
        None => store.next(no, &mut channel.cursor),
    };
    match (message, again) {
        (Ok(Some(message)), Some((_, attempts))) => Fetched::Again(message, attempts),
        (Ok(Some(message)), None) => Fetched::New(message),
        (Ok(None), Some(_)) => Fetched::Gone,
        (Ok(None), None) => Fetched::Nothing,
        (Err(error), again) => {
            channel.requeued.extend(again);
            let name = &channel.name;
            log::error!("channel {name}: a message cannot be read: {error}");
            Fetched::Unreadable
        }
    }
}

/// The consumer whose turn it is among those that take a message now.
fn next_ready(channel: &mut Channel, sessions: &Sessions) -> Option<SessionNo> {
    let count = channel.consumers.len();
    for step in 0..count {
        let at = (channel.turn + step) % count;
        let consumer = *channel.consumers.get(at)?;
        if sessions.get(consumer).is_some_and(Session::takes_messages) {
            channel.turn = (at + 1) % count;
            return Some(consumer);
        }
    }
    None
}

/// Makes sure that a frame may be appended: within the session's bound, or alone and paid for by
/// the pool.
fn fits(session: &mut Session, pool: &mut super::pool::Pool, frame_bytes: usize) -> bool {
    if session.output.len() + frame_bytes <= session.output_bytes_max() {
        return true;
    }
    if !session.output.is_empty() {
        return false;
    }
    frame_bytes <= limits::OUTPUT_BYTES_MAX || pool.reserve(&mut session.output_held, frame_bytes)
}

fn write_message(output: &mut Vec<u8>, message: &Message<'_>, attempts: u16) {
    make_room(output, MESSAGE_HEADER_BYTES + message.body.len());
    let message = frame::Message {
        timestamp_ns: message.timestamp_ns,
        attempts,
        id: WireNumber(message.id.0).to_wire(),
        body: message.body,
    };
    frame::encode_message(&message, output);
}
