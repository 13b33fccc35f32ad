//! What tasks of one thread tell each other: a wake flag, a stop flag, a number of slots.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A wake flag. [`Notify::notify`] raises it; one wait for it lowers it. Raised before anyone
/// waits, it is not lost; raised twice, it counts once: whoever is woken looks at all there is to
/// do.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    inner: Rc<NotifyInner>,
}

#[derive(Debug, Default)]
struct NotifyInner {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Who else waits; empty in nearly every use, and then without memory.
    others: RefCell<Vec<Waker>>,
}

impl Notify {
    /// A lowered flag.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Raises the flag and wakes who waits.
    pub fn notify(&self) {
        if self.inner.raised.replace(true) {
            return;
        }
        let waker = self.inner.waker.take();
        let others = std::mem::take(&mut *self.inner.others.borrow_mut());
        for waker in waker.into_iter().chain(others) {
            waker.wake();
        }
    }

    /// Waits for the flag and lowers it. When several wait, one of them gets it and the others wait
    /// on.
    pub async fn notified(&self) {
        std::future::poll_fn(|context| self.poll_notified(context)).await;
    }

    /// [`Notify::notified`] for hand-written futures.
    pub fn poll_notified(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.inner.raised.replace(false) {
            return Poll::Ready(());
        }
        let mut waker = self.inner.waker.borrow_mut();
        match &*waker {
            None => *waker = Some(context.waker().clone()),
            Some(known) if known.will_wake(context.waker()) => {}
            Some(_) => {
                let mut others = self.inner.others.borrow_mut();
                if !others.iter().any(|other| other.will_wake(context.waker())) {
                    others.push(context.waker().clone());
                }
            }
        }
        Poll::Pending
    }
}

/// The request to end, seen by all clones. It is never taken back.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    inner: Rc<StopInner>,
}

#[derive(Debug, Default)]
struct StopInner {
    requested: Cell<bool>,
    next_key: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl Stop {
    /// Not requested yet.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Asks everyone who holds a clone to drain and return.
    pub fn request(&self) {
        self.inner.requested.set(true);
        let waiting = std::mem::take(&mut *self.inner.waiting.borrow_mut());
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// Whether it was requested.
    pub fn is_requested(&self) -> bool {
        self.inner.requested.get()
    }

    /// Waits for the request; any number of tasks may.
    pub fn requested(&self) -> impl Future<Output = ()> + use<> {
        Requested {
            inner: Rc::clone(&self.inner),
            key: None,
        }
    }
}

struct Requested {
    inner: Rc<StopInner>,
    key: Option<u64>,
}

impl Future for Requested {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.inner.requested.get() {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| {
            let key = self.inner.next_key.get();
            self.inner.next_key.set(key + 1);
            key
        });
        self.inner
            .waiting
            .borrow_mut()
            .insert(key, context.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.inner.waiting.borrow_mut().remove(&key);
        }
    }
}

/// A bound on how many may do something at once: connections, requests. Who comes later waits.
#[derive(Debug, Clone)]
pub struct Slots {
    inner: Rc<SlotsInner>,
}

#[derive(Debug)]
struct SlotsInner {
    taken: Cell<usize>,
    max: usize,
    freed: Notify,
}

impl Slots {
    /// `max` slots, all free. With none, nobody ever gets one.
    pub fn new(max: usize) -> Slots {
        Slots {
            inner: Rc::new(SlotsInner {
                taken: Cell::new(0),
                max,
                freed: Notify::new(),
            }),
        }
    }

    /// A slot, if one is free.
    pub fn try_acquire(&self) -> Option<Slot> {
        let taken = self.inner.taken.get();
        if taken >= self.inner.max {
            return None;
        }
        self.inner.taken.set(taken + 1);
        Some(Slot {
            inner: Rc::clone(&self.inner),
        })
    }

    /// Waits for a free slot.
    pub async fn acquire(&self) -> Slot {
        loop {
            if let Some(slot) = self.try_acquire() {
                if self.inner.taken.get() < self.inner.max {
                    self.inner.freed.notify(); // two may have been freed under one flag
                }
                return slot;
            }
            self.inner.freed.notified().await;
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.inner.taken.get()
    }

    /// Waits until all are free; new ones must not be taken meanwhile.
    pub async fn all_free(&self) {
        while self.inner.taken.get() > 0 {
            self.inner.freed.notified().await;
        }
    }
}

/// A slot, free again when it is dropped.
#[derive(Debug)]
pub struct Slot {
    inner: Rc<SlotsInner>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.inner
            .taken
            .set(self.inner.taken.get().saturating_sub(1));
        self.inner.freed.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run, spawn, yield_now};

    #[test]
    fn a_notification_before_the_wait_is_not_lost_and_counts_once() {
        run(async {
            let notify = Notify::new();
            notify.notify();
            notify.notify();
            notify.notified().await;
            assert!(smol::future::poll_once(notify.notified()).await.is_none());
        });
    }

    #[test]
    fn every_notification_serves_one_of_several_waiting_tasks() {
        run(async {
            let (notify, served) = (Notify::new(), Rc::new(Cell::new(0)));
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let (notify, served) = (notify.clone(), Rc::clone(&served));
                    spawn(async move {
                        notify.notified().await;
                        served.set(served.get() + 1);
                    })
                })
                .collect();
            for expected in 0..=3 {
                for _ in 0..5 {
                    yield_now().await;
                }
                assert_eq!(served.get(), expected);
                notify.notify();
            }
            drop(tasks);
        });
    }

    #[test]
    fn a_stop_reaches_those_who_wait_and_those_who_ask_later() {
        run(async {
            let stop = Stop::new();
            let clone = stop.clone();
            let task = spawn(async move { clone.requested().await });
            let given_up = stop.requested();
            assert!(smol::future::poll_once(given_up).await.is_none());
            yield_now().await;
            assert_eq!(
                stop.inner.waiting.borrow().len(),
                1,
                "who gave up left no entry"
            );
            stop.request();
            task.await;
            stop.requested().await;
            assert!(stop.is_requested());
        });
    }

    #[test]
    fn slots_bound_and_those_who_wait_are_served_when_one_is_freed() {
        run(async {
            let slots = Slots::new(2);
            let (first, second) = (slots.acquire().await, slots.acquire().await);
            assert!(slots.try_acquire().is_none());
            let tasks: Vec<_> = (0..2)
                .map(|_| {
                    let slots = slots.clone();
                    spawn(async move { slots.acquire().await })
                })
                .collect();
            yield_now().await;
            drop((first, second));
            let mut held = Vec::new();
            for task in tasks {
                held.push(task.await);
            }
            assert_eq!(slots.taken(), 2);
            drop(held);
            slots.all_free().await;
        });
    }
}
