//! What can wait: garbage, and a spare segment for a full disk.

use std::time::Duration;

use crate::checkpoint::SPARE_NAME;
use crate::disk::{Disk, SEGMENTS_DIR};
use crate::ids::Ticket;
use crate::job::{Job, Step};
use crate::limits::RING_PARTS_CARRIED;
use crate::store::{Running, Store};

/// A spare segment that could not be made is tried again this often.
const SPARE_INTERVAL: Duration = Duration::from_secs(60);

/// Garbage files removed by one job.
const REMOVALS_PER_JOB: usize = 8;

impl<D: Disk> Store<D> {
    /// Deletions that are durable now give their segments back.
    pub(crate) fn forget_deleted(&mut self, ticket: Option<Ticket>) {
        let Some(ticket) = ticket else { return };
        let deleted = std::mem::take(&mut self.checkpoint.deleted);
        for (of, topic, segments) in deleted {
            if of > ticket {
                self.checkpoint.deleted.push((of, topic, segments));
                continue;
            }
            for segment in segments {
                self.garbage.push_back(segment.file_name(topic));
            }
        }
    }

    /// What can wait: garbage, and a spare segment for a full disk.
    pub(crate) fn upkeep_job(&mut self, now: Duration) -> Option<Job<D>> {
        if now < self.retry_at {
            return None;
        }
        if !self.garbage.is_empty() {
            let count = self.garbage.len().min(REMOVALS_PER_JOB);
            let names = self.garbage.drain(..count);
            let steps = names.map(|name| Step::Remove { name }).collect();
            self.running = Some(Running::Removal);
            return Some(Job { steps });
        }
        let wants_spare = !self.has_spare
            && self.ring.used() > self.ring.bytes / RING_PARTS_CARRIED
            && now >= self.checkpoint.spare_due;
        if !wants_spare {
            return None;
        }
        self.checkpoint.spare_due = now + SPARE_INTERVAL;
        let bytes = self.options.segment_bytes;
        if self.disk.free_bytes().unwrap_or(0) < 4 * bytes {
            return None;
        }
        let create = Step::Create {
            name: SPARE_NAME.to_owned(),
            bytes,
        };
        self.running = Some(Running::Spare);
        Some(Job {
            steps: vec![create, Step::SyncDir { dir: SEGMENTS_DIR }],
        })
    }

    /// When upkeep has something to do.
    pub(crate) fn upkeep_due(&self) -> Option<Duration> {
        (!self.garbage.is_empty()).then_some(Duration::ZERO)
    }
}
