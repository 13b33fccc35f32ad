//! What a route has done, for the log.

use std::fmt;

/// What a route has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that an upstream answered for.
    pub forwarded: u64,
    /// Bytes of their bodies.
    pub forwarded_bytes: u64,
    /// Batches that had to be sent again because their link was lost or the upstream had a fault.
    pub batches_again: u64,
    /// Messages given back to their broker unsent.
    pub given_back: u64,
    /// Messages that went to the dead letters.
    pub dead: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages forwarded ({} bytes), {} batches sent again, {} messages given back, \
             {} dead letters",
            self.forwarded, self.forwarded_bytes, self.batches_again, self.given_back, self.dead
        )
    }
}
