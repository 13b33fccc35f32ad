//! Relays local channels to upstream nsqd: routes, uplinks, windows, backoff.
//!
//! A route is an ordinary consumer of a local channel with an uplink: it gathers messages into
//! batches, publishes them upstream with several batches in flight, and finishes a message when the
//! upstream has answered for its batch. It keeps no store: what is not finished is the local
//! broker's, and comes again. So a message may arrive twice, and none is lost.
//!
//! The rules are in [`route::RouteCore`], without I/O; [`Forwarder`] runs one per route.

mod batch;
mod counters;
mod limits;
mod refusal;
pub mod route;

use std::rc::Rc;
use std::time::Duration;

use client::discovery::Discovery;
use client::host::Host;
use client::limits::LINKS_MAX;
use config::ForwarderOptions;
use log::info;
use protocol::names::TopicName;
use runtime::http::{Url, UrlError};
use runtime::net::{Address, AddressError};
use runtime::{Notify, Stop, join_all, race, timer};

use crate::limits::{ANSWERS_TIME_MAX, LAST_WORDS_TIME_MAX, LOOKUP_INTERVAL, REPORT_INTERVAL};
use crate::route::RouteCore;

/// Why a forwarder cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    /// An address that cannot be one.
    #[error("route {route}: {error}")]
    Address {
        /// `topic/channel`.
        route: String,
        /// What is wrong with it.
        error: AddressError,
    },
    /// An address of a lookupd that cannot be one.
    #[error("route {route}: {error}")]
    Lookupd {
        /// `topic/channel`.
        route: String,
        /// What is wrong with it.
        error: UrlError,
    },
    /// More upstreams than a route may have.
    #[error("route {route}: {count} upstreams, at most {LINKS_MAX}")]
    Upstreams {
        /// `topic/channel`.
        route: String,
        /// As given.
        count: usize,
    },
}

/// All routes of one process.
#[derive(Debug)]
pub struct Forwarder {
    routes: Vec<Relay>,
}

/// A route before it runs.
#[derive(Debug)]
struct Relay {
    core: RouteCore,
    /// Sources that are named.
    fixed: Vec<Address>,
    /// Who knows others.
    discovery: Option<Search>,
}

#[derive(Debug)]
struct Search {
    discovery: Discovery,
    topic: TopicName,
}

impl Forwarder {
    /// Checks the routes; nothing is connected yet. `seed` makes the jitter of this process differ
    /// from that of others.
    ///
    /// # Errors
    /// See [`ForwarderError`].
    pub fn bind(options: &ForwarderOptions, seed: u64) -> Result<Self, ForwarderError> {
        let mut routes = Vec::with_capacity(options.routes.len());
        for (route, seed) in options.routes.iter().zip(seed..) {
            let name = format!("{}/{}", route.topic, route.channel);
            let parse = |text: &String| {
                let error = |error| ForwarderError::Address {
                    route: name.clone(),
                    error,
                };
                text.parse::<Address>().map_err(error)
            };
            if route.upstream.len() > LINKS_MAX {
                let count = route.upstream.len();
                return Err(ForwarderError::Upstreams { route: name, count });
            }
            let upstream = route
                .upstream
                .iter()
                .map(parse)
                .collect::<Result<Vec<_>, _>>()?;
            let mut sources = route
                .sources
                .iter()
                .map(parse)
                .collect::<Result<Vec<_>, _>>()?;
            if route.is_local() {
                sources.push(parse(&options.nsqd_tcp_address)?);
            }
            let lookupd = |text: &String| {
                let error = |error| ForwarderError::Lookupd {
                    route: name.clone(),
                    error,
                };
                text.parse::<Url>().map_err(error)
            };
            let lookupds = route
                .source_lookupds
                .iter()
                .map(lookupd)
                .collect::<Result<Vec<_>, _>>()?;
            let mut core = RouteCore::new(route, options.message_bytes_max, seed);
            core.set_sources(Duration::ZERO, sources.iter().cloned());
            core.set_upstreams(Duration::ZERO, upstream);
            let topic = route.topic.clone();
            let discovery = (!lookupds.is_empty()).then(|| Search {
                discovery: Discovery::new(lookupds, LOOKUP_INTERVAL, seed),
                topic,
            });
            let core = Relay {
                core,
                discovery,
                fixed: sources,
            };
            routes.push(core);
        }
        Ok(Self { routes })
    }

    /// Relays until `stop`, then waits a little for the answers of what is under way and gives
    /// everything else back to its broker.
    pub async fn run(self, stop: Stop) {
        join_all(
            self.routes
                .into_iter()
                .map(|route| run_route(route, stop.clone())),
        )
        .await;
    }
}

async fn run_route(relay: Relay, stop: Stop) {
    let Relay {
        core,
        fixed,
        discovery,
    } = relay;
    let name = core.name().to_owned();
    let drained = Rc::new(Notify::new());
    let tell = Rc::clone(&drained);
    let host = Host::new(core, move |core: &mut RouteCore| {
        if core.is_drained() {
            tell.notify();
        }
    });
    let finding = async {
        match discovery {
            Some(search) => look_up(&host, search, &fixed).await,
            None => std::future::pending().await,
        }
    };
    race(stop.requested(), race(finding, report(&host, &name))).await;
    host.with(|core, now| core.begin_close(now));
    if timer::timeout(ANSWERS_TIME_MAX, drained.notified())
        .await
        .is_err()
    {
        info!("route {name}: an upstream did not answer in time, its messages will come again");
    }
    host.with(|core, _| core.close());
    // The last FINs leave; a peer that does not take them has had its time.
    let _late = timer::timeout(LAST_WORDS_TIME_MAX, host.idle()).await;
    info!("route {name}: {}", host.look(RouteCore::counters));
}

/// Says from time to time what was done, for ever.
async fn report(host: &Host<RouteCore>, name: &str) {
    let mut reported = host.look(RouteCore::counters);
    loop {
        timer::sleep(REPORT_INTERVAL).await;
        let counters = host.look(RouteCore::counters);
        if counters != reported {
            info!("route {name}: {counters}");
            reported = counters;
        }
    }
}

/// Keeps the sources as the lookupds know them, for ever.
async fn look_up(host: &Host<RouteCore>, mut search: Search, fixed: &[Address]) {
    loop {
        // Without an answer the sources that are known stay.
        if let Some(found) = search.discovery.find(&search.topic).await {
            host.with(|core, now| core.set_sources(now, fixed.iter().cloned().chain(found)));
        }
        timer::sleep(search.discovery.pause()).await;
    }
}
