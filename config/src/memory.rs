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
    /// What takes the memory.
    pub what: &'static str,
    /// How many of it there are at most.
    pub count: u64,
    /// Bytes that one takes at most.
    pub bytes_each: u64,
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
        let storage = &broker.storage;
        let connections = u64::from(broker.connections_max) + u64::from(lookupd.connections_max);
        let parts = [
            ("program", 1, limits::MEMORY_BASE_BYTES),
            ("connections", connections, limits::MEMORY_CONNECTION_BYTES),
            ("registry", 1, limits::MEMORY_REGISTRY_BYTES),
            ("bodies being read", 1, u64::from(broker.bodies_bytes_max)),
            // One unit gathers publishes while the one before it is written.
            (
                "publishes waiting for flash",
                2,
                u64::from(storage.pending_bytes_max),
            ),
            ("cache", 1, u64::from(storage.cache_bytes)),
            (
                "topics",
                u64::from(storage.topics_max),
                limits::MEMORY_TOPIC_BYTES,
            ),
            (
                "segment blocks",
                limits::MEMORY_SEGMENT_BLOCKS,
                limits::MEMORY_SEGMENT_BLOCK_BYTES + u64::from(storage.message_bytes_max),
            ),
            (
                "channels",
                u64::from(storage.channels_max),
                limits::MEMORY_CHANNEL_BYTES,
            ),
            (
                "messages outstanding",
                u64::from(storage.outstanding_max),
                limits::MEMORY_OUTSTANDING_BYTES,
            ),
            (
                "route batches",
                1,
                forwarder
                    .routes
                    .iter()
                    .map(|route| route.memory_bytes_max(forwarder.message_bytes_max))
                    .fold(0, u64::saturating_add),
            ),
        ];
        Self {
            parts: parts
                .into_iter()
                .map(|(what, count, bytes_each)| MemoryPart {
                    what,
                    count,
                    bytes_each,
                })
                .collect(),
        }
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
