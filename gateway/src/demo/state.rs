//! What the parts of a run share.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use runtime::Notify;

use super::ledger::{Ledger, Totals};

/// Shared by producers, consumers, screen and the run itself.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) ledger: RefCell<Ledger>,
    /// Events that are with the gateway, or on their way to it, and have no answer.
    pub(crate) unanswered: Cell<u64>,
    /// Events that were sent once more because there was no `OK`.
    pub(crate) sent_again: Cell<u64>,
    /// Why, the last time.
    pub(crate) last_refusal: RefCell<String>,
    /// Events leave as fast as they are answered, whatever `--rate` says.
    pub(crate) is_rushing: Cell<bool>,
    /// What the run waits for, for a message when it waits in vain.
    pub(crate) phase: Cell<&'static str>,
    pub(crate) facts: RefCell<Facts>,
    /// Something was acknowledged or arrived, or the link was cut. The run itself waits for it, nobody else.
    pub(crate) changed: Notify,
}

impl State {
    pub(crate) fn totals(&self) -> Totals {
        self.ledger.borrow().totals()
    }

    /// Waits until that is so; `phase` says in words what it is.
    pub(crate) async fn until(&self, phase: &'static str, is_so: impl Fn(&Self) -> bool) {
        self.phase.set(phase);
        while !is_so(self) {
            self.changed.notified().await;
        }
    }
}

/// What happened to the gateway and to the link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) link_is_up: bool,
    /// Cuts of the link, and connections that broke with it.
    pub(crate) cuts: u32,
    pub(crate) broken: u32,
    pub(crate) kills: u32,
    /// Events without an answer at the kill.
    pub(crate) unanswered_at_kill: u64,
    /// Acknowledged events that were not upstream then.
    pub(crate) buffered_at_kill: u64,
    /// From the kill until the gateway answered again.
    pub(crate) back_after: Option<Duration>,
    /// Summed over the gateway's lives.
    pub(crate) written_bytes: u64,
    pub(crate) payload_bytes: u64,
    /// The largest of the gateway's lives.
    pub(crate) peak_memory_bytes: u64,
}

/// A bounded queue between tasks.
pub(crate) struct Queue<T> {
    items: RefCell<VecDeque<T>>,
    max: usize,
    room: Notify,
    more: Notify,
}

impl<T> Queue<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            items: RefCell::new(VecDeque::new()),
            max,
            room: Notify::new(),
            more: Notify::new(),
        }
    }

    /// Waits for room. One task puts in.
    pub(crate) async fn push(&self, item: T) {
        while self.items.borrow().len() >= self.max {
            self.room.notified().await;
        }
        self.items.borrow_mut().push_back(item);
        self.more.notify();
    }

    /// Waits for the next one. Any number of tasks take out.
    pub(crate) async fn pop(&self) -> T {
        loop {
            let (item, is_more) = {
                let mut items = self.items.borrow_mut();
                (items.pop_front(), !items.is_empty())
            };
            if let Some(item) = item {
                if is_more {
                    self.more.notify(); // two may have come under one flag
                }
                self.room.notify();
                return item;
            }
            self.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_queue_hands_each_item_to_one_of_its_takers_and_never_holds_more_than_its_bound() {
        runtime::run(async {
            let queue = Rc::new(Queue::new(3));
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    let queue = Rc::clone(&queue);
                    runtime::spawn(async move {
                        let mut taken = Vec::new();
                        loop {
                            match queue.pop().await {
                                0 => return taken,
                                item => taken.push(item),
                            }
                            assert!(queue.items.borrow().len() <= 3);
                        }
                    })
                })
                .collect();
            for item in (1..=1_000).chain([0; 4]) {
                queue.push(item).await;
            }
            let mut all: Vec<u32> = runtime::join_all(takers).await.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(1..=1_000));
        });
    }
}
