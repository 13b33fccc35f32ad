//! Numbers of the registration that nobody sets, with their reasons.

use std::time::Duration;

/// Between two PINGs: nsqd's. nsqlookupd forgets a broker that was silent for 300 s by default.
pub(super) const PING_EVERY: Duration = Duration::from_secs(15);

/// For a connection, and for the answers to what was sent. nsqd allows 1 s, because its publishers
/// may wait for its lookupds; here nobody waits, and over a mobile link a second is often too
/// short.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The first wait after a failure, and the longest. nsqd tries every 15 s.
pub(super) const RETRY_MIN: Duration = Duration::from_secs(1);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(15);

/// Commands sent before their answers are awaited. One at a time, 5,000 channels would take an hour
/// over a link with a round trip of 700 ms; 64 take one of our reads and one small packet or two.
pub(super) const OUTSTANDING_MAX: usize = 64;

/// Bytes of one answer. Real ones are under 300.
pub(super) const ANSWER_BYTES_MAX: u32 = 16 * 1024;

/// For the channels of a new topic, over all lookupds: so long may the topic's first message wait.
pub(super) const LOOKUP_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes of an answer about channels: 1,000 of the longest names twice over.
pub(super) const LOOKUP_BYTES_MAX: usize = 128 * 1024;

/// Channels that one new topic is given at its creation; a lookupd that names more is broken or
/// hostile.
pub(super) const LOOKUP_CHANNELS_MAX: usize = 1000;

const _: () = assert!(PING_EVERY.as_secs() > ANSWER_TIME_MAX.as_secs());
