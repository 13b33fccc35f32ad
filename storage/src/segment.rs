//! A topic's segment: a file of dense compressed blocks, written once from the front.
//!
//! File header, little-endian:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `NES1` |
//! | 4 | 4 | CRC-32/ISCSI of 8..128 |
//! | 8 | 8 | store id |
//! | 16 | 4 | topic number |
//! | 20 | 4 | segment number, never reused in its topic |
//! | 24 | 1 | length of the topic's name |
//! | 25 | 64 | the topic's name, so that a store that lost ring and state can still say whose records these are |
//! | 89 | 39 | zero |
//!
//! Then blocks, one after the other; after a sync the next one starts on a fresh page, so that no page with durable
//! bytes is written again. Whoever walks them looks for a header where the last block ended and else at the next
//! page: a checksum that knows its offset cannot match by chance. Behind a damaged header it searches for the next one.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `NEC1` |
//! | 4 | 4 | CRC-32/ISCSI of 8..64, seeded with store, topic, segment, offset |
//! | 8 | 8 | first sequence |
//! | 16 | 8 | last sequence |
//! | 24 | 4 | raw bytes |
//! | 28 | 4 | stored bytes |
//! | 32 | 4 | CRC-32/ISCSI of the stored bytes, same seed |
//! | 36 | 1 | method: 0 stored as it is, 1 snappy (raw format) |
//! | 37 | 27 | zero |
//! | 64 | n | stored bytes: postcard [`Entry::Run`](crate::entry::Entry)s |

use crate::codec::{checksum, open_header, seal_header, start_header};
use crate::ids::{Seq, TopicNo};

/// Bytes of the file header.
pub(crate) const FILE_HEADER_BYTES: usize = 128;
/// Bytes of a block header.
pub(crate) const BLOCK_HEADER_BYTES: usize = 64;

const FILE_MAGIC: u32 = u32::from_le_bytes(*b"NES1");
/// The first bytes of a block, by which one is looked for behind a damaged place.
pub(crate) const BLOCK_MAGIC_BYTES: [u8; 4] = *b"NEC1";
const BLOCK_MAGIC: u32 = u32::from_le_bytes(BLOCK_MAGIC_BYTES);
const METHOD_STORED: u8 = 0;
const METHOD_SNAPPY: u8 = 1;

/// A copy of at most 64 bytes takes two at least (snappy's format description).
const SNAPPY_RATIO_MAX: usize = 32;

/// Whose segment it is; seeds all checksums in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SegmentKey {
    pub(crate) store: u64,
    pub(crate) topic: TopicNo,
    pub(crate) number: u32,
}

impl SegmentKey {
    fn place(&self, offset: u64) -> [u64; 4] {
        [
            self.store,
            u64::from(self.topic.0),
            u64::from(self.number),
            offset,
        ]
    }
}

/// Writes the file header of a topic's segment.
pub(crate) fn encode_file_header(key: &SegmentKey, name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(FILE_HEADER_BYTES);
    start_header(&mut out, FILE_MAGIC);
    out.extend_from_slice(&key.store.to_le_bytes());
    out.extend_from_slice(&key.topic.0.to_le_bytes());
    out.extend_from_slice(&key.number.to_le_bytes());
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    seal_header(&mut out, 0, FILE_HEADER_BYTES, &[]);
    out
}

/// Whose segment these first bytes of a file belong to, and the topic's name.
pub(crate) fn decode_file_header(bytes: &[u8]) -> Option<(SegmentKey, &str)> {
    let (_, mut fields) = open_header(bytes, FILE_MAGIC, FILE_HEADER_BYTES, &[])?;
    let store = fields.u64()?;
    let (topic, number) = (TopicNo(fields.u32()?), fields.u32()?);
    let len = usize::from(fields.u8()?);
    let name = std::str::from_utf8(fields.bytes(len)?).ok()?;
    Some((
        SegmentKey {
            store,
            topic,
            number,
        },
        name,
    ))
}

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) raw_bytes: u32,
    pub(crate) stored_bytes: u32,
    stored_crc: u32,
    method: u8,
}

impl BlockHeader {
    /// Reads the header at `offset` of a segment.
    pub(crate) fn decode(bytes: &[u8], key: &SegmentKey, offset: u64) -> Option<BlockHeader> {
        let place = key.place(offset);
        let (_, mut fields) = open_header(bytes, BLOCK_MAGIC, BLOCK_HEADER_BYTES, &place)?;
        Some(BlockHeader {
            first: Seq(fields.u64()?),
            last: Seq(fields.u64()?),
            raw_bytes: fields.u32()?,
            stored_bytes: fields.u32()?,
            stored_crc: fields.u32()?,
            method: fields.u8()?,
        })
    }

    /// Where this block, at `offset`, ends.
    pub(crate) fn end(&self, offset: u64) -> u64 {
        offset + BLOCK_HEADER_BYTES as u64 + u64::from(self.stored_bytes)
    }

    /// The runs in `stored`, the block's bytes after its header at `offset`; `None` if they are damaged.
    /// What is allocated is bounded by what was read: options may have had other bounds when it was written.
    pub(crate) fn unpack(&self, stored: &[u8], key: &SegmentKey, offset: u64) -> Option<Vec<u8>> {
        if checksum(&key.place(offset), stored) != self.stored_crc {
            return None;
        }
        match self.method {
            METHOD_STORED => Some(stored.to_vec()),
            METHOD_SNAPPY => {
                let raw = snap::raw::decompress_len(stored).ok()?;
                if raw != self.raw_bytes as usize || raw / SNAPPY_RATIO_MAX > stored.len() {
                    return None;
                }
                snap::raw::Decoder::new().decompress_vec(stored).ok()
            }
            _ => None,
        }
    }
}

/// Appends a block of runs that will stand at `offset` of the segment.
pub(crate) fn push_block(
    out: &mut Vec<u8>,
    key: &SegmentKey,
    offset: u64,
    (first, last): (Seq, Seq),
    raw: &[u8],
) {
    let at = out.len();
    let place = key.place(offset);
    let packed = snap::raw::Encoder::new()
        .compress_vec(raw)
        .unwrap_or_default();
    // A block that shrinks by less than an eighth is not worth the reader's time.
    let pays = !packed.is_empty() && packed.len() < raw.len() - raw.len() / 8;
    let (method, stored) = if pays {
        (METHOD_SNAPPY, packed.as_slice())
    } else {
        (METHOD_STORED, raw)
    };
    start_header(out, BLOCK_MAGIC);
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(&last.0.to_le_bytes());
    out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(&place, stored).to_le_bytes());
    out.push(method);
    seal_header(out, at, BLOCK_HEADER_BYTES, &place);
    out.extend_from_slice(stored);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_write_are_found_one_after_the_other() {
        let key = SegmentKey {
            store: 5,
            topic: TopicNo(1),
            number: 2,
        };
        let mut file = encode_file_header(&key, "clicks");
        let raws = [vec![7u8; 9000], (0..100u8).collect(), vec![1u8; 10]];
        for (index, raw) in raws.iter().enumerate() {
            let (seq, offset) = (Seq(index as u64), file.len() as u64);
            push_block(&mut file, &key, offset, (seq, seq), raw);
        }
        assert_eq!(decode_file_header(&file), Some((key, "clicks")));
        let mut at = FILE_HEADER_BYTES as u64;
        for raw in &raws {
            let head = BlockHeader::decode(&file[at as usize..], &key, at).unwrap();
            let from = at as usize + BLOCK_HEADER_BYTES;
            let stored = &file[from..from + head.stored_bytes as usize];
            assert_eq!(head.unpack(stored, &key, at).unwrap(), *raw);
            at = head.end(at);
        }
        assert_eq!(at, file.len() as u64);
        assert!(BlockHeader::decode(&file[128..], &key, 129).is_none());
    }
}
