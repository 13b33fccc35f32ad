//! Deadlines of sessions and channels, at most one for each.

use std::collections::BTreeSet;
use std::time::Duration;

use storage::ChannelNo;

use super::SessionNo;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Heartbeat, read and write deadlines, message timeouts.
    Session(SessionNo),
    /// The first deferred message.
    Channel(ChannelNo),
}

/// An owner keeps the time for which it is armed (`armed`), so that a deadline that only moved away
/// costs nothing: the timer fires early and is armed again.
#[derive(Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Duration, Timer)>,
}

impl Timers {
    /// Fires `timer` at `at` or earlier.
    pub(crate) fn arm(&mut self, armed: &mut Option<Duration>, timer: Timer, at: Duration) {
        if let Some(before) = *armed {
            if before <= at {
                return;
            }
            self.due.remove(&(before, timer));
        }
        self.due.insert((at, timer));
        *armed = Some(at);
    }

    pub(crate) fn disarm(&mut self, armed: &mut Option<Duration>, timer: Timer) {
        if let Some(before) = armed.take() {
            self.due.remove(&(before, timer));
        }
    }

    /// The next timer that is due; its owner has to clear its `armed`.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Timer> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        self.due.pop_first().map(|(_, timer)| timer)
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_armed_once_and_fires_at_its_earliest_time() {
        let mut timers = Timers::default();
        let mut armed = None;
        let timer = Timer::Session(SessionNo(1));
        timers.arm(&mut armed, timer, Duration::from_secs(5));
        timers.arm(&mut armed, timer, Duration::from_secs(9));
        timers.arm(&mut armed, timer, Duration::from_secs(3));
        assert_eq!(timers.next(), Some(Duration::from_secs(3)));
        assert_eq!(timers.pop_due(Duration::from_secs(2)), None);
        assert_eq!(timers.pop_due(Duration::from_secs(3)), Some(timer));
        assert_eq!(timers.next(), None);
    }
}
