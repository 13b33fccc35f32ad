//! The validated options that daemons take: plain structs, units in the names or in the type.

use std::path::PathBuf;
use std::time::Duration;

use protocol::names::{ChannelName, TopicName};

use crate::memory::MemoryEstimate;

/// Everything that one [`Config`](crate::Config) says, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The broker's options.
    pub broker: BrokerOptions,
    /// The registry's options.
    pub lookupd: LookupdOptions,
    /// The relay's options.
    pub forwarder: ForwarderOptions,
    /// What is logged.
    pub log: LogOptions,
    /// The worst case of what the daemons may hold in memory.
    pub memory: MemoryEstimate,
}

/// What the surroundings say, so that resolving reads neither environment nor system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `$STATE_DIRECTORY`, which systemd sets to the unit's `StateDirectory=`. Of several, separated
    /// by colons, the first counts.
    pub state_directory: Option<String>,
    /// The name of this machine, the default of every `broadcast_address`.
    pub hostname: String,
}

/// Options of the broker: NSQ's `nsqd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerOptions {
    /// The directory of the store. Made when it is not there.
    pub data_path: PathBuf,
    /// TCP clients connect here: `host:port`, `:port` or the path of a unix socket.
    pub tcp_address: String,
    /// HTTP clients connect here: `host:port`, `:port` or the path of a unix socket.
    pub http_address: String,
    /// The host that lookupds tell to consumers: they must be able to resolve and to reach it.
    pub broadcast_address: String,
    /// The TCP port told to lookupds; `None` is the port listened on.
    pub broadcast_tcp_port: Option<u16>,
    /// The HTTP port told to lookupds; `None` is the port listened on.
    pub broadcast_http_port: Option<u16>,
    /// The lookupds (their TCP addresses) that this broker registers with.
    pub lookupd_tcp_addresses: Vec<String>,
    /// The largest message body.
    pub message_bytes_max: u32,
    /// The largest body of one command (MPUB, IDENTIFY) and of one HTTP request.
    pub body_bytes_max: u32,
    /// After this time without an answer a message is delivered again, unless the client asks for
    /// another.
    pub msg_timeout: Duration,
    /// The longest message timeout, also with TOUCH.
    pub msg_timeout_max: Duration,
    /// The longest deferral of REQ and DPUB.
    pub req_timeout_max: Duration,
    /// The highest RDY count of one consumer.
    pub rdy_count_max: u32,
    /// The longest time between heartbeats that a client may ask for.
    pub heartbeat_interval_max: Duration,
    /// The largest output buffer that a client may ask for.
    pub output_buffer_bytes_max: u32,
    /// The shortest time between flushes that a client may ask for.
    pub output_buffer_timeout_min: Duration,
    /// The longest one.
    pub output_buffer_timeout_max: Duration,
    /// Connections served at once, TCP and HTTP together; the next waits until one ends.
    pub connections_max: u32,
    /// Bytes of message bodies that all sessions together hold while they read them.
    pub bodies_bytes_max: u32,
    /// Channels that are there before the listeners open, so that no other channel takes the backlog
    /// of their topic: those of the forwarder's routes.
    pub initial_channels: Vec<InitialChannel>,
    /// Sizes of the store.
    pub storage: StorageOptions,
}

/// A channel, with its topic, that exists from the broker's start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialChannel {
    /// The topic.
    pub topic: TopicName,
    /// The channel.
    pub channel: ChannelName,
}

/// Sizes of the store; the same fields as `storage::Options`, which this crate must not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageOptions {
    /// Size of the ring file, a multiple of 4 KiB. A block is at most 1/16 of it.
    pub ring_bytes: u64,
    /// Size of a full segment file, a multiple of 4 KiB. It holds two largest messages.
    pub segment_bytes: u64,
    /// The largest message body.
    pub message_bytes_max: u32,
    /// The largest sum of bodies of one atomic batch.
    pub batch_bytes_max: u32,
    /// Topics that can exist at once.
    pub topics_max: u32,
    /// Channels that can exist at once, over all topics.
    pub channels_max: u32,
    /// Messages in flight, requeued or deferred at once, over all channels.
    pub outstanding_max: u32,
    /// Bytes of the newest blocks kept in memory for reading.
    pub cache_bytes: u32,
    /// Bytes of publishes that wait for their commit; above it publishers are not read.
    pub pending_bytes_max: u32,
}

/// Options of the registry: NSQ's `nsqlookupd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupdOptions {
    /// Brokers connect here.
    pub tcp_address: String,
    /// HTTP clients connect here.
    pub http_address: String,
    /// The host that is told to brokers in the answer to IDENTIFY.
    pub broadcast_address: String,
    /// A producer that was not heard of for so long is not told to consumers.
    pub inactive_producer_timeout: Duration,
    /// How long a producer stays hidden for a topic after a tombstone.
    pub tombstone_lifetime: Duration,
    /// Connections served at once, TCP and HTTP together.
    pub connections_max: u32,
}

/// Options of the relay to upstream brokers: NSQ's `nsq_to_nsq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwarderOptions {
    /// The local broker (its TCP address) that the routes consume from.
    pub nsqd_tcp_address: String,
    /// The largest message body that a route carries: the broker's.
    pub message_bytes_max: u32,
    /// What is relayed.
    pub routes: Vec<RouteOptions>,
}

/// One route: a local channel to a topic of the upstream brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOptions {
    /// What this machine is called in the statistics of the brokers that the route connects to.
    pub hostname: String,
    /// The local topic.
    pub topic: TopicName,
    /// The channel that the route consumes from.
    pub channel: ChannelName,
    /// TCP addresses of the brokers to consume from; none is the local one, unless there are lookupds.
    pub sources: Vec<String>,
    /// URLs of the lookupds that know brokers to consume from, `http://host:port` with or without a
    /// path.
    pub source_lookupds: Vec<String>,
    /// TCP addresses of the upstream brokers; at least one.
    pub upstream: Vec<String>,
    /// The topic upstream.
    pub upstream_topic: TopicName,
    /// A batch is sent when it has so many messages,
    pub batch_count: u32,
    /// or so many bytes (one larger message is a batch of its own),
    pub batch_bytes: u32,
    /// or when its first message has waited for so long.
    pub batch_age: Duration,
    /// Batches sent and not yet answered, per route.
    pub in_flight_batches: u32,
    /// The first pause after a failure of an upstream; it doubles, with full jitter,
    pub backoff_min: Duration,
    /// up to this.
    pub backoff_max: Duration,
}

impl RouteOptions {
    /// Whether the route consumes from the local broker.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.sources.is_empty() && self.source_lookupds.is_empty()
    }
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Lines below this level are not logged.
    pub level: Level,
    /// The first word of each line; empty is the program's name in brackets.
    pub prefix: String,
}

/// Log levels in NSQ's words.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Everything.
    Debug,
    /// What happens in the ordinary course, and all below. The default.
    Info,
    /// What an operator should look at one day, and all below.
    Warn,
    /// What went wrong, and all below.
    Error,
    /// Only what ends the program.
    Fatal,
}

impl Level {
    /// The level of a word as NSQ takes it: any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        const WORDS: [(&str, Level); 5] = [
            ("debug", Level::Debug),
            ("info", Level::Info),
            ("warn", Level::Warn),
            ("error", Level::Error),
            ("fatal", Level::Fatal),
        ];
        WORDS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word))
            .map(|&(_, level)| level)
    }
}
