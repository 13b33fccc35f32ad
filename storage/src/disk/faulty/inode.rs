//! One file of the medium: what is durable of it, and everything that may be.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What a disk writes as a whole or not at all.
pub(super) const SECTOR: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct Inode {
    /// What reads see. Shared with the media before and after a crash until one of them writes.
    pub(super) cached: Arc<Vec<u8>>,
    pub(super) durable_len: usize,
    /// By number of the sector.
    pub(super) unsynced: BTreeMap<usize, Unsynced>,
    pub(super) open: Weak<()>,
}

/// The contents that a sector may turn out to have.
#[derive(Clone, Debug, Hash)]
pub(super) struct Unsynced {
    /// The durable one, then each one written since.
    contents: Vec<[u8; SECTOR]>,
    /// A sync of the newest one failed: the next one passes over it.
    dropped: bool,
}

impl Unsynced {
    /// Index of the newest content that may be written back.
    pub(super) fn newest(&self) -> usize {
        if self.dropped {
            0
        } else {
            self.contents.len().saturating_sub(1)
        }
    }
}

impl Inode {
    pub(super) fn new(length: usize) -> Inode {
        let cached = Arc::new(vec![0; length]);
        Inode {
            cached,
            durable_len: 0,
            unsynced: BTreeMap::new(),
            open: Weak::new(),
        }
    }

    pub(super) fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        let cached = Arc::make_mut(&mut self.cached);
        if cached.len() < end {
            cached.resize(end, 0);
        }
        let sectors = start / SECTOR..end.div_ceil(SECTOR);
        if bytes.is_empty() {
            return;
        }
        for sector in sectors.clone() {
            let before = || Unsynced {
                contents: vec![sector_of(cached, sector)],
                dropped: false,
            };
            self.unsynced.entry(sector).or_insert_with(before);
        }
        if let Some(into) = cached.get_mut(start..end) {
            into.copy_from_slice(bytes);
        }
        for sector in sectors {
            if let Some(unsynced) = self.unsynced.get_mut(&sector) {
                unsynced.contents.push(sector_of(cached, sector));
                unsynced.dropped = false;
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable_len = self.cached.len();
        self.unsynced.retain(|_, unsynced| unsynced.dropped);
    }

    pub(super) fn fail_sync(&mut self, forget: bool) {
        for unsynced in self.unsynced.values_mut() {
            unsynced.dropped = true;
        }
        if forget {
            let cached = Arc::make_mut(&mut self.cached);
            for (sector, unsynced) in &self.unsynced {
                put_sector(cached, *sector, unsynced.contents.first());
            }
        }
    }

    /// Turns into what the medium holds, with the content of each unsynced sector that `choose` names.
    pub(super) fn keep(&mut self, mut choose: impl FnMut(&Unsynced) -> usize, whole_length: bool) {
        let unsynced = std::mem::take(&mut self.unsynced);
        if whole_length {
            self.durable_len = self.cached.len();
        }
        if unsynced.is_empty() && self.durable_len == self.cached.len() {
            return;
        }
        let cached = Arc::make_mut(&mut self.cached);
        for (sector, unsynced) in unsynced {
            put_sector(cached, sector, unsynced.contents.get(choose(&unsynced)));
        }
        cached.truncate(self.durable_len);
    }

    pub(super) fn keep_some(&mut self, draw: &mut Draw) {
        let whole_length = draw.chance(128);
        let odds = draw.one_of(&[0, 32, 128, 224, 256]);
        let prefix = draw.below(self.unsynced.len() + 1);
        let first = draw.one_of(&[usize::MAX, usize::MAX, prefix]);
        let mut nth = 0;
        let choose = |unsynced: &Unsynced| {
            nth += 1;
            if first != usize::MAX {
                return if nth <= first {
                    unsynced.contents.len() - 1
                } else {
                    0
                };
            }
            match draw.chance(odds) {
                // Mostly the last content, now and then one that was overwritten in the cache.
                true if draw.chance(208) => unsynced.contents.len() - 1,
                true => draw.below(unsynced.contents.len()),
                false => 0,
            }
        };
        self.keep(choose, whole_length);
    }

    pub(super) fn flip_bit(&mut self, byte: u64, mask: u8) -> bool {
        let Ok(byte) = usize::try_from(byte) else {
            return false;
        };
        let Some(cached) = Arc::make_mut(&mut self.cached).get_mut(byte) else {
            return false;
        };
        *cached ^= mask;
        let unsynced = self.unsynced.get_mut(&(byte / SECTOR));
        for content in unsynced
            .into_iter()
            .flat_map(|unsynced| &mut unsynced.contents)
        {
            content
                .iter_mut()
                .skip(byte % SECTOR)
                .take(1)
                .for_each(|byte| *byte ^= mask);
        }
        true
    }
}

/// The sector, with zeros after the end of the file.
fn sector_of(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
    let mut content = [0; SECTOR];
    let rest = bytes.get(sector * SECTOR..).unwrap_or_default();
    content
        .iter_mut()
        .zip(rest)
        .for_each(|(into, from)| *into = *from);
    content
}

fn put_sector(bytes: &mut [u8], sector: usize, content: Option<&[u8; SECTOR]>) {
    let rest = bytes.get_mut(sector * SECTOR..).unwrap_or_default();
    rest.iter_mut()
        .zip(content.into_iter().flatten())
        .for_each(|(into, from)| *into = *from);
}

/// splitmix64: small, seeded, the same everywhere.
#[derive(Debug)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    /// True `in_256` times of 256.
    pub(super) fn chance(&mut self, in_256: u64) -> bool {
        self.next() % 256 < in_256
    }

    pub(super) fn one_of<T: Copy + Default>(&mut self, values: &[T]) -> T {
        values
            .get(self.below(values.len()))
            .copied()
            .unwrap_or_default()
    }
}
