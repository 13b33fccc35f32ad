//! One connection's state: what it negotiated, what it waits for, what is to be written to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use protocol::command::{Parser, Situation, State};
use protocol::error::Verb;
use protocol::identify;
use storage::{ChannelNo, Ticket, TopicNo};

use super::inflight::Chain;
use crate::limits;

/// Place of a session in the broker; used again after the session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo(pub(crate) u32);

/// A reply that is not written yet because an earlier one waits for a commit.
pub(crate) enum Reply {
    /// `count` replies that all wait for `ticket`.
    Commit {
        ticket: Ticket,
        verb: Verb,
        count: u32,
    },
    /// A frame that is ready.
    Frame(Box<[u8]>),
}

/// Why a session's input stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The store has no room, since when.
    Room { since: Duration },
    /// The body pool has no room.
    Pool,
    /// Too many replies wait for commits or for the peer to read them.
    Replies,
    /// The lookupds are asked about a new topic.
    Lookup,
}

/// How far a session has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not at all.
    Open,
    /// No more input; what is owed is written, then the connection is closed.
    Draining,
    /// Closed at once.
    Cut,
}

pub(crate) struct Session {
    pub(crate) peer: Box<str>,
    pub(crate) connected_wall_ns: i64,
    pub(crate) negotiated: identify::Settings,
    pub(crate) magic_seen: bool,
    pub(crate) parser: Parser,
    pub(crate) state: State,
    pub(crate) ending: Ending,
    pub(crate) blocked: Option<Blocked>,
    /// Set while the session is in the list of those that wait for a commit.
    pub(crate) awaits_commit: bool,
    /// Set while the session is in the list of those whose connection has something to do.
    pub(crate) woken: bool,

    /// The channel that it consumes from.
    pub(crate) channel: Option<ChannelNo>,
    /// The `OK` to SUB was written: messages may follow.
    pub(crate) delivering: bool,
    /// The next message did not fit; set until its output is taken or the pool has room again.
    pub(crate) full: bool,
    pub(crate) ready_count: u32,
    pub(crate) in_flight: Chain,

    pub(crate) output: Vec<u8>,
    /// Bytes of replies in `output`, since it was last taken.
    pub(crate) reply_bytes: usize,
    /// Bytes of the frames in `replies`.
    pub(crate) waiting_bytes: usize,
    pub(crate) replies: VecDeque<Reply>,
    /// Number of replies in `replies`.
    pub(crate) replies_waiting: usize,
    /// Parts of the body pool: of the command that is being read, of `output`, of what the
    /// connection writes.
    pub(crate) input_held: usize,
    pub(crate) output_held: usize,
    pub(crate) writing_held: usize,

    /// When the magic came or the last command was done; the connection's start before.
    pub(crate) heard_at: Duration,
    pub(crate) heartbeat_at: Duration,
    /// The connection has been writing since then without progress.
    pub(crate) writing_since: Option<Duration>,
    pub(crate) armed: Option<Duration>,

    pub(crate) messages: u64,
    pub(crate) finishes: u64,
    pub(crate) requeues: u64,
    pub(crate) published: BTreeMap<TopicNo, u64>,
}

impl Session {
    pub(crate) fn new(peer: &str, now: Duration, wall_ns: i64, ranges: &identify::Ranges) -> Self {
        Session {
            peer: peer.into(),
            connected_wall_ns: wall_ns,
            negotiated: identify::Settings::new(ranges),
            magic_seen: false,
            parser: Parser::new(),
            state: State::Init,
            ending: Ending::Open,
            blocked: None,
            awaits_commit: false,
            woken: false,
            channel: None,
            delivering: false,
            full: false,
            ready_count: 0,
            in_flight: Chain::EMPTY,
            output: Vec::new(),
            reply_bytes: 0,
            waiting_bytes: 0,
            replies: VecDeque::new(),
            replies_waiting: 0,
            input_held: 0,
            output_held: 0,
            writing_held: 0,
            heard_at: now,
            heartbeat_at: now + ranges.heartbeat_default,
            writing_since: None,
            armed: None,
            messages: 0,
            finishes: 0,
            requeues: 0,
            published: BTreeMap::new(),
        }
    }

    pub(crate) fn situation(&self) -> Situation {
        Situation {
            state: self.state,
            heartbeats: self.negotiated.heartbeat.is_some(),
        }
    }

    /// Whether a message may be written to it now.
    pub(crate) fn takes_messages(&self) -> bool {
        self.delivering
            && self.state == State::Subscribed
            && self.ending == Ending::Open
            && self.in_flight.len() < self.ready_count
            && !self.full
    }

    /// Message frames are written until the output holds so many bytes.
    pub(crate) fn output_bytes_max(&self) -> usize {
        (self.negotiated.output_buffer_bytes as usize).min(limits::OUTPUT_BYTES_MAX)
    }

    /// Writes a ready frame, behind the replies that wait.
    pub(crate) fn reply(&mut self, frame: &[u8]) {
        if self.replies.is_empty() {
            append(&mut self.output, frame);
            self.reply_bytes += frame.len();
        } else {
            self.replies.push_back(Reply::Frame(frame.into()));
            self.waiting_bytes += frame.len();
            self.replies_waiting += 1;
        }
    }

    /// Queues a reply that waits for a commit.
    pub(crate) fn reply_after(&mut self, ticket: Ticket, verb: Verb) {
        self.replies_waiting += 1;
        if let Some(Reply::Commit {
            ticket: last,
            verb: same,
            count,
        }) = self.replies.back_mut()
        {
            if *last == ticket && *same == verb {
                *count += 1;
                return;
            }
        }
        self.replies.push_back(Reply::Commit {
            ticket,
            verb,
            count: 1,
        });
    }

    /// Whether its next command has to wait until the peer reads or a commit is done.
    pub(crate) fn owes_too_much(&self) -> bool {
        self.replies_waiting >= limits::REPLIES_WAITING_MAX
            || self.reply_bytes + self.waiting_bytes >= limits::REPLY_BYTES_MAX
    }

    /// Everything is written that will ever be written.
    pub(crate) fn is_drained(&self) -> bool {
        self.ending == Ending::Draining && self.replies.is_empty() && self.output.is_empty()
    }

    /// The next time at which something is due, in flight messages left out.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let mut next = None;
        let mut earliest = |at: Duration| {
            next = Some(next.map_or(at, |before: Duration| before.min(at)));
        };
        if let Some(at) = self.read_deadline() {
            earliest(at);
        }
        let beats = self.negotiated.heartbeat.is_some() && self.magic_seen;
        if beats && self.ending == Ending::Open {
            earliest(self.heartbeat_at);
        }
        if let Some(at) = self.write_deadline() {
            earliest(at);
        }
        if let Some(Blocked::Room { since }) = self.blocked {
            earliest(since + limits::ROOM_WAIT_MAX);
        }
        next
    }

    /// When the peer has not read for too long. Without heartbeats it has all the time in the world,
    /// unless its connection is about to be closed.
    pub(crate) fn write_deadline(&self) -> Option<Duration> {
        let since = self.writing_since?;
        match (self.negotiated.heartbeat, self.ending) {
            (Some(interval), _) => Some(since + interval),
            (None, Ending::Open) => None,
            (None, _) => Some(since + limits::LAST_WRITE_TIMEOUT),
        }
    }

    /// When the peer has been silent for too long. It does not count while its input is not read.
    pub(crate) fn read_deadline(&self) -> Option<Duration> {
        if self.ending != Ending::Open || self.blocked.is_some() {
            return None;
        }
        if !self.magic_seen {
            return Some(self.heard_at + limits::MAGIC_TIMEOUT);
        }
        match self.negotiated.heartbeat {
            Some(interval) => Some(self.heard_at + 2 * interval),
            None if self.input_held > 0 => Some(self.heard_at + limits::POOLED_BODY_TIMEOUT),
            None => None,
        }
    }
}

/// Appends with little spare capacity, so that a buffer takes hardly more memory than it holds at
/// its bound.
pub(crate) fn append(output: &mut Vec<u8>, bytes: &[u8]) {
    make_room(output, bytes.len());
    output.extend_from_slice(bytes);
}

pub(crate) fn make_room(output: &mut Vec<u8>, bytes: usize) {
    let needed = output.len() + bytes;
    if needed > output.capacity() {
        let capacity = match needed {
            ..4096 => needed.next_power_of_two(),
            _ => needed.next_multiple_of(4096),
        };
        output.reserve_exact(capacity - output.len());
    }
}

/// All sessions, by number.
#[derive(Default)]
pub(crate) struct Sessions {
    slots: Vec<Option<Box<Session>>>,
    free: Vec<u32>,
}

impl Sessions {
    pub(crate) fn insert(&mut self, session: Session) -> SessionNo {
        let session = Some(Box::new(session));
        if let Some(no) = self.free.pop() {
            if let Some(slot) = self.slots.get_mut(no as usize) {
                *slot = session;
            }
            return SessionNo(no);
        }
        self.slots.push(session);
        SessionNo((self.slots.len() - 1) as u32)
    }

    pub(crate) fn get(&self, no: SessionNo) -> Option<&Session> {
        self.slots.get(no.0 as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, no: SessionNo) -> Option<&mut Session> {
        self.slots.get_mut(no.0 as usize)?.as_deref_mut()
    }

    pub(crate) fn remove(&mut self, no: SessionNo) -> Option<Box<Session>> {
        let session = self.slots.get_mut(no.0 as usize)?.take()?;
        self.free.push(no.0);
        Some(session)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionNo, &Session)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(no, slot)| Some((SessionNo(no as u32), slot.as_deref()?)))
    }
}
