//! Numbers that nobody sets, with their reasons.

use std::time::Duration;

/// Topics, channels and the brokers of each, counted together. A broker with 1,000 topics of four
/// channels takes 10,000; an entry costs about 150 bytes, so the worst case is 10 MB. At the bound
/// REGISTER is answered with an error, and the link stays: closing it would take away what the
/// broker has registered already.
pub(crate) const ENTRIES_MAX: usize = 64 * 1024;

/// Bytes of each text by which a broker names itself. A DNS name has 253 at most.
pub(crate) const PEER_TEXT_BYTES_MAX: usize = 256;

/// For a new connection's magic and its first command. nsqlookupd waits for ever.
pub(crate) const FIRST_COMMAND_TIME_MAX: Duration = Duration::from_secs(10);

/// A link on which nothing was heard for so long is closed: its broker is gone or has hung, and
/// nsqd says PING every 15 s. Used when the time after which a broker counts as inactive is
/// shorter.
pub(crate) const LINK_SILENCE_MIN: Duration = Duration::from_secs(60);

/// For an answer to leave. Answers are tiny; a peer that does not take them is broken.
pub(crate) const WRITE_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes read at once. Commands are under 200; larger bodies grow the buffer within protocol's
/// bounds.
pub(crate) const READ_BYTES: usize = 1024;

/// Bytes of answers gathered before they are written, so that a flood of commands does not grow the
/// buffer.
pub(crate) const REPLY_BYTES_MAX: usize = 16 * 1024;

/// Text that answers a REGISTER at the bound.
pub(crate) const FULL: &str = "E_INVALID REGISTER too many registrations";
