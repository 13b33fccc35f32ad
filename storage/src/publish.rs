//! Publishing: a batch joins a unit of the queue, or the memory of an ephemeral topic.

use std::time::Duration;

use crate::disk::Disk;
use crate::entry::{self, Record};
use crate::ids::{MessageId, Ticket, TopicNo};
use crate::limits::EPHEMERAL_BYTES_MAX;
use crate::memory::{MemoryLog, MemoryRecord};
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

    /// Ephemeral topics hold so much together; the oldest message of the largest topic goes first, and a channel
    /// that had not seen it counts it as missed.
    fn bound_memory(&mut self) {
        loop {
            let topics = self.catalog.topics.values_mut();
            let logs = topics.filter_map(|topic| topic.memory.as_mut());
            let (mut bytes, mut largest) = (0, None::<&mut MemoryLog>);
            for log in logs {
                bytes += log.bytes();
                if largest
                    .as_ref()
                    .is_none_or(|other| other.bytes() < log.bytes())
                {
                    largest = Some(log);
                }
            }
            let Some(largest) = largest.filter(|_| bytes > EPHEMERAL_BYTES_MAX) else {
                return;
            };
            let excess = bytes - EPHEMERAL_BYTES_MAX;
            let target = largest.bytes().saturating_sub(excess);
            while largest.bytes() > target {
                largest.pop();
            }
        }
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
        self.bound_memory();
        Ok(Ticket(0))
    }
}

/// Boot time in whole ms, rounded up, so that a deferral that counts from it is never early.
pub(crate) fn mono_ms(now: Duration) -> u64 {
    now.as_nanos().div_ceil(1_000_000) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::FaultyDisk;
    use crate::job::run_job;
    use crate::options::Options;
    use crate::read::Cursor;

    fn store() -> (Store<FaultyDisk>, Arc<FaultyDisk>) {
        let disk = Arc::new(FaultyDisk::new());
        let options = Options {
            ring_bytes: 64 * 1024,
            ..Options::default()
        };
        let stamp = Stamp::default();
        let (store, _) = Store::open(Arc::clone(&disk), options, 1, stamp).unwrap();
        (store, disk)
    }

    #[test]
    fn ephemeral_topics_together_stay_in_their_bound_and_what_goes_is_counted() {
        let (mut store, _) = store();
        let stamp = Stamp::default();
        let body = vec![7; 100_000];
        let mut channels = Vec::new();
        for name in ["large", "small"] {
            let (topic, _) = store.create_topic(name, false).unwrap();
            channels.push((topic, store.create_channel(topic, "c", false).unwrap().0));
        }
        let publish = |store: &mut Store<FaultyDisk>, topic| {
            let bodies = [body.as_slice()].into_iter();
            store.publish(topic, bodies, Duration::ZERO, stamp).unwrap();
        };
        let [(large, large_channel), (small, small_channel)] = channels[..] else {
            unreachable!()
        };
        publish(&mut store, small);
        for _ in 0..100 {
            publish(&mut store, large);
        }
        let kept = |store: &mut Store<FaultyDisk>, channel| {
            let (mut cursor, mut kept) = (Cursor::new(crate::ids::Seq(0)), 0);
            while store.next(channel, &mut cursor).unwrap().is_some() {
                kept += 1;
            }
            (kept, store.channel_info(channel).unwrap().missed)
        };
        assert_eq!(kept(&mut store, small_channel), (1, 0));
        let (kept, missed) = kept(&mut store, large_channel);
        assert_eq!(kept + missed, 100);
        assert!(
            (30..=EPHEMERAL_BYTES_MAX as u64 / 100_000).contains(&kept),
            "{kept}"
        );
    }

    #[test]
    fn a_message_in_memory_and_one_on_its_way_to_flash_have_two_ids() {
        let (mut store, disk) = store();
        let stamp = Stamp::default();
        let (lasting, _) = store.create_topic("lasting", true).unwrap();
        let (fleeting, _) = store.create_topic("fleeting", false).unwrap();
        let a = store.create_channel(lasting, "c", true).unwrap().0;
        let b = store.create_channel(fleeting, "c", false).unwrap().0;
        let bodies = || [b"x".as_slice()].into_iter();
        store
            .publish(lasting, bodies(), Duration::ZERO, stamp)
            .unwrap();
        let job = store.poll_job(Duration::ZERO).unwrap();
        store
            .publish(fleeting, bodies(), Duration::ZERO, stamp)
            .unwrap();
        let done = run_job(&*disk, job);
        store
            .handle_done(Duration::ZERO, done)
            .unwrap()
            .result
            .unwrap();
        let mut first_id = |channel| {
            let message = store.next(channel, &mut Cursor::new(crate::ids::Seq(0)));
            message.unwrap().unwrap().id
        };
        assert_ne!(first_id(a), first_id(b));
    }
}
