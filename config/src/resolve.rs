//! From the words of the file to options: every bound, every relation.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use protocol::names::{ChannelName, TopicName};

use crate::duration::{Span, format_duration};
use crate::error::ConfigError;
use crate::file::{Config, Route};
use crate::limits;
use crate::memory::MemoryEstimate;
use crate::options::{
    BrokerOptions, Environment, ForwarderOptions, InitialChannel, LogOptions, LookupdOptions,
    Options, RouteOptions, StorageOptions,
};
use crate::size::{Bytes, format_bytes};

/// What a batch of one largest message needs beside the body, generously: a page.
const BATCH_OVERHEAD_BYTES: u32 = 4096;

/// The store's directory when neither the file nor systemd names one.
const DATA_PATH_FALLBACK: &str = "nsq-edge-data";

impl Config {
    /// Checks everything and gives the options of all daemons.
    ///
    /// # Errors
    /// A value is out of its bounds, by itself or beside another; the error names the key, the value
    /// and the bound.
    pub fn resolve(&self, environment: &Environment) -> Result<Options, ConfigError> {
        let forwarder = self.forwarder(environment)?;
        let broker = self.broker(environment, &forwarder)?;
        let lookupd = self.lookupd(environment)?;
        let memory = MemoryEstimate::new(&broker, &lookupd, &forwarder);
        let max = bytes("memory.max", self.memory.max, &limits::MEMORY_BYTES)?;
        if memory.bytes() > max {
            let bound =
                format!("the worst case is {memory}: raise it, or lower what it is made of");
            return Err(bad("memory.max", self.memory.max, bound));
        }
        let log = LogOptions {
            level: self.log.level,
            prefix: self.log.prefix.clone(),
        };
        Ok(Options {
            broker,
            lookupd,
            forwarder,
            log,
            memory,
        })
    }

    /// Raises what must be larger for the sizes of messages that were asked for, and `memory.max` to
    /// what results: for the drop-in names, whose flags speak of messages and know no segments.
    pub(crate) fn fit(&mut self) {
        let message = self
            .broker
            .message_bytes_max
            .0
            .min(*limits::MESSAGE_BYTES.end());
        let one = message + u64::from(BATCH_OVERHEAD_BYTES);
        let largest = one.max(self.broker.body_bytes_max.0.min(*limits::BODY_BYTES.end()));
        let segment = segment_bytes_min(message).next_multiple_of(1 << 20);
        self.segment.bytes = self.segment.bytes.max(Bytes(segment));
        self.memory.bodies = self.memory.bodies.max(Bytes(largest));
        self.memory.pending = self.memory.pending.max(Bytes(largest));
        self.broker.msg_timeout_max = self.broker.msg_timeout_max.max(self.broker.msg_timeout);
        let mut all = self.clone();
        all.memory.max = Bytes(*limits::MEMORY_BYTES.end());
        if let Ok(options) = all.resolve(&Environment::default()) {
            let needed = options.memory.bytes().next_multiple_of(1 << 20);
            self.memory.max = self.memory.max.max(Bytes(needed));
        }
    }

    fn broker(
        &self,
        environment: &Environment,
        forwarder: &ForwarderOptions,
    ) -> Result<BrokerOptions, ConfigError> {
        let own = &self.broker;
        let storage = self.storage()?;
        let (msg_timeout, msg_timeout_max) = ordered(
            ("broker.msg_timeout", own.msg_timeout),
            ("broker.msg_timeout_max", own.msg_timeout_max),
            &limits::MSG_TIMEOUT_MS,
        )?;
        let (output_buffer_timeout_min, output_buffer_timeout_max) = ordered(
            (
                "broker.output_buffer_timeout_min",
                own.output_buffer_timeout_min,
            ),
            (
                "broker.output_buffer_timeout_max",
                own.output_buffer_timeout_max,
            ),
            &limits::OUTPUT_BUFFER_TIMEOUT_MS,
        )?;
        let lookupds = &own.lookupd_tcp_addresses;
        count(
            "broker.lookupd_tcp_addresses",
            lookupds.len(),
            &limits::LOOKUPDS,
        )?;
        for lookupd in lookupds {
            dial_address("broker.lookupd_tcp_addresses", lookupd)?;
        }
        Ok(BrokerOptions {
            data_path: self.data_path(environment),
            tcp_address: listen_address("broker.tcp_address", &own.tcp_address)?,
            http_address: listen_address("broker.http_address", &own.http_address)?,
            broadcast_address: or_hostname(
                "broker.broadcast_address",
                &own.broadcast_address,
                environment,
            )?,
            broadcast_tcp_port: Some(own.broadcast_tcp_port).filter(|port| *port != 0),
            broadcast_http_port: Some(own.broadcast_http_port).filter(|port| *port != 0),
            lookupd_tcp_addresses: lookupds.clone(),
            message_bytes_max: storage.message_bytes_max,
            body_bytes_max: bytes_u32(
                "broker.body_bytes_max",
                own.body_bytes_max,
                &limits::BODY_BYTES,
            )?,
            msg_timeout,
            msg_timeout_max,
            req_timeout_max: span(
                "broker.req_timeout_max",
                own.req_timeout_max,
                &limits::REQ_TIMEOUT_MS,
            )?,
            rdy_count_max: number(
                "broker.rdy_count_max",
                own.rdy_count_max,
                &limits::RDY_COUNT,
            )?,
            heartbeat_interval_max: span(
                "broker.heartbeat_interval_max",
                own.heartbeat_interval_max,
                &limits::HEARTBEAT_INTERVAL_MS,
            )?,
            output_buffer_bytes_max: bytes_u32(
                "broker.output_buffer_bytes_max",
                own.output_buffer_bytes_max,
                &limits::OUTPUT_BUFFER_BYTES,
            )?,
            output_buffer_timeout_min,
            output_buffer_timeout_max,
            connections_max: number(
                "broker.connections_max",
                own.connections_max,
                &limits::CONNECTIONS,
            )?,
            bodies_bytes_max: self.pool("memory.bodies", self.memory.bodies)?,
            initial_channels: forwarder
                .routes
                .iter()
                .filter(|route| route.is_local())
                .map(|route| InitialChannel {
                    topic: route.topic.clone(),
                    channel: route.channel.clone(),
                })
                .collect(),
            storage,
        })
    }

    fn storage(&self) -> Result<StorageOptions, ConfigError> {
        let own = &self.broker;
        let message_bytes_max = bytes_u32(
            "broker.message_bytes_max",
            own.message_bytes_max,
            &limits::MESSAGE_BYTES,
        )?;
        let body_bytes_max = bytes_u32(
            "broker.body_bytes_max",
            own.body_bytes_max,
            &limits::BODY_BYTES,
        )?;
        let segment_bytes = whole(
            "segment.bytes",
            self.segment.bytes,
            &limits::SEGMENT_BYTES,
            limits::PAGE_BYTES,
        )?;
        let least = segment_bytes_min(u64::from(message_bytes_max));
        if segment_bytes < least {
            let bound = format!(
                "must be at least {}: a segment holds two largest messages \
                 (broker.message_bytes_max = {})",
                format_bytes(least),
                own.message_bytes_max
            );
            return Err(bad("segment.bytes", self.segment.bytes, bound));
        }
        Ok(StorageOptions {
            ring_bytes: whole(
                "ring.bytes",
                self.ring.bytes,
                &limits::RING_BYTES,
                limits::RING_BYTES_UNIT,
            )?,
            segment_bytes,
            message_bytes_max,
            // A PUB may be as large as a message, an MPUB as a body.
            batch_bytes_max: body_bytes_max.max(message_bytes_max + BATCH_OVERHEAD_BYTES),
            topics_max: number("broker.topics_max", own.topics_max, &limits::TOPICS)?,
            channels_max: number("broker.channels_max", own.channels_max, &limits::CHANNELS)?,
            outstanding_max: number(
                "broker.outstanding_max",
                own.outstanding_max,
                &limits::OUTSTANDING,
            )?,
            cache_bytes: bytes_u32("cache.bytes", self.cache.bytes, &limits::CACHE_BYTES)?,
            pending_bytes_max: self.pool("memory.pending", self.memory.pending)?,
        })
    }

    /// A pool must hold the largest body, or that body could never be taken.
    fn pool(&self, key: &str, value: Bytes) -> Result<u32, ConfigError> {
        let size = bytes_u32(key, value, &limits::POOL_BYTES)?;
        let message = self.broker.message_bytes_max;
        let one_message = Bytes(message.0.saturating_add(u64::from(BATCH_OVERHEAD_BYTES)));
        for (other, largest, least) in [
            (
                "broker.body_bytes_max",
                self.broker.body_bytes_max,
                self.broker.body_bytes_max,
            ),
            ("broker.message_bytes_max", message, one_message),
        ] {
            if value < least {
                let bound = format!("must be at least {least}, to hold {other} ({largest})");
                return Err(bad(key, value, bound));
            }
        }
        Ok(size)
    }

    fn lookupd(&self, environment: &Environment) -> Result<LookupdOptions, ConfigError> {
        let own = &self.lookupd;
        Ok(LookupdOptions {
            tcp_address: listen_address("lookupd.tcp_address", &own.tcp_address)?,
            http_address: listen_address("lookupd.http_address", &own.http_address)?,
            broadcast_address: or_hostname(
                "lookupd.broadcast_address",
                &own.broadcast_address,
                environment,
            )?,
            inactive_producer_timeout: span(
                "lookupd.inactive_producer_timeout",
                own.inactive_producer_timeout,
                &limits::LOOKUPD_TIMEOUT_MS,
            )?,
            tombstone_lifetime: span(
                "lookupd.tombstone_lifetime",
                own.tombstone_lifetime,
                &limits::LOOKUPD_TIMEOUT_MS,
            )?,
            connections_max: number(
                "lookupd.connections_max",
                own.connections_max,
                &limits::CONNECTIONS,
            )?,
        })
    }

    fn forwarder(&self, environment: &Environment) -> Result<ForwarderOptions, ConfigError> {
        let own = &self.forwarder;
        count("forwarder.route", own.routes.len(), &limits::ROUTES)?;
        let mut routes: Vec<RouteOptions> = Vec::with_capacity(own.routes.len());
        for (index, route) in own.routes.iter().enumerate() {
            let at = format!("forwarder.route[{index}]");
            let route = resolve_route(&at, route, environment)?;
            let taken =
                |other: &RouteOptions| other.topic == route.topic && other.channel == route.channel;
            if routes.iter().any(taken) {
                let bound =
                    "another route has this topic and channel: give it a channel of its own";
                return Err(bad(
                    &format!("{at}.channel"),
                    quoted(route.channel.as_str()),
                    bound,
                ));
            }
            routes.push(route);
        }
        Ok(ForwarderOptions {
            nsqd_tcp_address: dial_address("forwarder.nsqd_tcp_address", &own.nsqd_tcp_address)?,
            message_bytes_max: bytes_u32(
                "broker.message_bytes_max",
                self.broker.message_bytes_max,
                &limits::MESSAGE_BYTES,
            )?,
            routes,
        })
    }

    fn data_path(&self, environment: &Environment) -> PathBuf {
        if !self.data_path.is_empty() {
            return PathBuf::from(&self.data_path);
        }
        let state = environment
            .state_directory
            .as_deref()
            .and_then(|all| all.split(':').next());
        match state {
            Some(directory) if !directory.is_empty() => PathBuf::from(directory),
            _ => PathBuf::from(DATA_PATH_FALLBACK),
        }
    }
}

fn resolve_route(
    at: &str,
    route: &Route,
    environment: &Environment,
) -> Result<RouteOptions, ConfigError> {
    let key = |name: &str| format!("{at}.{name}");
    let upstream_topic = if route.upstream_topic.is_empty() {
        &route.topic
    } else {
        &route.upstream_topic
    };
    count(&key("upstream"), route.upstream.len(), &limits::UPSTREAMS)?;
    for (index, upstream) in route.upstream.iter().enumerate() {
        dial_address(&key("upstream"), upstream)?;
        if route
            .upstream
            .iter()
            .take(index)
            .any(|earlier| earlier == upstream)
        {
            return Err(bad(&key("upstream"), quoted(upstream), "is there twice"));
        }
    }
    count(&key("sources"), route.sources.len(), &limits::SOURCES)?;
    for source in &route.sources {
        dial_address(&key("sources"), source)?;
    }
    count(
        &key("source_lookupds"),
        route.source_lookupds.len(),
        &limits::LOOKUPDS,
    )?;
    let lookupds = route.source_lookupds.iter();
    let source_lookupds = lookupds
        .map(|lookupd| lookupd_url(&key("source_lookupds"), lookupd))
        .collect::<Result<Vec<_>, _>>()?;
    let (backoff_min, backoff_max) = ordered(
        (&key("backoff_min"), route.backoff_min),
        (&key("backoff_max"), route.backoff_max),
        &limits::BACKOFF_MS,
    )?;
    Ok(RouteOptions {
        hostname: environment.hostname.clone(),
        topic: topic(&key("topic"), &route.topic)?,
        channel: ChannelName::new(&route.channel)
            .map_err(|error| bad(&key("channel"), quoted(&route.channel), error))?,
        sources: route.sources.clone(),
        source_lookupds,
        upstream: route.upstream.clone(),
        upstream_topic: topic(&key("upstream_topic"), upstream_topic)?,
        batch_count: number(&key("batch_count"), route.batch_count, &limits::BATCH_COUNT)?,
        batch_bytes: bytes_u32(&key("batch_bytes"), route.batch_bytes, &limits::BATCH_BYTES)?,
        batch_age: span(&key("batch_age"), route.batch_age, &limits::BATCH_AGE_MS)?,
        in_flight_batches: number(
            &key("in_flight_batches"),
            route.in_flight_batches,
            &limits::IN_FLIGHT_BATCHES,
        )?,
        backoff_min,
        backoff_max,
    })
}

/// The smallest segment for a largest message.
const fn segment_bytes_min(message_bytes_max: u64) -> u64 {
    let least = 2 * (message_bytes_max + limits::RECORD_OVERHEAD_BYTES);
    least.next_multiple_of(limits::PAGE_BYTES)
}

fn bad(key: &str, value: impl Display, bound: impl Display) -> ConfigError {
    ConfigError::Bound {
        key: key.to_owned(),
        value: value.to_string(),
        bound: bound.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn between(range: &RangeInclusive<u64>, format: impl Fn(u64) -> String) -> String {
    format!(
        "must be {}..={}",
        format(*range.start()),
        format(*range.end())
    )
}

fn bytes(key: &str, value: Bytes, range: &RangeInclusive<u64>) -> Result<u64, ConfigError> {
    if range.contains(&value.0) {
        return Ok(value.0);
    }
    Err(bad(key, value, between(range, format_bytes)))
}

/// A size that is a multiple of a unit.
fn whole(
    key: &str,
    value: Bytes,
    range: &RangeInclusive<u64>,
    unit: u64,
) -> Result<u64, ConfigError> {
    let size = bytes(key, value, range)?;
    if size % unit != 0 {
        return Err(bad(
            key,
            value,
            format!("must be a multiple of {}", format_bytes(unit)),
        ));
    }
    Ok(size)
}

fn bytes_u32(key: &str, value: Bytes, range: &RangeInclusive<u64>) -> Result<u32, ConfigError> {
    let size = bytes(key, value, range)?;
    u32::try_from(size).map_err(|_| bad(key, value, "must be less than 4GiB"))
}

fn number(key: &str, value: u32, range: &RangeInclusive<u64>) -> Result<u32, ConfigError> {
    if range.contains(&u64::from(value)) {
        return Ok(value);
    }
    Err(bad(key, value, between(range, |bound| bound.to_string())))
}

/// Bounds of the number of a list's entries.
fn count(key: &str, entries: usize, range: &RangeInclusive<u64>) -> Result<(), ConfigError> {
    if u64::try_from(entries).is_ok_and(|entries| range.contains(&entries)) {
        return Ok(());
    }
    let bound = format!("{} entries", between(range, |bound| bound.to_string()));
    Err(bad(key, format_args!("[{entries} entries]"), bound))
}

/// Bounds in whole milliseconds; the value itself may be finer.
fn span(key: &str, value: Span, range: &RangeInclusive<u64>) -> Result<Duration, ConfigError> {
    let (start, end) = (
        Duration::from_millis(*range.start()),
        Duration::from_millis(*range.end()),
    );
    if (start..=end).contains(&value.0) {
        return Ok(value.0);
    }
    let bound = between(range, |ms| format_duration(Duration::from_millis(ms)));
    Err(bad(key, value, bound))
}

/// Two times of which the first is not above the second.
fn ordered(
    (low_key, low): (&str, Span),
    (high_key, high): (&str, Span),
    range: &RangeInclusive<u64>,
) -> Result<(Duration, Duration), ConfigError> {
    let both = (span(low_key, low, range)?, span(high_key, high, range)?);
    if low > high {
        let bound = format!("must be at most {high_key} ({high})");
        return Err(bad(low_key, low, bound));
    }
    Ok(both)
}

fn topic(key: &str, name: &str) -> Result<TopicName, ConfigError> {
    TopicName::new(name).map_err(|error| bad(key, quoted(name), error))
}

/// A host without its port, as others will dial it.
fn or_hostname(key: &str, address: &str, environment: &Environment) -> Result<String, ConfigError> {
    const BOUND: &str = "must be a host's name or address, without port";
    if address.is_empty() {
        return Ok(environment.hostname.clone());
    }
    let is_host = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '\\');
    // One colon is a port; an IPv6 address has more.
    if address.chars().all(is_host) && address.matches(':').count() != 1 {
        Ok(address.to_owned())
    } else {
        Err(bad(key, quoted(address), BOUND))
    }
}

/// What can be listened on: `host:port`, `:port`, or the path of a unix socket.
fn listen_address(key: &str, address: &str) -> Result<String, ConfigError> {
    const BOUND: &str = "must be host:port, :port or the path of a unix socket";
    if is_unix(address) {
        return Ok(address.to_owned());
    }
    match split_port(address) {
        Some(_) => Ok(address.to_owned()),
        None => Err(bad(key, quoted(address), BOUND)),
    }
}

/// What can be connected to: as [`listen_address`], but with a host and a port.
fn dial_address(key: &str, address: &str) -> Result<String, ConfigError> {
    const BOUND: &str = "must be host:port or the path of a unix socket";
    if is_unix(address) {
        return Ok(address.to_owned());
    }
    match split_port(address) {
        Some((host, port)) if !host.is_empty() && port != 0 => Ok(address.to_owned()),
        _ => Err(bad(key, quoted(address), BOUND)),
    }
}

/// `host:port` as NSQ's programs take it, or a whole URL; the answer is a URL.
fn lookupd_url(key: &str, text: &str) -> Result<String, ConfigError> {
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    match split_port(host) {
        Some((name, port)) if !name.is_empty() && port != 0 => Ok(format!("http://{rest}")),
        _ => Err(bad(
            key,
            quoted(text),
            "must be host:port or http://host:port",
        )),
    }
}

fn is_unix(address: &str) -> bool {
    address.contains('/')
        || address
            .strip_prefix("unix:")
            .is_some_and(|path| !path.is_empty())
}

fn split_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.contains([':', '[', ']', '/', ' ']);
    (bracketed || plain).then_some(())?;
    Some((host, port.parse().ok()?))
}
