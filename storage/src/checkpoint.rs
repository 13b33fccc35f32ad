//! The checkpoint: makes the older half of the ring free.
//!
//! 1. *Move*: records there that some channel still needs go to their topic's segment, one block a job, so that
//!    a commit never waits for more than that. Topics with little there are left for step 3.
//! 2. *Sync* the segments, one a job.
//! 3. *Name*: blocks at the ring's head say where the segments end, and carry the remainders of small topics.
//! 4. *State*: catalogue and cursors go to the other state file, with the new `live_from`; when that is synced the
//!    pages are free. In a ring without room for step 3, the state alone names what was moved.
//!
//! A crash between any two steps leaves the older copies in charge: nothing refers to bytes that are not synced.
//! What cannot be read is damage, not a pin. A full disk stops at step 1 and names what was moved until then.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::append::Append;
use crate::commit::Content;
use crate::disk::Disk;
use crate::entry::{Entry, SegmentImage};
use crate::ids::{BlockNo, Seq, Ticket, TopicNo};
use crate::job::{Done, Job, Step, Target};
use crate::limits::{
    CARRY_BYTES_MAX, PAGE_BYTES, RETRY_INTERVAL, RING_PARTS_CARRIED, RING_PARTS_TO_CHECKPOINT,
};
use crate::read::ReadError;
use crate::state;
use crate::store::{Running, Store};
use crate::types::{CommitError, Outcome};

/// The segment that stays allocated for a full disk.
pub(crate) const SPARE_NAME: &str = "segments/spare";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Move,
    Sync,
    Name,
    State,
}

/// Records of a topic that are on their way to its segment.
struct Moving<F> {
    append: Append<F>,
    next: Seq,
    through: Seq,
}

/// A checkpoint's progress.
pub(crate) struct Checkpoint<F> {
    phase: Phase,
    /// Blocks before this one are to become free.
    upto: BlockNo,
    /// Topics to move, with the end of what has to leave the ring.
    moves: VecDeque<(TopicNo, Seq)>,
    /// Topics to carry.
    carries: VecDeque<(TopicNo, Seq)>,
    moving: Option<Moving<F>>,
    /// Moved, not synced.
    moved: VecDeque<Append<F>>,
    /// Synced, not named.
    synced: Vec<Append<F>>,
    /// Why it cannot be completed.
    trouble: Option<String>,
    retry_at: Duration,
    /// The next slice frees the spare segment's space first.
    gives_up_spare: bool,
    /// No spare segment is made before.
    pub(crate) spare_due: Duration,
    /// Segments of deleted topics, to be removed when the deletion is durable.
    pub(crate) deleted: Vec<(Ticket, TopicNo, Vec<SegmentImage>)>,
}

impl<F> Checkpoint<F> {
    pub(crate) fn new() -> Checkpoint<F> {
        Checkpoint {
            phase: Phase::Idle,
            upto: BlockNo(0),
            moves: VecDeque::new(),
            carries: VecDeque::new(),
            moving: None,
            moved: VecDeque::new(),
            synced: Vec::new(),
            trouble: None,
            retry_at: Duration::ZERO,
            gives_up_spare: false,
            spare_due: Duration::ZERO,
            deleted: Vec::new(),
        }
    }

    /// True if none is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Blocks before this one are to become free.
    pub(crate) fn upto(&self) -> BlockNo {
        self.upto
    }

    /// Blocks before this one are free when the state is synced.
    fn frees_from(&self) -> BlockNo {
        if self.trouble.is_some() {
            return BlockNo(0);
        }
        self.upto
    }

    /// When this ticket is durable these files go, and what no channel of the topic needs any more.
    pub(crate) fn release_after(
        &mut self,
        ticket: Ticket,
        topic: TopicNo,
        segments: Vec<SegmentImage>,
    ) {
        self.deleted.push((ticket, topic, segments));
    }
}

impl<D: Disk> Store<D> {
    /// The next slice of a checkpoint, if one is under way or due.
    pub(crate) fn checkpoint_job(&mut self, now: Duration) -> Option<Job<D>> {
        if now < self.retry_at || now < self.checkpoint.retry_at {
            return None;
        }
        if self.checkpoint.is_idle() && !self.start_checkpoint() {
            return None;
        }
        loop {
            let job = match self.checkpoint.phase {
                Phase::Idle => return None,
                Phase::Move => self.move_job(),
                Phase::Sync => self.sync_job(),
                Phase::Name => return self.name_job(now),
                Phase::State => return Some(self.state_job()),
            };
            if job.is_some() {
                return job;
            }
        }
    }

    /// When a checkpoint that failed is tried again.
    pub(crate) fn checkpoint_due(&self) -> Option<Duration> {
        let is_due = !self.checkpoint.is_idle() || self.is_half_used();
        is_due.then_some(self.checkpoint.retry_at)
    }

    fn is_half_used(&self) -> bool {
        self.ring.used() > self.ring.bytes / RING_PARTS_TO_CHECKPOINT
            && self.ring.live().count() > 1
    }

    /// Chooses the blocks to free, and for each topic with records there whether they move or are carried.
    fn start_checkpoint(&mut self) -> bool {
        if !self.is_half_used() {
            return false;
        }
        let Some(oldest) = self.ring.live_from() else {
            return false;
        };
        let half = oldest.at + self.ring.used() / 2;
        let mut newer = self.ring.live().skip(1);
        let Some(upto) = newer
            .find(|b| b.at >= half)
            .or_else(|| self.ring.live().last())
        else {
            return false;
        };
        let upto = upto.place.number;
        let mut needed = Vec::new();
        for (number, topic) in &self.catalog.topics {
            let (mut bytes, mut through) = (0, Seq(0));
            for extent in topic
                .extents
                .iter()
                .filter(|extent| extent.block.number < upto)
            {
                if self
                    .catalog
                    .is_any_needed(topic, extent.first, extent.end())
                {
                    bytes += u64::from(extent.run_bytes);
                    through = extent.end();
                }
            }
            if bytes > 0 {
                needed.push((bytes, *number, through));
            }
        }
        needed.sort_unstable_by_key(|(bytes, number, _)| (*bytes, *number));
        let mut room = (self.ring.bytes / RING_PARTS_CARRIED).min(self.ring.free() / 2);
        let carry_max = CARRY_BYTES_MAX.min(self.options.ring_batch_bytes_max() / 2);
        let checkpoint = &mut self.checkpoint;
        for (bytes, number, through) in needed {
            if bytes < carry_max && bytes <= room {
                room -= bytes;
                checkpoint.carries.push_back((number, through));
            } else {
                checkpoint.moves.push_back((number, through));
            }
        }
        checkpoint.upto = upto;
        checkpoint.trouble = None;
        checkpoint.phase = Phase::Move;
        true
    }

    /// One segment block, or on to the next phase.
    fn move_job(&mut self) -> Option<Job<D>> {
        let moving = self.checkpoint.moving.take().or_else(|| {
            let (topic, through) = self.checkpoint.moves.pop_front()?;
            Some(Moving {
                append: Append::new(topic),
                next: Seq(0),
                through,
            })
        });
        let Some(mut moving) = moving else {
            self.checkpoint.phase = Phase::Sync;
            return None;
        };
        let topic = moving.append.topic;
        let block = match self.ring_records(topic, &mut moving.next, moving.through, None) {
            Ok(block) => block,
            Err(error) => {
                self.checkpoint.moving = Some(moving);
                self.running = Some(Running::Move);
                return Some(failing_job(&error));
            }
        };
        let Some(block) = block else {
            if !moving.append.is_empty() {
                moving.append.close(moving.through);
                self.checkpoint.moved.push_back(moving.append);
            }
            return None;
        };
        let (mut steps, mut created) = (Vec::new(), 0);
        if std::mem::take(&mut self.checkpoint.gives_up_spare) {
            steps.push(Step::Remove {
                name: SPARE_NAME.to_owned(),
            });
        }
        self.append_block(
            &mut moving.append,
            block.range,
            &block.raw,
            &mut steps,
            &mut created,
        );
        self.checkpoint.moving = Some(moving);
        self.running = Some(Running::Move);
        Some(Job { steps })
    }

    fn sync_job(&mut self) -> Option<Job<D>> {
        let Some(append) = self.checkpoint.moved.front_mut() else {
            self.checkpoint.phase = Phase::Name;
            return None;
        };
        let mut steps = Vec::new();
        append.sync(&mut steps);
        self.running = Some(Running::SegmentSync);
        Some(Job { steps })
    }

    /// A block that names the moved segments and carries remainders, as many as a block takes.
    fn name_job(&mut self, now: Duration) -> Option<Job<D>> {
        let mut content = Content::of(None);
        let (named, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.checkpoint.synced)
            .into_iter()
            .partition(|append| self.catalog.topics.contains_key(&append.topic));
        for append in &gone {
            self.abandon(append);
        }
        for append in &named {
            content
                .named
                .extend(append.images().map(|image| (append.topic, image)));
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        let bytes_max = self.options.ring_batch_bytes_max();
        while let Some((number, through)) = self.checkpoint.carries.pop_front() {
            let upto = Some(self.checkpoint.upto);
            let block = match self.ring_records(number, &mut Seq(0), through, upto) {
                Ok(block) => block,
                Err(error) => {
                    self.checkpoint.synced = named;
                    self.running = Some(Running::Move);
                    return Some(failing_job(&error));
                }
            };
            taken.push((number, through));
            let Some(block) = block else { continue };
            bytes += block.raw.len() as u64;
            content.carried.push((number, block.raw));
            if bytes + CARRY_BYTES_MAX.min(bytes_max / 2) > bytes_max {
                break;
            }
        }
        if content.named.is_empty() && content.carried.is_empty() {
            return self.end_naming();
        }
        let has_room = {
            let len = self.block_bytes_max(&content);
            self.ring.position(len, PAGE_BYTES).is_some()
        };
        if !content.carried.is_empty() && !has_room {
            // No room to carry: these go to their segments after all.
            self.checkpoint.moves.extend(taken);
            self.checkpoint
                .moves
                .extend(self.checkpoint.carries.drain(..));
            content.carried.clear();
            self.checkpoint.phase = Phase::Move;
            if content.named.is_empty() {
                return self.move_job();
            }
        }
        // The last page is for the next start.
        let job = self.block_job(now, content, PAGE_BYTES);
        if job.is_some() {
            return job;
        }
        self.checkpoint.synced = named;
        if self.checkpoint.phase == Phase::Move {
            return self.move_job();
        }
        self.checkpoint.phase = Phase::State;
        Some(self.state_job())
    }

    /// All is named: the state is next, unless something could not be moved.
    fn end_naming(&mut self) -> Option<Job<D>> {
        if self.checkpoint.trouble.is_some() {
            self.checkpoint.phase = Phase::Idle;
            return None;
        }
        self.checkpoint.phase = Phase::State;
        Some(self.state_job())
    }

    pub(crate) fn state_job(&mut self) -> Job<D> {
        let generation = self.state_generation + 1;
        let through = self.ring.last_number();
        let mut image = self.catalog.image(self.epoch);
        for append in &self.checkpoint.synced {
            append
                .images()
                .for_each(|segment| image.name_segment(append.topic, segment));
        }
        let live_from = self.checkpoint.frees_from();
        let live_from = self
            .ring
            .live()
            .find(|block| block.place.number >= live_from);
        let live_from = live_from.map(|block| block.place).unwrap_or_default();
        let bytes = state::encode(&image, generation, through, live_from, self.store_id);
        let [even, odd] = &self.state_files;
        let file = Target::Open(if generation % 2 == 0 { even } else { odd }.clone());
        self.running = Some(Running::State);
        let (got, expected) = (bytes.len() as u64, self.options.state_bytes());
        if got > expected {
            // It costs metadata, which is better than a ring that cannot be freed.
            log::warn!(
                "the state has {got} bytes, more than the {expected} that its file was made for"
            );
        }
        let steps = vec![
            Step::Write {
                file: file.clone(),
                offset: 0,
                bytes,
            },
            Step::Sync { file },
        ];
        Job { steps }
    }

    /// Takes back a slice.
    pub(crate) fn checkpoint_done(
        &mut self,
        now: Duration,
        slice: &Running<D::File>,
        done: Done<D>,
    ) -> Option<Outcome> {
        let files = done.created;
        match (slice, done.result) {
            (Running::Move, Ok(())) => {
                if let Some(mut moving) = self.checkpoint.moving.take() {
                    self.append_opened(&mut moving.append, &files);
                    self.checkpoint.moving = Some(moving);
                }
            }
            (Running::Move, Err((_, error))) => return self.move_failed(now, &error),
            (Running::SegmentSync, Ok(())) => {
                self.checkpoint
                    .synced
                    .extend(self.checkpoint.moved.pop_front());
            }
            (Running::State, Ok(())) => {
                self.state_generation += 1;
                self.names_said();
                let upto = self.checkpoint.frees_from();
                self.ring.set_live_from(upto);
                self.catalog.drop_extents_before(upto);
                self.checkpoint.phase = Phase::Idle;
                self.counters.checkpoints += 1;
                self.read_failures = 0;
                self.release_segments();
            }
            (Running::State, Err((_, error))) if !self.checkpoint.synced.is_empty() => {
                // It may be on the medium for all that, and name these segments: they stay until one succeeds.
                self.checkpoint.phase = Phase::Name;
                return self.fail_publishers(now, format!("cannot write: {error}"));
            }
            (_, Err((_, error))) => {
                let text = format!("cannot write: {error}");
                return self.checkpoint_failed(now, text);
            }
            (_, Ok(())) => {}
        }
        None
    }

    /// The state named segments that no block names.
    fn names_said(&mut self) {
        for append in std::mem::take(&mut self.checkpoint.synced) {
            for segment in append.images() {
                let topic = append.topic;
                self.catalog.apply(&Entry::Segment { topic, segment });
            }
        }
    }

    /// A topic could not be moved. A full disk spares what was moved already; anything else ends the checkpoint.
    fn move_failed(&mut self, now: Duration, error: &io::Error) -> Option<Outcome> {
        let text = format!("cannot write: {error}");
        if error.kind() != io::ErrorKind::StorageFull {
            return self.checkpoint_failed(now, text);
        }
        if let Some(moving) = self.checkpoint.moving.take() {
            self.abandon(&moving.append);
            if self.has_spare {
                self.checkpoint
                    .moves
                    .push_front((moving.append.topic, moving.through));
            }
        }
        if std::mem::take(&mut self.has_spare) {
            self.checkpoint.gives_up_spare = true;
            return None;
        }
        self.checkpoint.moves.clear();
        self.checkpoint.carries.clear();
        self.checkpoint.trouble = Some(text.clone());
        self.fail_publishers(now, text)
    }

    /// The checkpoint ends without having freed anything. If that leaves no room for publishes, they fail.
    pub(crate) fn checkpoint_failed(&mut self, now: Duration, text: String) -> Option<Outcome> {
        let checkpoint = &mut self.checkpoint;
        checkpoint.phase = Phase::Idle;
        checkpoint.moves.clear();
        checkpoint.carries.clear();
        let moving = checkpoint.moving.take().map(|moving| moving.append);
        let mut appends: Vec<_> = checkpoint.moved.drain(..).collect();
        appends.append(&mut checkpoint.synced);
        for append in appends.iter().chain(&moving) {
            self.abandon(append);
        }
        self.fail_publishers(now, text)
    }

    fn fail_publishers(&mut self, now: Duration, text: String) -> Option<Outcome> {
        self.tell_trouble(now, "the ring cannot be freed", &text);
        self.checkpoint.retry_at = now + RETRY_INTERVAL;
        self.trouble = Some(text.clone());
        let reserve = self.ring.bytes / crate::limits::RING_PARTS_RESERVED;
        // As `commit_job` asks, or a unit that it never takes would wait for ever.
        let content = Content::of(Some(self.queue.pop()?));
        let len = self.block_bytes_max(&content);
        if let Some(unit) = content.unit {
            self.queue.unpop(unit);
        }
        if self.ring.position(len, reserve).is_some() {
            return None;
        }
        let through = self.queue.fail_all();
        Some(Outcome {
            through,
            result: Err(CommitError(text)),
        })
    }
}

/// A slice that cannot be made: what a job that fails does is done.
fn failing_job<D: Disk>(error: &ReadError) -> Job<D> {
    let error = error.to_string();
    Job {
        steps: vec![Step::Fail { error }],
    }
}
