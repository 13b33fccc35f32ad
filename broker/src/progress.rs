//! Whether the storage thread makes progress, for a watchdog.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A handle that outlives [`Broker::run`](crate::Broker::run), which takes the broker.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    submitted: Rc<Cell<Option<Duration>>>,
}

impl Progress {
    /// The time since boot at which the storage thread got the job that it is at; `None` when it has none.
    /// It has one at a time, so this moves whenever it gets on.
    #[must_use]
    pub fn storage_busy_since(&self) -> Option<Duration> {
        self.submitted.get()
    }

    pub(crate) fn submitted(&self, now: Duration) {
        self.submitted.set(Some(now));
    }

    pub(crate) fn done(&self) {
        self.submitted.set(None);
    }
}
