//! The words of `nsq-edge.toml`, with their defaults. What they mean is in the annotated
//! `config/nsq-edge.toml`; a test compares that file with these defaults.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::duration::Span;
use crate::error::ConfigError;
use crate::options::Level;
use crate::size::Bytes;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory of the store; empty is `$STATE_DIRECTORY`, or else `./nsq-edge-data`.
    pub data_path: String,
    /// What is logged.
    pub log: Log,
    /// The broker.
    pub broker: Broker,
    /// The ring file.
    pub ring: Ring,
    /// Segment files.
    pub segment: Segment,
    /// The cache of the newest blocks.
    pub cache: Cache,
    /// Bounds of memory.
    pub memory: Memory,
    /// The registry.
    pub lookupd: Lookupd,
    /// The relay.
    pub forwarder: Forwarder,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Lines below this level are not logged.
    pub level: Level,
    /// The first word of each line; empty is the program's name in brackets.
    pub prefix: String,
}

/// `[broker]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// Where TCP clients connect.
    pub tcp_address: String,
    /// Where HTTP clients connect.
    pub http_address: String,
    /// The host told to lookupds; empty is this machine's name.
    pub broadcast_address: String,
    /// The TCP port told to lookupds; 0 is the one listened on.
    pub broadcast_tcp_port: u16,
    /// The HTTP port told to lookupds; 0 is the one listened on.
    pub broadcast_http_port: u16,
    /// Lookupds to register with.
    pub lookupd_tcp_addresses: Vec<String>,
    /// The largest message body.
    pub message_bytes_max: Bytes,
    /// The largest body of one command.
    pub body_bytes_max: Bytes,
    /// The message timeout of clients that ask for none.
    pub msg_timeout: Span,
    /// The longest message timeout.
    pub msg_timeout_max: Span,
    /// The longest deferral.
    pub req_timeout_max: Span,
    /// The highest RDY count of one consumer.
    pub rdy_count_max: u32,
    /// The longest heartbeat interval that a client may ask for.
    pub heartbeat_interval_max: Span,
    /// The largest output buffer that a client may ask for.
    pub output_buffer_bytes_max: Bytes,
    /// The shortest time between flushes that a client may ask for.
    pub output_buffer_timeout_min: Span,
    /// The longest one.
    pub output_buffer_timeout_max: Span,
    /// Connections served at once.
    pub connections_max: u32,
    /// Topics that can exist at once.
    pub topics_max: u32,
    /// Channels that can exist at once, over all topics.
    pub channels_max: u32,
    /// Messages in flight, requeued or deferred at once, over all channels.
    pub outstanding_max: u32,
}

/// `[ring]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ring {
    /// Size of the ring file.
    pub bytes: Bytes,
}

/// `[segment]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Segment {
    /// Size of a full segment file.
    pub bytes: Bytes,
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Bytes of the newest blocks kept in memory.
    pub bytes: Bytes,
}

/// `[memory]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// The worst case must fit in this.
    pub max: Bytes,
    /// Message bodies that sessions hold while they read them.
    pub bodies: Bytes,
    /// Publishes that wait for their commit.
    pub pending: Bytes,
}

/// `[lookupd]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lookupd {
    /// Where brokers connect.
    pub tcp_address: String,
    /// Where HTTP clients connect.
    pub http_address: String,
    /// The host told to brokers; empty is this machine's name.
    pub broadcast_address: String,
    /// After so long without a word a producer is not told to consumers.
    pub inactive_producer_timeout: Span,
    /// How long a producer stays hidden after a tombstone.
    pub tombstone_lifetime: Span,
    /// Connections served at once.
    pub connections_max: u32,
}

/// `[forwarder]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forwarder {
    /// The local broker; not used by `nsq-edge gateway`, which has its own.
    pub nsqd_tcp_address: String,
    /// What is relayed.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

/// `[[forwarder.route]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// The local topic.
    pub topic: String,
    /// The channel to consume from.
    pub channel: String,
    /// Brokers to consume from instead of the local one.
    pub sources: Vec<String>,
    /// HTTP addresses of lookupds: the brokers that they know of are consumed from instead.
    pub source_lookupds: Vec<String>,
    /// Upstream brokers.
    pub upstream: Vec<String>,
    /// The topic upstream; empty is the local one's name.
    pub upstream_topic: String,
    /// Messages of one batch,
    pub batch_count: u32,
    /// its bytes,
    pub batch_bytes: Bytes,
    /// and its age.
    pub batch_age: Span,
    /// Batches sent and not yet answered.
    pub in_flight_batches: u32,
    /// The first pause after a failure.
    pub backoff_min: Span,
    /// The longest pause.
    pub backoff_max: Span,
}

/// Reads and parses a file. An error names the file.
///
/// # Errors
/// The file cannot be read, or is not what [`Config::parse`] takes.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    Config::parse(&text).map_err(|source| ConfigError::In {
        path: path.to_path_buf(),
        source: Box::new(source),
    })
}

impl Config {
    /// Parses the text of a file; what it does not set has its default. Bounds are checked by
    /// [`Config::resolve`].
    ///
    /// # Errors
    /// The text is not TOML, a key does not exist, or a value is of the wrong kind.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| explain(text, &error))
    }
}

impl Config {
    /// The text of a file that says the same, with every key.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Plain structs of strings, numbers and lists cannot fail; a test writes and reads all keys.
        toml::to_string(self).unwrap_or_default()
    }

    /// Sets one key, as `--set` does: `broker.tcp_address=:4150`. A value that is not TOML by itself is
    /// taken as a string, so that a shell needs no second pair of quotes.
    ///
    /// # Errors
    /// The key does not exist, or the value is of the wrong kind.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let (key, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        let (key, value) = (key.trim(), value.trim());
        let line = |value: &str| format!("{key} = {value}");
        let quoted = line(&toml::Value::from(value).to_string());
        let text = match line(value).parse::<toml::Table>() {
            Ok(_) => line(value),
            Err(_) => quoted,
        };
        // Checks the key and the value, with the errors of a file.
        Self::parse(&text).map_err(ConfigError::without_line)?;
        let merged = toml::Table::try_from(&*self).ok().and_then(|mut all| {
            merge(&mut all, text.parse().ok()?);
            all.try_into().ok()
        });
        if let Some(merged) = merged {
            *self = merged;
        }
        Ok(())
    }
}

fn merge(to: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (to.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value),
            (_, value) => {
                to.insert(key, value);
            }
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level::Info,
            prefix: String::new(),
        }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            tcp_address: "0.0.0.0:4150".to_owned(),
            http_address: "0.0.0.0:4151".to_owned(),
            broadcast_address: String::new(),
            broadcast_tcp_port: 0,
            broadcast_http_port: 0,
            lookupd_tcp_addresses: Vec::new(),
            message_bytes_max: Bytes(1 << 20),
            body_bytes_max: Bytes(5 << 20),
            msg_timeout: Span(Duration::from_secs(60)),
            msg_timeout_max: Span(Duration::from_secs(15 * 60)),
            req_timeout_max: Span(Duration::from_secs(3600)),
            rdy_count_max: 2500,
            heartbeat_interval_max: Span(Duration::from_secs(60)),
            output_buffer_bytes_max: Bytes(64 << 10),
            output_buffer_timeout_min: Span(Duration::from_millis(25)),
            output_buffer_timeout_max: Span(Duration::from_secs(30)),
            connections_max: 128,
            topics_max: 1000,
            channels_max: 3000,
            outstanding_max: 32 * 1024,
        }
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            bytes: Bytes(4 << 20),
        }
    }
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            bytes: Bytes(8 << 20),
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            bytes: Bytes(512 << 10),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            max: Bytes(96 << 20),
            bodies: Bytes(8 << 20),
            pending: Bytes(8 << 20),
        }
    }
}

impl Default for Lookupd {
    fn default() -> Self {
        Self {
            tcp_address: "0.0.0.0:4160".to_owned(),
            http_address: "0.0.0.0:4161".to_owned(),
            broadcast_address: String::new(),
            inactive_producer_timeout: Span(Duration::from_secs(5 * 60)),
            tombstone_lifetime: Span(Duration::from_secs(45)),
            connections_max: 64,
        }
    }
}

impl Default for Forwarder {
    fn default() -> Self {
        Self {
            nsqd_tcp_address: "127.0.0.1:4150".to_owned(),
            routes: Vec::new(),
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            topic: String::new(),
            channel: "uplink".to_owned(),
            sources: Vec::new(),
            source_lookupds: Vec::new(),
            upstream: Vec::new(),
            upstream_topic: String::new(),
            batch_count: 100,
            batch_bytes: Bytes(256 << 10),
            batch_age: Span(Duration::from_millis(50)),
            in_flight_batches: 4,
            backoff_min: Span(Duration::from_millis(250)),
            backoff_max: Span(Duration::from_secs(60)),
        }
    }
}

/// Turns the TOML crate's error, which is a drawing of several lines, into one line that names the
/// key: the path is that of the key or value that lies around the error's place.
fn explain(text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let message = error.message().replace('\n', ", ");
    let place = DeTable::parse(text)
        .ok()
        .and_then(|table| locate(table.get_ref(), at));
    let Some((key, value)) = place else {
        return ConfigError::Syntax { line, message };
    };
    if message.starts_with("unknown field") {
        return ConfigError::UnknownKey { line, key };
    }
    let expected = match message.rsplit_once("expected ") {
        Some((_, expected)) if expected.starts_with("must ") => expected.to_owned(),
        Some((_, expected)) => {
            format!(
                "must be {}",
                in_words(expected, message.contains("value: integer"))
            )
        }
        None => message,
    };
    let value = value
        .and_then(|range| text.get(range))
        .unwrap_or("")
        .replace('\n', " ");
    ConfigError::Type {
        line,
        key,
        value,
        expected,
    }
}

/// What serde expected (Rust's names of types, our variants) in an operator's words.
fn in_words(expected: &str, is_integer: bool) -> String {
    let words = match expected {
        "u16" if is_integer => "0..=65535",
        "u32" if is_integer => "0..=4294967295",
        "u16" | "u32" => "a whole number",
        "a string" | "a boolean" => expected,
        "a sequence" => "a list, [\"like\", \"this\"]",
        _ if expected.starts_with("struct ") => "a section",
        _ => return expected.replace('`', ""),
    };
    words.to_owned()
}

/// The dotted path of the innermost key whose name or value lies around `at`, and where the value
/// is (`None` if the place is the key's name).
fn locate(table: &DeTable<'_>, at: usize) -> Option<(String, Option<std::ops::Range<usize>>)> {
    for (key, value) in table {
        let name = key.get_ref();
        let inner =
            inside(value.get_ref(), at).map(|(path, range)| (format!("{name}.{path}"), range));
        if inner.is_some() {
            return inner;
        }
        if key.span().contains(&at) {
            return Some((name.to_string(), None));
        }
        if value.span().contains(&at) {
            return Some((name.to_string(), Some(value.span())));
        }
    }
    None
}

fn inside(value: &DeValue<'_>, at: usize) -> Option<(String, Option<std::ops::Range<usize>>)> {
    match value {
        DeValue::Table(table) => locate(table, at),
        DeValue::Array(array) => array.iter().find_map(|item| inside(item.get_ref(), at)),
        _ => None,
    }
}
