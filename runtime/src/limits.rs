//! Numbers that nobody sets, with their reasons.

use std::time::Duration;

/// How long accepting rests after the kernel refused a connection for want of descriptors or
/// memory. The listener stays readable meanwhile, so without a rest the loop would spin; 100 ms is
/// far below any client's dial timeout.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(100);

/// At most one log line about refused accepts in this time, so that a flood of connections does not
/// flood the journal.
pub(crate) const ACCEPT_LOG_EVERY: Duration = Duration::from_secs(10);

/// How long a closing side reads and discards what the peer still sends, so that the kernel does
/// not reset the connection and destroy the error frame on its way. A second is a round trip on any
/// link that serves local clients.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// And how many bytes: a refused body in full (NSQ's default largest is 5 MiB), but not a flood.
pub(crate) const DRAIN_BYTES_MAX: u64 = 8 << 20;

/// Bytes discarded per read while draining; on the stack.
pub(crate) const DRAIN_CHUNK_BYTES: usize = 4096;

/// Bytes read at once into a buffer that grows with what comes; on the stack, never held while
/// waiting. What a socket has for us between two turns is seldom more, and a larger read is
/// repeated.
pub(crate) const READ_CHUNK_BYTES: usize = 16 << 10;

/// Bytes of a request's or a response's head. Holds every query that NSQ knows, many times over.
pub(crate) const HTTP_HEAD_BYTES_MAX: usize = 8 << 10;

/// What hyper's buffer of one connection may grow to while a large body comes in; it starts with 8
/// KiB, and a body is read in pieces of this size at most.
pub(crate) const HTTP_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Set aside for a body before its bytes are there: a client that announces 5 MiB and sends nothing
/// gets no more.
pub(crate) const HTTP_BODY_STEP_BYTES: usize = 64 << 10;

const _: () = assert!(HTTP_HEAD_BYTES_MAX >= 8192, "hyper's least buffer");
const _: () = assert!(HTTP_BUFFER_BYTES_MAX >= HTTP_HEAD_BYTES_MAX);
