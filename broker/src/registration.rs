//! How the broker makes itself known to nsqlookupds, and what it asks them.
//!
//! The seam with the rest of the broker:
//!
//! - The daemon hands over a [`CatalogueSource`] and one [`Notify`] that is notified after every
//!   change of topics or channels. Each link compares the catalogue with what it has registered and
//!   sends the differences, so nothing is queued while a lookupd is away, however many changes
//!   there are.
//! - [`Registration::run`] serves all links until the stop. [`Registration::lookup`] is a handle to
//!   ask for the channels of a new topic before its first message.
//!
//! The rules are in [`link`], without I/O; here are the sockets.

mod catalogue;
mod limits;
mod link;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use protocol::lookup::{ChannelsAnswer, PeerInfo};
use protocol::names::{ChannelName, TopicName};
use runtime::http::{Url, fetch};
use runtime::io::AsyncWriteExt;
use runtime::net::{Address, Stream, connect};
use runtime::{Either, Notify, Stop, clock, join_all, race, spawn, timer};

use catalogue::Catalogue;
use limits::{ANSWER_BYTES_MAX, ANSWER_TIME_MAX};
use limits::{LOOKUP_BYTES_MAX, LOOKUP_CHANNELS_MAX, LOOKUP_TIME_MAX};
use link::Link;

/// Tells all topics with their channels as they are now.
pub(crate) type CatalogueSource = Rc<dyn Fn() -> Vec<(TopicName, Vec<ChannelName>)>>;

/// What IDENTIFY tells a lookupd, and it tells consumers: they connect to
/// `broadcast_address:tcp_port`.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) broadcast_address: String,
    pub(crate) hostname: String,
    /// Not zero, or lookupds refuse us.
    pub(crate) tcp_port: u16,
    /// Not zero, or lookupds refuse us.
    pub(crate) http_port: u16,
    /// Of NSQ's protocol, plain semver.
    pub(crate) version: String,
}

/// The links to all lookupds.
pub(crate) struct Registration {
    addresses: Vec<String>,
    identity: PeerInfo,
    source: CatalogueSource,
    changed: Notify,
    lookup: Lookup,
}

/// A handle on what the lookupds know. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    peers: RefCell<Vec<PeerState>>,
    /// Requested when every link's first attempt has ended, well or badly.
    settled: Stop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PeerState {
    /// The first attempt is under way.
    Starting,
    /// Here its HTTP is: where we reached it, and what it says of itself.
    Up(Vec<Address>),
    Down,
}

impl Registration {
    /// Links to `addresses`, TCP addresses of lookupds. One that is no address is logged by
    /// [`Registration::run`] and left out.
    pub(crate) fn new(
        addresses: Vec<String>,
        identity: Identity,
        source: CatalogueSource,
        changed: Notify,
    ) -> Registration {
        let peers = RefCell::new(vec![PeerState::Starting; addresses.len()]);
        let shared = Rc::new(Shared {
            peers,
            settled: Stop::new(),
        });
        shared.settle();
        let identity = PeerInfo {
            broadcast_address: identity.broadcast_address,
            hostname: identity.hostname,
            tcp_port: i32::from(identity.tcp_port),
            http_port: i32::from(identity.http_port),
            version: identity.version,
        };
        Registration {
            addresses,
            identity,
            source,
            changed,
            lookup: Lookup { shared },
        }
    }

    /// To ask the lookupds with, before and while [`Registration::run`] runs.
    pub(crate) fn lookup(&self) -> Lookup {
        self.lookup.clone()
    }

    /// Serves all links until `stop`. Then they are just closed, which is how lookupds learn that
    /// we are gone.
    pub(crate) async fn run(self, stop: Stop) {
        let wanted = Rc::new(RefCell::new(Rc::new(Catalogue::new((self.source)()))));
        let mut serving = Vec::new();
        for (index, text) in self.addresses.iter().enumerate() {
            let shared = Rc::clone(&self.lookup.shared);
            let address = match text.parse() {
                Ok(address) => address,
                Err(error) => {
                    log::error!("lookupd: {error}");
                    shared.set(index, PeerState::Down);
                    continue;
                }
            };
            let host = LinkHost {
                link: Link::new(self.identity.clone(), seed(text)),
                address,
                index,
                shared,
                wanted: Rc::clone(&wanted),
                changed: Notify::new(),
                failure_logged: false,
            };
            let changed = host.changed.clone();
            serving.push((changed, spawn(host.serve())));
        }
        while let Either::Right(()) = race(stop.requested(), self.changed.notified()).await {
            // All links share one copy of the names.
            *wanted.borrow_mut() = Rc::new(Catalogue::new((self.source)()));
            for (changed, _) in &serving {
                changed.notify();
            }
        }
        // Dropping the tasks closes the links.
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Lookup {
    /// The channels, save ephemeral ones, that the lookupds know of `topic`: a new topic gets them
    /// before its first message. All lookupds are asked at once and the answers are merged; whoever
    /// has not answered within 2 s, or is away, is passed over.
    pub(crate) async fn channels(&self, topic: &TopicName) -> Vec<ChannelName> {
        let deadline = clock::now() + LOOKUP_TIME_MAX;
        // Just after the start the links are on their way.
        let _unsettled = timer::timeout_at(deadline, self.shared.settled.requested()).await;
        let peers = self.shared.peers.borrow().clone();
        let asking = peers.into_iter().filter_map(|peer| match peer {
            PeerState::Up(addresses) => Some(ask_either(addresses, topic, deadline)),
            PeerState::Starting | PeerState::Down => None,
        });
        let mut channels: Vec<ChannelName> = Vec::new();
        for name in join_all(asking).await.into_iter().flatten() {
            if channels.len() < LOOKUP_CHANNELS_MAX && !name.is_ephemeral() {
                channels.push(name);
            }
        }
        channels.sort();
        channels.dedup();
        channels
    }
}

impl Shared {
    fn set(&self, index: usize, state: PeerState) {
        if let Some(peer) = self.peers.borrow_mut().get_mut(index) {
            *peer = state;
        }
        self.settle();
    }

    fn settle(&self) {
        if !self.peers.borrow().contains(&PeerState::Starting) {
            self.settled.request();
        }
    }
}

/// One lookupd's task.
struct LinkHost {
    link: Link,
    address: Address,
    index: usize,
    shared: Rc<Shared>,
    wanted: Rc<RefCell<Rc<Catalogue>>>,
    changed: Notify,
    /// A failure is logged when it begins, not at every retry: an uplink may be away for days.
    failure_logged: bool,
}

impl LinkHost {
    async fn serve(mut self) {
        loop {
            let error = match connect(&self.address, ANSWER_TIME_MAX).await {
                Ok(stream) => match self.converse(stream).await {
                    Ok(never) => match never {},
                    Err(error) => error,
                },
                Err(error) => error.into(),
            };
            self.shared.set(self.index, PeerState::Down);
            if !std::mem::replace(&mut self.failure_logged, true) {
                log::warn!("lookupd {}: {error}; trying again", self.address);
            }
            let retry_at = self.link.disconnected(clock::now());
            timer::sleep_until(retry_at).await;
        }
    }

    /// Speaks over one connection, until it breaks.
    async fn converse(&mut self, mut stream: Stream) -> Result<std::convert::Infallible, LinkEnd> {
        let (mut input, mut output) = (Vec::new(), Vec::new());
        self.link.connected(clock::now(), &mut output);
        loop {
            let wanted = Rc::clone(&self.wanted.borrow());
            self.link.poll_output(clock::now(), &wanted, &mut output);
            drop(wanted);
            if !output.is_empty() {
                timer::timeout(ANSWER_TIME_MAX, stream.write_all(&output))
                    .await
                    .map_err(std::io::Error::from)??;
                output = Vec::new();
            }
            let until = self.link.poll_timeout();
            let read = timer::timeout_at(until, stream.read_into(&mut input, INPUT_BYTES_MAX));
            match race(read, self.changed.notified()).await {
                Either::Left(Ok(read)) => {
                    if read? == 0 {
                        return Err(LinkEnd::Closed);
                    }
                    let handled = self.link.handle_bytes(clock::now(), &input)?;
                    input.drain(..handled.consumed);
                    if input.is_empty() {
                        input = Vec::new();
                    }
                    if handled.identified {
                        self.found(handled.lookupd.as_ref());
                    }
                }
                Either::Left(Err(timer::TimedOut)) => self.link.handle_timeout(clock::now())?,
                Either::Right(()) => {}
            }
        }
    }

    /// The link works, and the lookupd said where its HTTP is, unless it is an old one. Besides the
    /// address that it tells, which in the field is often one that only its own site can resolve, the
    /// one that we have just reached it at is worth a try.
    fn found(&mut self, lookupd: Option<&PeerInfo>) {
        self.failure_logged = false;
        match lookupd {
            Some(PeerInfo {
                broadcast_address,
                http_port,
                version,
                ..
            }) => log::info!(
                "lookupd {}: connected; version {version}, HTTP at {broadcast_address}:{http_port}",
                self.address
            ),
            None => log::info!(
                "lookupd {}: connected; it does not say who it is",
                self.address
            ),
        }
        let mut addresses = Vec::new();
        if let Some((told, Ok(port))) = lookupd.map(|it| (it, u16::try_from(it.http_port))) {
            if let Address::Tcp { host, .. } = &self.address {
                addresses.push(Address::Tcp {
                    host: host.clone(),
                    port,
                });
            }
            let told = Address::Tcp {
                host: told.broadcast_address.clone(),
                port,
            };
            if !addresses.contains(&told) {
                addresses.push(told);
            }
        }
        self.shared.set(self.index, PeerState::Up(addresses));
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkEnd {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Connect(#[from] runtime::net::ConnectError),
    #[error("{0}")]
    Link(#[from] link::LinkError),
    #[error("it closed the connection")]
    Closed,
}

/// Answers that are worth reading at once; one is never longer than its bound and four bytes.
const INPUT_BYTES_MAX: usize = ANSWER_BYTES_MAX as usize + 4;

/// Asks one lookupd at all its addresses at once; the first good answer counts.
async fn ask_either(
    addresses: Vec<Address>,
    topic: &TopicName,
    deadline: Duration,
) -> Vec<ChannelName> {
    let found = RefCell::new(None);
    let answered = Stop::new();
    let asking = join_all(addresses.into_iter().map(async |address| {
        match timer::timeout_at(deadline, ask(address, topic)).await {
            Ok(Ok(channels)) => {
                *found.borrow_mut() = Some(channels);
                answered.request();
            }
            Ok(Err(error)) => log::debug!("channels of {topic}: {error}"),
            Err(timer::TimedOut) => log::warn!("channels of {topic}: no answer in time"),
        }
    }));
    race(asking, answered.requested()).await;
    found.take().unwrap_or_default()
}

async fn ask(address: Address, topic: &TopicName) -> Result<Vec<ChannelName>, String> {
    // Of all that a name may have in it, only this is not for a URL.
    let target = format!("/channels?topic={}", topic.as_str().replace('#', "%23"));
    let url = Url::new(address, &target).map_err(|error| error.to_string())?;
    let headers = [("Accept", "application/vnd.nsq; version=1.0")];
    let fetched = fetch(
        "GET",
        &url,
        &headers,
        Vec::new(),
        LOOKUP_TIME_MAX,
        LOOKUP_BYTES_MAX,
    )
    .await
    .map_err(|error| error.to_string())?;
    if fetched.status != 200 {
        return Err(format!("{url} answered {}", fetched.status));
    }
    let answer: ChannelsAnswer = serde_json::from_slice(&fetched.body)
        .map_err(|error| format!("{url} answered what is no list of channels: {error}"))?;
    let valid = answer.channels.iter().filter_map(|name| name.parse().ok());
    Ok(valid.collect())
}

/// Differs between links and between starts, so that gateways that come back together do not stay
/// together.
fn seed(address: &str) -> u64 {
    // FNV-1a over the address, begun with the time since boot in nanoseconds.
    let start = clock::now().as_nanos() as u64 ^ 0xcbf2_9ce4_8422_2325;
    address.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
