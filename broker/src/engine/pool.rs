//! The byte pool: what all sessions together may hold of message bodies beyond their small fixed
//! buffers.

use std::collections::VecDeque;

use super::SessionNo;

/// A part is given whole or not at all, so nobody waits for the rest of a body while holding its
/// first half.
pub(crate) struct Pool {
    free: usize,
    /// Sessions that were refused, in order; woken when bytes come back.
    waiting: VecDeque<SessionNo>,
}

impl Pool {
    pub(crate) fn new(bytes: usize) -> Self {
        Pool {
            free: bytes,
            waiting: VecDeque::new(),
        }
    }

    /// Raises `held` to `bytes`; false if the pool has not that many.
    pub(crate) fn reserve(&mut self, held: &mut usize, bytes: usize) -> bool {
        let more = bytes.saturating_sub(*held);
        if more > self.free {
            return false;
        }
        self.free -= more;
        *held += more;
        true
    }

    pub(crate) fn release(&mut self, held: &mut usize) {
        self.free += std::mem::take(held);
    }

    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// Queues a refused session, once.
    pub(crate) fn wait(&mut self, session: SessionNo) {
        if !self.waiting.contains(&session) {
            self.waiting.push_back(session);
        }
    }

    pub(crate) fn take_waiting(&mut self) -> VecDeque<SessionNo> {
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn forget(&mut self, session: SessionNo) {
        self.waiting.retain(|waiting| *waiting != session);
    }
}
