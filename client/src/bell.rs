//! Tells all who wait that something has changed; each then looks for itself.

use std::cell::RefCell;
use std::task::{Poll, Waker};

/// Rung after every turn of a core.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    /// Wakes all who wait.
    pub(crate) fn ring(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Looks now and whenever the bell rings, until there is something.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        std::future::poll_fn(|context| {
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until `condition` holds.
    pub(crate) async fn when(&self, mut condition: impl FnMut() -> bool) {
        self.until(|| condition().then_some(())).await;
    }
}
