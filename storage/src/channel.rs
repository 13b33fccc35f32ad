//! A channel in memory: a cursor, and what the ring does not know of it yet.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ChannelNo, Seq, TopicNo};
use crate::ranges::RangeSet;
use crate::topic::Name;

/// What a channel knows of a record that was given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) attempts: u16,
    pub(crate) delay_ms: u64,
    /// Known from before the last start, whose clock is not ours: the whole delay counts from the start.
    pub(crate) recovered: bool,
}

/// A channel: a cursor.
pub(crate) struct Channel {
    pub(crate) topic: TopicNo,
    pub(crate) name: Name,
    pub(crate) lasting: bool,
    pub(crate) paused: bool,
    /// All below is finished.
    pub(crate) floor: Seq,
    /// The floor as the ring knows it.
    pub(crate) committed_floor: Seq,
    /// Finished above the floor.
    pub(crate) finished: RangeSet,
    pub(crate) retries: BTreeMap<Seq, Retry>,
    /// Records that went before this (ephemeral) channel saw them, or that damage took.
    pub(crate) missed: u64,
    /// What the next block has to say of this channel.
    pub(crate) pending: Deltas,
}

/// Finishes and retries that no block says yet. Each is said once however often it happens until then, and what
/// several consumers finish in turns becomes one range: what waits is bounded by what is outstanding, not by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deltas {
    pub(crate) finished: RangeSet,
    pub(crate) retries: BTreeSet<Seq>,
}

impl Deltas {
    pub(crate) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.retries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.finished.len() + self.retries.len()
    }

    /// Takes out up to `room` of them, and that much from `room`.
    pub(crate) fn split(&mut self, room: &mut usize) -> Deltas {
        let finished = self.finished.split_first(*room);
        *room -= finished.len();
        let left = match self.retries.iter().nth(*room).copied() {
            Some(first_left) => self.retries.split_off(&first_left),
            None => BTreeSet::new(),
        };
        let retries = std::mem::replace(&mut self.retries, left);
        *room -= retries.len();
        Deltas { finished, retries }
    }
}

/// Deltas of one channel on their way to the ring.
pub(crate) struct TakenDeltas {
    pub(crate) channel: ChannelNo,
    /// The floor that they make, if they are all that there was to say.
    pub(crate) floor: Option<Seq>,
    pub(crate) deltas: Deltas,
}

/// Bytes of one finish or retry entry, at most: a tag, a number, three varints.
pub(crate) const DELTA_BYTES_MAX: usize = 1 + 5 + 3 * 10;

impl Channel {
    /// True if the channel has finished this record.
    pub(crate) fn has_finished(&self, seq: Seq) -> bool {
        seq < self.floor || self.finished.end_of_range_at(seq).is_some()
    }

    /// The first record at or after `seq` that is not finished.
    pub(crate) fn unfinished_from(&self, seq: Seq) -> Seq {
        let seq = seq.max(self.floor);
        self.finished.end_of_range_at(seq).unwrap_or(seq)
    }

    /// Finishes `first..end`.
    pub(crate) fn finish(&mut self, first: Seq, end: Seq) {
        if end <= self.floor {
            return;
        }
        self.finished.insert(first.max(self.floor), end);
        if let Some(floor) = self.finished.end_of_range_at(self.floor) {
            self.set_floor(floor);
        }
        if end.since(first) == 1 {
            self.retries.remove(&first);
        } else {
            self.retries.retain(|seq, _| !(first..end).contains(seq));
        }
    }

    pub(crate) fn set_floor(&mut self, floor: Seq) {
        self.floor = self.floor.max(floor);
        self.finished.remove_below(self.floor);
        while self
            .retries
            .first_key_value()
            .is_some_and(|(seq, _)| *seq < self.floor)
        {
            self.retries.pop_first();
        }
    }
}
