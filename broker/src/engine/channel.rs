//! One channel's state beside the store's: who consumes, what is to be delivered again, what waits
//! for its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::names::{ChannelName, TopicName};
use storage::{ChannelNo, Cursor, Seq, Ticket, TopicNo};

use super::SessionNo;

pub(crate) struct Topic {
    pub(crate) name: TopicName,
    /// Its creation is durable when this is resolved.
    pub(crate) created: Ticket,
    pub(crate) channels: BTreeMap<ChannelName, ChannelNo>,
    /// Messages and their bytes accepted since the broker started: those that were answered with `OK`.
    pub(crate) messages: u64,
    pub(crate) message_bytes: u64,
    /// Publishes whose commit is not done, oldest first.
    publishing: Vec<Publishing>,
}

/// What was published under a ticket.
struct Publishing {
    ticket: Ticket,
    messages: u64,
    bytes: u64,
}

impl Topic {
    pub(crate) fn new(name: TopicName, created: Ticket) -> Self {
        Topic {
            name,
            created,
            channels: BTreeMap::new(),
            messages: 0,
            message_bytes: 0,
            publishing: Vec::new(),
        }
    }

    /// Notes a publish whose commit is not done.
    pub(crate) fn note_publish(&mut self, ticket: Ticket, messages: u64, bytes: u64) {
        match self
            .publishing
            .last_mut()
            .filter(|last| last.ticket == ticket)
        {
            Some(last) => {
                last.messages += messages;
                last.bytes += bytes;
            }
            None => self.publishing.push(Publishing {
                ticket,
                messages,
                bytes,
            }),
        }
    }

    /// The commits up to `through` are done: what is stored counts. True if no publish waits any more.
    pub(crate) fn published(&mut self, through: Ticket, is_stored: bool) -> bool {
        let done = self
            .publishing
            .partition_point(|publish| publish.ticket <= through);
        for publish in self.publishing.drain(..done).filter(|_| is_stored) {
            self.messages += publish.messages;
            self.message_bytes += publish.bytes;
        }
        self.publishing.is_empty()
    }
}

pub(crate) struct Channel {
    pub(crate) topic: TopicNo,
    pub(crate) name: ChannelName,
    /// Its creation is durable when this is resolved.
    pub(crate) created: Ticket,
    pub(crate) paused: bool,
    /// Where it reads next in the log.
    pub(crate) cursor: Cursor,
    /// To be delivered again, ahead of new ones: sequence and sends so far.
    pub(crate) requeued: BTreeMap<Seq, u16>,
    /// Waiting for their time: sends so far.
    pub(crate) deferred: BTreeMap<(Duration, Seq), u16>,
    pub(crate) consumers: Vec<SessionNo>,
    /// The consumer whose turn is next.
    pub(crate) turn: usize,
    pub(crate) in_flight: u32,
    /// Set while the channel is in the list of those that may have something to deliver.
    pub(crate) queued: bool,
    pub(crate) armed: Option<Duration>,
    /// Messages that the channel was given up to this sequence are not counted as its own.
    pub(crate) counted_from: u64,
    pub(crate) requeues: u64,
    pub(crate) timeouts: u64,
}

impl Channel {
    pub(crate) fn new(topic: TopicNo, name: ChannelName, created: Ticket, floor: Seq) -> Self {
        Channel {
            topic,
            name,
            created,
            paused: false,
            cursor: Cursor::new(floor),
            requeued: BTreeMap::new(),
            deferred: BTreeMap::new(),
            consumers: Vec::new(),
            turn: 0,
            in_flight: 0,
            queued: false,
            armed: None,
            counted_from: floor.0,
            requeues: 0,
            timeouts: 0,
        }
    }

    /// Messages that the channel has taken from the log and that are not finished.
    pub(crate) fn outstanding(&self) -> usize {
        self.in_flight as usize + self.requeued.len() + self.deferred.len()
    }

    pub(crate) fn remove_consumer(&mut self, session: SessionNo) {
        let Some(at) = self
            .consumers
            .iter()
            .position(|consumer| *consumer == session)
        else {
            return;
        };
        self.consumers.remove(at);
        // Whoever was next stays next.
        if self.turn > at {
            self.turn -= 1;
        }
    }
}

/// Catalogue and the lists of what has to be looked at.
#[derive(Default)]
pub(crate) struct Catalogue {
    pub(crate) topics_by_name: BTreeMap<TopicName, TopicNo>,
    pub(crate) topics: BTreeMap<TopicNo, Topic>,
    pub(crate) channels: BTreeMap<ChannelNo, Channel>,
    /// Topics with publishes whose commit is not done.
    pub(crate) publishing: BTreeSet<TopicNo>,
}
