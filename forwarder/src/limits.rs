//! Numbers that nobody sets, with their reasons.

use std::time::Duration;

/// Heartbeats of an upstream. They cost bytes of a metered link, so they are rarer than local ones;
/// a link that died in silence is found after two of them, or sooner by an unanswered batch.
pub(crate) const UPSTREAM_HEARTBEAT: Duration = Duration::from_secs(20);

/// How long an upstream may take to answer for a batch before its link is given up. Far below the
/// local message time-out (60 s), so that most messages need no TOUCH.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The local broker may gather messages for so long before it sends them: its least. Batches are
/// gathered here, with the operator's own time.
pub(crate) const SOURCE_BUFFER_TIMEOUT: Duration = Duration::from_millis(25);

/// Message time-out of a broker that does not say its own: nsqd's default.
pub(crate) const MSG_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// A message that was held for so long goes back to its broker instead of being touched again:
/// nsqd lets a message be touched for 15 minutes in all.
pub(crate) const HELD_TIME_MAX: Duration = Duration::from_secs(600);

/// Delay of a message that is given back because the byte budget of its route is used up.
pub(crate) const OVER_BUDGET_DELAY: Duration = Duration::from_millis(500);

/// At the end, for answers that are under way. With the next it stays below the 5 s that a gateway
/// gives its forwarder.
pub(crate) const ANSWERS_TIME_MAX: Duration = Duration::from_secs(3);

/// At the end, for the last FINs to leave and the brokers to close.
pub(crate) const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(1500);

/// Between two rounds of asking lookupds for sources: go-nsq's default, and nsq_to_nsq's.
pub(crate) const LOOKUP_INTERVAL: Duration = Duration::from_secs(60);

/// Between two log lines of a route that moves.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What is put to a topic's name for its dead letters.
pub(crate) const DEAD_SUFFIX: &str = ".dead";
