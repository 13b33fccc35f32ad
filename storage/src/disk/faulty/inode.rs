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
    /// The sum of all sectors' digests.
    pub(super) digest: u64,
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
            digest: 0,
        }
    }

    pub(super) fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if bytes.is_empty() {
            return;
        }
        let cached = Arc::make_mut(&mut self.cached);
        if cached.len() < end {
            cached.resize(end, 0);
        }
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            let before = sector_of(cached, sector);
            let mut after = before;
            let at = sector * SECTOR;
            let (from, to) = (start.max(at), end.min(at + SECTOR));
            let into = after.get_mut(from - at..to - at);
            if let (Some(into), Some(bytes)) = (into, bytes.get(from - start..to - start)) {
                into.copy_from_slice(bytes);
            }
            let first = || Unsynced {
                contents: vec![before],
                dropped: false,
            };
            let unsynced = self.unsynced.entry(sector).or_insert_with(first);
            unsynced.contents.push(after);
            unsynced.dropped = false;
            put_sector(cached, &mut self.digest, sector, Some(&after));
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
                put_sector(cached, &mut self.digest, *sector, unsynced.contents.first());
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
            let content = unsynced.contents.get(choose(&unsynced));
            put_sector(cached, &mut self.digest, sector, content);
        }
        if self.durable_len < cached.len() {
            cached.truncate(self.durable_len);
            let sectors = 0..cached.len().div_ceil(SECTOR);
            let digests = sectors.map(|sector| digest(sector, &sector_of(cached, sector)));
            self.digest = digests.fold(0, u64::wrapping_add);
        }
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
        if byte >= self.cached.len() {
            return false;
        }
        let cached = Arc::make_mut(&mut self.cached);
        let mut content = sector_of(cached, byte / SECTOR);
        flip(&mut content, byte, mask);
        put_sector(cached, &mut self.digest, byte / SECTOR, Some(&content));
        let unsynced = self.unsynced.get_mut(&(byte / SECTOR));
        for content in unsynced
            .into_iter()
            .flat_map(|unsynced| &mut unsynced.contents)
        {
            flip(content, byte, mask);
        }
        true
    }
}

fn flip(content: &mut [u8; SECTOR], byte: usize, mask: u8) {
    if let Some(byte) = content.get_mut(byte % SECTOR) {
        *byte ^= mask;
    }
}

/// The sector, with zeros after the end of the file.
fn sector_of(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
    let mut content = [0; SECTOR];
    let rest = bytes.get(sector * SECTOR..).unwrap_or_default();
    let len = rest.len().min(SECTOR);
    if let (Some(into), Some(from)) = (content.get_mut(..len), rest.get(..len)) {
        into.copy_from_slice(from);
    }
    content
}

fn put_sector(bytes: &mut [u8], sum: &mut u64, sector: usize, content: Option<&[u8; SECTOR]>) {
    let Some(content) = content else { return };
    let before = digest(sector, &sector_of(bytes, sector));
    let rest = bytes.get_mut(sector * SECTOR..).unwrap_or_default();
    let len = rest.len().min(SECTOR);
    if let (Some(into), Some(from)) = (rest.get_mut(..len), content.get(..len)) {
        into.copy_from_slice(from);
    }
    let after = digest(sector, &sector_of(bytes, sector));
    *sum = sum.wrapping_sub(before).wrapping_add(after);
}

/// Of a sector at its place; one of zeros has none.
fn digest(sector: usize, content: &[u8; SECTOR]) -> u64 {
    let words = content
        .chunks_exact(8)
        .map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    let sum = words.fold(0u64, |sum, word| {
        (sum.rotate_left(5) ^ word).wrapping_mul(PRIME)
    });
    sum.wrapping_mul(2 * sector as u64 + 1)
}

/// FxHash's (Firefox, rustc).
const PRIME: u64 = 0x517C_C1B7_2722_0A95;

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
