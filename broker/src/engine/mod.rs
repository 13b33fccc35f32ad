//! The broker's rules, without I/O: topics, channels, sessions, what is in flight.
//!
//! The engine has no await, socket or clock. A host drives it like this:
//!
//! - A connection: [`Engine::connect`], then [`Engine::input`] with the bytes at hand; [`Progress`]
//!   says how many were taken and whether to read more. [`Engine::take_output`] whenever the
//!   session was woken ([`Engine::poll_woken`]) and everything taken before is written. At its end
//!   [`Engine::disconnect`].
//! - The store: [`Engine::poll_job`] gives work for the storage thread, [`Engine::handle_done`]
//!   takes its result.
//! - Delivery: [`Engine::deliver`] after anything else, again and again while it says that there is
//!   more.
//! - Time: [`Engine::handle_timeout`] at [`Engine::poll_timeout`].
//! - New topics: [`Engine::poll_lookup`] and [`Engine::lookup_done`], if [`Settings::lookups`] is
//!   on.
//!
//! Nothing is allocated per message: bodies go from the input to the store's open block and from
//! the store's cache to the consumer's output. Every queue is bounded; at a bound the engine stops
//! taking a session's input.

mod catalogue;
mod channel;
mod commands;
mod deliver;
mod inflight;
mod pool;
mod replies;
mod session;
mod snapshot;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::command::Bounds;
use protocol::identify::Ranges;
use protocol::names::TopicName;
use storage::disk::Disk;
use storage::{ChannelNo, Done, Job, Outcome, RecoveryReport, Stamp, Store, Ticket};

pub use catalogue::AdminError;
pub use commands::{Next, Progress};
pub use inflight::ENTRY_BYTES_MAX;
pub use session::SessionNo;
pub use snapshot::{ChannelStats, ClientStats, TopicStats};

use channel::Catalogue;
use inflight::InFlight;
use pool::Pool;
use session::{Ending, Session, Sessions};
use timers::{Timer, Timers};

/// What an operator sets, as the engine needs it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds of commands.
    pub bounds: Bounds,
    /// What IDENTIFY may ask for, and what holds without it.
    pub ranges: Ranges,
    /// Connections at once.
    pub connections_max: usize,
    /// Messages in flight, requeued or deferred at once, over all channels.
    pub outstanding_max: usize,
    /// The body pool: bytes of bodies beyond the sessions' small buffers.
    pub pool_bytes: usize,
    /// Whether a new topic waits until [`Engine::lookup_done`] named its channels.
    pub lookups: bool,
}

/// Topics, channels, sessions over one store. See the module's page for how to drive it.
pub struct Engine<D: Disk> {
    pub(crate) settings: Settings,
    pub(crate) store: Store<D>,
    catalogue: Catalogue,
    sessions: Sessions,
    in_flight: InFlight,
    /// In flight, requeued and deferred messages of all channels.
    outstanding: usize,
    pool: Pool,
    timers: Timers,
    random: Random,
    /// Channels that may have something to deliver.
    queue: VecDeque<ChannelNo>,
    /// Channels that stand still until fewer messages are outstanding.
    stalled: BTreeSet<ChannelNo>,
    woken: VecDeque<SessionNo>,
    awaiting_commit: Vec<SessionNo>,
    awaiting_room: Vec<SessionNo>,
    /// All tickets up to here are resolved.
    resolved: Ticket,
    lookups: Lookups,
    /// Raised by every change of topics and channels; see [`Engine::take_catalogue_changed`].
    catalogue_changed: bool,
}

/// Topics whose channels are being asked for.
#[derive(Default)]
struct Lookups {
    to_ask: VecDeque<TopicName>,
    asked: BTreeSet<TopicName>,
    /// Asked for, and then not made: the next command about it goes on without asking again.
    failed: BTreeSet<TopicName>,
    waiting: Vec<SessionNo>,
}

impl<D: Disk> Engine<D> {
    /// Opens the store and recovers. Blocks; to be done before listeners open.
    ///
    /// # Errors
    /// What keeps the store from being opened; it says which file and why.
    pub fn open(
        disk: Arc<D>,
        options: storage::Options,
        settings: Settings,
        seed: u64,
        stamp: Stamp,
    ) -> Result<(Self, RecoveryReport), storage::OpenError> {
        let (store, report) = Store::open(disk, options, seed, stamp)?;
        let outstanding_max = settings.outstanding_max;
        // A pool that could never hold one command would let its sender wait for ever.
        let largest_command = settings
            .bounds
            .body_bytes_max
            .max(settings.bounds.message_bytes_max) as usize
            + 2 * crate::limits::INPUT_BYTES_MAX;
        let mut engine = Engine {
            pool: Pool::new(settings.pool_bytes.max(largest_command)),
            settings,
            store,
            catalogue: Catalogue::default(),
            sessions: Sessions::default(),
            in_flight: InFlight::new(outstanding_max),
            outstanding: 0,
            timers: Timers::default(),
            random: Random(seed | 1),
            queue: VecDeque::new(),
            stalled: BTreeSet::new(),
            woken: VecDeque::new(),
            awaiting_commit: Vec::new(),
            awaiting_room: Vec::new(),
            resolved: Ticket(0),
            lookups: Lookups::default(),
            catalogue_changed: true,
        };
        engine.adopt_recovered();
        Ok((engine, report))
    }

    /// A new connection from `peer` (its address as text). `None` when there are as many as
    /// allowed.
    pub fn connect(&mut self, peer: &str, stamp: Stamp) -> Option<SessionNo> {
        if self.sessions.len() >= self.settings.connections_max {
            return None;
        }
        let session = Session::new(peer, stamp.now, stamp.wall_ns, &self.settings.ranges);
        let no = self.sessions.insert(session);
        self.rearm(no);
        Some(no)
    }

    /// The connection is gone. What it had in flight is queued again at once.
    pub fn disconnect(&mut self, no: SessionNo, now: Duration) {
        self.leave_channel(no, now);
        let Some(mut session) = self.sessions.remove(no) else {
            return;
        };
        self.timers.disarm(&mut session.armed, Timer::Session(no));
        let held = session.input_held + session.output_held + session.writing_held;
        self.release_to_pool(&mut { held });
        self.pool.forget(no);
        self.woken.retain(|other| *other != no);
        self.awaiting_commit.retain(|other| *other != no);
        self.awaiting_room.retain(|other| *other != no);
        self.lookups.waiting.retain(|other| *other != no);
    }

    /// Takes what is to be written to a session; `into` must be empty, and everything that was
    /// taken before must be written.
    pub fn take_output(&mut self, no: SessionNo, now: Duration, into: &mut Vec<u8>) -> Flow {
        let Some(session) = self.sessions.get_mut(no) else {
            return Flow::Cut;
        };
        if session.ending == Ending::Cut {
            return Flow::Cut;
        }
        let mut written = std::mem::replace(&mut session.writing_held, session.output_held);
        session.output_held = 0;
        let owed_much = session.owes_too_much();
        std::mem::swap(&mut session.output, into);
        session.reply_bytes = 0;
        session.full = false;
        session.writing_since = (!into.is_empty()).then_some(now);
        let flow = match session.is_drained() && into.is_empty() {
            true => Flow::Finished,
            false => Flow::Open,
        };
        let channel = session.channel.filter(|_| written > 0 || !into.is_empty());
        let unblocked = owed_much && !session.owes_too_much();
        self.release_to_pool(&mut written);
        if unblocked {
            self.wake(no);
        }
        if let Some(channel) = channel {
            self.queue_channel(channel);
        }
        self.rearm(no);
        flow
    }

    /// Whether the session is to be closed at once.
    pub fn is_cut(&self, no: SessionNo) -> bool {
        self.sessions
            .get(no)
            .is_none_or(|session| session.ending == Ending::Cut)
    }

    /// The connection got some of what it took through to the peer, so the peer is alive.
    pub fn written(&mut self, no: SessionNo, now: Duration) {
        if let Some(session) = self.sessions.get_mut(no) {
            session.writing_since = Some(now);
        }
    }

    /// A session whose connection has something to do: output to take, input that goes on, an end.
    pub fn poll_woken(&mut self) -> Option<SessionNo> {
        let no = self.woken.pop_front()?;
        if let Some(session) = self.sessions.get_mut(no) {
            session.woken = false;
        }
        Some(no)
    }

    /// Work for the storage thread, one job at a time.
    pub fn poll_job(&mut self, now: Duration) -> Option<Job<D>> {
        self.store.poll_job(now)
    }

    /// A job's result: commits are answered, what they brought can be delivered.
    pub fn handle_done(&mut self, now: Duration, done: Done<D>) -> Option<Outcome> {
        let outcome = self.store.handle_done(now, done);
        if let Some(outcome) = &outcome {
            self.resolve(outcome, now);
        }
        for no in std::mem::take(&mut self.awaiting_room) {
            self.wake(no);
        }
        outcome
    }

    /// When [`Engine::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// When the store wants [`Engine::poll_job`] to be called although nothing else happened.
    pub fn poll_store_timeout(&self) -> Option<Duration> {
        self.store.poll_timeout()
    }

    /// Heartbeats, silent peers, message timeouts, deferred messages that are due. Bounded; what is
    /// left is due at once.
    pub fn handle_timeout(&mut self, now: Duration) {
        for _ in 0..crate::limits::TIMERS_PER_TURN_MAX {
            match self.timers.pop_due(now) {
                Some(Timer::Session(no)) => self.session_due(no, now),
                Some(Timer::Channel(no)) => self.channel_due(no, now),
                None => break,
            }
        }
    }

    /// Asks the store to write what it still holds back; then drive it until [`Engine::is_idle`].
    pub fn flush(&mut self) {
        self.store.flush();
    }

    /// Whether everything is on flash.
    pub fn is_idle(&self) -> bool {
        self.store.is_idle()
    }

    /// What is wrong with the store, if anything.
    ///
    /// # Errors
    /// A text for operators.
    pub fn health(&self) -> Result<(), String> {
        self.store.health()
    }

    /// The store's counters.
    pub fn counters(&self) -> storage::Counters {
        self.store.counters()
    }

    /// Whether all publishes and changes up to `ticket` are resolved.
    pub fn is_resolved(&self, ticket: Ticket) -> bool {
        ticket <= self.resolved
    }

    /// Connections at this moment.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Bytes of the body pool that nobody holds.
    pub fn pool_free(&self) -> usize {
        self.pool.free()
    }

    /// Takes a part of the body pool for a caller that is no session (HTTP); false if there is not
    /// enough.
    pub fn reserve_body(&mut self, held: &mut usize, bytes: usize) -> bool {
        self.pool.reserve(held, bytes)
    }

    /// Gives it back.
    pub fn release_body(&mut self, held: &mut usize) {
        self.release_to_pool(held);
    }

    /// Ends every session: nothing more is read from it; what it is owed is still written.
    pub fn close_sessions(&mut self, now: Duration) {
        let open: Vec<SessionNo> = self.sessions.iter().map(|(no, _)| no).collect();
        for no in open {
            self.end_session(no, Ending::Draining, now);
        }
    }

    fn wake(&mut self, no: SessionNo) {
        if let Some(session) = self.sessions.get_mut(no) {
            if !std::mem::replace(&mut session.woken, true) {
                self.woken.push_back(no);
            }
        }
    }

    fn release_to_pool(&mut self, held: &mut usize) {
        if *held == 0 {
            return;
        }
        self.pool.release(held);
        for no in self.pool.take_waiting() {
            if let Some(session) = self.sessions.get_mut(no) {
                session.full = false;
                if let Some(channel) = session.channel {
                    self.queue_channel(channel);
                }
            }
            self.wake(no);
        }
    }

    /// Arms a session's timer for whatever is due first.
    fn rearm(&mut self, no: SessionNo) {
        let Some(session) = self.sessions.get_mut(no) else {
            return;
        };
        let message = self
            .in_flight
            .first(&session.in_flight)
            .map(|(_, entry)| entry.deadline);
        let next = match (session.next_deadline(), message) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if let Some(at) = next {
            self.timers.arm(&mut session.armed, Timer::Session(no), at);
        }
    }

    /// Sets a session's end; it no longer consumes.
    fn end_session(&mut self, no: SessionNo, ending: Ending, now: Duration) {
        if let Some(session) = self.sessions.get_mut(no) {
            if session.ending != Ending::Cut {
                session.ending = ending;
            }
            session.blocked = None;
        }
        self.leave_channel(no, now);
        self.wake(no);
    }
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Open,
    /// Everything is written: half-close, drain what the peer still sends for a moment, close.
    Finished,
    /// Close at once: the peer is silent or does not read.
    Cut,
}

/// A small generator (xorshift64*) for sampling: not for secrets.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}
