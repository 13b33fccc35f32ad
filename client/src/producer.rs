//! Publishes to any of several brokers: pipelined, spread, retried.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use log::{debug, info};
use protocol::encode;
use protocol::names::TopicName;
use runtime::Notify;
use runtime::net::Address;

use crate::bell::Bell;
use crate::connection::{self, Token};
use crate::host::{Core, Host};
use crate::links::{Event, Links, LinksOptions};

/// How a [`Producer`] publishes.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// Connections.
    pub links: LinksOptions,
    /// Publishes sent and not yet answered, per broker.
    pub window: usize,
    /// Bytes of commands that wait or are unanswered; above it [`Producer::publish`] waits. (One
    /// larger command is taken when nothing else is there.)
    pub bytes_max: usize,
    /// Whether a publish on a connection that broke is sent again over the next one: it may then be
    /// there twice. Otherwise it ends with [`PublishError::Unanswered`].
    pub retry: bool,
    /// Longest time from [`Producer::publish`] taking a command until its answer.
    pub timeout: Duration,
    /// Of the jitter.
    pub seed: u64,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            links: LinksOptions::default(),
            window: 64,
            bytes_max: 4 * 1024 * 1024,
            retry: true,
            timeout: Duration::from_secs(60),
            seed: 0,
        }
    }
}

/// Why a publish did not come to an `OK`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker's error, `CODE description`: it has nothing of this publish.
    #[error("{0}")]
    Refused(String),
    /// The connection broke before the answer: the broker has it or not.
    #[error("the connection broke before the answer")]
    Unanswered,
    /// No broker took it in time: it may be there if it was sent.
    #[error("no answer in time")]
    TimedOut,
    /// The producer was closed.
    #[error("the producer was closed")]
    Closed,
}

/// Publishes to brokers that it keeps connected. Clones share the connections.
#[derive(Clone)]
pub struct Producer {
    inner: Rc<Inner>,
}

struct Inner {
    host: Host<ProducerCore>,
    /// Who waits for which outcome.
    waiting: Rc<RefCell<BTreeMap<Token, Rc<Waiting>>>>,
    /// There may be room again, or a broker.
    changed: Rc<Bell>,
}

#[derive(Default)]
struct Waiting {
    outcome: RefCell<Option<Result<(), PublishError>>>,
    done: Notify,
}

impl Producer {
    /// Starts connecting and returns at once; publishes wait for the first broker.
    pub fn connect(addresses: impl IntoIterator<Item = Address>, options: ProducerOptions) -> Self {
        let waiting = Rc::new(RefCell::new(BTreeMap::<Token, Rc<Waiting>>::new()));
        let changed = Rc::new(Bell::default());
        let mut core = ProducerCore::new(options);
        core.links.set_addresses(Duration::ZERO, addresses);
        let hand_out = {
            let (waiting, changed) = (Rc::clone(&waiting), Rc::clone(&changed));
            move |core: &mut ProducerCore| {
                while let Some((token, outcome)) = core.poll_outcome() {
                    if let Some(waiter) = waiting.borrow_mut().remove(&token) {
                        *waiter.outcome.borrow_mut() = Some(outcome);
                        waiter.done.notify();
                    }
                }
                changed.ring();
            }
        };
        let host = Host::new(core, hand_out);
        Self {
            inner: Rc::new(Inner {
                host,
                waiting,
                changed,
            }),
        }
    }

    /// Waits until a broker is connected.
    pub async fn connected(&self) {
        self.inner.changed.when(|| self.is_connected()).await;
    }

    /// Whether a broker is connected.
    pub fn is_connected(&self) -> bool {
        self.inner
            .host
            .look(|core| core.links.up().next().is_some())
    }

    /// Publishes messages together: `OK` means that the broker has all of them. Several calls may
    /// be under way; over one connection their order is that of the calls.
    ///
    /// # Errors
    /// See [`PublishError`]. No body, or an empty one, is refused by the broker.
    pub async fn publish<B: AsRef<[u8]>>(
        &self,
        topic: &TopicName,
        bodies: &[B],
    ) -> Result<(), PublishError> {
        let mut command = Vec::new();
        match bodies {
            [body] => encode::publish(topic.as_str(), body.as_ref(), &mut command),
            bodies => encode::publish_many(topic.as_str(), bodies.iter(), &mut command),
        }
        self.send(command).await
    }

    /// Publishes a message for delivery after `delay`.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish_deferred(
        &self,
        topic: &TopicName,
        delay: Duration,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let mut command = Vec::new();
        encode::publish_deferred(topic.as_str(), delay, body, &mut command);
        self.send(command).await
    }

    /// Waits for the answers of all that is under way (each has its time-out), then closes the
    /// connections. What is published meanwhile or later ends with [`PublishError::Closed`].
    pub async fn close(&self) {
        self.inner.host.with(|core, _| core.closing = true);
        let Inner { host, changed, .. } = &*self.inner;
        changed
            .when(|| host.look(|core| core.publishes.is_empty()))
            .await;
        self.inner.host.with(|core, _| core.links.close());
        self.inner.host.idle().await;
    }

    async fn send(&self, command: Vec<u8>) -> Result<(), PublishError> {
        let bytes = command.len();
        let Inner { host, changed, .. } = &*self.inner;
        changed
            .when(|| host.look(|core| core.has_room(bytes)))
            .await;
        let waiter = Rc::new(Waiting::default());
        self.inner.host.with(|core, now| {
            let token = core.publish(now, command);
            self.inner
                .waiting
                .borrow_mut()
                .insert(token, Rc::clone(&waiter));
        });
        loop {
            if let Some(outcome) = waiter.outcome.borrow_mut().take() {
                return outcome;
            }
            waiter.done.notified().await;
        }
    }
}

/// The rules of a producer, without I/O.
pub struct ProducerCore {
    options: ProducerOptions,
    links: Links,
    next: u64,
    /// All that are not answered.
    publishes: BTreeMap<Token, Publish>,
    /// Those of them that are not sent, next first.
    unsent: VecDeque<Token>,
    outcomes: VecDeque<(Token, Result<(), PublishError>)>,
    bytes: usize,
    closing: bool,
}

struct Publish {
    command: Vec<u8>,
    deadline: Duration,
}

impl ProducerCore {
    /// Without brokers; see [`Links::set_addresses`].
    pub fn new(options: ProducerOptions) -> Self {
        let links = Links::new(options.links.clone(), options.seed);
        Self {
            options,
            links,
            next: 0,
            publishes: BTreeMap::new(),
            unsent: VecDeque::new(),
            outcomes: VecDeque::new(),
            bytes: 0,
            closing: false,
        }
    }

    /// Whether a command of so many bytes may come.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= self.options.bytes_max
    }

    /// Takes an encoded publish; a turn sends it.
    pub fn publish(&mut self, now: Duration, command: Vec<u8>) -> Token {
        let token = Token(self.next);
        self.next += 1;
        if self.closing {
            self.outcomes.push_back((token, Err(PublishError::Closed)));
            return token;
        }
        self.bytes += command.len();
        let deadline = now.saturating_add(self.options.timeout);
        self.publishes.insert(token, Publish { command, deadline });
        self.unsent.push_back(token);
        token
    }

    /// The next publish that came to an end.
    pub fn poll_outcome(&mut self) -> Option<(Token, Result<(), PublishError>)> {
        self.outcomes.pop_front()
    }

    fn end(&mut self, token: Token, outcome: Result<(), PublishError>) {
        if let Some(publish) = self.publishes.remove(&token) {
            self.bytes -= publish.command.len();
            self.outcomes.push_back((token, outcome));
        }
    }

    fn digest(&mut self, now: Duration) {
        let mut again = Vec::new();
        while let Some(event) = self.links.poll_event(now) {
            let (token, outcome) = match event {
                Event::Answered(_, token) => (token, Ok(())),
                Event::Refused(_, token, text) => {
                    if self.options.retry && !connection::is_own_fault(&text) {
                        info!("a broker refused a publish, it is sent again: {text}");
                        again.push(token);
                        continue;
                    }
                    (token, Err(PublishError::Refused(text)))
                }
                Event::Lost(_, token) if self.options.retry => {
                    again.push(token);
                    continue;
                }
                Event::Lost(_, token) => (token, Err(PublishError::Unanswered)),
                Event::Up(link) => {
                    debug!("connected to {}", self.links.name(link));
                    continue;
                }
                Event::Down { reason, .. } => {
                    debug!("a connection ended: {reason}");
                    continue;
                }
                Event::Message(..) | Event::TooLate(..) | Event::CloseWait(_) => continue,
            };
            self.end(token, outcome);
        }
        // Before what was never sent, in their old order.
        for token in again.into_iter().rev() {
            self.unsent.push_front(token);
        }
    }
}

impl Core for ProducerCore {
    const SETS: usize = 1;

    fn links(&mut self, _set: usize) -> Option<&mut Links> {
        Some(&mut self.links)
    }

    fn turn(&mut self, now: Duration) {
        self.digest(now);
        // All have the same time-out and tokens rise, so the oldest are first.
        while let Some((token, publish)) = self.publishes.first_key_value() {
            if now < publish.deadline {
                break;
            }
            let token = *token;
            self.end(token, Err(PublishError::TimedOut));
        }
        while let Some(token) = self.unsent.front().copied() {
            let Some(publish) = self.publishes.get(&token) else {
                self.unsent.pop_front(); // timed out
                continue;
            };
            let Some(link) = self.links.least_loaded(self.options.window) else {
                break;
            };
            self.links.publish(now, link, token, &publish.command);
            self.unsent.pop_front();
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.publishes
            .first_key_value()
            .map(|(_, publish)| publish.deadline)
    }
}
