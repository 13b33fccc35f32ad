//! What the store is asked and what it answers.

use std::time::Duration;

use thiserror::Error;

use crate::ids::{ChannelNo, Seq, Ticket, TopicNo};
use crate::limits::NAME_BYTES_MAX;

/// When something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Time since boot (CLOCK_BOOTTIME).
    pub now: Duration,
    /// Wall time, ns since 1970; it only stamps messages.
    pub wall_ns: i64,
}

/// A request that the store refuses; nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No such topic.
    #[error("there is no topic number {0}")]
    NoTopic(TopicNo),
    /// No such channel.
    #[error("there is no channel number {0}")]
    NoChannel(ChannelNo),
    /// A name's length is out of bounds.
    #[error("a name of {got} bytes: must be 1..={NAME_BYTES_MAX}")]
    NameLength {
        /// Its bytes.
        got: usize,
    },
    /// The store has all the topics that it may have.
    #[error("there are {0} topics already, the most that topics_max allows")]
    TooManyTopics(u32),
    /// The store has all the channels that it may have.
    #[error("there are {0} channels already, the most that channels_max allows")]
    TooManyChannels(u32),
    /// A message is larger than the store takes.
    #[error("a message of {got} bytes: at most {max}")]
    MessageTooLarge {
        /// Its bytes.
        got: u64,
        /// The bound.
        max: u64,
    },
    /// A batch is larger than the store takes.
    #[error("a batch of {got} bytes: at most {max}")]
    BatchTooLarge {
        /// Its bytes, 16 for each message included.
        got: u64,
        /// The bound.
        max: u64,
    },
    /// A deferral is longer than the store takes.
    #[error("a deferral of {got_ms} ms: at most {}", u32::MAX)]
    DelayTooLong {
        /// It in ms.
        got_ms: u128,
    },
}

/// A commit that did not become durable: what was published under its tickets is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CommitError(pub String);

/// What became of all tickets up to `through` that were not resolved before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The newest ticket that this resolves.
    pub through: Ticket,
    /// Durable, or not.
    pub result: Result<(), CommitError>,
}

/// A topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicInfo<'a> {
    /// Its number.
    pub no: TopicNo,
    /// Its name.
    pub name: &'a str,
    /// False: it is kept in memory only.
    pub lasting: bool,
    /// True: nothing moves to its channels.
    pub paused: bool,
    /// Records that no channel may see yet: NSQ's topic depth.
    pub undistributed: u64,
    /// One past the newest committed record.
    pub end: Seq,
}

/// A channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelInfo<'a> {
    /// Its number.
    pub no: ChannelNo,
    /// Its topic.
    pub topic: TopicNo,
    /// Its name.
    pub name: &'a str,
    /// False: it is not written and goes with its last consumer.
    pub lasting: bool,
    /// True: nothing is handed out.
    pub paused: bool,
    /// All records below are finished.
    pub floor: Seq,
    /// Records that it may see and has not finished.
    pub unfinished: u64,
    /// Records that were gone before it saw them.
    pub missed: u64,
}

/// What the store has done since it was opened, and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes given to the medium to write.
    pub written_bytes: u64,
    /// fdatasync calls.
    pub syncs: u64,
    /// Blocks committed to the ring.
    pub commits: u64,
    /// Bytes of message bodies that became durable.
    pub payload_bytes: u64,
    /// Messages that became durable.
    pub messages: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Records that no channel can have any more because of damage.
    pub damaged_records: u64,
    /// Bytes of the ring that are in use.
    pub ring_used_bytes: u64,
    /// Segments that exist.
    pub segments: u64,
    /// Bytes reserved by segments.
    pub segment_bytes: u64,
}
