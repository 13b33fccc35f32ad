//! The records of an ephemeral topic: in memory only. All such topics together are bounded; the oldest of the
//! largest go first.

use std::collections::VecDeque;

use crate::ids::{MessageId, Seq};

/// One record.
pub(crate) struct MemoryRecord {
    pub(crate) id: MessageId,
    pub(crate) wall_ns: i64,
    /// Boot time in ms at which it was accepted.
    pub(crate) mono_ms: u64,
    /// Deferral from then; 0 is none.
    pub(crate) delay_ms: u32,
    pub(crate) body: Box<[u8]>,
}

/// Records with consecutive sequences.
#[derive(Default)]
pub(crate) struct MemoryLog {
    first: Seq,
    records: VecDeque<MemoryRecord>,
    bytes: usize,
}

/// What a record costs besides its body.
const RECORD_BYTES: usize = std::mem::size_of::<MemoryRecord>();

impl MemoryLog {
    /// Adds a record. One past the newest sequence.
    pub(crate) fn push(&mut self, record: MemoryRecord) -> Seq {
        self.bytes += record.body.len() + RECORD_BYTES;
        self.records.push_back(record);
        self.first.plus(self.records.len() as u64)
    }

    /// Bytes of all records.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the records below `seq`.
    pub(crate) fn drop_below(&mut self, seq: Seq) {
        while self.first < seq && !self.records.is_empty() {
            self.pop();
        }
    }

    /// The first record at or after `seq`.
    pub(crate) fn at_or_after(&self, seq: Seq) -> Option<(Seq, &MemoryRecord)> {
        let seq = seq.max(self.first);
        let record = self
            .records
            .get(usize::try_from(seq.since(self.first)).ok()?)?;
        Some((seq, record))
    }

    /// Drops the oldest record.
    pub(crate) fn pop(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.bytes -= record.body.len() + RECORD_BYTES;
            self.first = self.first.plus(1);
        }
    }
}
