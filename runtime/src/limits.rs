//! Numbers that nobody sets, with their reasons.

use std::time::Duration;

/// How long accepting rests after the kernel refused a connection for want of descriptors or memory. The listener stays
/// readable meanwhile, so without a rest the loop would spin; 100 ms is far below any client's dial timeout.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(100);

/// At most one log line about refused accepts in this time, so that a flood of connections does not flood the journal.
pub(crate) const ACCEPT_LOG_EVERY: Duration = Duration::from_secs(10);

/// How long a closing side reads and discards what the peer still sends, so that the kernel does not reset the
/// connection and destroy the error frame on its way. A second is a round trip on any link that serves local clients.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// And how many bytes: a refused body in full (NSQ's default largest is 5 MiB), but not a flood.
pub(crate) const DRAIN_BYTES_MAX: u64 = 8 << 20;

/// Bytes discarded per read while draining; on the stack.
pub(crate) const DRAIN_CHUNK_BYTES: usize = 4096;
