//! Numbers of the protocol that nobody sets.

/// Bytes of a command line including its `\n`. nsqd reads lines through a 16 KiB buffer and closes
/// without a word when one does not fit.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a topic or channel name, `#ephemeral` included.
pub const NAME_BYTES_MAX: usize = 64;

/// Bytes kept of what a client says about itself in IDENTIFY (client id, host name, user agent).
/// nsqd keeps all of it; here a longer text is cut, so that a connection's memory stays bounded.
pub const IDENTITY_BYTES_MAX: usize = 256;

/// Bytes of a lookupd IDENTIFY body. nsqlookupd allocates whatever it is told; a real one is
/// under 300 bytes.
pub const LOOKUP_BODY_BYTES_MAX: u32 = 64 * 1024;

/// Bytes of an MPUB before the first body: total, count.
pub(crate) const BATCH_HEADER_BYTES: usize = 8;

/// The least that one message of an MPUB takes: its length and one byte.
pub(crate) const BATCH_ITEM_BYTES_MIN: u32 = 5;

const _: () = assert!(NAME_BYTES_MAX * 2 + 16 < LINE_BYTES_MAX);
