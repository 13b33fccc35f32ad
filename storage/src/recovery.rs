//! Opening a store: what counts is found, its end is made certain, and only then is it open.
//!
//! | case | decision |
//! |---|---|
//! | no identity, no ring with blocks | a fresh store is made; identity last |
//! | no identity, a ring with blocks | refused: this is loss, not a fresh store |
//! | identity, ring and state | blocks from `live_from` are replayed on the state |
//! | identity and ring, no state, ring never checkpointed | blocks are replayed on an empty state |
//! | identity and ring, state lost | topics come back from segments and ring, undelivered channels are gone; said so |
//! | identity, no ring | state and segments come back, a new ring is made; said so |
//! | a segment that is named and not there | its records are damage, counted when a channel misses them |
//! | a segment file that nothing names | removed, unless there was damage |
//!
//! Recovery reads ring and state, never the backlog. Its first write is a block of a new epoch; that, and all that
//! was read, is synced before the store is open. A crash on the way changes nothing of this.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::block::{HEADER_BYTES, Header};
use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::chain::{self, Chain};
use crate::checkpoint::{Checkpoint, SPARE_NAME};
use crate::commit::Content;
use crate::disk::{Disk, SEGMENTS_DIR, TOP_DIR};
use crate::entry::{self, Entry};
use crate::files::SegmentFiles;
use crate::identity::Identity;
use crate::ids::BlockNo;
use crate::job::run_job;
use crate::limits::{EPOCHS_SKIPPED_AFTER_LOSS, RING_PARTS_PER_DELTAS};
use crate::make::{self, States};
use crate::options::{Options, OptionsError};
use crate::queue::Queue;
use crate::ring::Ring;
use crate::salvage;
use crate::state::{self, Image};
use crate::store::{Running, Store};
use crate::topic::{Extent, Topic};
use crate::types::{Counters, Stamp};

/// The ring's file.
pub(crate) const RING_NAME: &str = "ring";
/// A ring while it is made to replace a lost one.
const NEW_RING_NAME: &str = "ring.new";

/// A store that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// An option is out of its bounds.
    #[error(transparent)]
    Options(OptionsError),
    /// The medium fails.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// How it failed.
        error: io::Error,
    },
    /// There is a ring with data and no readable identity.
    #[error(
        "the file `identity` is missing or damaged, but `ring` has data: this is no fresh store. \
         Put the file back, or move the directory's contents away to start anew"
    )]
    IdentityLost,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The store was made just now.
    pub is_fresh: bool,
    /// Ring blocks replayed.
    pub blocks: u64,
    /// Bytes read from ring and state.
    pub read_bytes: u64,
    /// Live blocks of the ring that are broken.
    pub damaged_blocks: u64,
    /// The ring was lost.
    pub is_ring_lost: bool,
    /// The state was lost.
    pub is_state_lost: bool,
}

impl RecoveryReport {
    /// True if something is lost.
    pub fn has_damage(&self) -> bool {
        self.damaged_blocks > 0 || self.is_ring_lost || self.is_state_lost
    }
}

/// The damage first, for an operator.
impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ring_lost {
            f.write_str("the ring is lost; ")?;
        }
        if self.is_state_lost {
            f.write_str("the state is lost; ")?;
        }
        if self.damaged_blocks > 0 {
            write!(f, "{} blocks are broken; ", self.damaged_blocks)?;
        }
        write!(f, "{} blocks, {} bytes read", self.blocks, self.read_bytes)
    }
}

pub(crate) fn doing(doing: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |error| OpenError::Io { doing, error }
}

impl<D: Disk> Store<D> {
    /// Opens the store on `disk`, or makes one. `seed` is the source of a fresh store's id. Blocks until the store
    /// is recovered and that is durable.
    ///
    /// # Errors
    /// Options out of bounds, a failing medium, an identity that is lost.
    pub fn open(
        disk: Arc<D>,
        mut options: Options,
        seed: u64,
        stamp: Stamp,
    ) -> Result<(Store<D>, RecoveryReport), OpenError> {
        options.validate()?;
        let mut report = RecoveryReport::default();
        let identity = match make::read_identity(&*disk)? {
            Some(identity) => identity,
            None if make::has_ring_blocks(&*disk)? => return Err(OpenError::IdentityLost),
            None => {
                report.is_fresh = true;
                make::create(&*disk, &options, seed).map_err(doing("make a store"))?
            }
        };
        if identity.ring_bytes != options.ring_bytes {
            log::warn!(
                "the ring has {} bytes, fixed when the store was made; the option says {}",
                identity.ring_bytes,
                options.ring_bytes,
            );
            options.ring_bytes = identity.ring_bytes;
        }
        let states = make::open_states(&*disk, &options).map_err(doing("open the state"))?;
        let state = states
            .newest(&*disk, identity.store_id)
            .map_err(doing("read the state"))?;
        let freed = state.as_ref().map(|(header, _)| header.live_from);
        let ring = make::read_ring(&*disk, &identity, freed).map_err(doing("read the ring"))?;
        let mut store = match ring {
            Some((file, chain)) => Self::replay(
                disk,
                options,
                &identity,
                states,
                state,
                file,
                chain,
                &mut report,
            )?,
            None => {
                report.is_ring_lost = true;
                Self::without_ring(disk, options, &identity, states, state, seed)?
            }
        };
        store.opened_at = stamp.now;
        store
            .tidy_segments(&report)
            .map_err(doing("list segments"))?;
        store
            .make_certain(stamp)
            .map_err(doing("write the first block"))?;
        Ok((store, report))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all that recovery has read so far"
    )]
    fn replay(
        disk: Arc<D>,
        options: Options,
        identity: &Identity,
        states: States<D::File>,
        state: Option<(state::Header, Image)>,
        file: D::File,
        chain: Chain,
        report: &mut RecoveryReport,
    ) -> Result<Store<D>, OpenError> {
        report.damaged_blocks = chain.damaged;
        let starts_whole = chain
            .blocks
            .first()
            .is_some_and(|first| first.previous.number.0 == 0);
        let is_state_lost = match &state {
            Some((header, _)) => header.through.0 + 1 < chain.live_from.number.0 && !starts_whole,
            None => !starts_whole || identity.is_salvaged,
        };
        let (header, image) = state.unzip();
        let image = image.unwrap_or_default();
        let through = header.map(|header| header.through).unwrap_or_default();
        let mut catalog = Catalog::from_image(&image);
        if is_state_lost {
            report.is_state_lost = true;
            salvage::import_segments(&disk, &mut catalog).map_err(doing("scan segments"))?;
        }
        let mut epoch = chain.epoch.max(image.epoch) + 1;
        if report.has_damage() {
            epoch += EPOCHS_SKIPPED_AFTER_LOSS;
        }
        for header in &chain.blocks {
            let block = chain::payload(&*disk, &file, identity.ring_id, header)
                .map_err(doing("read the ring"))?;
            let Some(block) = block else {
                report.damaged_blocks += 1;
                continue;
            };
            report.blocks += 1;
            report.read_bytes += block.len() as u64;
            if header.place.number > chain.synced_through {
                // Perhaps its sync failed, and then the page cache has what the medium does not, as clean pages that
                // no sync writes: written once more, they are dirty again, and the first block's sync covers them.
                disk.write_at(&file, header.place.offset.into(), &block)
                    .map_err(doing("write the ring"))?;
            }
            replay_block(&mut catalog, header, &block, through);
        }
        report.read_bytes += identity.ring_bytes;
        let ring = Ring::recovered(
            file,
            identity.ring_bytes,
            &chain.blocks,
            chain.live_from,
            chain.synced_through,
            chain.next_number,
        );
        let generation = header.map(|header| header.generation).unwrap_or_default();
        let mut store = Self::assemble(disk, options, identity, states, catalog, ring, epoch);
        store.state_generation = generation;
        if is_state_lost {
            store.write_state().map_err(doing("write the state"))?;
        } else if let (true, Some(header)) = (chain.is_state_ahead, header) {
            store
                .rewrite_state(&header, &image)
                .map_err(doing("write the state"))?;
        }
        Ok(store)
    }

    /// The ring is lost: state and segments come back, the ring starts anew under another id.
    fn without_ring(
        disk: Arc<D>,
        options: Options,
        identity: &Identity,
        states: States<D::File>,
        state: Option<(state::Header, Image)>,
        seed: u64,
    ) -> Result<Store<D>, OpenError> {
        log::error!(
            "the ring is lost, and with it what was published last; segments are redelivered"
        );
        let (header, image) = state.unzip();
        let image = image.unwrap_or_default();
        let mut catalog = Catalog::from_image(&image);
        let seen = salvage::import_segments(&disk, &mut catalog).map_err(doing("scan segments"))?;
        let epoch = image.epoch.max(seen) + 1 + EPOCHS_SKIPPED_AFTER_LOSS;
        let through = header.map(|header| header.through).unwrap_or_default();
        // Far above every number that the lost ring can have had.
        let first = BlockNo(through.0 + (1 << 32));
        let ring_id = make::mix(identity.ring_id ^ make::mix(seed));
        let identity = Identity {
            ring_id,
            is_salvaged: true,
            ..*identity
        };
        make::keep_aside(&*disk, RING_NAME).map_err(doing("put the lost ring aside"))?;
        let (file, block) = make::make_ring(&*disk, NEW_RING_NAME, &identity, epoch, first)
            .map_err(doing("make a ring"))?;
        let ring = Ring::recovered(
            file,
            identity.ring_bytes,
            &[block],
            block.place,
            BlockNo(0),
            BlockNo(first.0 + 1),
        );
        let generation = header.map(|header| header.generation).unwrap_or_default();
        let mut store = Self::assemble(
            Arc::clone(&disk),
            options,
            &identity,
            states,
            catalog,
            ring,
            epoch,
        );
        store.state_generation = generation;
        store.write_state().map_err(doing("write the state"))?;
        make::write_identity(&*disk, &identity, Some(NEW_RING_NAME))
            .map_err(doing("make a ring"))?;
        Ok(store)
    }

    fn assemble(
        disk: Arc<D>,
        options: Options,
        identity: &Identity,
        states: States<D::File>,
        catalog: Catalog,
        ring: Ring<D::File>,
        epoch: u32,
    ) -> Store<D> {
        let ops_bytes_max = (options.ring_bytes / RING_PARTS_PER_DELTAS) as usize;
        Store {
            files: SegmentFiles::new(Arc::clone(&disk)),
            disk,
            store_id: identity.store_id,
            ring_id: identity.ring_id,
            epoch,
            id_count: 0,
            opened_at: std::time::Duration::ZERO,
            ring,
            state_files: states.files,
            state_generation: 0,
            catalog,
            queue: Queue::new(options.ring_batch_bytes_max(), ops_bytes_max),
            cache: Cache::new(options.cache_bytes as usize),
            checkpoint: Checkpoint::new(),
            running: None,
            garbage: VecDeque::new(),
            has_spare: false,
            counters: Counters::default(),
            trouble: None,
            read_failures: 0,
            trouble_told: None,
            retry_at: std::time::Duration::ZERO,
            gather_until: std::time::Duration::ZERO,
            job_started: std::time::Duration::ZERO,
            committed_last: false,
            deltas_due: None,
            flushing: false,
            is_blocked: false,
            reading: None,
            scratch: Vec::new(),
            options,
        }
    }

    /// Finds segment files that nothing names, and the spare; numbers of files that are there are not given again.
    fn tidy_segments(&mut self, report: &RecoveryReport) -> io::Result<()> {
        for name in self.disk.list(SEGMENTS_DIR)? {
            if name == SPARE_NAME {
                self.has_spare = true;
                continue;
            }
            let topic = salvage::parse_file_name(&name).and_then(|(number, segment)| {
                self.catalog
                    .topics
                    .get_mut(&number)
                    .map(|topic| (topic, segment))
            });
            let is_named = topic.is_some_and(|(topic, segment)| {
                topic.next_segment = topic.next_segment.max(segment.saturating_add(1));
                topic
                    .segments
                    .iter()
                    .any(|known| known.image.number == segment)
            });
            if !is_named && !report.has_damage() {
                self.garbage.push_back(name);
            }
        }
        // All of them are the ring's word, and synced before any file goes.
        for channel in self.catalog.channels.values_mut() {
            channel.committed_floor = channel.floor;
        }
        if !report.has_damage() {
            self.release_segments();
        }
        // Only ephemeral channels followed the end, and they went with the last run.
        let alone = |topic: &&Topic| topic.channels.is_empty() && topic.standing.is_none();
        let topics = self.catalog.topics.iter().filter(|(_, topic)| alone(topic));
        let stand: Vec<_> = topics
            .map(|(no, topic)| (*no, topic.paused, topic.end))
            .collect();
        for (topic, paused, end) in stand {
            self.distribute(topic, paused, Some(end));
        }
        Ok(())
    }

    /// Writes the first block of the epoch and syncs all that recovery relies on: after a kill it may have read
    /// pages that no sync has covered.
    fn make_certain(&mut self, stamp: Stamp) -> io::Result<()> {
        let content = Content::of(self.queue.pop());
        for file in self.state_files.iter().chain([&self.ring.file]) {
            self.disk.sync(file)?;
        }
        self.disk.sync_dir(TOP_DIR)?;
        let mut job = self.block_job(stamp.now, content, 0);
        if job.is_none() {
            self.free_ring(stamp);
            let content = Content::of(self.queue.pop());
            job = self.block_job(stamp.now, content, 0);
        }
        let Some(job) = job else {
            let trouble = self.trouble.clone().unwrap_or_default();
            return Err(io::Error::other(format!("the ring is full: {trouble}")));
        };
        let done = run_job(&*self.disk, job);
        if let Err((_, error)) = done.result {
            return Err(error);
        }
        self.handle_done(stamp.now, done);
        self.counters = Counters::default();
        Ok(())
    }

    /// Checkpoints on the calling thread, which takes nothing of a full ring.
    fn free_ring(&mut self, stamp: Stamp) {
        while let Some(job) = self.checkpoint_job(stamp.now) {
            let done = run_job(&*self.disk, job);
            self.handle_done(stamp.now, done);
        }
    }

    /// Writes the state that was read once more, in its place, before anything relies on what it alone says: that
    /// pages of the ring are free. The run that wrote it may have died because its sync failed, and then a sync
    /// without a write does nothing.
    fn rewrite_state(&mut self, header: &state::Header, image: &Image) -> io::Result<()> {
        let (generation, through) = (header.generation, header.through);
        let bytes = state::encode(image, generation, through, header.live_from, self.store_id);
        let [even, odd] = &self.state_files;
        let file = if generation % 2 == 0 { even } else { odd };
        self.disk.write_at(file, 0, &bytes)
    }

    /// Writes the state on the calling thread.
    fn write_state(&mut self) -> io::Result<()> {
        let job = self.state_job();
        let done = run_job(&*self.disk, job);
        self.running = None::<Running<D::File>>;
        done.result.map_err(|(_, error)| error)?;
        self.state_generation += 1;
        Ok(())
    }
}

/// Applies a block. What the state includes already is not applied again; records are placed in any case.
fn replay_block(catalog: &mut Catalog, header: &Header, block: &[u8], through: BlockNo) {
    let payload = block.get(HEADER_BYTES..).unwrap_or_default();
    let mut rest = payload;
    while let Some((entry, after)) = entry::take(rest) {
        let at = HEADER_BYTES + payload.len() - rest.len();
        let bytes = rest.len() - after.len();
        match entry {
            Entry::Run(run) => {
                if let Some(topic) = catalog.topics.get_mut(&run.topic) {
                    topic.place(Extent {
                        first: run.first_seq,
                        count: run.count,
                        block: header.place,
                        run_at: at as u32,
                        run_bytes: bytes as u32,
                    });
                }
            }
            entry if header.place.number > through => catalog.apply(&entry),
            _ => {}
        }
        rest = after;
    }
}
