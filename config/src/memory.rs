//! The worst case of memory as a formula of the limits: printed at start, checked against
//! `memory.max`. It is what the daemons may hold at their bounds, all at once; what they hold in the
//! ordinary course is a small part of it.

use std::fmt;

use crate::limits;
use crate::options::{BrokerOptions, ForwarderOptions, LookupdOptions, RouteOptions};
use crate::size::format_bytes;

/// The terms of the formula and their sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The terms, in a fixed order.
    pub parts: Vec<MemoryPart>,
}

/// One term of the formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPart {
    /// Whose it is; `None` is every process's.
    pub of: Option<Daemon>,
    /// What takes the memory.
    pub what: &'static str,
    /// How many of it there are at most.
    pub count: u64,
    /// Bytes that one takes at most.
    pub bytes_each: u64,
}

/// What one process may be, alone or together with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// NSQ's `nsqd`.
    Broker,
    /// NSQ's `nsqlookupd`.
    Lookupd,
    /// NSQ's `nsq_to_nsq`.
    Forwarder,
}

impl MemoryPart {
    /// Bytes of all of it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.bytes_each)
    }
}

impl MemoryEstimate {
    /// The formula for all three daemons in one process.
    #[must_use]
    pub fn new(
        broker: &BrokerOptions,
        lookupd: &LookupdOptions,
        forwarder: &ForwarderOptions,
    ) -> Self {
        let program = MemoryPart {
            of: None,
            what: "program",
            count: 1,
            bytes_each: limits::MEMORY_BASE_BYTES,
        };
        let terms = [
            (Daemon::Broker, broker_terms(broker)),
            (Daemon::Lookupd, lookupd_terms(lookupd)),
            (Daemon::Forwarder, forwarder_terms(forwarder)),
        ];
        let parts = terms
            .into_iter()
            .flat_map(|(of, terms)| terms.into_iter().map(move |term| (of, term)))
            .map(|(of, (what, count, bytes_each))| MemoryPart {
                of: Some(of),
                what,
                count,
                bytes_each,
            });
        Self {
            parts: std::iter::once(program).chain(parts).collect(),
        }
    }

    /// The formula for a process that is only these.
    #[must_use]
    pub fn only(mut self, daemons: &[Daemon]) -> Self {
        self.parts
            .retain(|part| part.of.is_none_or(|daemon| daemons.contains(&daemon)));
        self
    }

    /// The sum of the terms, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts
            .iter()
            .map(MemoryPart::bytes)
            .fold(0, u64::saturating_add)
    }
}

/// What there is, how many, bytes of each.
type Term = (&'static str, u64, u64);

fn broker_terms(broker: &BrokerOptions) -> Vec<Term> {
    let storage = &broker.storage;
    let (topics, channels) = (storage.topics_max.into(), storage.channels_max.into());
    let outstanding = storage.outstanding_max.into();
    let pending = storage.pending_bytes_max.into();
    let block = limits::MEMORY_SEGMENT_BLOCK_BYTES + u64::from(storage.message_bytes_max);
    vec![
        (
            "connections",
            broker.connections_max.into(),
            limits::MEMORY_CONNECTION_BYTES,
        ),
        ("bodies being read", 1, broker.bodies_bytes_max.into()),
        // One unit gathers publishes while the one before it is written.
        ("publishes waiting for flash", 2, pending),
        ("cache", 1, storage.cache_bytes.into()),
        ("segment blocks", limits::MEMORY_SEGMENT_BLOCKS, block),
        ("ephemeral messages", 1, limits::MEMORY_EPHEMERAL_BYTES),
        ("topics", topics, limits::MEMORY_TOPIC_BYTES),
        ("channels", channels, limits::MEMORY_CHANNEL_BYTES),
        (
            "messages outstanding",
            outstanding,
            limits::MEMORY_OUTSTANDING_BYTES,
        ),
    ]
}

fn lookupd_terms(lookupd: &LookupdOptions) -> Vec<Term> {
    vec![
        ("registry", 1, limits::MEMORY_REGISTRY_BYTES),
        (
            "its connections",
            lookupd.connections_max.into(),
            limits::MEMORY_LINK_BYTES,
        ),
    ]
}

fn forwarder_terms(forwarder: &ForwarderOptions) -> Vec<Term> {
    let held = |route: &RouteOptions| route.memory_bytes_max(forwarder.message_bytes_max);
    let held = forwarder
        .routes
        .iter()
        .map(held)
        .fold(0, u64::saturating_add);
    vec![("routes' messages", 1, held)]
}

impl RouteOptions {
    /// Bytes that the route holds at most: bodies of the batches under way, of the one that gathers and
    /// of one largest message; what is under way once more as it is sent; one batch or message being
    /// encoded; one largest message being read.
    #[must_use]
    pub fn memory_bytes_max(&self, message_bytes_max: u32) -> u64 {
        let batches = 2 * u64::from(self.in_flight_batches) + 2;
        u64::from(self.batch_bytes) * batches + 3 * u64::from(message_bytes_max)
    }
}

/// `30 MiB = program 6MiB + connections 64 x 40KiB + ...`, without the terms that are zero.
impl fmt::Display for MemoryEstimate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up: this line is for people, the check uses bytes.
        write!(out, "{} MiB", self.bytes().div_ceil(1 << 20))?;
        let mut sign = " = ";
        for part in self.parts.iter().filter(|part| part.bytes() > 0) {
            out.write_str(sign)?;
            sign = " + ";
            if part.count > 1 {
                let each = format_bytes(part.bytes_each);
                write!(out, "{} {} x {each}", part.what, part.count)?;
            } else {
                write!(out, "{} {}", part.what, format_bytes(part.bytes_each))?;
            }
        }
        Ok(())
    }
}
