//! Relays local channels to upstream nsqd: routes, uplinks, windows, backoff.
//!
//! A route is an ordinary consumer of a local channel with an uplink: it gathers messages into
//! batches, publishes them upstream with several batches in flight, and finishes a message when the
//! upstream has answered for its batch. It keeps no store: what is not finished is the local
//! broker's, and comes again. So a message may arrive twice, and none is lost.
//!
//! The rules are in [`route::RouteCore`], without I/O; [`Forwarder`] runs one per route.

mod batch;
mod limits;
pub mod route;

use std::time::Duration;

use client::host::Host;
use client::limits::LINKS_MAX;
use config::{ForwarderOptions, RouteOptions};
use log::info;
use runtime::net::{Address, AddressError};
use runtime::{Stop, join_all, timer};

use crate::limits::{ANSWERS_TIME_MAX, LAST_WORDS_TIME_MAX, REPORT_INTERVAL};
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
    routes: Vec<RouteCore>,
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
            let source = parse(&options.nsqd_tcp_address)?;
            let upstream = route
                .upstream
                .iter()
                .map(parse)
                .collect::<Result<Vec<_>, _>>()?;
            let mut core = RouteCore::new(route, options.message_bytes_max, seed);
            core.set_sources(Duration::ZERO, [source]);
            core.set_upstreams(Duration::ZERO, upstream);
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

/// Bytes of messages that all routes hold at most, for the worst case of a process.
pub fn held_bytes_max(options: &ForwarderOptions) -> u64 {
    let held = |route: &RouteOptions| route::held_bytes_max(route, options.message_bytes_max);
    options.routes.iter().map(held).sum()
}

async fn run_route(core: RouteCore, stop: Stop) {
    let name = core.name().to_owned();
    let drained = std::rc::Rc::new(runtime::Notify::new());
    let tell = std::rc::Rc::clone(&drained);
    let host = Host::new(core, move |core: &mut RouteCore| {
        if core.is_drained() {
            tell.notify();
        }
    });
    let mut reported = host.look(RouteCore::counters);
    while !stop.is_requested() {
        let pause = timer::timeout(REPORT_INTERVAL, stop.requested()).await;
        let counters = host.look(RouteCore::counters);
        if pause.is_err() && counters != reported {
            info!("route {name}: {counters}");
            reported = counters;
        }
    }
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
