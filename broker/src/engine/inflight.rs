//! Messages in flight: a slab of entries, found by channel and id, and chained per session in the
//! order of their deadlines. Adding, finishing and touching an entry allocates nothing once the
//! slab has grown.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use storage::{ChannelNo, MessageId, Seq};

use super::SessionNo;

/// Place of an entry in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

const NONE: u32 = u32::MAX;

/// One delivery that has not been answered. The body stays in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) channel: ChannelNo,
    pub(crate) session: SessionNo,
    pub(crate) seq: Seq,
    pub(crate) id: MessageId,
    /// Sends so far, this one included.
    pub(crate) attempts: u16,
    pub(crate) delivered_at: Duration,
    pub(crate) deadline: Duration,
}

/// The entries of one session, earliest deadline first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    head: u32,
    tail: u32,
    len: u32,
}

impl Chain {
    pub(crate) const EMPTY: Chain = Chain {
        head: NONE,
        tail: NONE,
        len: 0,
    };

    pub(crate) fn len(&self) -> u32 {
        self.len
    }
}

/// All entries of the broker.
pub(crate) struct InFlight {
    nodes: Vec<Node>,
    /// As many as there may be.
    max: usize,
    /// First free node; free nodes are chained by `next`.
    free: u32,
    index: HashMap<(ChannelNo, MessageId), u32, BuildHasherDefault<IdHasher>>,
}

struct Node {
    entry: Entry,
    prev: u32,
    next: u32,
}

/// Bytes that one entry costs at most: its node and its place in the index at the lowest load after
/// a growth.
pub const ENTRY_BYTES_MAX: usize =
    size_of::<Node>() + 4 * size_of::<((ChannelNo, MessageId), u32)>();

impl InFlight {
    pub(crate) fn new(max: usize) -> Self {
        InFlight {
            nodes: Vec::new(),
            max,
            free: NONE,
            index: HashMap::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Adds an entry behind all of its session's entries that are due no later.
    pub(crate) fn insert(&mut self, chain: &mut Chain, entry: Entry) {
        let node = Node {
            entry,
            prev: NONE,
            next: NONE,
        };
        let slot = match self.nodes.get_mut(self.free as usize) {
            Some(free) => {
                let slot = self.free;
                self.free = free.next;
                *free = node;
                slot
            }
            None => {
                let len = self.nodes.len();
                if len == self.nodes.capacity() {
                    // Twice as many each time, but not more than there may be.
                    let more = len.max(16).min(self.max.saturating_sub(len)).max(1);
                    self.nodes.reserve_exact(more);
                }
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.index.insert((entry.channel, entry.id), slot);
        self.link(chain, slot);
    }

    #[cfg(test)]
    pub(crate) fn ids_for_tests(&self, chain: &Chain) -> Vec<MessageId> {
        let mut ids = Vec::new();
        let mut at = chain.head;
        while let Some(node) = self.nodes.get(at as usize) {
            ids.push(node.entry.id);
            at = node.next;
        }
        ids
    }

    #[cfg(test)]
    pub(crate) fn entry_for_tests(&mut self, slot: Slot) -> &mut Entry {
        &mut self.nodes[slot.0 as usize].entry
    }

    pub(crate) fn find(&self, channel: ChannelNo, id: MessageId) -> Option<Slot> {
        self.index.get(&(channel, id)).copied().map(Slot)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.nodes.get(slot.0 as usize).map(|node| &node.entry)
    }

    /// The session's entry that is due first.
    pub(crate) fn first(&self, chain: &Chain) -> Option<(Slot, &Entry)> {
        let node = self.nodes.get(chain.head as usize)?;
        Some((Slot(chain.head), &node.entry))
    }

    /// Takes an entry out; `chain` must be its session's.
    pub(crate) fn remove(&mut self, chain: &mut Chain, slot: Slot) -> Option<Entry> {
        self.unlink(chain, slot.0);
        let free = self.free;
        let node = self.nodes.get_mut(slot.0 as usize)?;
        node.next = free;
        let entry = node.entry;
        self.free = slot.0;
        self.index.remove(&(entry.channel, entry.id));
        Some(entry)
    }

    /// Gives an entry a new deadline; `chain` must be its session's.
    pub(crate) fn set_deadline(&mut self, chain: &mut Chain, slot: Slot, deadline: Duration) {
        self.unlink(chain, slot.0);
        if let Some(node) = self.nodes.get_mut(slot.0 as usize) {
            node.entry.deadline = deadline;
        }
        self.link(chain, slot.0);
    }

    /// Deadlines of a session grow nearly always, so the search from the back ends at once.
    fn link(&mut self, chain: &mut Chain, slot: u32) {
        let Some(deadline) = self
            .nodes
            .get(slot as usize)
            .map(|node| node.entry.deadline)
        else {
            return;
        };
        let mut prev = chain.tail;
        let mut next = NONE;
        while let Some(node) = self.nodes.get(prev as usize) {
            if node.entry.deadline <= deadline {
                break;
            }
            next = prev;
            prev = node.prev;
        }
        self.join(chain, prev, slot);
        self.join(chain, slot, next);
        chain.len += 1;
    }

    fn unlink(&mut self, chain: &mut Chain, slot: u32) {
        let Some(node) = self.nodes.get(slot as usize) else {
            return;
        };
        let (prev, next) = (node.prev, node.next);
        self.join(chain, prev, next);
        chain.len = chain.len.saturating_sub(1);
    }

    /// Makes `next` follow `prev`; `NONE` stands for the chain's end on either side.
    fn join(&mut self, chain: &mut Chain, prev: u32, next: u32) {
        match self.nodes.get_mut(prev as usize) {
            Some(node) => node.next = next,
            None => chain.head = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(node) => node.prev = prev,
            None => chain.tail = prev,
        }
    }
}

/// Ids count up and are the broker's own, so nobody can choose them to collide: one multiplication
/// spreads them, and the same run gives the same table.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        // 2^64 divided by the golden ratio, made odd.
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, deadline: u64) -> Entry {
        Entry {
            channel: ChannelNo(1),
            session: SessionNo(0),
            seq: Seq(id),
            id: MessageId(id),
            attempts: 1,
            delivered_at: Duration::ZERO,
            deadline: Duration::from_secs(deadline),
        }
    }

    fn drain(in_flight: &mut InFlight, chain: &mut Chain) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some((slot, _)) = in_flight.first(chain) {
            ids.push(in_flight.remove(chain, slot).unwrap().id.0);
        }
        ids
    }

    #[test]
    fn entries_of_a_session_are_due_in_order_of_their_deadlines() {
        let mut in_flight = InFlight::new(100);
        let mut chain = Chain::EMPTY;
        for (id, deadline) in [(1, 10), (2, 10), (3, 5), (4, 20), (5, 7)] {
            in_flight.insert(&mut chain, entry(id, deadline));
        }
        assert_eq!(chain.len(), 5);
        assert_eq!(drain(&mut in_flight, &mut chain), [3, 5, 1, 2, 4]);
        assert_eq!((chain.len(), in_flight.len()), (0, 0));
    }

    #[test]
    fn a_touched_entry_moves_behind_the_others() {
        let mut in_flight = InFlight::new(100);
        let mut chain = Chain::EMPTY;
        for id in 1..=3 {
            in_flight.insert(&mut chain, entry(id, id));
        }
        let slot = in_flight.find(ChannelNo(1), MessageId(1)).unwrap();
        in_flight.set_deadline(&mut chain, slot, Duration::from_secs(9));
        assert_eq!(drain(&mut in_flight, &mut chain), [2, 3, 1]);
    }

    #[test]
    fn freed_entries_are_used_again() {
        let mut in_flight = InFlight::new(100);
        let mut chain = Chain::EMPTY;
        for round in 0..100 {
            in_flight.insert(&mut chain, entry(round, round));
            in_flight.insert(&mut chain, entry(round + 1000, round));
            let slot = in_flight.find(ChannelNo(1), MessageId(round)).unwrap();
            in_flight.remove(&mut chain, slot);
            let slot = in_flight
                .find(ChannelNo(1), MessageId(round + 1000))
                .unwrap();
            in_flight.remove(&mut chain, slot);
            assert!(in_flight.find(ChannelNo(1), MessageId(round)).is_none());
        }
        assert_eq!(in_flight.nodes.len(), 2);
    }
}
