//! Consumes a channel from any number of brokers, fixed or found through lookupds.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use log::{debug, info, log};
use protocol::id::WireId;
use protocol::names::{ChannelName, TopicName};
use runtime::http::Url;
use runtime::net::Address;
use runtime::{Task, clock, spawn, timer};

use crate::bell::Bell;
use crate::discovery::Discovery;
use crate::host::{Core, Host};
use crate::links::{Event, LinkId, Links, LinksOptions, level_of};

/// How a [`Consumer`] consumes.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// Connections. The subscription in it is set from topic and channel.
    pub links: LinksOptions,
    /// Messages in flight, shared evenly by the brokers, one each at least.
    pub in_flight_max: u32,
    /// Brokers that are known beforehand.
    pub addresses: Vec<Address>,
    /// HTTP addresses of lookupds, such as `http://host:4161`.
    pub lookupds: Vec<Url>,
    /// Between two rounds of asking the lookupds, with up to 30 % of jitter.
    pub lookup_interval: Duration,
    /// Of the jitter.
    pub seed: u64,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            links: LinksOptions::default(),
            in_flight_max: 200,
            addresses: Vec::new(),
            lookupds: Vec::new(),
            lookup_interval: Duration::from_secs(60),
            seed: 0,
        }
    }
}

/// A subscription to a channel.
pub struct Consumer {
    inner: Rc<Inner>,
    _lookup: Option<Task<()>>,
}

struct Inner {
    host: Host<ConsumerCore>,
    changed: Rc<Bell>,
}

impl Consumer {
    /// Starts connecting and returns at once.
    pub fn subscribe(topic: &TopicName, channel: &ChannelName, options: ConsumerOptions) -> Self {
        let changed = Rc::new(Bell::default());
        let mut core = ConsumerCore::new(topic.clone(), channel.clone(), &options);
        core.links
            .set_addresses(Duration::ZERO, options.addresses.iter().cloned());
        let tell = {
            let changed = Rc::clone(&changed);
            move |_: &mut ConsumerCore| changed.ring()
        };
        let inner = Rc::new(Inner {
            host: Host::new(core, tell),
            changed,
        });
        let lookup = (!options.lookupds.is_empty()).then(|| {
            let discovery = Discovery::new(options.lookupds, options.lookup_interval, options.seed);
            spawn(look_up(
                Rc::clone(&inner),
                discovery,
                options.addresses,
                topic.clone(),
            ))
        });
        Self {
            inner,
            _lookup: lookup,
        }
    }

    /// The next message. Answer it with [`Delivery::finish`] or [`Delivery::requeue`]; one that is
    /// dropped without an answer comes again after its message time-out.
    pub async fn next(&self) -> Delivery {
        self.inner.changed.until(|| self.try_next()).await
    }

    /// The next message, if one is there.
    pub fn try_next(&self) -> Option<Delivery> {
        let queued = self.inner.host.change(|core| core.queue.pop_front())?;
        Some(Delivery {
            queued,
            inner: Rc::clone(&self.inner),
        })
    }

    /// Whether a broker has granted the subscription.
    pub fn is_subscribed(&self) -> bool {
        self.inner
            .host
            .look(|core| core.links.up().next().is_some())
    }

    /// Waits until a broker has granted the subscription: the channel exists from then on.
    pub async fn subscribed(&self) {
        self.inner.changed.when(|| self.is_subscribed()).await;
    }

    /// Sets the window anew; 0 pauses.
    pub fn set_in_flight_max(&self, count: u32) {
        self.inner.host.with(|core, _| {
            core.in_flight_max = count;
            core.share = None;
        });
    }

    /// Ends the subscription: no more messages, answers to those handed out are waited for (for
    /// `patience` at most) and sent, connections closed. Messages not handed out go back at once.
    pub async fn close(&self, patience: Duration) {
        self.inner.host.with(|core, now| core.begin_close(now));
        let deadline = clock::now().saturating_add(patience);
        let Inner { host, changed } = &*self.inner;
        let drained = changed.when(|| host.look(ConsumerCore::is_drained));
        if timer::timeout_at(deadline, drained).await.is_err() {
            info!("unanswered messages at the end of a subscription will come again");
        }
        self.inner.host.with(|core, _| core.links.close());
        self.inner.host.idle().await;
    }
}

/// A message in this program's hands.
pub struct Delivery {
    queued: Queued,
    inner: Rc<Inner>,
}

impl Delivery {
    /// The producer's bytes.
    pub fn body(&self) -> &[u8] {
        &self.queued.body
    }

    /// Deliveries including this one; 1 at the first.
    pub fn attempts(&self) -> u16 {
        self.queued.attempts
    }

    /// Wall time at which the broker took it, ns since 1970.
    pub fn timestamp_ns(&self) -> i64 {
        self.queued.timestamp_ns
    }

    /// The broker's name for it.
    pub fn id(&self) -> WireId {
        self.queued.id
    }

    /// It is done with. (If the connection is gone, it comes again all the same.)
    pub fn finish(self) {
        self.inner.host.soon(|core| core.finish(&self.queued));
    }

    /// It shall come again after `delay`.
    pub fn requeue(self, delay: Duration) {
        self.inner
            .host
            .soon(|core| core.requeue(&self.queued, delay));
    }

    /// It needs its message time-out once more.
    pub fn touch(&self) {
        self.inner
            .host
            .soon(|core| core.links.touch(self.queued.link, self.queued.id));
    }
}

/// The rules of a consumer, without I/O.
pub struct ConsumerCore {
    links: Links,
    in_flight_max: u32,
    /// What each link was last told; `None` to tell all anew.
    share: Option<u32>,
    queue: VecDeque<Queued>,
    /// Messages per link that are not answered, queued ones included.
    in_flight: BTreeMap<LinkId, usize>,
    /// Links that have not yet answered CLS.
    unclosed: usize,
    closing: bool,
}

struct Queued {
    link: LinkId,
    id: WireId,
    attempts: u16,
    timestamp_ns: i64,
    body: Vec<u8>,
}

impl ConsumerCore {
    /// Without brokers; see [`Links::set_addresses`].
    pub fn new(topic: TopicName, channel: ChannelName, options: &ConsumerOptions) -> Self {
        let mut links = options.links.clone();
        links.connection.subscription = Some((topic, channel));
        Self {
            links: Links::new(links, options.seed),
            in_flight_max: options.in_flight_max,
            share: None,
            queue: VecDeque::new(),
            in_flight: BTreeMap::new(),
            unclosed: 0,
            closing: false,
        }
    }

    fn finish(&mut self, message: &Queued) {
        self.links.finish(message.link, message.id);
        self.answered(message.link);
    }

    fn requeue(&mut self, message: &Queued, delay: Duration) {
        self.links.requeue(message.link, message.id, delay);
        self.answered(message.link);
    }

    fn answered(&mut self, link: LinkId) {
        if let Some(count) = self.in_flight.get_mut(&link) {
            *count = count.saturating_sub(1);
        }
    }

    fn begin_close(&mut self, now: Duration) {
        self.closing = true;
        let up: Vec<LinkId> = self.links.up().collect();
        for link in &up {
            if let Some(connection) = self.links.connection(*link) {
                connection.close(now);
            }
        }
        self.unclosed = up.len();
        while let Some(message) = self.queue.pop_front() {
            self.requeue(&message, Duration::ZERO);
        }
    }

    fn is_drained(&self) -> bool {
        self.unclosed == 0 && self.in_flight.values().all(|count| *count == 0)
    }

    fn digest(&mut self, now: Duration) {
        while let Some(event) = self.links.poll_event(now) {
            match event {
                Event::Up(link) => {
                    self.in_flight.insert(link, 0);
                    self.share = None;
                }
                Event::Down {
                    link,
                    reason,
                    failures,
                } => {
                    let level = level_of(failures, self.closing);
                    log!(level, "a broker is gone: {reason}");
                    // The broker gives them to someone else.
                    self.queue.retain(|message| message.link != link);
                    if self.in_flight.remove(&link).is_some() && self.closing {
                        self.unclosed = self.unclosed.saturating_sub(1);
                    }
                    self.share = None;
                }
                Event::Message(link, message) => {
                    *self.in_flight.entry(link).or_default() += 1;
                    let queued = Queued {
                        link,
                        id: message.id,
                        attempts: message.attempts,
                        timestamp_ns: message.timestamp_ns,
                        body: message.body.to_vec(),
                    };
                    if self.closing {
                        self.requeue(&queued, Duration::ZERO);
                    } else {
                        self.queue.push_back(queued);
                    }
                }
                Event::TooLate(_, text) => debug!("{}", text.escape_ascii()),
                Event::CloseWait(_) => self.unclosed = self.unclosed.saturating_sub(1),
                Event::Answered(..) | Event::Refused(..) | Event::Lost(..) => {}
            }
        }
    }
}

impl Core for ConsumerCore {
    const SETS: usize = 1;

    fn links(&mut self, _set: usize) -> Option<&mut Links> {
        Some(&mut self.links)
    }

    fn turn(&mut self, now: Duration) {
        self.digest(now);
        if self.share.is_some() || self.closing {
            return;
        }
        let up: Vec<LinkId> = self.links.up().collect();
        let brokers = u32::try_from(up.len()).unwrap_or(u32::MAX).max(1);
        let share = (self.in_flight_max / brokers).max(self.in_flight_max.min(1));
        for link in up {
            if let Some(connection) = self.links.connection(link) {
                connection.ready(share);
            }
        }
        self.share = Some(share);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        None
    }
}

async fn look_up(
    inner: Rc<Inner>,
    mut discovery: Discovery,
    fixed: Vec<Address>,
    topic: TopicName,
) {
    loop {
        // Without an answer the brokers that are known stay.
        if let Some(found) = discovery.find(&topic).await {
            inner.host.with(|core, now| {
                core.links
                    .set_addresses(now, fixed.iter().cloned().chain(found));
            });
        }
        timer::sleep(discovery.pause()).await;
    }
}
