//! A ring block: one commit, on pages of its own, starting at a page boundary.
//!
//! Little-endian:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `NEB1` |
//! | 4 | 4 | CRC-32/ISCSI of 8..96, seeded with store id and ring offset |
//! | 8 | 8 | number: counted over the store's life |
//! | 16 | 4 | epoch: raised at each start |
//! | 20 | 4 | ring offset in bytes, where this block stands |
//! | 24 | 4 | payload bytes |
//! | 28 | 4 | CRC-32/ISCSI of the payload, seeded with store id and number |
//! | 32 | 8 | predecessor: number (0: there is none) |
//! | 40 | 4 | predecessor: ring offset |
//! | 44 | 4 | predecessor: its header CRC |
//! | 48 | 8 | live from: number of the oldest block still needed |
//! | 56 | 4 | live from: ring offset |
//! | 60 | 4 | zero |
//! | 64 | 8 | synced through: the newest block known to be durable when this one was written |
//! | 72 | 24 | zero |
//! | 96 | n | payload: postcard [`Entry`](crate::entry::Entry)s, one after the other |
//!
//! The rest of the last page is zero. Predecessor and `synced through` differ for the first block after a
//! start: its predecessor may have been read from a page cache that was never synced.

use crate::codec::{checksum, open_header, seal_header, start_header};
use crate::ids::BlockNo;

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 96;

const MAGIC: u32 = u32::from_le_bytes(*b"NEB1");

/// Where a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) number: BlockNo,
    /// Bytes from the ring's start.
    pub(crate) offset: u32,
}

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) place: Place,
    pub(crate) epoch: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) payload_crc: u32,
    pub(crate) previous: Place,
    pub(crate) previous_crc: u32,
    pub(crate) live_from: Place,
    pub(crate) synced_through: BlockNo,
    /// The header's own checksum; what the successor names.
    pub(crate) crc: u32,
}

impl Header {
    /// Whole bytes that the block takes in the ring, header and padding included.
    pub(crate) fn ring_bytes(&self) -> u64 {
        pages(HEADER_BYTES as u64 + u64::from(self.payload_bytes))
    }

    /// Reads the header at `offset` of the ring of `store`.
    pub(crate) fn decode(bytes: &[u8], store: u64, offset: u32) -> Option<Header> {
        let (crc, mut fields) =
            open_header(bytes, MAGIC, HEADER_BYTES, &[store, u64::from(offset)])?;
        let number = BlockNo(fields.u64()?);
        let epoch = fields.u32()?;
        let place = Place {
            number,
            offset: fields.u32()?,
        };
        let (payload_bytes, payload_crc) = (fields.u32()?, fields.u32()?);
        let previous = Place {
            number: BlockNo(fields.u64()?),
            offset: fields.u32()?,
        };
        let previous_crc = fields.u32()?;
        let live_from = Place {
            number: BlockNo(fields.u64()?),
            offset: fields.u32()?,
        };
        fields.u32()?;
        let synced_through = BlockNo(fields.u64()?);
        (place.offset == offset).then_some(Header {
            place,
            epoch,
            payload_bytes,
            payload_crc,
            previous,
            previous_crc,
            live_from,
            synced_through,
            crc,
        })
    }

    /// Completes a block whose bytes are [`HEADER_BYTES`] of room and the payload: fills in the header, pads to
    /// whole pages. Lengths and checksums are computed here.
    pub(crate) fn seal(&mut self, block: &mut Vec<u8>, store: u64) {
        let payload = block.get(HEADER_BYTES..).unwrap_or_default();
        self.payload_bytes = payload.len() as u32;
        self.payload_crc = payload_crc(store, self.place.number, payload);
        let mut head = Vec::with_capacity(HEADER_BYTES);
        start_header(&mut head, MAGIC);
        head.extend_from_slice(&self.place.number.0.to_le_bytes());
        head.extend_from_slice(&self.epoch.to_le_bytes());
        head.extend_from_slice(&self.place.offset.to_le_bytes());
        head.extend_from_slice(&self.payload_bytes.to_le_bytes());
        head.extend_from_slice(&self.payload_crc.to_le_bytes());
        head.extend_from_slice(&self.previous.number.0.to_le_bytes());
        head.extend_from_slice(&self.previous.offset.to_le_bytes());
        head.extend_from_slice(&self.previous_crc.to_le_bytes());
        head.extend_from_slice(&self.live_from.number.0.to_le_bytes());
        head.extend_from_slice(&self.live_from.offset.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&self.synced_through.0.to_le_bytes());
        let place = [store, u64::from(self.place.offset)];
        self.crc = seal_header(&mut head, 0, HEADER_BYTES, &place);
        if let Some(slot) = block.get_mut(..HEADER_BYTES) {
            slot.copy_from_slice(&head);
        }
        block.resize(pages(block.len() as u64) as usize, 0);
    }

    /// The payload of a block read whole, if it is intact.
    pub(crate) fn payload<'a>(&self, block: &'a [u8], store: u64) -> Option<&'a [u8]> {
        let end = HEADER_BYTES + self.payload_bytes as usize;
        let payload = block.get(HEADER_BYTES..end)?;
        (payload_crc(store, self.place.number, payload) == self.payload_crc).then_some(payload)
    }
}

/// `bytes` rounded up to whole pages.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(crate::limits::PAGE_BYTES)
}

fn payload_crc(store: u64, number: BlockNo, payload: &[u8]) -> u32 {
    checksum(&[store, number.0], payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reads_back_and_only_at_its_own_place() {
        let mut header = Header {
            place: Place {
                number: BlockNo(9),
                offset: 8192,
            },
            epoch: 3,
            payload_bytes: 0,
            payload_crc: 0,
            previous: Place {
                number: BlockNo(8),
                offset: 4096,
            },
            previous_crc: 0xDEAD_BEEF,
            live_from: Place {
                number: BlockNo(2),
                offset: 0,
            },
            synced_through: BlockNo(8),
            crc: 0,
        };
        let mut block = vec![0; HEADER_BYTES];
        block.extend_from_slice(b"payload");
        header.seal(&mut block, 77);
        assert_eq!(block.len(), 4096);
        let found = Header::decode(&block, 77, 8192).unwrap();
        assert_eq!(found, header);
        assert_eq!(found.payload(&block, 77), Some(&b"payload"[..]));
        assert!(Header::decode(&block, 77, 4096).is_none());
        assert!(Header::decode(&block, 78, 8192).is_none());
        block[HEADER_BYTES] ^= 1;
        assert!(found.payload(&block, 77).is_none());
    }
}
