//! Decoded blocks in memory, shared by all channels that read the same place.

use std::collections::HashMap;
use std::rc::Rc;

use crate::ids::BlockNo;
use crate::segment::SegmentKey;

/// A block's name for the life of the store: what it says never changes, wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BlockKey {
    /// A ring block: header, payload, padding.
    Ring(BlockNo),
    /// The runs of a segment's block at this offset.
    Segment(SegmentKey, u64),
}

struct Slot {
    bytes: Rc<Vec<u8>>,
    used: u64,
}

/// The blocks used last, up to a number of bytes; the newest one stays even if it is larger.
pub(crate) struct Cache {
    slots: HashMap<BlockKey, Slot>,
    bytes: usize,
    bytes_max: usize,
    clock: u64,
}

/// What a slot costs besides its bytes, about.
const SLOT_BYTES: usize = 96;

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Cache {
        Cache {
            slots: HashMap::new(),
            bytes: 0,
            bytes_max,
            clock: 0,
        }
    }

    /// The block, if it is here; it counts as used.
    pub(crate) fn get(&mut self, key: &BlockKey) -> Option<Rc<Vec<u8>>> {
        self.clock += 1;
        let slot = self.slots.get_mut(key)?;
        slot.used = self.clock;
        Some(Rc::clone(&slot.bytes))
    }

    /// Adds a block; those that were not used for longest go.
    pub(crate) fn insert(&mut self, key: BlockKey, bytes: Rc<Vec<u8>>) {
        self.clock += 1;
        self.bytes += bytes.capacity() + SLOT_BYTES;
        let old = self.slots.insert(
            key,
            Slot {
                bytes,
                used: self.clock,
            },
        );
        self.bytes -= old.map_or(0, |slot| slot.bytes.capacity() + SLOT_BYTES);
        while self.bytes > self.bytes_max && self.slots.len() > 1 {
            let oldest = self
                .slots
                .iter()
                .min_by_key(|(_, slot)| slot.used)
                .map(|(key, _)| *key);
            let Some(slot) = oldest.and_then(|key| self.slots.remove(&key)) else {
                return;
            };
            self.bytes -= slot.bytes.capacity() + SLOT_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_not_used_for_longest_goes_first_and_the_newest_stays() {
        let mut cache = Cache::new(3000);
        let key = |number| BlockKey::Ring(BlockNo(number));
        for number in 0..3 {
            cache.insert(key(number), Rc::new(vec![0; 800]));
        }
        cache.get(&key(0));
        cache.insert(key(3), Rc::new(vec![0; 800]));
        assert!(cache.get(&key(0)).is_some());
        assert!(cache.get(&key(1)).is_none());
        cache.insert(key(4), Rc::new(vec![0; 8000]));
        assert!(cache.get(&key(4)).is_some());
        assert!(cache.get(&key(0)).is_none());
    }
}
