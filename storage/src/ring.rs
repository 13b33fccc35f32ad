//! Where the next block goes, and which pages may be written again.
//!
//! Positions are virtual: they only grow, and the offset in the file is the position modulo the ring's size.
//!
//! ```text
//!      tail                        synced end     head
//!        |      live blocks             |  failed   |      free, up to tail + ring size
//! ```
//!
//! Pages before `tail` are dead *and a synced state says so*. A block that failed to sync leaves its pages behind:
//! the retry takes fresh ones.

use std::collections::VecDeque;

use crate::block::{Header, Place};
use crate::ids::BlockNo;

/// A block that recovery would read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveBlock {
    pub(crate) place: Place,
    /// Its position.
    pub(crate) at: u64,
}

/// The ring's geometry.
pub(crate) struct Ring<F> {
    pub(crate) file: F,
    pub(crate) bytes: u64,
    head: u64,
    tail: u64,
    synced_end: u64,
    live: VecDeque<LiveBlock>,
    /// The newest synced block: its place and checksum.
    last: (Place, u32),
    /// What the next block may call synced.
    synced_through: BlockNo,
    next_number: BlockNo,
}

impl<F> Ring<F> {
    /// The ring as recovery found it: `chain` from the oldest whole live block to the newest, `live_from` as the
    /// newest names it. `next_number` is above every number on the medium.
    pub(crate) fn recovered(
        file: F,
        bytes: u64,
        chain: &[Header],
        live_from: Place,
        synced_through: BlockNo,
        next_number: BlockNo,
    ) -> Ring<F> {
        let mut ring = Ring {
            file,
            bytes,
            head: live_from.offset.into(),
            tail: live_from.offset.into(),
            synced_end: 0,
            live: VecDeque::new(),
            last: (Place::default(), 0),
            synced_through,
            next_number,
        };
        for header in chain {
            let offset = u64::from(header.place.offset);
            let lap_start = ring.head - ring.head % bytes;
            let at = if lap_start + offset >= ring.head {
                lap_start + offset
            } else {
                lap_start + bytes + offset
            };
            ring.live.push_back(LiveBlock {
                place: header.place,
                at,
            });
            ring.head = at + header.ring_bytes();
            ring.last = (header.place, header.crc);
        }
        // A start that said nothing is written over by the next one: many in a row must not fill the ring.
        if let [.., before, last] = chain {
            if last.payload_bytes == 0 {
                ring.head = ring.live.pop_back().map_or(ring.head, |block| block.at);
                ring.last = (before.place, before.crc);
            }
        }
        ring.synced_end = ring.head;
        ring
    }

    /// The oldest live block.
    pub(crate) fn live_from(&self) -> Option<LiveBlock> {
        self.live.front().copied()
    }

    /// Blocks from the oldest live one on.
    pub(crate) fn live(&self) -> impl Iterator<Item = &LiveBlock> {
        self.live.iter()
    }

    /// Bytes from the oldest live block to the head.
    pub(crate) fn used(&self) -> u64 {
        self.head - self.live_from().map_or(self.head, |block| block.at)
    }

    /// Bytes that may be written.
    pub(crate) fn free(&self) -> u64 {
        self.bytes - (self.head - self.tail)
    }

    /// The newest synced block's number.
    pub(crate) fn last_number(&self) -> BlockNo {
        self.last.0.number
    }

    /// The position of a block of `len` bytes, if it leaves `reserve` bytes free.
    pub(crate) fn position(&self, len: u64, reserve: u64) -> Option<u64> {
        // After many failures the pages behind the last synced block are taken again: nothing in them counts.
        [self.head, self.synced_end].into_iter().find_map(|head| {
            let to_end = self.bytes - head % self.bytes;
            let at = if len <= to_end { head } else { head + to_end };
            (at + len + reserve <= self.tail + self.bytes).then_some(at)
        })
    }

    /// The header of the next block, to stand at `at`.
    pub(crate) fn next_header(&mut self, at: u64, epoch: u32) -> Header {
        let number = self.next_number;
        self.next_number = BlockNo(number.0 + 1);
        let place = Place {
            number,
            offset: (at % self.bytes) as u32,
        };
        Header {
            place,
            epoch,
            payload_bytes: 0,
            payload_crc: 0,
            previous: self.last.0,
            previous_crc: self.last.1,
            live_from: self.live_from().map_or(place, |block| block.place),
            synced_through: self.synced_through,
            crc: 0,
        }
    }

    /// The block was written and synced.
    pub(crate) fn synced(&mut self, header: &Header, at: u64) {
        self.live.push_back(LiveBlock {
            place: header.place,
            at,
        });
        self.last = (header.place, header.crc);
        self.synced_through = header.place.number;
        self.head = at + header.ring_bytes();
        self.synced_end = self.head;
    }

    /// The block's write or sync failed: its pages are left behind.
    pub(crate) fn failed(&mut self, header: &Header, at: u64) {
        self.head = at + header.ring_bytes();
    }

    /// All before `number` is dead, and a synced state says so.
    pub(crate) fn set_live_from(&mut self, number: BlockNo) {
        while self.live.len() > 1 && self.live.front().is_some_and(|b| b.place.number < number) {
            self.live.pop_front();
        }
        self.tail = self.live.front().map_or(self.tail, |block| block.at);
    }
}
