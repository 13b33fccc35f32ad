//! A commit: one block on fresh pages of the ring, one fdatasync. A flood's records go to its topic's segment
//! first, and the block names where that ends.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::append::Append;
use crate::block::{HEADER_BYTES, Header, pages};
use crate::cache::BlockKey;
use crate::channel::TakenDeltas;
use crate::disk::Disk;
use crate::entry::{self, Entry, Run, RunBuilder, SegmentImage};
use crate::ids::{MessageId, Seq, Ticket, TopicNo};
use crate::job::{Done, Job, Step, Target};
use crate::limits::{
    GATHER_MAX, RETRY_INTERVAL, RING_PARTS_PER_DELTAS, RING_PARTS_RESERVED, SEGMENT_BLOCK_BYTES,
};
use crate::publish::mono_ms;
use crate::queue::{PendingRun, Unit};
use crate::store::{Running, Store};
use crate::topic::Extent;
use crate::types::{CommitError, Outcome};

/// What a block says besides finishes and retries.
pub(crate) struct Content<F> {
    /// Publishes and catalogue changes.
    pub(crate) unit: Option<Unit>,
    /// Segments whose bytes are durable, or will be before the block is written.
    pub(crate) named: Vec<(TopicNo, SegmentImage)>,
    /// Runs that leave older blocks.
    pub(crate) carried: Vec<(TopicNo, Vec<u8>)>,
    /// A flood's writes, part of the same job.
    pub(crate) append: Option<Append<F>>,
    /// The steps of that append.
    pub(crate) steps: Vec<Step<F>>,
}

impl<F> Content<F> {
    /// A block that only says finishes and what is free.
    pub(crate) fn of(unit: Option<Unit>) -> Content<F> {
        let (named, carried) = (Vec::new(), Vec::new());
        Content {
            unit,
            named,
            carried,
            append: None,
            steps: Vec::new(),
        }
    }
}

impl<F> Content<F> {
    /// True if records move in it, which means that those nobody needs any more stay behind. The catalogue that
    /// this was judged by must then be the ring's: the block says every change and finish there is.
    fn moves_records(&self) -> bool {
        let is_flood = self.unit.as_ref().is_some_and(|unit| unit.is_flood);
        is_flood || !self.named.is_empty() || !self.carried.is_empty()
    }
}

/// A commit that the medium is busy with.
pub(crate) struct Commit<F> {
    content: Content<F>,
    /// Changes of units that still wait.
    ops_ahead: Vec<u8>,
    taken: Vec<TakenDeltas>,
    /// Finishes and retries are left that the block had no room for.
    leaves_deltas: bool,
    header: Header,
    /// The block's position in the ring.
    at: u64,
    /// The index of the step that writes the block.
    block_step: usize,
    /// Runs in the block.
    placed: Vec<(TopicNo, Extent)>,
    messages: u64,
}

impl<F> Commit<F> {
    /// The ticket that this resolves.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.content.unit.as_ref().map(|unit| unit.ticket)
    }

    fn is_checkpoint(&self) -> bool {
        self.content.unit.is_none()
            && !(self.content.named.is_empty() && self.content.carried.is_empty())
    }
}

/// Bytes of a run's entry besides its records, or of a segment's entry, at most.
const ENTRY_BYTES_MAX: u64 = 64;

impl<D: Disk> Store<D> {
    /// The next commit, if one is due and the ring has room.
    pub(crate) fn commit_job(&mut self, now: Duration) -> Option<Job<D>> {
        if now < self.retry_at {
            return None;
        }
        self.is_blocked = false;
        let reserve = self.ring.bytes / RING_PARTS_RESERVED;
        let Some(front) = self.queue.units.front() else {
            let due = self
                .deltas_due
                .is_some_and(|due| due <= now || self.flushing);
            // Half of what is reserved stays for the blocks that free space.
            if !due {
                return None;
            }
            let job = self.block_job(now, Content::of(None), reserve / 2);
            self.is_blocked = job.is_none();
            return job;
        };
        if now < self.gather_until && !self.flushing && self.queue.units.len() == 1 {
            return None;
        }
        let is_flood = front.is_flood;
        if is_flood && !self.checkpoint.is_idle() {
            self.is_blocked = true;
            return None;
        }
        let mut content = Content::of(self.queue.pop());
        let len = self.block_bytes_max(&content);
        if self.ring.position(len, reserve).is_none() {
            if let Some(unit) = content.unit.take() {
                self.queue.unpop(unit);
            }
            self.is_blocked = true;
            return None;
        }
        let job = if is_flood {
            self.flood_job(now, content, reserve)
        } else {
            self.block_job(now, content, reserve)
        };
        self.is_blocked = job.is_none();
        job
    }

    /// The most that a block of this content takes in the ring.
    pub(crate) fn block_bytes_max(&self, content: &Content<D::File>) -> u64 {
        let mut bytes = HEADER_BYTES as u64 + self.delta_bytes_max(content) as u64;
        if content.moves_records() {
            bytes += self.queue.ops_bytes();
        }
        bytes += content.named.len() as u64 * 2 * ENTRY_BYTES_MAX;
        bytes += content
            .carried
            .iter()
            .map(|(_, runs)| runs.len() as u64)
            .sum::<u64>();
        if let Some(unit) = &content.unit {
            let runs = if unit.is_flood { 0 } else { unit.run_bytes };
            bytes += unit.ops.len() as u64 + runs + unit.runs.len() as u64 * ENTRY_BYTES_MAX;
        }
        pages(bytes)
    }

    fn delta_bytes_max(&self, content: &Content<D::File>) -> usize {
        let share = (self.ring.bytes / RING_PARTS_PER_DELTAS) as usize;
        if content.moves_records() {
            share.max(self.catalog.deltas_bytes_max())
        } else {
            share
        }
    }

    /// Builds a block and its job. `None`, with the content's unit back in the queue, if it does not fit.
    pub(crate) fn block_job(
        &mut self,
        now: Duration,
        mut content: Content<D::File>,
        reserve: u64,
    ) -> Option<Job<D>> {
        let Some(at) = self.ring.position(self.block_bytes_max(&content), reserve) else {
            if let Some(unit) = content.unit {
                self.queue.unpop(unit);
            }
            return None;
        };
        let mut block = vec![0; HEADER_BYTES];
        if let Some(unit) = &content.unit {
            block.extend_from_slice(&unit.ops);
        }
        let mut ops_ahead = Vec::new();
        if content.moves_records() {
            ops_ahead = self.queue.take_ops();
            block.extend_from_slice(&ops_ahead);
        }
        let taken = self
            .catalog
            .take_deltas(&mut block, self.delta_bytes_max(&content));
        let leaves_deltas = self.catalog.is_dirty();
        for (topic, segment) in content.named.iter().copied() {
            entry::push(&mut block, &Entry::Segment { topic, segment });
        }
        let mut header = self.ring.next_header(at, self.epoch);
        let mut placed = Vec::new();
        for (topic, runs) in &content.carried {
            place_runs(&mut placed, &header, *topic, block.len(), runs);
            block.extend_from_slice(runs);
        }
        let messages = match &content.unit {
            Some(unit) if !unit.is_flood => {
                self.encode_runs(now, &unit.runs, &mut block, &header, &mut placed)
            }
            _ => content
                .unit
                .iter()
                .flat_map(|unit| &unit.runs)
                .map(|r| u64::from(r.count))
                .sum(),
        };
        // Given for good: a block that fails may still be found after a crash.
        // Taken now: an ephemeral topic gives ids while this block is on its way. Those of a block that fails are
        // not given again.
        self.id_count += messages;
        header.seal(&mut block, self.ring_id);
        let mut steps = std::mem::take(&mut content.steps);
        let block_step = steps.len();
        let file = Target::Open(self.ring.file.clone());
        let offset = u64::from(header.place.offset);
        steps.push(Step::Write {
            file: file.clone(),
            offset,
            bytes: block,
        });
        steps.push(Step::Sync { file });
        let commit = Commit {
            content,
            ops_ahead,
            taken,
            leaves_deltas,
            header,
            at,
            block_step,
            placed,
            messages,
        };
        self.running = Some(Running::Commit(Box::new(commit)));
        Some(Job { steps })
    }

    /// Gives records their sequences and ids and writes them; how many they are.
    fn encode_runs(
        &self,
        now: Duration,
        runs: &[PendingRun],
        block: &mut Vec<u8>,
        header: &Header,
        placed: &mut Vec<(TopicNo, Extent)>,
    ) -> u64 {
        let mut messages = 0;
        for run in runs {
            // A topic that was deleted while its publishes waited takes them along.
            let Some(topic) = self.catalog.topics.get(&run.topic) else {
                continue;
            };
            let newest = placed.iter().rev().find(|(topic, _)| *topic == run.topic);
            let first_seq = newest.map_or(topic.end, |(_, extent)| extent.end().max(topic.end));
            let numbered = self.number(now, run, first_seq, messages);
            let at = block.len();
            entry::push(block, &Entry::Run(numbered));
            placed.push((run.topic, extent(header, &numbered, at, block.len() - at)));
            messages += u64::from(run.count);
        }
        messages
    }

    fn number<'a>(
        &self,
        now: Duration,
        run: &'a PendingRun,
        first_seq: Seq,
        earlier: u64,
    ) -> Run<'a> {
        Run {
            topic: run.topic,
            first_seq,
            first_id: MessageId::new(self.epoch, self.id_count + earlier),
            mono_ms: mono_ms(now),
            wall_ns: run.wall_ns,
            count: run.count,
            records: &run.records,
        }
    }

    /// A flood goes straight to its topic's segment, behind the records that the ring still has of that topic.
    fn flood_job(
        &mut self,
        now: Duration,
        mut content: Content<D::File>,
        reserve: u64,
    ) -> Option<Job<D>> {
        let topic = content
            .unit
            .as_ref()
            .and_then(|unit| unit.runs.first())
            .map(|run| run.topic);
        let Some(topic) = topic.filter(|topic| self.catalog.topics.contains_key(topic)) else {
            return self.block_job(now, content, reserve);
        };
        let mut append = Append::new(topic);
        if let Some(unit) = &content.unit {
            self.plan_flood(now, unit, &mut append, &mut content.steps);
        }
        content.named = append.images().map(|image| (topic, image)).collect();
        content.append = Some(append);
        self.block_job(now, content, reserve)
    }

    fn plan_flood(
        &mut self,
        now: Duration,
        unit: &Unit,
        append: &mut Append<D::File>,
        steps: &mut Vec<Step<D::File>>,
    ) {
        let topic = append.topic;
        let end = self
            .catalog
            .topics
            .get(&topic)
            .map(|topic| topic.end)
            .unwrap_or_default();
        let (mut next, mut created) = (Seq(0), 0);
        loop {
            match self.ring_records(topic, &mut next, end, None) {
                Ok(Some(block)) => {
                    self.append_block(append, block.range, &block.raw, steps, &mut created);
                }
                Ok(None) => break,
                Err(error) => {
                    let error = error.to_string();
                    steps.push(Step::Fail { error });
                    return;
                }
            }
        }
        let mut through = end;
        for run in &unit.runs {
            let numbered = self.number(now, run, end, 0);
            through = numbered.end();
            let (mut raw, mut builder) = (Vec::new(), RunBuilder::default());
            let (mut first, mut last) = (end, end);
            for record in numbered.located() {
                let bytes = raw.len() + builder.len();
                if bytes > 0 && bytes + record.body.len() > SEGMENT_BLOCK_BYTES {
                    builder.finish(topic, &mut raw);
                    self.append_block(append, (first, last), &raw, steps, &mut created);
                    raw.clear();
                    first = record.seq;
                }
                builder.push(topic, &record, &mut raw);
                last = record.seq;
            }
            builder.finish(topic, &mut raw);
            self.append_block(append, (first, last), &raw, steps, &mut created);
        }
        append.close(through);
        append.sync(steps);
    }

    /// Takes back a commit.
    pub(crate) fn commit_done(
        &mut self,
        now: Duration,
        commit: Commit<D::File>,
        done: Done<D>,
    ) -> Option<Outcome> {
        let took = now.saturating_sub(self.job_started);
        let outcome = match done.result {
            Ok(()) => self.commit_succeeded(commit, done),
            Err((step, ref error)) => {
                let text = error.to_string();
                let is_full = error.kind() == io::ErrorKind::StorageFull;
                self.commit_failed(now, commit, step, text, is_full, &done.created)
            }
        };
        // Those who came while the medium was busy share the next commit with who comes right after them.
        let waits = !self.queue.units.is_empty();
        self.gather_until = if waits {
            now + took.min(GATHER_MAX)
        } else {
            Duration::ZERO
        };
        outcome
    }

    fn commit_succeeded(&mut self, commit: Commit<D::File>, mut done: Done<D>) -> Option<Outcome> {
        let Commit {
            content,
            ops_ahead: _,
            taken,
            leaves_deltas,
            header,
            at,
            block_step,
            placed,
            messages,
        } = commit;
        self.ring.synced(&header, at);
        self.trouble = None;
        self.counters.commits += 1;
        self.counters.messages += messages;
        self.counters.payload_bytes += content.unit.as_ref().map_or(0, |unit| unit.body_bytes);
        if let (false, Some(Step::Write { bytes, .. })) =
            (placed.is_empty(), done.steps.get_mut(block_step))
        {
            let mut bytes = std::mem::take(bytes);
            bytes.truncate(HEADER_BYTES + header.payload_bytes as usize);
            bytes.shrink_to_fit();
            self.cache
                .insert(BlockKey::Ring(header.place.number), Rc::new(bytes));
        }
        if let Some(mut append) = content.append {
            self.append_opened(&mut append, &done.created);
        }
        for (topic, segment) in content.named {
            if self.catalog.topics.contains_key(&topic) {
                self.catalog.apply(&Entry::Segment { topic, segment });
            } else {
                // Deleted while its flood was written.
                self.garbage.push_back(segment.file_name(topic));
            }
        }
        let upto = self.checkpoint.upto();
        for (number, _) in &content.carried {
            if let Some(topic) = self.catalog.topics.get_mut(number) {
                topic.extents.retain(|extent| extent.block.number >= upto);
            }
        }
        for (number, extent) in placed {
            if let Some(topic) = self.catalog.topics.get_mut(&number) {
                topic.place(extent);
            }
        }
        self.catalog.deltas_committed(&taken);
        // What found no room has waited already; what came since waits for its own time.
        self.deltas_due = leaves_deltas.then_some(Duration::ZERO);
        let mut ticket = content.unit.as_ref().map(|unit| unit.ticket);
        while let Some(said) = self.queue.pop_said() {
            ticket = Some(said);
        }
        self.forget_deleted(ticket);
        if self.checkpoint.is_idle() {
            self.release_segments();
        }
        ticket.map(|through| Outcome {
            through,
            result: Ok(()),
        })
    }

    fn commit_failed(
        &mut self,
        now: Duration,
        commit: Commit<D::File>,
        step: usize,
        error: String,
        is_full: bool,
        created: &[D::File],
    ) -> Option<Outcome> {
        let is_checkpoint = commit.is_checkpoint();
        if step >= commit.block_step {
            self.ring.failed(&commit.header, commit.at);
        }
        self.catalog.deltas_failed(commit.taken);
        if let Some(mut append) = commit.content.append {
            self.append_opened(&mut append, created);
            self.abandon(&append);
        }
        let mut unit = commit.content.unit;
        match &mut unit {
            Some(unit) => unit.ops.extend(commit.ops_ahead),
            None => self.queue.keep_ops(Ticket(0), commit.ops_ahead),
        }
        let text = format!("cannot write: {error}");
        self.tell_trouble(now, "a commit failed", &text);
        self.trouble = Some(text.clone());
        if is_checkpoint {
            return self.checkpoint_failed(now, text);
        }
        let Some(mut unit) = unit else {
            self.retry_at = now + RETRY_INTERVAL;
            return None;
        };
        if !unit.failed_once && !is_full {
            unit.failed_once = true;
            self.queue.unpop(unit);
            return None;
        }
        if !is_full {
            self.retry_at = now + RETRY_INTERVAL;
        }
        self.queue.keep_ops(unit.ticket, unit.ops);
        Some(Outcome {
            through: unit.ticket,
            result: Err(CommitError(text)),
        })
    }
}

/// Notes where the runs in `runs`, which will stand `at` bytes from the block's start, are.
fn place_runs(
    placed: &mut Vec<(TopicNo, Extent)>,
    header: &Header,
    topic: TopicNo,
    at: usize,
    runs: &[u8],
) {
    let mut rest = runs;
    while let Some((Entry::Run(run), after)) = entry::take(rest) {
        let run_at = at + runs.len() - rest.len();
        placed.push((
            topic,
            extent(header, &run, run_at, rest.len() - after.len()),
        ));
        rest = after;
    }
}

fn extent(header: &Header, run: &Run<'_>, at: usize, bytes: usize) -> Extent {
    Extent {
        first: run.first_seq,
        count: run.count,
        block: header.place,
        run_at: at as u32,
        run_bytes: bytes as u32,
    }
}
