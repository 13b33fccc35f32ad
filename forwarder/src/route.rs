//! One route, without I/O: what to take, what to send where, when to finish or give back.
//!
//! A message is in one place: gathering, waiting to be sent, sent and unanswered, or on its way to
//! the dead letters. What ends a stay:
//!
//! | event | gathering, waiting | sent | dead letter |
//! |---|---|---|---|
//! | the answer `OK` | | finished | finished |
//! | refused for its own sake | | halved and sent again; a single one becomes a dead letter | |
//! | refused otherwise, link lost | | waits again | its source link is gone, too |
//! | its source link is gone | forgotten: it comes again | sent, its FIN has nowhere to go | forgotten |
//! | half its message time-out | touched while an upstream is up, else given back | touched | |
//!
//! While no upstream is up, the window is 0: an outage stays in the broker's log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use client::connection::{ConnectionOptions, Token};
use client::host::Core;
use client::links::{Event, LinkId, Links, LinksOptions, level_of};
use config::RouteOptions;
use log::{debug, info, log, warn};
use protocol::encode;
use protocol::frame::Message;
use protocol::limits::NAME_BYTES_MAX;
use protocol::names::TopicName;
use runtime::net::Address;

use crate::batch::{Batch, Item};
pub use crate::counters::Counters;
use crate::limits::{
    ANSWER_TIMEOUT, DEAD_SUFFIX, HELD_TIME_MAX, MSG_TIMEOUT_DEFAULT, OVER_BUDGET_DELAY,
    SOURCE_BUFFER_TIMEOUT, UPSTREAM_HEARTBEAT,
};
use crate::refusal::{Again, refused};

/// Number of the set of links to the local brokers.
pub const SOURCE: usize = 0;

/// Number of the set of links to the upstreams.
pub const UPSTREAM: usize = 1;

/// Bytes of messages that a route holds at most: a batch that gathers, those in flight, and one
/// largest message, which is taken when nothing else is held.
pub fn held_bytes_max(options: &RouteOptions, message_bytes_max: u32) -> u64 {
    let batches = u64::from(options.in_flight_batches) + 1;
    u64::from(options.batch_bytes) * batches + u64::from(message_bytes_max)
}

/// The topic of the dead letters of `topic`: its name, cut where it must be, and `.dead`. They
/// are kept on flash even if the topic is not.
pub fn dead_topic(topic: &TopicName) -> TopicName {
    let name = topic.as_str();
    let stem = name.strip_suffix("#ephemeral").unwrap_or(name);
    let stem = stem
        .get(..NAME_BYTES_MAX - DEAD_SUFFIX.len())
        .unwrap_or(stem);
    // Of a valid name's characters and length; the topic itself stands in for the impossible.
    TopicName::new(&format!("{stem}{DEAD_SUFFIX}")).unwrap_or_else(|_| topic.clone())
}

/// See the module.
#[derive(Debug)]
pub struct RouteCore {
    name: String,
    options: RouteOptions,
    dead_topic: TopicName,
    source: Links,
    upstream: Links,
    gathering: Batch,
    /// Complete batches that are not sent, next first.
    waiting: VecDeque<Batch>,
    sent: BTreeMap<Token, Batch>,
    /// Dead letters that the local broker has not answered for.
    burying: BTreeMap<Token, (Item, usize)>,
    next: u64,
    /// Of all messages in all places.
    held_bytes: usize,
    held_bytes_max: usize,
    /// Mean size of a message, so that the window fits the byte budget.
    mean_bytes: usize,
    /// The window that each source was told; `None` to tell all anew.
    told: Option<u32>,
    closing: bool,
    counters: Counters,
    /// For encoding.
    scratch: Vec<u8>,
}

impl RouteCore {
    /// Without brokers; see [`RouteCore::set_sources`], [`RouteCore::set_upstreams`].
    pub fn new(options: &RouteOptions, message_bytes_max: u32, seed: u64) -> Self {
        let links = |connection| LinksOptions {
            connection,
            backoff_min: options.backoff_min,
            backoff_max: options.backoff_max,
            ..LinksOptions::default()
        };
        let source = ConnectionOptions {
            hostname: options.hostname.clone(),
            subscription: Some((options.topic.clone(), options.channel.clone())),
            output_buffer_timeout: SOURCE_BUFFER_TIMEOUT,
            message_bytes_max,
            answer_timeout: ANSWER_TIMEOUT,
            ..ConnectionOptions::default()
        };
        let upstream = ConnectionOptions {
            hostname: options.hostname.clone(),
            heartbeat: UPSTREAM_HEARTBEAT,
            answer_timeout: ANSWER_TIMEOUT,
            ..ConnectionOptions::default()
        };
        let held_bytes_max = held_bytes_max(options, message_bytes_max);
        Self {
            name: format!("{}/{}", options.topic, options.channel),
            dead_topic: dead_topic(&options.topic),
            // The local broker is never far: its links do not rest for long.
            source: Links::new(
                LinksOptions {
                    backoff_max: options.backoff_max.min(Duration::from_secs(2)),
                    ..links(source)
                },
                seed,
            ),
            upstream: Links::new(links(upstream), seed ^ u64::MAX),
            options: options.clone(),
            gathering: Batch::default(),
            waiting: VecDeque::new(),
            sent: BTreeMap::new(),
            burying: BTreeMap::new(),
            next: 0,
            held_bytes: 0,
            held_bytes_max: usize::try_from(held_bytes_max).unwrap_or(usize::MAX),
            mean_bytes: 0,
            told: None,
            closing: false,
            counters: Counters::default(),
            scratch: Vec::new(),
        }
    }

    /// `topic/channel`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where to take from.
    pub fn set_sources(&mut self, now: Duration, brokers: impl IntoIterator<Item = Address>) {
        self.source.set_addresses(now, brokers);
    }

    /// Where to send.
    pub fn set_upstreams(&mut self, now: Duration, brokers: impl IntoIterator<Item = Address>) {
        self.upstream.set_addresses(now, brokers);
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes no more; gives back what is not sent.
    pub fn begin_close(&mut self, now: Duration) {
        self.closing = true;
        let up: Vec<LinkId> = self.source.up().collect();
        for link in up {
            if let Some(connection) = self.source.connection(link) {
                connection.close(now);
            }
        }
        let gathered = std::mem::take(&mut self.gathering);
        let waiting = std::mem::take(&mut self.waiting);
        for batch in waiting.into_iter().chain([gathered]) {
            self.give_back(&batch);
        }
    }

    /// Whether nothing waits for an answer.
    pub fn is_drained(&self) -> bool {
        self.closing && self.sent.is_empty() && self.burying.is_empty()
    }

    /// Ends all links.
    pub fn close(&mut self) {
        self.source.close();
        self.upstream.close();
    }

    /// What `held_bytes` never exceeds.
    pub fn held_bytes_max(&self) -> usize {
        self.held_bytes_max
    }

    /// Bytes of all messages held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn digest_source(&mut self, now: Duration) {
        // The event borrows the links, so what it says is taken apart from its consequences.
        loop {
            let Some(event) = self.source.poll_event(now) else {
                return;
            };
            match event {
                Event::Message(link, message) => {
                    let bytes = message.body.len();
                    let over = self.held_bytes.saturating_add(bytes) > self.held_bytes_max;
                    if self.closing || (over && self.held_bytes > 0) {
                        let id = message.id;
                        let delay = if over {
                            OVER_BUDGET_DELAY
                        } else {
                            Duration::ZERO
                        };
                        self.source.requeue(link, id, delay);
                        self.counters.given_back += 1;
                        continue;
                    }
                    take(
                        &self.options,
                        &mut self.gathering,
                        &mut self.waiting,
                        now,
                        link,
                        &message,
                    );
                    self.held_bytes += bytes;
                    // A mean over some tens of messages; the window follows when it has moved far.
                    self.mean_bytes = match self.mean_bytes {
                        0 => bytes,
                        mean => (mean * 31 + bytes).div_ceil(32),
                    };
                }
                Event::Up(link) => {
                    info!("route {}: takes from {}", self.name, self.source.name(link));
                    self.told = None;
                }
                Event::Down {
                    link,
                    reason,
                    failures,
                } => {
                    let level = level_of(failures, self.closing);
                    log!(level, "route {}: a source is gone: {reason}", self.name);
                    self.forget(link);
                }
                Event::Answered(link, token) => {
                    if let Some((item, bytes)) = self.burying.remove(&token) {
                        self.source.finish(link, item.id);
                        self.held_bytes -= bytes;
                        self.counters.dead += 1;
                    }
                }
                Event::Refused(_, _, text) => {
                    // Its message comes again with the source.
                    warn!("route {}: no dead letter: {text}", self.name);
                }
                Event::TooLate(_, text) => {
                    debug!("route {}: {}", self.name, text.escape_ascii());
                }
                Event::Lost(..) | Event::CloseWait(_) => {}
            }
        }
    }

    /// The broker gives these messages again.
    fn forget(&mut self, link: LinkId) {
        for batch in self.waiting.iter_mut().chain([&mut self.gathering]) {
            let before = batch.bytes();
            batch.forget(link);
            self.held_bytes -= before - batch.bytes();
        }
        self.waiting.retain(|batch| !batch.is_empty());
        let held_bytes = &mut self.held_bytes;
        self.burying.retain(|_, (item, bytes)| {
            if item.link == link {
                *held_bytes -= *bytes;
            }
            item.link != link
        });
    }

    fn digest_upstream(&mut self, now: Duration) {
        let mut again = Vec::new();
        while let Some(event) = self.upstream.poll_event(now) {
            match event {
                Event::Answered(_, token) => {
                    let Some(batch) = self.sent.remove(&token) else {
                        continue;
                    };
                    for item in batch.items() {
                        self.source.finish(item.link, item.id);
                    }
                    self.held_bytes -= batch.bytes();
                    self.counters.forwarded += batch.len() as u64;
                    self.counters.forwarded_bytes += batch.bytes() as u64;
                }
                Event::Refused(_, token, text) => {
                    let Some(batch) = self.sent.remove(&token) else {
                        continue;
                    };
                    again.extend(refused(&self.name, batch, &text));
                }
                Event::Lost(_, token) => {
                    again.extend(self.sent.remove(&token).map(Again::Send));
                }
                Event::Up(link) => {
                    info!("route {}: sends to {}", self.name, self.upstream.name(link));
                }
                Event::Down {
                    reason, failures, ..
                } => {
                    let level = level_of(failures, self.closing);
                    log!(level, "route {}: an upstream is gone: {reason}", self.name);
                }
                Event::Message(..) | Event::TooLate(..) | Event::CloseWait(_) => {}
            }
        }
        let mut front = VecDeque::new();
        for again in again {
            match again {
                Again::Send(batch) => {
                    self.counters.batches_again += 1;
                    front.push_back(batch);
                }
                Again::Bury(batch) => self.bury(now, &batch),
            }
        }
        // Before what was never sent, in the old order.
        front.append(&mut self.waiting);
        self.waiting = front;
        if self.closing {
            for batch in std::mem::take(&mut self.waiting) {
                self.give_back(&batch);
            }
        }
    }

    /// Publishes to the dead letters over the link that a message came over; its FIN follows the
    /// answer there.
    fn bury(&mut self, now: Duration, batch: &Batch) {
        for (item, body) in batch.iter() {
            self.scratch.clear();
            encode::publish(self.dead_topic.as_str(), body, &mut self.scratch);
            let token = Token(self.next);
            self.next += 1;
            if self.source.publish(now, item.link, token, &self.scratch) {
                self.burying.insert(token, (item, body.len()));
            } else {
                self.held_bytes -= body.len(); // its source is gone, it comes again
            }
        }
    }

    fn give_back(&mut self, batch: &Batch) {
        for item in batch.items() {
            self.source.requeue(item.link, item.id, Duration::ZERO);
        }
        self.held_bytes -= batch.bytes();
        self.counters.given_back += batch.len() as u64;
    }

    /// Sends what may be sent.
    fn send(&mut self, now: Duration) {
        let window = self.options.in_flight_batches as usize;
        while self.sent.len() < window {
            let ripe = self.waiting.front().is_some() || self.is_ripe(now);
            if !ripe {
                return;
            }
            let Some(link) = self.upstream.least_loaded(window) else {
                return;
            };
            let batch = self
                .waiting
                .pop_front()
                .unwrap_or_else(|| std::mem::take(&mut self.gathering));
            self.scratch.clear();
            batch.encode(self.options.upstream_topic.as_str(), &mut self.scratch);
            let token = Token(self.next);
            self.next += 1;
            self.upstream.publish(now, link, token, &self.scratch);
            self.sent.insert(token, batch);
        }
    }

    fn is_ripe(&self, now: Duration) -> bool {
        is_full(&self.options, &self.gathering)
            || self
                .gathering
                .opened()
                .is_some_and(|opened| now >= opened + self.options.batch_age)
    }

    /// Half a message time-out after they came or were touched, messages are touched or given back.
    fn refresh(&mut self, now: Duration) {
        let due = self.refresh_interval();
        let is_due = |batch: &Batch| batch.fresh().is_some_and(|fresh| now >= fresh + due);
        let up = self.upstream.up().next().is_some();
        let may_stay = |batch: &Batch| {
            up && batch
                .opened()
                .is_some_and(|opened| now < opened + HELD_TIME_MAX)
        };
        let mut back = Vec::new();
        if is_due(&self.gathering) && !may_stay(&self.gathering) {
            back.push(std::mem::take(&mut self.gathering));
        }
        for batch in std::mem::take(&mut self.waiting) {
            if is_due(&batch) && !may_stay(&batch) {
                back.push(batch);
            } else {
                self.waiting.push_back(batch);
            }
        }
        for batch in back {
            self.give_back(&batch);
        }
        let sent = self.sent.values_mut();
        for batch in self
            .waiting
            .iter_mut()
            .chain(sent)
            .chain([&mut self.gathering])
        {
            if is_due(batch) {
                for item in batch.items() {
                    self.source.touch(item.link, item.id);
                }
                batch.touched(now);
            }
        }
    }

    fn refresh_interval(&self) -> Duration {
        self.source.msg_timeout().unwrap_or(MSG_TIMEOUT_DEFAULT) / 2
    }

    /// The window that fits count and bytes; 0 while there is nowhere to send.
    fn window(&self) -> u32 {
        if self.upstream.up().next().is_none() {
            return 0;
        }
        let batches = self.options.in_flight_batches.saturating_add(1);
        let count = self.options.batch_count.saturating_mul(batches);
        let fits = self.held_bytes_max / self.mean_bytes.max(1);
        count.min(u32::try_from(fits).unwrap_or(u32::MAX)).max(1)
    }

    fn tell_window(&mut self) {
        if self.closing {
            return;
        }
        let window = self.window();
        if let Some(told) = self.told {
            // A mean that wavers must not send a RDY for each message.
            let near = told > 0 && window > 0 && told.abs_diff(window) <= told / 4;
            if told == window || near {
                return;
            }
        }
        let up: Vec<LinkId> = self.source.up().collect();
        let sources = u32::try_from(up.len()).unwrap_or(u32::MAX).max(1);
        let share = (window / sources).max(window.min(1));
        for link in up {
            if let Some(connection) = self.source.connection(link) {
                connection.ready(share);
            }
        }
        self.told = Some(window);
    }
}

impl Core for RouteCore {
    const SETS: usize = 2;

    fn links(&mut self, set: usize) -> Option<&mut Links> {
        match set {
            SOURCE => Some(&mut self.source),
            UPSTREAM => Some(&mut self.upstream),
            _ => None,
        }
    }

    fn turn(&mut self, now: Duration) {
        self.digest_upstream(now);
        self.digest_source(now);
        self.refresh(now);
        self.send(now);
        self.tell_window();
    }

    fn poll_timeout(&self) -> Option<Duration> {
        let due = self.refresh_interval();
        let batches = self
            .waiting
            .iter()
            .chain(self.sent.values())
            .chain([&self.gathering]);
        let refresh = batches
            .filter_map(Batch::fresh)
            .map(|fresh| fresh + due)
            .min();
        // Age counts only where there is somewhere to send.
        let window = self.options.in_flight_batches as usize;
        let can_send = self.sent.len() < window && self.upstream.up().next().is_some();
        let opened = self.gathering.opened().filter(|_| can_send);
        let ripe = opened.map(|opened| opened + self.options.batch_age);
        refresh.into_iter().chain(ripe).min()
    }
}

/// Adds a message to the gathering batch, which before that begins anew if it has no room.
fn take(
    options: &RouteOptions,
    gathering: &mut Batch,
    waiting: &mut VecDeque<Batch>,
    now: Duration,
    link: LinkId,
    message: &Message<'_>,
) {
    let bytes = gathering.bytes().saturating_add(message.body.len());
    let too_large = bytes > options.batch_bytes as usize && !gathering.is_empty();
    if too_large || is_full(options, gathering) {
        waiting.push_back(std::mem::take(gathering));
    }
    gathering.push(now, link, message);
}

fn is_full(options: &RouteOptions, batch: &Batch) -> bool {
    batch.len() >= options.batch_count as usize || batch.bytes() >= options.batch_bytes as usize
}
