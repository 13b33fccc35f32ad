//! Which blocks of a ring count: found by their checksums alone, linked from the newest back to the oldest live one.
//!
//! | found | meaning |
//! |---|---|
//! | a block above every `synced_through`, whole, linked to the last synced one by whole blocks | the log goes on to it: it was written, perhaps never acknowledged |
//! | a block above every `synced_through`, broken or not linked | void: nothing in it was acknowledged; the log ends before it |
//! | a block at or below a `synced_through`, broken | damage: it is left out and counted, the walk goes on behind it |
//! | a block before `live_from` of the newest | dead |
//! | no whole block at all | the ring is lost |

use std::collections::BTreeMap;
use std::io;

use crate::block::{HEADER_BYTES, Header, Place};
use crate::disk::Disk;
use crate::ids::BlockNo;
use crate::limits::PAGE_BYTES;

/// What recovery knows of a ring.
pub(crate) struct Chain {
    /// From the oldest live block to the newest.
    pub(crate) blocks: Vec<Header>,
    /// The oldest block that is needed, as the newest one says, or the state.
    pub(crate) live_from: Place,
    /// It is the state that says so.
    pub(crate) is_state_ahead: bool,
    /// The newest block that some block calls synced.
    pub(crate) synced_through: BlockNo,
    /// Above every number seen.
    pub(crate) next_number: BlockNo,
    /// The highest epoch seen.
    pub(crate) epoch: u32,
    /// Live blocks that are broken.
    pub(crate) damaged: u64,
}

/// Reads a ring's headers and links them; `None` if no block is whole. A state that was synced after the newest
/// block may say that more is free.
pub(crate) fn read<D: Disk>(
    disk: &D,
    file: &D::File,
    ring_bytes: u64,
    ring_id: u64,
    state_live_from: Option<Place>,
) -> io::Result<Option<Chain>> {
    let ring = RingReader {
        disk,
        file,
        ring_id,
        headers: headers(disk, file, ring_bytes, ring_id)?,
    };
    let Some(newest) = ring.headers.values().next_back() else {
        return Ok(None);
    };
    let next_number = BlockNo(newest.place.number.0 + 1);
    let epoch = ring
        .headers
        .values()
        .map(|header| header.epoch)
        .max()
        .unwrap_or(0);
    let synced = ring
        .headers
        .values()
        .map(|header| header.synced_through)
        .max();
    let synced_through = synced.unwrap_or_default();
    let Some(head) = ring.head(synced_through)? else {
        return Ok(None);
    };
    let is_there = |place: &Place| {
        let header = ring.headers.get(&place.number);
        header.is_some_and(|header| header.place == *place)
    };
    let state_says = state_live_from
        .filter(|place| place.number > head.live_from.number && place.number <= head.place.number)
        .filter(is_there);
    let live_from = state_says.unwrap_or(head.live_from);
    let (blocks, mut damaged) = ring.walk(head, live_from.number);
    // The newest synced block itself is broken.
    damaged += u64::from(head.place.number < synced_through);
    Ok(Some(Chain {
        blocks,
        live_from,
        is_state_ahead: state_says.is_some(),
        synced_through,
        next_number,
        epoch,
        damaged,
    }))
}

/// A block's payload, if it is whole.
pub(crate) fn payload<D: Disk>(
    disk: &D,
    file: &D::File,
    ring_id: u64,
    header: &Header,
) -> io::Result<Option<Vec<u8>>> {
    let mut block = vec![0; HEADER_BYTES + header.payload_bytes as usize];
    disk.read_at(file, u64::from(header.place.offset), &mut block)?;
    let is_whole = header.payload(&block, ring_id).is_some();
    Ok(is_whole.then_some(block))
}

struct RingReader<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    ring_id: u64,
    headers: BTreeMap<BlockNo, Header>,
}

fn headers<D: Disk>(
    disk: &D,
    file: &D::File,
    ring_bytes: u64,
    ring_id: u64,
) -> io::Result<BTreeMap<BlockNo, Header>> {
    /// Read at once; the ring is a multiple of it.
    const CHUNK_BYTES: u64 = 16 * PAGE_BYTES;
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    let mut headers = BTreeMap::new();
    let mut at = 0;
    while at < ring_bytes {
        disk.read_at(file, at, &mut chunk)?;
        for (index, page) in chunk.chunks(PAGE_BYTES as usize).enumerate() {
            let offset = (at + index as u64 * PAGE_BYTES) as u32;
            let header = Header::decode(page, ring_id, offset);
            let fits = |h: &Header| u64::from(offset) + h.ring_bytes() <= ring_bytes;
            if let Some(header) = header.filter(fits) {
                headers.insert(header.place.number, header);
            }
        }
        at += CHUNK_BYTES;
    }
    Ok(headers)
}

impl<D: Disk> RingReader<'_, D> {
    fn is_whole(&self, header: &Header) -> io::Result<bool> {
        Ok(payload(self.disk, self.file, self.ring_id, header)?.is_some())
    }

    /// The newest block that counts.
    fn head(&self, synced_through: BlockNo) -> io::Result<Option<Header>> {
        let mut linked: BTreeMap<BlockNo, u32> = BTreeMap::new();
        let mut head = None;
        for header in self
            .headers
            .range(BlockNo(synced_through.0 + 1)..)
            .map(|(_, h)| h)
        {
            let before = header.previous.number;
            let continues = before <= synced_through
                || linked
                    .get(&before)
                    .is_some_and(|crc| *crc == header.previous_crc);
            if continues && self.is_whole(header)? {
                linked.insert(header.place.number, header.crc);
                head = Some(*header);
            }
        }
        if head.is_some() {
            return Ok(head);
        }
        for header in self.headers.range(..=synced_through).rev().map(|(_, h)| h) {
            if self.is_whole(header)? {
                return Ok(Some(*header));
            }
        }
        Ok(None)
    }

    /// The blocks from the oldest one needed to the head, and how many between are broken.
    fn walk(&self, head: Header, oldest: BlockNo) -> (Vec<Header>, u64) {
        let (mut blocks, mut damaged) = (vec![head], 0);
        let mut at = head;
        while at.place.number > oldest && at.previous.number >= oldest && at.previous.number.0 > 0 {
            let named = self.headers.get(&at.previous.number);
            let linked = named.filter(|found| found.crc == at.previous_crc);
            let Some(found) = linked.or_else(|| {
                damaged += 1;
                let before = self.headers.range(oldest..at.previous.number).next_back();
                before.map(|(_, header)| header)
            }) else {
                break;
            };
            at = *found;
            blocks.push(at);
        }
        blocks.reverse();
        (blocks, damaged)
    }
}
