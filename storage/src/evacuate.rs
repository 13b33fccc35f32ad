//! What of the ring some channel still needs, as blocks for somewhere else.

use std::rc::Rc;

use crate::block::HEADER_BYTES;
use crate::cache::BlockKey;
use crate::disk::Disk;
use crate::entry::{self, Entry, RunBuilder};
use crate::ids::{BlockNo, Seq, TopicNo};
use crate::limits::{READ_FAILURES_MAX, SEGMENT_BLOCK_BYTES};
use crate::read::ReadError;
use crate::store::Store;
use crate::topic::Extent;

/// Runs of one topic, for one segment block.
pub(crate) struct RawBlock {
    pub(crate) range: (Seq, Seq),
    pub(crate) raw: Vec<u8>,
}

impl<D: Disk> Store<D> {
    /// The records of a topic from `next` to below `through` that some channel needs, up to one block; `next`
    /// moves behind them. With `before`, only those in older blocks.
    ///
    /// # Errors
    /// The medium cannot be read, for the first few times: then nothing may be left behind yet.
    pub(crate) fn ring_records(
        &mut self,
        number: TopicNo,
        next: &mut Seq,
        through: Seq,
        before: Option<BlockNo>,
    ) -> Result<Option<RawBlock>, ReadError> {
        let (mut raw, mut builder) = (Vec::new(), RunBuilder::default());
        let mut range: Option<(Seq, Seq)> = None;
        'extents: while *next < through {
            let Some(topic) = self.catalog.topics.get(&number) else {
                return Ok(None);
            };
            let Some(extent) = topic.extent_at(*next).copied() else {
                break;
            };
            if extent.first >= through {
                break;
            }
            let is_wanted = before.is_none_or(|before| extent.block.number < before)
                && self
                    .catalog
                    .is_any_needed(topic, extent.first, extent.end());
            let bytes = if is_wanted {
                self.ring_block(&extent)?
            } else {
                None
            };
            let run_at = extent.run_at as usize..(extent.run_at + extent.run_bytes) as usize;
            let run = bytes
                .as_ref()
                .and_then(|bytes| bytes.get(run_at))
                .and_then(entry::take);
            let Some((Entry::Run(run), _)) = run else {
                *next = extent.end();
                continue;
            };
            let Some(topic) = self.catalog.topics.get(&number) else {
                return Ok(None);
            };
            for record in run
                .located()
                .filter(|record| (*next..extent.end()).contains(&record.seq))
            {
                if !self.catalog.is_needed(topic, record.seq) {
                    continue;
                }
                let bytes = raw.len() + builder.len();
                if bytes > 0 && bytes + record.body.len() > SEGMENT_BLOCK_BYTES {
                    *next = record.seq;
                    break 'extents;
                }
                builder.push(number, &record, &mut raw);
                range = Some((range.map_or(record.seq, |(first, _)| first), record.seq));
            }
            *next = extent.end();
        }
        builder.finish(number, &mut raw);
        Ok(range.map(|range| RawBlock { range, raw }))
    }

    /// A ring block through the cache; damage is said once and is no obstacle. A medium that fails is asked again by
    /// the checkpoints that follow, and then it is damage, too: the ring must not stand still for one bad page.
    fn ring_block(&mut self, extent: &Extent) -> Result<Option<Rc<Vec<u8>>>, ReadError> {
        let key = BlockKey::Ring(extent.block.number);
        if let Some(bytes) = self.cache.get(&key) {
            return Ok(Some(bytes));
        }
        let bytes = match self.read_ring_block(extent) {
            Ok(bytes) => bytes,
            Err(error) if self.read_failures < READ_FAILURES_MAX => {
                self.read_failures += 1;
                return Err(error);
            }
            Err(error) => {
                log::error!("{error}; the checkpoint leaves its records behind");
                None
            }
        };
        let bytes = bytes
            .filter(|bytes| bytes.len() > HEADER_BYTES)
            .map(Rc::new);
        if let Some(bytes) = &bytes {
            self.cache.insert(key, Rc::clone(bytes));
        }
        Ok(bytes)
    }
}
