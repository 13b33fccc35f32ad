//! Publishing: a batch joins a unit of the queue, or the memory of an ephemeral topic.

use std::time::Duration;

use crate::disk::Disk;
use crate::entry::{self, Record};
use crate::ids::{MessageId, Ticket, TopicNo};
use crate::memory::MemoryRecord;
use crate::queue::Bodies;
use crate::store::Store;
use crate::types::{Stamp, StoreError};

/// Bytes of a record's lengths and times, at most.
const RECORD_HEAD_BYTES: u64 = 16;

impl<D: Disk> Store<D> {
    /// True if publishes of `bytes` may come now. False: wait for an outcome. Alone, any batch has room.
    pub fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.queue.run_bytes;
        waiting == 0 || waiting + bytes as u64 <= u64::from(self.options.pending_bytes_max)
    }

    /// Publishes a batch, whole or not at all. It is durable, and deliverable, when the ticket resolves. `defer`
    /// holds every message of it back in each channel.
    ///
    /// # Errors
    /// No such topic; a body, the batch or the deferral over its bound.
    pub fn publish<'a>(
        &mut self,
        number: TopicNo,
        bodies: impl Iterator<Item = &'a [u8]>,
        defer: Duration,
        stamp: Stamp,
    ) -> Result<Ticket, StoreError> {
        let lasting = self.topic(number)?.memory.is_none();
        let delay_ms = u32::try_from(defer.as_millis()).map_err(|_| StoreError::DelayTooLong {
            got_ms: defer.as_millis(),
        })?;
        let base_ns = self.queue.wall_base(number, stamp.wall_ns);
        let wall_delta_us = Record::delta_us(base_ns, stamp.wall_ns).unwrap_or(0);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let result = if lasting {
            let encode = |body| {
                entry::push_record(
                    &mut scratch,
                    &Record {
                        wall_delta_us,
                        delay_ms,
                        body,
                    },
                );
            };
            self.for_each_body(bodies, encode).map(|bodies| {
                self.queue
                    .push_records(number, base_ns, bodies, &mut scratch)
            })
        } else {
            self.publish_in_memory(number, bodies, delay_ms, stamp)
        };
        self.scratch = scratch;
        // What one flood left behind is not kept.
        self.scratch.shrink_to(crate::limits::SEGMENT_BLOCK_BYTES);
        result
    }

    /// Checks bodies against their bounds and hands each on; what they were together.
    fn for_each_body<'a>(
        &self,
        bodies: impl Iterator<Item = &'a [u8]>,
        mut take: impl FnMut(&'a [u8]),
    ) -> Result<Bodies, StoreError> {
        let (mut all, mut batch) = (Bodies::default(), 0);
        for body in bodies {
            let (got, max) = (body.len() as u64, u64::from(self.options.message_bytes_max));
            if got > max {
                return Err(StoreError::MessageTooLarge { got, max });
            }
            batch += got + RECORD_HEAD_BYTES;
            let max = u64::from(self.options.batch_bytes_max) + RECORD_HEAD_BYTES;
            if batch > max {
                return Err(StoreError::BatchTooLarge { got: batch, max });
            }
            all.count += 1;
            all.bytes += got;
            take(body);
        }
        Ok(all)
    }

    fn publish_in_memory<'a>(
        &mut self,
        number: TopicNo,
        bodies: impl Iterator<Item = &'a [u8]>,
        delay_ms: u32,
        stamp: Stamp,
    ) -> Result<Ticket, StoreError> {
        let mut accepted = Vec::new();
        self.for_each_body(bodies, |body| accepted.push(Box::from(body)))?;
        let mono_ms = mono_ms(stamp.now);
        let Some(topic) = self.catalog.topics.get_mut(&number) else {
            return Err(StoreError::NoTopic(number));
        };
        for body in accepted {
            let id = MessageId::new(self.epoch, self.id_count);
            self.id_count += 1;
            if let Some(memory) = &mut topic.memory {
                let wall_ns = stamp.wall_ns;
                topic.end = memory.push(MemoryRecord {
                    id,
                    wall_ns,
                    mono_ms,
                    delay_ms,
                    body,
                });
            }
        }
        Ok(Ticket(0))
    }
}

/// Boot time in whole ms, rounded up, so that a deferral that counts from it is never early.
pub(crate) fn mono_ms(now: Duration) -> u64 {
    now.as_nanos().div_ceil(1_000_000) as u64
}
