//! The log: ring, segments, cursors, checkpoint, recovery. Knows bytes, not NSQ.
//!
//! ```text
//!  identity         store id, ring id; written once, after the ring is whole                     (identity)
//!  ring             every commit of every topic is one block on fresh pages, one fdatasync       (block, ring, commit)
//!  state-a, -b      catalogue and cursors as of one block, in turn                               (state)
//!  segments/T-N     per topic, dense compressed blocks: an outage's backlog, and floods          (segment, append)
//! ```
//!
//! A message is appended to the open unit of the [`queue`], becomes durable with its unit's [`commit`], is read by
//! each channel's cursor ([`read`]), and is finished in the [`catalog`]; the next block says so. What nobody needs
//! any more is never written a second time. The [`checkpoint`] moves what is still needed out of the ring's older
//! half. [`recovery`] finds again, from ring and state alone, what was acknowledged.
//!
//! All of it is a state machine without clock, thread or write: [`Store::poll_job`] says what to do,
//! [`Worker`] (or [`run_job`]) does it, [`Store::handle_done`] goes on.

pub mod disk;

mod append;
mod block;
mod cache;
mod catalog;
mod chain;
mod channel;
mod checkpoint;
mod codec;
mod commit;
mod entry;
mod evacuate;
mod files;
#[cfg(test)]
mod golden;
mod identity;
mod ids;
mod job;
pub mod limits;
mod make;
mod memory;
mod options;
mod publish;
mod queue;
mod ranges;
mod read;
mod recovery;
mod ring;
mod salvage;
mod segment;
mod state;
mod store;
mod topic;
mod types;
mod upkeep;
mod worker;

pub use ids::{BlockNo, ChannelNo, MessageId, Seq, Ticket, TopicNo};
pub use job::{Done, Job, Step, Target, run_job};
pub use options::{Options, OptionsError};
pub use read::{Cursor, Message, ReadError};
pub use recovery::{OpenError, RecoveryReport};
pub use store::Store;
pub use types::{ChannelInfo, CommitError, Counters, Outcome, Stamp, StoreError, TopicInfo};
pub use worker::Worker;
