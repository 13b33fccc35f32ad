//! The identity: written once, after the ring is whole, so that a store that has one has, or had, a ring.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `NEI1` |
//! | 4 | 4 | CRC-32/ISCSI of 8..64 |
//! | 8 | 8 | store id: seeds the checksums of state and segments |
//! | 16 | 8 | ring id: seeds those of the ring; another one after a ring was lost |
//! | 24 | 8 | bytes of the ring |
//! | 32 | 1 | 1: the ring replaced a lost one, so the state is needed from its first block on |
//! | 33 | 31 | zero |

use crate::codec::{open_header, seal_header, start_header};

/// The file.
pub(crate) const FILE_NAME: &str = "identity";
/// The file while it is written.
pub(crate) const NEW_FILE_NAME: &str = "identity.new";
/// Its length.
pub(crate) const BYTES: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"NEI1");

/// Whose files these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store_id: u64,
    pub(crate) ring_id: u64,
    pub(crate) ring_bytes: u64,
    pub(crate) is_salvaged: bool,
}

impl Identity {
    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        start_header(&mut out, MAGIC);
        out.extend_from_slice(&self.store_id.to_le_bytes());
        out.extend_from_slice(&self.ring_id.to_le_bytes());
        out.extend_from_slice(&self.ring_bytes.to_le_bytes());
        out.push(u8::from(self.is_salvaged));
        seal_header(&mut out, 0, BYTES, &[]);
        out
    }

    /// Reads an identity.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Identity> {
        let (_, mut fields) = open_header(bytes, MAGIC, BYTES, &[])?;
        Some(Identity {
            store_id: fields.u64()?,
            ring_id: fields.u64()?,
            ring_bytes: fields.u64()?,
            is_salvaged: fields.u8()? == 1,
        })
    }
}
