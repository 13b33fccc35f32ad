//! Numbers of the broker that nobody sets, each with its reason and what happens at the limit.

use std::time::Duration;

/// What NSQ clients see as our version: plain semver, because nsqadmin takes anything else for
/// 0.0.0 and flags the node. It is the version of NSQ whose behaviour the broker follows.
pub const NSQ_VERSION: &str = "1.3.0";

/// What we name as the highest deflate level (nsqd's default); deflate itself is not offered.
pub const DEFLATE_LEVEL_MAX: u32 = 6;

/// Bytes that a connection reads and keeps without asking the body pool: NSQ's longest command
/// line, and large enough that many small commands are read with one system call.
pub const INPUT_BYTES_MAX: usize = protocol::limits::LINE_BYTES_MAX;

/// Commands of one session handled before others get their turn. At about a microsecond each, a
/// flooding producer delays another's heartbeat by less than a millisecond.
pub const COMMANDS_PER_TURN_MAX: u32 = 256;

/// Message frames of one channel written before the next channel gets its turn.
pub const MESSAGES_PER_CHANNEL_TURN_MAX: u32 = 64;

/// Message frames written in one turn of the delivery before sockets are served again.
pub const MESSAGES_PER_TURN_MAX: u32 = 512;

/// Expired timers handled in one turn; the rest is due at once.
pub const TIMERS_PER_TURN_MAX: u32 = 256;

/// Expired messages requeued per session, and deferred ones per channel, before other timers get
/// their turn.
pub const EXPIRIES_PER_TURN_MAX: u32 = 256;

/// Replies of one connection that wait for commits. At the limit the session's input waits: a
/// publisher that sends single messages without waiting gets this many into one commit.
pub const REPLIES_WAITING_MAX: usize = 512;

/// Places for waiting replies that a session keeps when none waits.
pub const REPLIES_KEPT: usize = 16;

/// Bytes of replies (not messages) in a session's output at which its commands wait until the peer
/// reads. An error frame is about 100 bytes, IDENTIFY's answer 400.
pub const REPLY_BYTES_MAX: usize = 4 * 1024;

/// Bytes of message frames at which a session's output is full; it grows no further unless one
/// message alone is larger, and that one draws from the body pool. A client may ask for less. NSQ's
/// default.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Time after which a message that could not be read is tried again.
pub const READ_RETRY: Duration = Duration::from_secs(1);

/// Attempts stop here: the wire has 16 bits, but pynsq and nsqjs read them as signed.
pub const ATTEMPTS_MAX: u16 = i16::MAX as u16;

/// Time for the four bytes of the magic. nsqd waits for ever; an idle socket must not hold a slot.
pub const MAGIC_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without a whole command for a connection that switched heartbeats off and holds a part of
/// the body pool: without it such a connection could keep that part for ever.
pub const POOLED_BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for a connection without heartbeats to take its last bytes.
pub const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a publish may wait for room in the store before it is answered with an error. NSQ's
/// producers have no timeout of their own, so an error that they can act on is better than silence.
pub const ROOM_WAIT_MAX: Duration = Duration::from_secs(10);

/// A connection's counts per topic that it published to; further topics are counted only in the
/// topic.
pub const TOPICS_PER_PRODUCER_MAX: usize = 64;

/// Topics that wait for the lookupds' channels at once; a command that would need one more waits.
pub const LOOKUPS_MAX: usize = 16;

/// HTTP connections served at once.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Jobs of the store that are run at the start for channels that are made then; far more than there
/// are routes.
pub const START_JOBS_MAX: u32 = 10_000;

/// That no connection is free is told again this often.
pub const FULL_TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// Time for storage to become idle when the broker stops; after it the broker stops anyway, as
/// after a power cut.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// What one connection takes at most beside its parts of the body pool: its input, its output twice
/// (what it writes and what gathers meanwhile), replies that wait, the session and its task.
pub const SESSION_BYTES_MAX: usize = INPUT_BYTES_MAX
    + 2 * (OUTPUT_BYTES_MAX
        + REPLY_BYTES_MAX
        + REPLIES_WAITING_MAX * protocol::frame::OK_FRAME.len())
    + REPLIES_WAITING_MAX * 24
    + REPLY_BYTES_MAX
    + 4096;

const _: () = assert!(MESSAGES_PER_CHANNEL_TURN_MAX <= MESSAGES_PER_TURN_MAX);
