//! What the tasks of one broker share: the engine, who is to be woken, who waits for a commit.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use runtime::{Notify, clock, timer};
use storage::disk::Disk;
use storage::{Outcome, Stamp, Ticket};

use crate::engine::{AdminError, Engine, SessionNo};
use crate::limits;
use crate::progress::Progress;

/// The present moment, for the engine.
pub(crate) fn stamp() -> Stamp {
    Stamp {
        now: clock::now(),
        wall_ns: clock::wall_ns(),
    }
}

/// Single-threaded: borrows of the engine never span an await.
pub(crate) struct Host<D: Disk> {
    engine: RefCell<Engine<D>>,
    /// Input of connections that hold none of their own goes through this.
    pub(crate) scratch: RefCell<Vec<u8>>,
    sessions: RefCell<BTreeMap<SessionNo, Notify>>,
    /// Raised when the driver has to look: something was done to the engine.
    pub(crate) driver: Notify,
    /// Raised when topics or channels came or went.
    pub(crate) catalogue_changed: Notify,
    waiting: RefCell<BTreeMap<u64, Rc<Waiting>>>,
    waiting_next: Cell<u64>,
    /// Who was told "not now".
    retrying: RefCell<Vec<Notify>>,
    /// Of the storage thread.
    pub(crate) progress: Progress,
    /// The broker drains: publishes over HTTP are refused.
    pub(crate) stopping: Cell<bool>,
}

/// Someone who waits for a ticket.
struct Waiting {
    ticket: Ticket,
    result: RefCell<Option<Result<(), String>>>,
    done: Notify,
}

impl<D: Disk> Host<D> {
    pub(crate) fn new(engine: Engine<D>) -> Self {
        Host {
            engine: RefCell::new(engine),
            scratch: RefCell::new(vec![0; limits::INPUT_BYTES_MAX]),
            sessions: RefCell::default(),
            driver: Notify::new(),
            catalogue_changed: Notify::new(),
            waiting: RefCell::default(),
            waiting_next: Cell::new(0),
            retrying: RefCell::default(),
            progress: Progress::default(),
            stopping: Cell::new(false),
        }
    }

    /// Does something with the engine; the driver and woken sessions then see to what follows.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Engine<D>) -> T) -> T {
        let result = self.with_quietly(act);
        self.driver.notify();
        result
    }

    /// The same when nothing can follow for the driver to do.
    pub(crate) fn with_quietly<T>(&self, act: impl FnOnce(&mut Engine<D>) -> T) -> T {
        let mut engine = self.engine.borrow_mut();
        let result = act(&mut engine);
        let sessions = self.sessions.borrow();
        while let Some(no) = engine.poll_woken() {
            if let Some(notify) = sessions.get(&no) {
                notify.notify();
            }
        }
        result
    }

    /// Looks at the engine.
    pub(crate) fn view<T>(&self, look: impl FnOnce(&Engine<D>) -> T) -> T {
        look(&self.engine.borrow())
    }

    pub(crate) fn connect(&self, peer: &str) -> Option<(SessionNo, Notify)> {
        let no = self.with(|engine| engine.connect(peer, stamp()))?;
        let notify = Notify::new();
        self.sessions.borrow_mut().insert(no, notify.clone());
        Some((no, notify))
    }

    pub(crate) fn disconnect(&self, no: SessionNo) {
        self.sessions.borrow_mut().remove(&no);
        self.with(|engine| engine.disconnect(no, clock::now()));
    }

    /// Waits until a ticket is resolved.
    ///
    /// # Errors
    /// Why the commit failed.
    pub(crate) async fn resolved(&self, ticket: Ticket) -> Result<(), String> {
        if self.view(|engine| engine.is_resolved(ticket)) {
            return Ok(());
        }
        let waiting = Rc::new(Waiting {
            ticket,
            result: RefCell::default(),
            done: Notify::new(),
        });
        let key = self.waiting_next.replace(self.waiting_next.get() + 1);
        self.waiting.borrow_mut().insert(key, Rc::clone(&waiting));
        let _listed = Listed { host: self, key };
        loop {
            if let Some(result) = waiting.result.borrow_mut().take() {
                return result;
            }
            waiting.done.notified().await;
        }
    }

    /// Tells those who wait for tickets, and those who were told "not now".
    pub(crate) fn outcome(&self, outcome: Option<&Outcome>) {
        if let Some(outcome) = outcome {
            let result = outcome
                .result
                .as_ref()
                .map_err(ToString::to_string)
                .copied();
            for waiting in self.waiting.borrow().values() {
                let mut place = waiting.result.borrow_mut();
                if waiting.ticket <= outcome.through && place.is_none() {
                    *place = Some(result.clone());
                    waiting.done.notify();
                }
            }
        }
        for notify in std::mem::take(&mut *self.retrying.borrow_mut()) {
            notify.notify();
        }
    }

    /// Tries until the answer is not "not now"; gives up after a while.
    pub(crate) async fn insist<T>(
        &self,
        mut act: impl FnMut(&mut Engine<D>) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let deadline = clock::now() + limits::ROOM_WAIT_MAX;
        loop {
            match self.with(&mut act) {
                Err(AdminError::NotNow) => {}
                result => return result,
            }
            if self.again_before(deadline).await.is_err() {
                return Err(AdminError::NotNow);
            }
        }
    }

    /// Waits until something may have changed for who was told "not now".
    pub(crate) async fn again_before(&self, deadline: Duration) -> Result<(), timer::TimedOut> {
        let notify = Notify::new();
        self.retrying.borrow_mut().push(notify.clone());
        timer::timeout_at(deadline, notify.notified()).await
    }
}

/// Takes who gives up waiting off the list.
struct Listed<'a, D: Disk> {
    host: &'a Host<D>,
    key: u64,
}

impl<D: Disk> Drop for Listed<'_, D> {
    fn drop(&mut self) {
        self.host.waiting.borrow_mut().remove(&self.key);
    }
}
