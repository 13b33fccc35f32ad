//! Clocks of the benches: they measure, so they read them.

use std::thread;
use std::time::{Duration, Instant};

/// Time since some start.
#[derive(Debug, Clone, Copy)]
pub struct Watch(Instant);

impl Watch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    pub fn start() -> Watch {
        Watch(Instant::now())
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Sleeps until this long after the start; at once if that is over.
    pub fn sleep_until(&self, after: Duration) {
        pause(after.saturating_sub(self.elapsed()));
    }
}

/// Sleeps: for a pace, or for a daemon's own timers to have passed.
#[expect(clippy::disallowed_methods, reason = "a bench keeps a pace")]
pub fn pause(time: Duration) {
    thread::sleep(time);
}
