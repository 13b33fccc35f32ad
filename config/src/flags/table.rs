//! The table of every flag of NSQ 1.3.0's `nsqd`, `nsqlookupd` and `nsq_to_nsq`, and what becomes of
//! each here.

use std::fmt::Write as _;

use super::Program;
use super::go::Value;
use super::state::{
    Refusal, State, bytes, int, level, max_in_flight, mode, port, push, span, text,
};

/// One flag.
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// How its value is read.
    pub(super) kind: Kind,
    /// The key of `nsq-edge.toml` that it sets; empty if none.
    pub key: &'static str,
    /// What becomes of it.
    pub meaning: Meaning,
    /// Its help: what it sets, or why not.
    pub help: &'static str,
}

/// How a flag's value is read, as in Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Duration,
    /// Needs no value.
    Bool,
}

/// What becomes of a flag.
pub enum Meaning {
    /// It sets something.
    Sets(Setter),
    /// It says what is so anyway when it has this value; any other is refused as not yet supported.
    OnlyWith(&'static str),
    /// It allows what is not yet supported, and clients do without when they are told so: with this value
    /// it says what is so anyway, with any other it is accepted with a warning.
    Allows(&'static str),
    /// Refused: known and not yet supported.
    NotYet,
    /// Accepted, and explained in one line of the log: what it tunes does not exist here.
    NoMeaning,
    /// `-version` and `-config`.
    ByCaller,
}

/// Writes a value to where it belongs.
pub struct Setter(pub(super) fn(&mut State, &Value) -> Result<(), Refusal>);

/// The text that `-help` prints, in Go's form.
pub(super) fn usage(program: Program) -> String {
    let mut text = format!("Usage of {}:\n", program.name());
    for flag in program.flags() {
        let kind = match flag.kind {
            Kind::Text => " string",
            Kind::Int => " int",
            Kind::Duration => " duration",
            Kind::Bool => "",
        };
        let note = match flag.meaning {
            Meaning::Sets(_) | Meaning::ByCaller => String::new(),
            Meaning::OnlyWith(value) => format!(" [not yet supported, except {value:?}]"),
            Meaning::Allows(_) => " [not yet supported: clients are told so]".to_owned(),
            Meaning::NotYet => " [not yet supported]".to_owned(),
            Meaning::NoMeaning => " [no meaning here]".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  -{}{kind}\n    \t{}{note}", flag.name, flag.help);
    }
    text
}

const fn sets(
    name: &'static str,
    kind: Kind,
    key: &'static str,
    set: fn(&mut State, &Value) -> Result<(), Refusal>,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        kind,
        key,
        meaning: Meaning::Sets(Setter(set)),
        help,
    }
}

const fn not_yet(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        key: "",
        meaning: Meaning::NotYet,
        help,
    }
}

const fn only(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        key: "",
        meaning: Meaning::OnlyWith(value),
        help,
    }
}

const fn allows(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        key: "",
        meaning: Meaning::Allows(value),
        help,
    }
}

const fn no_meaning(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        key: "",
        meaning: Meaning::NoMeaning,
        help,
    }
}

const CONFIG: Flag = Flag {
    name: "config",
    kind: Kind::Text,
    key: "",
    meaning: Meaning::ByCaller,
    help: "a TOML file of these flags, with underscores for dashes; the command line wins over it",
};
const VERSION: Flag = Flag {
    name: "version",
    kind: Kind::Bool,
    key: "",
    meaning: Meaning::ByCaller,
    help: "print the version",
};
const LOG_LEVEL: Flag = sets(
    "log-level",
    Kind::Text,
    "log.level",
    level,
    "least level of what is logged: debug, info, warn, error or fatal (info)",
);
const LOG_PREFIX: Flag = sets(
    "log-prefix",
    Kind::Text,
    "log.prefix",
    |s, v| text(&mut s.config.log.prefix, v),
    "first word of each log line",
);
const VERBOSE: Flag = no_meaning(
    "verbose",
    Kind::Bool,
    "it has no effect in NSQ either, use -log-level",
);

const STATSD: &str = "statistics sent to a statsd";
const NO_STATSD: &str = "it has no effect without -statsd-address";
const TLS: &str = "TLS";
const E2E: &str = "percentiles of end to end latency";
const COMPRESSION: &str = "compression";
const HTTP_CLIENT: &str = "a lookupd is asked for two seconds at most";
const SCANS: &str = "timeouts are kept in order and are not searched for";
const DISK_QUEUE: &str =
    "there is no queue in memory beside one on disk: see [ring] and [segment] in nsq-edge.toml";
const JSON: &str = "filtering of JSON messages";

/// `nsqd`
pub(super) const NSQD: &[Flag] = &[
    not_yet("auth-http-address", Kind::Text, "AUTH"),
    sets(
        "broadcast-address",
        Kind::Text,
        "broker.broadcast_address",
        |s, v| text(&mut s.config.broker.broadcast_address, v),
        "host told to lookupds (this machine's name)",
    ),
    sets(
        "broadcast-http-port",
        Kind::Int,
        "broker.broadcast_http_port",
        |s, v| port(&mut s.config.broker.broadcast_http_port, v),
        "HTTP port told to lookupds (the one listened on)",
    ),
    sets(
        "broadcast-tcp-port",
        Kind::Int,
        "broker.broadcast_tcp_port",
        |s, v| port(&mut s.config.broker.broadcast_tcp_port, v),
        "TCP port told to lookupds (the one listened on)",
    ),
    CONFIG,
    sets(
        "data-path",
        Kind::Text,
        "data_path",
        |s, v| text(&mut s.config.data_path, v),
        "directory of the store ($STATE_DIRECTORY, or ./nsq-edge-data)",
    ),
    allows("deflate", Kind::Bool, "false", COMPRESSION),
    not_yet("e2e-processing-latency-percentile", Kind::Text, E2E),
    not_yet("e2e-processing-latency-window-time", Kind::Duration, E2E),
    sets(
        "http-address",
        Kind::Text,
        "broker.http_address",
        |s, v| text(&mut s.config.broker.http_address, v),
        "where HTTP clients connect: host:port or a unix socket (0.0.0.0:4151)",
    ),
    no_meaning("http-client-connect-timeout", Kind::Duration, HTTP_CLIENT),
    no_meaning("http-client-request-timeout", Kind::Duration, HTTP_CLIENT),
    only("https-address", Kind::Text, "", TLS),
    LOG_LEVEL,
    LOG_PREFIX,
    sets(
        "lookupd-tcp-address",
        Kind::Text,
        "broker.lookupd_tcp_addresses",
        |s, v| push(&mut s.config.broker.lookupd_tcp_addresses, v),
        "nsqlookupd to register with; may be given several times",
    ),
    sets(
        "max-body-size",
        Kind::Int,
        "broker.body_bytes_max",
        |s, v| bytes(&mut s.config.broker.body_bytes_max, v),
        "largest body of one command, in bytes (5242880)",
    ),
    no_meaning("max-bytes-per-file", Kind::Int, DISK_QUEUE),
    only(
        "max-channel-consumers",
        Kind::Int,
        "0",
        "a bound of consumers per channel",
    ),
    allows("max-deflate-level", Kind::Int, "6", COMPRESSION),
    sets(
        "max-heartbeat-interval",
        Kind::Duration,
        "broker.heartbeat_interval_max",
        |s, v| span(&mut s.config.broker.heartbeat_interval_max, v),
        "longest heartbeat interval that a client may ask for (1m0s)",
    ),
    sets(
        "max-msg-size",
        Kind::Int,
        "broker.message_bytes_max",
        |s, v| bytes(&mut s.config.broker.message_bytes_max, v),
        "largest message, in bytes (1048576)",
    ),
    sets(
        "max-msg-timeout",
        Kind::Duration,
        "broker.msg_timeout_max",
        |s, v| span(&mut s.config.broker.msg_timeout_max, v),
        "longest message timeout (15m0s)",
    ),
    sets(
        "max-output-buffer-size",
        Kind::Int,
        "broker.output_buffer_bytes_max",
        |s, v| bytes(&mut s.config.broker.output_buffer_bytes_max, v),
        "largest output buffer that a client may ask for, in bytes (65536)",
    ),
    sets(
        "max-output-buffer-timeout",
        Kind::Duration,
        "broker.output_buffer_timeout_max",
        |s, v| span(&mut s.config.broker.output_buffer_timeout_max, v),
        "longest time between flushes that a client may ask for (30s)",
    ),
    sets(
        "max-rdy-count",
        Kind::Int,
        "broker.rdy_count_max",
        |s, v| {
            s.config.broker.rdy_count_max = int(v, "must be 1..=1000000")?;
            Ok(())
        },
        "highest RDY of one consumer (2500)",
    ),
    sets(
        "max-req-timeout",
        Kind::Duration,
        "broker.req_timeout_max",
        |s, v| span(&mut s.config.broker.req_timeout_max, v),
        "longest deferral of a message (1h0m0s)",
    ),
    no_meaning(
        "mem-queue-size",
        Kind::Int,
        "no message waits in memory alone, OK means that it is on flash",
    ),
    sets(
        "min-output-buffer-timeout",
        Kind::Duration,
        "broker.output_buffer_timeout_min",
        |s, v| span(&mut s.config.broker.output_buffer_timeout_min, v),
        "shortest time between flushes that a client may ask for (25ms)",
    ),
    sets(
        "msg-timeout",
        Kind::Duration,
        "broker.msg_timeout",
        |s, v| span(&mut s.config.broker.msg_timeout, v),
        "time after which a message without an answer is delivered again (1m0s)",
    ),
    no_meaning(
        "node-id",
        Kind::Int,
        "message ids are counted by the store, not made from a node id",
    ),
    no_meaning(
        "output-buffer-timeout",
        Kind::Duration,
        "what there is for a client leaves at once",
    ),
    no_meaning("queue-scan-selection-count", Kind::Int, SCANS),
    no_meaning("queue-scan-worker-pool-max", Kind::Int, SCANS),
    allows("snappy", Kind::Bool, "false", COMPRESSION),
    only("statsd-address", Kind::Text, "", STATSD),
    no_meaning("statsd-exclude-ephemeral", Kind::Bool, NO_STATSD),
    no_meaning("statsd-interval", Kind::Duration, NO_STATSD),
    no_meaning("statsd-mem-stats", Kind::Bool, NO_STATSD),
    no_meaning("statsd-prefix", Kind::Text, NO_STATSD),
    no_meaning("statsd-udp-packet-size", Kind::Int, NO_STATSD),
    no_meaning(
        "sync-every",
        Kind::Int,
        "every message is on flash before its OK",
    ),
    no_meaning(
        "sync-timeout",
        Kind::Duration,
        "every message is on flash before its OK",
    ),
    sets(
        "tcp-address",
        Kind::Text,
        "broker.tcp_address",
        |s, v| text(&mut s.config.broker.tcp_address, v),
        "where TCP clients connect: host:port or a unix socket (0.0.0.0:4150)",
    ),
    only("tls-cert", Kind::Text, "", TLS),
    only("tls-client-auth-policy", Kind::Text, "", TLS),
    only("tls-key", Kind::Text, "", TLS),
    only("tls-min-version", Kind::Text, "", TLS),
    only("tls-required", Kind::Bool, "false", TLS),
    only("tls-root-ca-file", Kind::Text, "", TLS),
    VERBOSE,
    VERSION,
    no_meaning(
        "worker-id",
        Kind::Bool,
        "message ids are counted by the store, not made from a node id",
    ),
];

/// `nsqlookupd`
pub(super) const NSQLOOKUPD: &[Flag] = &[
    sets(
        "broadcast-address",
        Kind::Text,
        "lookupd.broadcast_address",
        |s, v| text(&mut s.config.lookupd.broadcast_address, v),
        "host told to brokers (this machine's name)",
    ),
    CONFIG,
    sets(
        "http-address",
        Kind::Text,
        "lookupd.http_address",
        |s, v| text(&mut s.config.lookupd.http_address, v),
        "where HTTP clients connect (0.0.0.0:4161)",
    ),
    sets(
        "inactive-producer-timeout",
        Kind::Duration,
        "lookupd.inactive_producer_timeout",
        |s, v| span(&mut s.config.lookupd.inactive_producer_timeout, v),
        "silence after which a producer is not told to consumers (5m0s)",
    ),
    LOG_LEVEL,
    LOG_PREFIX,
    sets(
        "tcp-address",
        Kind::Text,
        "lookupd.tcp_address",
        |s, v| text(&mut s.config.lookupd.tcp_address, v),
        "where brokers connect (0.0.0.0:4160)",
    ),
    sets(
        "tombstone-lifetime",
        Kind::Duration,
        "lookupd.tombstone_lifetime",
        |s, v| span(&mut s.config.lookupd.tombstone_lifetime, v),
        "how long a producer stays hidden after a tombstone (45s)",
    ),
    VERBOSE,
    VERSION,
];

/// `nsq_to_nsq`
pub(super) const NSQ_TO_NSQ: &[Flag] = &[
    sets(
        "channel",
        Kind::Text,
        "forwarder.route.channel",
        |s, v| text(&mut s.route.channel, v),
        "channel to consume from (nsq_to_nsq)",
    ),
    not_yet("consumer-opt", Kind::Text, "options of go-nsq's consumer"),
    sets(
        "destination-nsqd-tcp-address",
        Kind::Text,
        "forwarder.route.upstream",
        |s, v| push(&mut s.route.upstream, v),
        "nsqd to publish to; may be given several times",
    ),
    sets(
        "destination-topic",
        Kind::Text,
        "forwarder.route.upstream_topic",
        |s, v| text(&mut s.route.upstream_topic, v),
        "topic to publish to (the one consumed)",
    ),
    sets(
        "lookupd-http-address",
        Kind::Text,
        "forwarder.route.source_lookupds",
        |s, v| push(&mut s.route.source_lookupds, v),
        "lookupd that knows the brokers to consume from; may be given several times",
    ),
    sets(
        "max-in-flight",
        Kind::Int,
        "forwarder.route.batch_count",
        max_in_flight,
        "messages in flight per topic (400: 4 batches of 100)",
    ),
    sets(
        "mode",
        Kind::Text,
        "",
        mode,
        "how a destination is chosen: hostpool or round-robin",
    ),
    sets(
        "nsqd-tcp-address",
        Kind::Text,
        "forwarder.route.sources",
        |s, v| push(&mut s.route.sources, v),
        "broker to consume from; may be given several times",
    ),
    not_yet("producer-opt", Kind::Text, "options of go-nsq's producer"),
    not_yet("require-json-field", Kind::Text, JSON),
    not_yet("require-json-value", Kind::Text, JSON),
    only(
        "status-every",
        Kind::Int,
        "0",
        "a status line every so many messages",
    ),
    sets(
        "topic",
        Kind::Text,
        "forwarder.route.topic",
        |s, v| push(&mut s.topics, v),
        "topic to consume; may be given several times",
    ),
    VERSION,
    not_yet("whitelist-json-field", Kind::Text, JSON),
];
