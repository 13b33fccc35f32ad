//! Numbers that nobody sets, with their reasons.

use std::time::Duration;

/// Largest frame other than a message. IDENTIFY's reply is the largest real one, under 1 KiB; an
/// error repeats at most a command line (16 KiB).
pub const ANSWER_BYTES_MAX: u32 = 32 * 1024;

/// Silence for this many heartbeat intervals means that the broker or the way to it is gone.
/// nsqd gives its clients two.
pub const SILENT_HEARTBEATS_MAX: u32 = 2;

/// Window that a broker is assumed to allow when its IDENTIFY reply does not say: nsqd's default.
pub const RDY_COUNT_MAX_DEFAULT: u32 = 2500;

/// Bytes asked for in one read; nsqd's own buffers are 16 KiB, an MPUB's answer is 10 bytes.
pub const READ_BYTES: usize = 32 * 1024;

/// An input or output buffer that grew above this is given back once it is empty, so that one
/// large message does not pin its size for the connection's life.
pub const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// A lookupd's answer: 300 bytes a broker, so a cluster of thousands fits.
pub const LOOKUP_BYTES_MAX: usize = 1024 * 1024;

/// Connecting to a lookupd and reading its answer. go-nsq gives it 2 s; links of gateways are slow.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to distinct brokers that one producer or consumer holds, whatever a lookupd says.
pub const LINKS_MAX: usize = 256;

/// How long a connection that no longer takes bytes is still read: what the broker sent before it
/// closed is here already or within a round trip.
pub const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);
