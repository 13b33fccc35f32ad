//! The store's face: catalogue changes, publishing, finishing, and the driving of jobs.
//!
//! Nothing here waits. A request changes the catalogue in memory at once or joins a unit of the queue, and gives
//! a ticket; [`Store::poll_job`] turns units into jobs for the medium, [`Store::handle_done`] says which tickets
//! are resolved. There is one job at a time, and one path by which a record becomes durable: a commit
//! ([`crate::commit`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::channel::Channel;
use crate::checkpoint::Checkpoint;
use crate::commit::Commit;
use crate::disk::Disk;
use crate::entry::Entry;
use crate::files::SegmentFiles;
use crate::ids::{ChannelNo, Seq, Ticket, TopicNo};
use crate::job::{Done, Job};
use crate::limits::{FINISH_DELAY_MAX, NAME_BYTES_MAX, TROUBLE_TOLD_INTERVAL};
use crate::options::{Options, OptionsError};
use crate::queue::Queue;
use crate::ring::Ring;
use crate::topic::Topic;
use crate::types::{ChannelInfo, Counters, Outcome, StoreError, TopicInfo};

/// The job that the medium is busy with.
pub(crate) enum Running<F> {
    Commit(Box<Commit<F>>),
    Move,
    SegmentSync,
    State,
    Removal,
    Spare,
}

/// The log, its cursors and all that is on the medium. See the crate's documentation.
pub struct Store<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) options: Options,
    pub(crate) store_id: u64,
    pub(crate) ring_id: u64,
    pub(crate) epoch: u32,
    /// Messages accepted in this epoch.
    pub(crate) id_count: u64,
    pub(crate) opened_at: Duration,
    pub(crate) ring: Ring<D::File>,
    pub(crate) state_files: [D::File; 2],
    pub(crate) state_generation: u64,
    pub(crate) catalog: Catalog,
    pub(crate) queue: Queue,
    pub(crate) cache: Cache,
    pub(crate) files: SegmentFiles<D>,
    pub(crate) checkpoint: Checkpoint<D::File>,
    pub(crate) running: Option<Running<D::File>>,
    /// Segment files that nothing names any more.
    pub(crate) garbage: VecDeque<String>,
    /// A segment stays allocated for a full disk.
    pub(crate) has_spare: bool,
    pub(crate) counters: Counters,
    /// What the last write said, if it failed.
    pub(crate) trouble: Option<String>,
    /// Reads of the ring that failed since the last checkpoint was completed.
    pub(crate) read_failures: u32,
    /// What was last told of it, and when.
    pub(crate) trouble_told: Option<(Duration, String)>,
    /// Writes are not tried before.
    pub(crate) retry_at: Duration,
    /// A commit gathers until then.
    pub(crate) gather_until: Duration,
    /// When the running job left.
    pub(crate) job_started: Duration,
    /// The last job was a commit: a slice of a checkpoint may go first.
    pub(crate) committed_last: bool,
    /// When the oldest finish that no block says must have one.
    pub(crate) deltas_due: Option<Duration>,
    pub(crate) flushing: bool,
    /// What waits for a commit waits for the ring's or the checkpoint's sake: only a job changes that.
    pub(crate) is_blocked: bool,
    /// The block that the last message returned stands in.
    pub(crate) reading: Option<std::rc::Rc<Vec<u8>>>,
    /// Reused for encoding batches.
    pub(crate) scratch: Vec<u8>,
}

impl<D: Disk> Store<D> {
    /// Makes a topic; one of that name that is there is returned. `lasting` false: in memory only.
    ///
    /// # Errors
    /// The name's length; too many topics.
    pub fn create_topic(
        &mut self,
        name: &str,
        lasting: bool,
    ) -> Result<(TopicNo, Ticket), StoreError> {
        check_name(name)?;
        if let Some(topic) = self.catalog.topic_named(name) {
            return Ok((topic, self.newest_ticket()));
        }
        if self.catalog.topics.len() >= self.options.topics_max as usize {
            return Err(StoreError::TooManyTopics(self.options.topics_max));
        }
        let topic = self.catalog.next_topic;
        self.catalog.insert_topic(topic, name, lasting);
        let created = Entry::CreateTopic { topic, name };
        Ok((
            topic,
            if lasting {
                self.queue.push_op(&created)
            } else {
                Ticket(0)
            },
        ))
    }

    /// Makes a channel; one of that name that is there is returned. It starts at what is not distributed yet: the
    /// first channel of a topic gets the topic's backlog, a later one what comes.
    ///
    /// # Errors
    /// The name's length; no such topic; too many channels.
    pub fn create_channel(
        &mut self,
        number: TopicNo,
        name: &str,
        lasting: bool,
    ) -> Result<(ChannelNo, Ticket), StoreError> {
        check_name(name)?;
        let topic = self.topic(number)?;
        if let Some(channel) = self.catalog.channel_named(topic, name) {
            return Ok((channel, self.newest_ticket()));
        }
        if self.catalog.channels.len() >= self.options.channels_max as usize {
            return Err(StoreError::TooManyChannels(self.options.channels_max));
        }
        let lasting = lasting && topic.memory.is_none();
        let (start, is_first, paused) =
            (topic.distributed(), topic.channels.is_empty(), topic.paused);
        let channel = self.catalog.next_channel;
        self.catalog
            .insert_channel(channel, number, name, start, lasting);
        let mut ticket = Ticket(0);
        if lasting {
            let created = Entry::CreateChannel {
                channel,
                topic: number,
                name,
                start,
            };
            ticket = self.queue.push_op(&created);
        }
        if is_first && !paused {
            ticket = ticket.max(self.distribute_with(number, false, None, lasting));
        }
        Ok((channel, ticket))
    }

    /// Removes a topic, its channels and all their messages.
    ///
    /// # Errors
    /// No such topic.
    pub fn delete_topic(&mut self, number: TopicNo) -> Result<Ticket, StoreError> {
        let lasting = self.topic(number)?.memory.is_none();
        let segments = self
            .topic(number)?
            .segments
            .iter()
            .map(|s| s.image)
            .collect::<Vec<_>>();
        let ticket = self.change(lasting, &Entry::DeleteTopic { topic: number });
        self.checkpoint.release_after(ticket, number, segments);
        Ok(ticket)
    }

    /// Removes a channel.
    ///
    /// # Errors
    /// No such channel.
    pub fn delete_channel(&mut self, number: ChannelNo) -> Result<Ticket, StoreError> {
        let (topic, lasting) = self.channel(number).map(|c| (c.topic, c.lasting))?;
        let mut ticket = self.change(lasting, &Entry::DeleteChannel { channel: number });
        let of = self.topic(topic)?;
        let (end, paused) = (of.distributed(), of.paused);
        if of.channels.is_empty() {
            ticket = ticket.max(self.distribute_with(topic, paused, Some(end), lasting));
        }
        self.checkpoint.release_after(ticket, topic, Vec::new());
        Ok(ticket)
    }

    /// Stops or resumes the flow of a topic's messages to its channels; publishing goes on.
    ///
    /// # Errors
    /// No such topic.
    pub fn pause_topic(&mut self, number: TopicNo, paused: bool) -> Result<Ticket, StoreError> {
        let topic = self.topic(number)?;
        if topic.paused == paused {
            return Ok(self.newest_ticket());
        }
        let stands = paused || topic.channels.is_empty();
        let standing = stands.then_some(topic.distributed());
        Ok(self.distribute(number, paused, standing))
    }

    /// Stops or resumes a channel's deliveries.
    ///
    /// # Errors
    /// No such channel.
    pub fn pause_channel(&mut self, number: ChannelNo, paused: bool) -> Result<Ticket, StoreError> {
        let channel = self.channel(number)?;
        if channel.paused == paused {
            return Ok(self.newest_ticket());
        }
        let lasting = channel.lasting;
        Ok(self.change(
            lasting,
            &Entry::PauseChannel {
                channel: number,
                paused,
            },
        ))
    }

    /// Drops a topic's messages that are not distributed yet.
    ///
    /// # Errors
    /// No such topic.
    pub fn empty_topic(&mut self, number: TopicNo) -> Result<Ticket, StoreError> {
        let topic = self.topic(number)?;
        let (Some(first), paused, lasting) = (topic.standing, topic.paused, topic.memory.is_none())
        else {
            return Ok(self.newest_ticket());
        };
        let (end, channels) = (topic.end, topic.channels.clone());
        let count = end.since(first);
        for channel in channels {
            let lasting = lasting && self.channel(channel)?.lasting;
            self.change(
                lasting,
                &Entry::Finish {
                    channel,
                    first,
                    count,
                },
            );
            self.catalog.floor_moved(channel);
        }
        Ok(self.distribute(number, paused, Some(end)))
    }

    /// Drops a channel's messages: queued, in flight and deferred.
    ///
    /// # Errors
    /// No such channel.
    pub fn empty_channel(&mut self, number: ChannelNo) -> Result<Ticket, StoreError> {
        let (topic, lasting) = self.channel(number).map(|c| (c.topic, c.lasting))?;
        let through = self.topic(topic)?.distributed();
        let emptied = Entry::EmptyChannel {
            channel: number,
            through,
        };
        let ticket = self.change(lasting, &emptied);
        self.catalog.floor_moved(number);
        Ok(ticket)
    }

    /// Marks a message as finished by a channel. The next block says so; a crash before that redelivers it.
    pub fn finish(&mut self, channel: ChannelNo, seq: Seq) {
        self.catalog.finish(channel, seq);
        let topic = self
            .catalog
            .channels
            .get(&channel)
            .map(|channel| channel.topic);
        let Some(topic) = topic.and_then(|topic| self.catalog.topics.get_mut(&topic)) else {
            return;
        };
        if let Some(memory) = &mut topic.memory {
            let channels = topic
                .channels
                .iter()
                .filter_map(|no| self.catalog.channels.get(no));
            let floors = channels.map(|channel| channel.floor).min();
            memory.drop_below(
                floors
                    .unwrap_or_default()
                    .min(topic.standing.unwrap_or(topic.end)),
            );
        }
    }

    /// Notes that a message was given back after `attempts` deliveries, to come again after `delay`. The caller
    /// keeps both for this run; a restart finds them.
    pub fn requeue(&mut self, channel: ChannelNo, seq: Seq, attempts: u16, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.catalog.retry(channel, seq, attempts, delay_ms);
    }

    /// All topics, by number.
    pub fn topics(&self) -> impl Iterator<Item = TopicInfo<'_>> {
        self.catalog
            .topics
            .iter()
            .map(|(no, topic)| topic_info(*no, topic))
    }

    /// A topic.
    pub fn topic_info(&self, no: TopicNo) -> Option<TopicInfo<'_>> {
        self.catalog
            .topics
            .get(&no)
            .map(|topic| topic_info(no, topic))
    }

    /// A topic's channels, in the order of their creation.
    pub fn channels(&self, topic: TopicNo) -> impl Iterator<Item = ChannelInfo<'_>> {
        let numbers = self
            .catalog
            .topics
            .get(&topic)
            .map(|topic| topic.channels.as_slice());
        numbers
            .unwrap_or_default()
            .iter()
            .filter_map(|no| self.channel_info(*no))
    }

    /// A channel.
    pub fn channel_info(&self, no: ChannelNo) -> Option<ChannelInfo<'_>> {
        let channel = self.catalog.channels.get(&no)?;
        let limit = self.catalog.topics.get(&channel.topic)?.distributed();
        let finished = channel.finished.count_in(channel.floor, limit);
        Some(ChannelInfo {
            no,
            topic: channel.topic,
            name: &channel.name,
            lasting: channel.lasting,
            paused: channel.paused,
            floor: channel.floor,
            unfinished: limit.since(channel.floor).saturating_sub(finished),
            missed: channel.missed,
        })
    }

    /// What the medium should do next; `None` while it is busy or has nothing to do before
    /// [`poll_timeout`](Self::poll_timeout).
    pub fn poll_job(&mut self, now: Duration) -> Option<Job<D>> {
        if self.running.is_some() {
            return None;
        }
        self.note_deltas(now);
        let job = if self.committed_last {
            self.checkpoint_job(now).or_else(|| self.commit_job(now))
        } else {
            self.commit_job(now).or_else(|| self.checkpoint_job(now))
        };
        let job = job.or_else(|| self.upkeep_job(now))?;
        self.committed_last = matches!(self.running, Some(Running::Commit(_)));
        self.job_started = now;
        Some(job)
    }

    /// When to ask [`poll_job`](Self::poll_job) again though nothing happened.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.running.is_some() {
            return None;
        }
        let waiting = (!self.queue.units.is_empty()).then_some(self.gather_until);
        let commits = [waiting, self.deltas_due].into_iter().flatten().min();
        let commits = commits.filter(|_| !self.is_blocked);
        let times = [commits, self.checkpoint_due(), self.upkeep_due()];
        times
            .into_iter()
            .flatten()
            .map(|time| time.max(self.retry_at))
            .min()
    }

    /// Takes back a job.
    pub fn handle_done(&mut self, now: Duration, done: Done<D>) -> Option<Outcome> {
        self.count_writes(&done);
        let outcome = match self.running.take()? {
            Running::Commit(commit) => self.commit_done(now, *commit, done),
            Running::Removal => None,
            Running::Spare => {
                self.has_spare = done.result.is_ok();
                None
            }
            running => self.checkpoint_done(now, &running, done),
        };
        // What comes later may wait again: a store that flushed at its start would otherwise never gather.
        self.flushing &= !self.is_idle();
        outcome
    }

    /// Everything that can become durable shall, without waiting to gather more, until nothing waits.
    pub fn flush(&mut self) {
        self.flushing = !self.is_idle();
    }

    /// True if nothing waits for the medium.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.units.is_empty() && !self.catalog.is_dirty()
    }

    /// Says in the log what failed. The same trouble is an error at most once a minute: it is met
    /// again with every publish.
    pub(crate) fn tell_trouble(&mut self, now: Duration, what: &str, text: &str) {
        let is_told = self.trouble_told.as_ref().is_some_and(|(at, told)| {
            told == text && now.saturating_sub(*at) < TROUBLE_TOLD_INTERVAL
        });
        if is_told {
            log::debug!("{what}: {text}");
        } else {
            log::error!("{what}: {text}");
            self.trouble_told = Some((now, text.to_owned()));
        }
    }

    /// What is wrong with the medium, as the last write found it.
    ///
    /// # Errors
    /// The trouble in words.
    pub fn health(&self) -> Result<(), String> {
        self.trouble.clone().map_or(Ok(()), Err)
    }

    /// What was done, and how full the store is.
    pub fn counters(&self) -> Counters {
        let segments = self
            .catalog
            .topics
            .values()
            .flat_map(|topic| &topic.segments);
        Counters {
            ring_used_bytes: self.ring.used(),
            segments: segments.clone().count() as u64,
            segment_bytes: segments.map(|segment| segment.image.bytes).sum(),
            ..self.counters
        }
    }

    pub(crate) fn topic(&self, number: TopicNo) -> Result<&Topic, StoreError> {
        self.catalog
            .topics
            .get(&number)
            .ok_or(StoreError::NoTopic(number))
    }

    fn channel(&self, number: ChannelNo) -> Result<&Channel, StoreError> {
        self.catalog
            .channels
            .get(&number)
            .ok_or(StoreError::NoChannel(number))
    }

    /// What is asked for again is durable when all before it is.
    fn newest_ticket(&self) -> Ticket {
        let running = match &self.running {
            Some(Running::Commit(commit)) => commit.ticket(),
            _ => None,
        };
        self.queue
            .units
            .back()
            .map(|unit| unit.ticket)
            .or(running)
            .unwrap_or_default()
    }

    /// Applies a statement, and says it in the ring if it shall last.
    fn change(&mut self, lasting: bool, entry: &Entry<'_>) -> Ticket {
        self.catalog.apply(entry);
        if lasting {
            self.queue.push_op(entry)
        } else {
            Ticket(0)
        }
    }

    pub(crate) fn distribute(
        &mut self,
        topic: TopicNo,
        paused: bool,
        standing: Option<Seq>,
    ) -> Ticket {
        self.distribute_with(topic, paused, standing, false)
    }

    /// The same; `belongs`: it is half of a change whose other half was said just now.
    fn distribute_with(
        &mut self,
        topic: TopicNo,
        paused: bool,
        standing: Option<Seq>,
        belongs: bool,
    ) -> Ticket {
        let of = self.catalog.topics.get(&topic);
        let lasting = of.is_some_and(|topic| topic.memory.is_none());
        let entry = Entry::Distribute {
            topic,
            paused,
            standing,
        };
        if belongs && lasting {
            self.catalog.apply(&entry);
            return self.queue.push_op_along(&entry);
        }
        self.change(lasting, &entry)
    }

    /// Finishes wait for a publish to ride with, but not for ever.
    fn note_deltas(&mut self, now: Duration) {
        self.deltas_due = match self.deltas_due {
            _ if !self.catalog.is_dirty() => None,
            None => Some(now + FINISH_DELAY_MAX),
            due => due,
        };
    }

    fn count_writes(&mut self, done: &Done<D>) {
        for step in &done.steps {
            match step {
                crate::job::Step::Write { bytes, .. } => {
                    self.counters.written_bytes += bytes.len() as u64;
                }
                crate::job::Step::Sync { .. } => self.counters.syncs += 1,
                _ => {}
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), StoreError> {
    match name.len() {
        1..=NAME_BYTES_MAX => Ok(()),
        got => Err(StoreError::NameLength { got }),
    }
}

fn topic_info(no: TopicNo, topic: &Topic) -> TopicInfo<'_> {
    TopicInfo {
        no,
        name: &topic.name,
        lasting: topic.memory.is_none(),
        paused: topic.paused,
        undistributed: topic.end.since(topic.distributed()),
        end: topic.end,
    }
}

impl From<OptionsError> for crate::recovery::OpenError {
    fn from(error: OptionsError) -> Self {
        crate::recovery::OpenError::Options(error)
    }
}
