//! A store, the medium under it, and beside it the model of what it has to hold.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test that includes this uses a part of it"
)]

pub mod model;
pub mod recorder;
pub mod script;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use storage::disk::Disk;
use storage::{
    ChannelNo, Cursor, MessageId, Options, Outcome, RecoveryReport, Seq, Stamp, Store, StoreError,
    Ticket, TopicNo, run_job,
};

use model::{Channel, Model, Op, Sent, Topic};

/// What went wrong, in words.
pub type Verdict<T> = Result<T, String>;

/// Called after each job with the world as it is before the job's outcome is known to it.
pub type Hook<D> = Rc<dyn Fn(&World<D>)>;

pub struct World<D: Disk> {
    pub disk: Arc<D>,
    pub store: Store<D>,
    /// What recovery found.
    pub report: RecoveryReport,
    pub options: Options,
    pub now: Duration,
    pub hook: Option<Hook<D>>,
    /// Everything whose ticket is resolved.
    pub base: Model,
    /// What was asked for since, in order.
    pub pending: VecDeque<(Ticket, Vec<Op>)>,
    /// Requests that change nothing may name a ticket that is resolved already.
    resolved: Ticket,
    /// `base` with the pending changes but without the pending publishes: what the next change sees.
    front: Model,
    pub ids: Ids,
    /// By topic and channel: where the consumer is and what it holds unfinished.
    consumers: BTreeMap<(String, String), Consumer>,
    pub next_key: u64,
    pub draw: Draw,
    /// What blocks that failed may have left on the medium, until the next commit leaves them behind.
    ghosts: Vec<Model>,
    /// Everything that was ever published here, by key.
    pub sent: HashMap<u64, Rc<Sent>>,
    /// Whether a commit may fail.
    pub may_fail: bool,
    /// Whether what waits may wait for space.
    pub is_full: bool,
    pub failures: u32,
    /// Grows with everything that changes what a restart has to find, except finishes.
    pub version: u64,
}

#[derive(Default)]
struct Consumer {
    cursor: Option<Cursor>,
    held: BTreeMap<Seq, u64>,
}

/// The id under which each message was delivered, and nothing else under that id.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    of_key: HashMap<u64, MessageId>,
    taken: HashMap<MessageId, u64>,
}

impl Ids {
    fn note(&mut self, key: u64, id: MessageId) -> Verdict<()> {
        let (known, holder) = (
            *self.of_key.entry(key).or_insert(id),
            *self.taken.entry(id).or_insert(key),
        );
        if known != id {
            return Err(format!("message {key} came as {known:?} and now as {id:?}"));
        }
        if holder != key {
            return Err(format!("id {id:?} is message {holder}'s and now {key}'s"));
        }
        Ok(())
    }
}

/// A message as a channel delivers it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub seq: Seq,
    pub id: MessageId,
    pub wall_ns: i64,
    pub attempts: u16,
    pub not_before: Duration,
    pub body: Vec<u8>,
}

pub const HOUR: Duration = Duration::from_secs(3600);

/// The wall clock is this far ahead of the boot clock.
const WALL_NS: i64 = 1_700_000_000_000_000_000;

pub fn stamp(now: Duration) -> Stamp {
    Stamp {
        now,
        wall_ns: WALL_NS + now.as_nanos() as i64,
    }
}

/// Sizes so small that a short script goes round the ring and through every limit.
pub fn small_options() -> Options {
    Options {
        ring_bytes: 64 * 1024,
        segment_bytes: 64 * 1024,
        message_bytes_max: 8 * 1024,
        batch_bytes_max: 24 * 1024,
        topics_max: 8,
        channels_max: 16,
        outstanding_max: 512,
        cache_bytes: 16 * 1024,
        pending_bytes_max: 32 * 1024,
    }
}

impl<D: Disk> World<D> {
    /// Opens a store on a medium that must hold one of `candidates`, and checks that it does.
    pub fn open(
        disk: Arc<D>,
        options: &Options,
        candidates: &[Model],
        ids: &Ids,
        seed: u64,
    ) -> Verdict<World<D>> {
        let mut world = World::open_unchecked(disk, options, ids, seed)?;
        let adopted = world.adopt(candidates);
        adopted.map_err(|text| format!("{text}\nreport: {:?}", world.report))?;
        Ok(world)
    }

    /// Opens a store whatever it holds.
    pub fn open_unchecked(
        disk: Arc<D>,
        options: &Options,
        ids: &Ids,
        seed: u64,
    ) -> Verdict<World<D>> {
        let now = Duration::from_secs(20);
        let (store, report) = Store::open(disk.clone(), options.clone(), seed, stamp(now))
            .map_err(|error| format!("the store does not open: {error}"))?;
        Ok(World {
            disk,
            store,
            report,
            options: options.clone(),
            now,
            hook: None,
            base: Model::default(),
            pending: VecDeque::new(),
            resolved: Ticket(0),
            front: Model::default(),
            ids: ids.clone(),
            consumers: BTreeMap::new(),
            next_key: 1_000_000 * (seed + 1),
            draw: Draw(seed),
            ghosts: Vec::new(),
            sent: HashMap::new(),
            may_fail: false,
            is_full: false,
            failures: 0,
            version: 0,
        })
    }

    /// What a restart at this moment may find.
    pub fn candidates(&self) -> Vec<Model> {
        let mut candidates = self.ghosts.clone();
        candidates.extend(self.prefixes());
        candidates.iter_mut().for_each(Model::restart);
        candidates
    }

    /// The states at which the log may end. Changes of the catalogue may be ahead of publishes: they name places.
    fn prefixes(&self) -> Vec<Model> {
        let mut prefixes = Vec::new();
        let mut model = self.base.clone();
        for at in 0..=self.pending.len() {
            prefixes.push(model.clone());
            let mut ahead = model.clone();
            for (_, ops) in self.pending.iter().skip(at) {
                let changes = ops.iter().filter(|op| !matches!(op, Op::Publish { .. }));
                let before = prefixes.len();
                for op in changes {
                    ahead.apply(op);
                    prefixes.truncate(before);
                    prefixes.push(ahead.clone());
                }
            }
            if let Some((_, ops)) = self.pending.get(at) {
                ops.iter().for_each(|op| model.apply(op));
            }
        }
        prefixes
    }

    // ---- changes ----

    pub fn create_topic(&mut self, topic: &str, lasting: bool) -> Verdict<()> {
        let asked = self
            .store
            .create_topic(topic, lasting)
            .map(|(_, ticket)| ticket);
        let op = Op::CreateTopic {
            topic: topic.to_owned(),
            lasting,
        };
        self.asked(asked, vec![op])
    }

    pub fn create_channel(&mut self, topic: &str, channel: &str, lasting: bool) -> Verdict<()> {
        let number = self.topic_no(topic)?;
        let asked = self
            .store
            .create_channel(number, channel, lasting)
            .map(|(_, ticket)| ticket);
        let now = self.front_topic(topic)?;
        let start = now.distributed();
        let follows = now.channels.is_empty() && !now.paused;
        let (topic, channel) = (topic.to_owned(), channel.to_owned());
        let mut ops = vec![Op::CreateChannel {
            topic: topic.clone(),
            channel,
            start,
            lasting,
        }];
        if follows {
            let standing = None;
            ops.push(Op::Stand { topic, standing });
        }
        self.asked(asked, ops)
    }

    pub fn delete_topic(&mut self, topic: &str) -> Verdict<()> {
        let asked = self.store.delete_topic(self.topic_no(topic)?);
        self.consumers.retain(|(of, _), _| of != topic);
        self.asked(
            asked,
            vec![Op::DeleteTopic {
                topic: topic.to_owned(),
            }],
        )
    }

    pub fn delete_channel(&mut self, topic: &str, channel: &str) -> Verdict<()> {
        let asked = self.store.delete_channel(self.channel_no(topic, channel)?);
        self.consumers
            .remove(&(topic.to_owned(), channel.to_owned()));
        let now = self.front_topic(topic)?;
        let last = now.channels.len() == 1;
        let standing = if last {
            Some(now.distributed())
        } else {
            now.standing
        };
        let (topic, channel) = (topic.to_owned(), channel.to_owned());
        let gone = Op::DeleteChannel {
            topic: topic.clone(),
            channel,
        };
        self.asked(asked, vec![gone, Op::Stand { topic, standing }])
    }

    pub fn pause_topic(&mut self, topic: &str, paused: bool) -> Verdict<()> {
        let asked = self.store.pause_topic(self.topic_no(topic)?, paused);
        let now = self.front_topic(topic)?;
        let follows = !paused && !now.channels.is_empty();
        let standing = if follows {
            None
        } else {
            Some(now.distributed())
        };
        let topic = topic.to_owned();
        let ops = vec![
            Op::PauseTopic {
                topic: topic.clone(),
                paused,
            },
            Op::Stand { topic, standing },
        ];
        self.asked(asked, ops)
    }

    pub fn empty_topic(&mut self, topic: &str) -> Verdict<()> {
        let asked = self.store.empty_topic(self.topic_no(topic)?);
        let now = self.front_topic(topic)?;
        let end = now.messages.len();
        let standing = now.standing.map(|_| end);
        let dropped = now.messages.get(now.distributed()..).unwrap_or_default();
        let keys: Vec<u64> = dropped.iter().map(|sent| sent.key).collect();
        let topic = topic.to_owned();
        let ops = vec![
            Op::Skip {
                topic: topic.clone(),
                keys,
            },
            Op::Stand { topic, standing },
        ];
        self.asked(asked, ops)
    }

    pub fn empty_channel(&mut self, topic: &str, channel: &str) -> Verdict<()> {
        let asked = self.store.empty_channel(self.channel_no(topic, channel)?);
        if let Some(consumer) = self
            .consumers
            .get_mut(&(topic.to_owned(), channel.to_owned()))
        {
            consumer.held.clear();
        }
        let through = self.front_topic(topic)?.distributed();
        let (topic, channel) = (topic.to_owned(), channel.to_owned());
        self.asked(
            asked,
            vec![Op::EmptyChannel {
                topic,
                channel,
                through,
            }],
        )
    }

    pub fn pause_channel(&mut self, topic: &str, channel: &str, paused: bool) -> Verdict<()> {
        let asked = self
            .store
            .pause_channel(self.channel_no(topic, channel)?, paused);
        let (topic, channel) = (topic.to_owned(), channel.to_owned());
        self.asked(
            asked,
            vec![Op::PauseChannel {
                topic,
                channel,
                paused,
            }],
        )
    }

    /// Publishes a batch of bodies of these sizes (at least 16 bytes each).
    pub fn publish(&mut self, topic: &str, sizes: &[usize]) -> Verdict<()> {
        self.publish_deferred(topic, sizes, Duration::ZERO)
    }

    pub fn publish_deferred(
        &mut self,
        topic: &str,
        sizes: &[usize],
        defer: Duration,
    ) -> Verdict<()> {
        let number = self.topic_no(topic)?;
        let batch: Vec<Rc<Sent>> = sizes.iter().map(|size| self.sent(*size, defer)).collect();
        let bodies = batch.iter().map(|sent| sent.body.as_slice());
        let asked = self.store.publish(number, bodies, defer, stamp(self.now));
        self.asked(
            asked,
            vec![Op::Publish {
                topic: topic.to_owned(),
                batch,
            }],
        )
    }

    fn sent(&mut self, size: usize, defer: Duration) -> Rc<Sent> {
        self.next_key += 1;
        let key = self.next_key;
        let mut body = format!("{key:016}").into_bytes();
        // Half of it compresses.
        let mut draw = Draw(key);
        while body.len() < size {
            let letter = if body.len() % 2 == 0 {
                b'x'
            } else {
                draw.next() as u8
            };
            body.push(letter);
        }
        let wall_ns = stamp(self.now).wall_ns;
        let sent = Rc::new(Sent {
            key,
            body,
            wall_ns,
            at: self.now,
            defer,
        });
        self.sent.insert(key, Rc::clone(&sent));
        sent
    }

    fn asked(&mut self, asked: Result<Ticket, StoreError>, ops: Vec<Op>) -> Verdict<()> {
        let ticket = asked.map_err(|error| format!("refused: {error} ({ops:?})"))?;
        for op in &ops {
            if !matches!(op, Op::Publish { .. }) {
                self.front.apply(op);
            }
        }
        self.version += 1;
        if ticket > self.resolved {
            self.pending.push_back((ticket, ops));
            return Ok(());
        }
        // Nothing of it lasts, or nothing of it is new; its topic may be on the way to the medium, though.
        let mut topics = ops.iter().filter_map(Op::topic);
        let is_on_the_way = topics.any(|topic| !self.base.topics.contains_key(topic));
        if let Some((_, last)) = self.pending.back_mut().filter(|_| is_on_the_way) {
            last.extend(ops);
            return Ok(());
        }
        for op in &ops {
            self.base.apply(op);
            if matches!(op, Op::Publish { .. }) {
                self.front.apply(op);
            }
        }
        Ok(())
    }

    /// Moves what is durable now from the pending to the base.
    fn resolve(&mut self, through: Ticket) {
        self.resolved = self.resolved.max(through);
        self.version += 1;
        while self
            .pending
            .front()
            .is_some_and(|(ticket, _)| *ticket <= through)
        {
            let Some((_, ops)) = self.pending.pop_front() else {
                break;
            };
            for op in &ops {
                self.base.apply(op);
                if matches!(op, Op::Publish { .. }) {
                    self.front.apply(op);
                }
            }
        }
    }

    // ---- consuming ----

    /// Takes up to `count` messages, each of which must be the next one due.
    pub fn consume(&mut self, topic: &str, channel: &str, count: usize) -> Verdict<usize> {
        let number = self.channel_no(topic, channel)?;
        let floor = self
            .store
            .channel_info(number)
            .map_or(Seq(0), |info| info.floor);
        let live = self.live();
        let key = (topic.to_owned(), channel.to_owned());
        let consumer = self.consumers.entry(key).or_default();
        let mut cursor = consumer.cursor.take().unwrap_or_else(|| Cursor::new(floor));
        let mut taken = Vec::new();
        for _ in 0..count {
            let message = self.store.next(number, &mut cursor);
            let Some(message) = message.map_err(|error| format!("{topic}/{channel}: {error}"))?
            else {
                break;
            };
            taken.push(Seen {
                seq: message.seq,
                id: message.id,
                wall_ns: message.timestamp_ns,
                attempts: message.attempts,
                not_before: message.not_before,
                body: message.body.to_vec(),
            });
        }
        let Some((of, state)) = live.get(topic, channel) else {
            return if taken.is_empty() {
                Ok(0)
            } else {
                Err("delivered to nobody".to_owned())
            };
        };
        let due: HashMap<u64, &Rc<Sent>> = of.due(state).map(|sent| (sent.key, sent)).collect();
        for seen in &taken {
            let sent = key_of(&seen.body).and_then(|key| due.get(&key).copied());
            let Some(sent) = sent else {
                return Err(format!(
                    "{topic}/{channel}: delivered what is not due: {seen:?}"
                ));
            };
            if sent.body != seen.body || sent.wall_ns / 1000 != seen.wall_ns / 1000 {
                return Err(format!("{topic}/{channel}: {sent:?} came as {seen:?}"));
            }
            self.ids.note(sent.key, seen.id)?;
            consumer.held.insert(seen.seq, sent.key);
        }
        consumer.cursor = Some(cursor);
        Ok(taken.len())
    }

    /// Finishes the `nth` message that the consumer holds.
    pub fn finish(&mut self, topic: &str, channel: &str, nth: usize) -> Verdict<bool> {
        let number = self.channel_no(topic, channel)?;
        let Some((seq, key)) = self.held(topic, channel, nth) else {
            return Ok(false);
        };
        self.store.finish(number, seq);
        if let Some(consumer) = self
            .consumers
            .get_mut(&(topic.to_owned(), channel.to_owned()))
        {
            consumer.held.remove(&seq);
        }
        if let Some(channel) = self.base.channel_mut(topic, channel) {
            channel.perhaps_finished.insert(key);
        }
        Ok(true)
    }

    /// Gives the `nth` message back and takes it again.
    pub fn requeue(
        &mut self,
        topic: &str,
        channel: &str,
        nth: usize,
        delay: Duration,
    ) -> Verdict<bool> {
        let number = self.channel_no(topic, channel)?;
        let Some((seq, key)) = self.held(topic, channel, nth) else {
            return Ok(false);
        };
        let Some(of) = self.base.channel_mut(topic, channel) else {
            return Ok(false);
        };
        let recorded = of.attempts.entry(key).or_insert((0, 0));
        recorded.1 += 1;
        let attempts = recorded.1;
        self.store.requeue(number, seq, attempts, delay);
        let again = self
            .store
            .read(number, seq)
            .map_err(|error| error.to_string())?;
        let Some(again) = again else {
            return Err(format!("{topic}/{channel}: {key} is gone after a requeue"));
        };
        if again.attempts != attempts || key_of(again.body) != Some(key) {
            return Err(format!("{topic}/{channel}: {key} came back as another"));
        }
        Ok(true)
    }

    fn held(&self, topic: &str, channel: &str, nth: usize) -> Option<(Seq, u64)> {
        let consumer = self
            .consumers
            .get(&(topic.to_owned(), channel.to_owned()))?;
        let nth = nth % consumer.held.len().max(1);
        consumer.held.iter().nth(nth).map(|(seq, key)| (*seq, *key))
    }

    // ---- driving ----

    /// Runs one job if there is one.
    pub fn run_one(&mut self) -> Verdict<bool> {
        self.run_one_while(|_| Ok(()))
    }

    /// Runs one job, and does something before its outcome is known.
    pub fn run_one_while(
        &mut self,
        meanwhile: impl FnOnce(&mut World<D>) -> Verdict<()>,
    ) -> Verdict<bool> {
        let Some(job) = self.store.poll_job(self.now) else {
            return Ok(false);
        };
        let done = run_job(&*self.disk, job);
        meanwhile(self)?;
        if let Some(hook) = self.hook.clone() {
            hook(self);
        }
        if let Some(Outcome { through, result }) = self.store.handle_done(self.now, done) {
            match result {
                Ok(()) => {
                    self.ghosts.clear();
                    self.resolve(through);
                }
                Err(_) if self.may_fail => self.fail(through),
                Err(error) => return Err(format!("a commit failed: {error}")),
            }
        }
        Ok(true)
    }

    /// The publishers got an error; changes of the catalogue stay and are tried again.
    fn fail(&mut self, through: Ticket) {
        self.failures += 1;
        self.resolved = self.resolved.max(through);
        self.version += 1;
        self.ghosts.extend(self.prefixes());
        for (ticket, ops) in &mut self.pending {
            if *ticket <= through {
                ops.retain(|op| !matches!(op, Op::Publish { .. }));
            }
        }
        self.pending.retain(|(_, ops)| !ops.is_empty());
    }

    /// Runs jobs until nothing is left to do, while time passes.
    pub fn settle(&mut self) -> Verdict<()> {
        self.store.flush();
        for _ in 0..600 {
            if self.run_one()? {
                continue;
            }
            if self.store.is_idle() {
                // Changes of a commit that failed are tried again until they are durable.
                self.resolve(self.resolved);
                self.everything_is_durable();
                return self
                    .pending
                    .is_empty()
                    .then_some(())
                    .ok_or_else(|| format!("idle, but tickets are open: {:?}", self.pending));
            }
            let Some(at) = self.store.poll_timeout() else {
                return Err("neither idle nor with a job or a timeout".to_owned());
            };
            // Without a job now, a time that has come is no time to wait for.
            self.now = self.now.max(at) + Duration::from_millis(10);
        }
        if self.is_full {
            return Ok(());
        }
        let (idle, at) = (self.store.is_idle(), self.store.poll_timeout());
        let (now, health) = (self.now, self.store.health());
        Err(format!(
            "never at rest: {idle} {at:?} {now:?} {health:?} {:?}",
            self.store.counters()
        ))
    }

    fn everything_is_durable(&mut self) {
        for topic in self.base.topics.values_mut() {
            for channel in Rc::make_mut(topic).channels.values_mut() {
                let perhaps = std::mem::take(&mut channel.perhaps_finished);
                channel.finished.extend(perhaps);
                channel
                    .attempts
                    .values_mut()
                    .for_each(|(sure, most)| *sure = *most);
            }
        }
    }

    // ---- comparing ----

    /// Compares what the store holds with each candidate and goes on with the one that fits.
    pub fn adopt(&mut self, candidates: &[Model]) -> Verdict<()> {
        let seen = self.observe()?;
        let mut misfits = Vec::new();
        for (index, candidate) in candidates.iter().enumerate().rev() {
            match fit(candidate, &seen, self.now) {
                Ok(model) => {
                    for (topic, channel, messages) in seen.all() {
                        for message in messages {
                            let Some(key) = key_of(&message.body) else {
                                continue;
                            };
                            let note = self.ids.note(key, message.id);
                            note.map_err(|text| format!("{topic}/{channel}: {text}"))?;
                        }
                    }
                    self.front = model.clone();
                    self.base = model;
                    return Ok(());
                }
                Err(text) => {
                    misfits.push(format!("not state {index} of {}: {text}", candidates.len()))
                }
            }
        }
        Err(misfits.join("\n"))
    }

    /// Checks that the store holds exactly what it has to, when nothing is pending.
    pub fn check(&mut self) -> Verdict<()> {
        let candidates = [self.base.clone()];
        self.adopt(&candidates)
    }

    /// What consumers may see: changes count at once, publishes when they are durable.
    fn live(&self) -> Model {
        let mut live = self.base.clone();
        for (_, ops) in &self.pending {
            let changes = ops.iter().filter(|op| !matches!(op, Op::Publish { .. }));
            changes.for_each(|op| live.apply(op));
        }
        live
    }

    /// Checks that nothing acknowledged is missing while requests are pending.
    pub fn check_without_settling(&mut self) -> Verdict<()> {
        let (seen, now) = (self.observe()?, self.now);
        let live = self.live();
        fit(&live, &seen, now).map(drop)
    }

    /// Every message that any channel delivers, whatever it should deliver.
    pub fn delivered(&mut self) -> Verdict<Vec<Seen>> {
        let seen = self.observe()?;
        Ok(seen
            .all()
            .flat_map(|(_, _, messages)| messages)
            .cloned()
            .collect())
    }

    fn observe(&mut self) -> Verdict<Observed> {
        let mut observed = Observed::default();
        let topics: Vec<_> = self
            .store
            .topics()
            .map(|t| (t.no, t.name.to_owned()))
            .collect();
        for (number, name) in topics {
            let Some(info) = self.store.topic_info(number) else {
                return Err(format!("topic {name} is listed and not there"));
            };
            let mut topic = ObservedTopic {
                paused: info.paused,
                undistributed: info.undistributed,
                channels: BTreeMap::new(),
            };
            let channels: Vec<_> = self
                .store
                .channels(number)
                .map(|c| (c.no, c.name.to_owned()))
                .collect();
            for (number, channel) in channels {
                let seen = self.observe_channel(&name, &channel, number)?;
                topic.channels.insert(channel, seen);
            }
            observed.topics.insert(name, topic);
        }
        Ok(observed)
    }

    fn observe_channel(
        &mut self,
        topic: &str,
        channel: &str,
        number: ChannelNo,
    ) -> Verdict<ObservedChannel> {
        let Some(info) = self.store.channel_info(number) else {
            return Err(format!("channel {topic}/{channel} is listed and not there"));
        };
        let (paused, unfinished, info_lasting) = (info.paused, info.unfinished, info.lasting);
        let mut cursor = Cursor::new(info.floor);
        let mut messages = Vec::new();
        loop {
            let next = self.store.next(number, &mut cursor);
            let Some(next) = next.map_err(|error| format!("{topic}/{channel}: {error}"))? else {
                break;
            };
            messages.push(Seen {
                seq: next.seq,
                id: next.id,
                wall_ns: next.timestamp_ns,
                attempts: next.attempts,
                not_before: next.not_before,
                body: next.body.to_vec(),
            });
        }
        // An ephemeral channel pins nothing: what it missed is counted when it comes there.
        if info_lasting && unfinished != messages.len() as u64 {
            let count = messages.len();
            return Err(format!(
                "{topic}/{channel}: {unfinished} unfinished, {count} delivered"
            ));
        }
        if !messages.windows(2).all(|two| two[0].seq < two[1].seq) {
            return Err(format!("{topic}/{channel}: out of order"));
        }
        Ok(ObservedChannel { paused, messages })
    }

    pub fn has_topic(&self, topic: &str) -> bool {
        self.topic_no(topic).is_ok()
    }

    /// True if a channel is there for a consumer, who is told when that is durable.
    pub fn has(&self, topic: &str, channel: &str) -> bool {
        self.channel_no(topic, channel).is_ok() && self.base.get(topic, channel).is_some()
    }

    fn topic_no(&self, name: &str) -> Verdict<TopicNo> {
        let found = self
            .store
            .topics()
            .find(|topic| topic.name == name)
            .map(|topic| topic.no);
        found.ok_or_else(|| format!("no topic {name}"))
    }

    fn channel_no(&self, topic: &str, name: &str) -> Verdict<ChannelNo> {
        let mut channels = self.store.channels(self.topic_no(topic)?);
        let found = channels
            .find(|channel| channel.name == name)
            .map(|channel| channel.no);
        found.ok_or_else(|| format!("no channel {topic}/{name}"))
    }

    fn front_topic(&self, name: &str) -> Verdict<&Topic> {
        self.front
            .topics
            .get(name)
            .map(|topic| &**topic)
            .ok_or_else(|| format!("no topic {name}"))
    }
}

#[derive(Debug, Default)]
struct Observed {
    topics: BTreeMap<String, ObservedTopic>,
}

#[derive(Debug)]
struct ObservedTopic {
    paused: bool,
    undistributed: u64,
    channels: BTreeMap<String, ObservedChannel>,
}

#[derive(Debug)]
struct ObservedChannel {
    paused: bool,
    messages: Vec<Seen>,
}

impl Observed {
    fn all(&self) -> impl Iterator<Item = (&str, &str, &[Seen])> {
        self.topics.iter().flat_map(|(name, topic)| {
            let channels = topic.channels.iter();
            channels.map(move |(channel, seen)| (&**name, &**channel, &*seen.messages))
        })
    }
}

/// The candidate with what was uncertain as it turned out, or why it is not what was seen.
fn fit(candidate: &Model, seen: &Observed, now: Duration) -> Verdict<Model> {
    let names = |names: Vec<&String>| format!("{names:?}");
    let (want, got) = (
        candidate.topics.keys().collect(),
        seen.topics.keys().collect(),
    );
    if want != got {
        return Err(format!("topics {} instead of {}", names(got), names(want)));
    }
    let mut model = candidate.clone();
    for ((name, topic), seen) in model.topics.iter_mut().zip(seen.topics.values()) {
        let topic = Rc::make_mut(topic);
        let undistributed = (topic.messages.len() - topic.distributed()) as u64;
        if (topic.paused, undistributed) != (seen.paused, seen.undistributed) {
            return Err(format!(
                "{name}: paused {}, {} undistributed instead of {}, {undistributed}",
                seen.paused, seen.undistributed, topic.paused
            ));
        }
        let (want, got) = (
            topic.channels.keys().collect(),
            seen.channels.keys().collect(),
        );
        if want != got {
            return Err(format!(
                "{name}: channels {} instead of {}",
                names(got),
                names(want)
            ));
        }
        let mut channels = std::mem::take(&mut topic.channels);
        for ((channel, state), seen) in channels.iter_mut().zip(seen.channels.values()) {
            fit_channel(topic, state, seen, now)
                .map_err(|text| format!("{name}/{channel}: {text}"))?;
        }
        topic.channels = channels;
    }
    Ok(model)
}

fn fit_channel(
    topic: &Topic,
    channel: &mut Channel,
    seen: &ObservedChannel,
    now: Duration,
) -> Verdict<()> {
    if channel.paused != seen.paused {
        return Err(format!("paused: {}", seen.paused));
    }
    let mut messages = seen.messages.iter().peekable();
    let mut finished = BTreeSet::new();
    let due: Vec<Rc<Sent>> = topic.due(channel).cloned().collect();
    for sent in due {
        let here = messages.next_if(|message| key_of(&message.body) == Some(sent.key));
        let Some(message) = here else {
            if channel.perhaps_finished.contains(&sent.key) || !channel.lasting {
                finished.insert(sent.key);
                continue;
            }
            let next = messages.peek().map(|message| key_of(&message.body));
            return Err(format!("message {} is lost (next is {next:?})", sent.key));
        };
        if message.body != sent.body {
            return Err(format!("message {} has another body", sent.key));
        }
        if message.wall_ns / 1000 != sent.wall_ns / 1000 {
            return Err(format!(
                "message {} has another time: {}",
                sent.key, message.wall_ns
            ));
        }
        let (sure, most) = channel.attempts.get(&sent.key).copied().unwrap_or_default();
        if !(sure..=most).contains(&message.attempts) {
            let attempts = message.attempts;
            return Err(format!(
                "message {}: {attempts} attempts, not {sure}..={most}",
                sent.key
            ));
        }
        if most > 0 {
            channel
                .attempts
                .insert(sent.key, (message.attempts, message.attempts));
        }
        // Deferrals here are of hours and runs of minutes, so that what is left is nearly all of it.
        if sent.defer > HOUR && most == 0 && message.not_before < now + sent.defer - HOUR {
            return Err(format!(
                "message {} is early: {:?}",
                sent.key, message.not_before
            ));
        }
    }
    if let Some(message) = messages.next() {
        let key = key_of(&message.body);
        return Err(format!(
            "{key:?} ({:?}) was not to be delivered here",
            message.seq
        ));
    }
    channel.finished.append(&mut finished);
    channel.perhaps_finished.clear();
    Ok(())
}

fn key_of(body: &[u8]) -> Option<u64> {
    std::str::from_utf8(body.get(..16)?).ok()?.parse().ok()
}

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
