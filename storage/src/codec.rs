//! The small parts that all formats share: little-endian fields and a checksum that knows where it stands.

use crc::{CRC_32_ISCSI, Crc, Table};

/// CRC-32/ISCSI ("CRC-32C"); the sixteen-way table is nine times as fast as the default one here.
static CRC32_ISCSI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// The checksum of `bytes` at a place: `place` (store, topic, segment, offset) is fed first, so that stale bytes
/// of a recycled page or file never match.
pub(crate) fn checksum(place: &[u64], bytes: &[u8]) -> u32 {
    let mut digest = CRC32_ISCSI.digest();
    for part in place {
        digest.update(&part.to_le_bytes());
    }
    digest.update(bytes);
    digest.finalize()
}

/// Bytes of magic and checksum in front of every header.
const SEAL_BYTES: usize = 8;

/// Starts a header: magic, room for the checksum.
pub(crate) fn start_header(out: &mut Vec<u8>, magic: u32) {
    out.extend_from_slice(&magic.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
}

/// Ends a header of `len` bytes that starts at `at`: pads it with zeros, fills in its checksum and returns it.
pub(crate) fn seal_header(out: &mut Vec<u8>, at: usize, len: usize, place: &[u64]) -> u32 {
    out.resize(at + len, 0);
    let crc = checksum(place, out.get(at + SEAL_BYTES..).unwrap_or_default());
    if let Some(slot) = out.get_mut(at + 4..at + SEAL_BYTES) {
        slot.copy_from_slice(&crc.to_le_bytes());
    }
    crc
}

/// The checksum and the fields of a header of `len` bytes with this magic, if it is whole and stands where it
/// was written.
pub(crate) fn open_header<'a>(
    bytes: &'a [u8],
    magic: u32,
    len: usize,
    place: &[u64],
) -> Option<(u32, Fields<'a>)> {
    let header = bytes.get(..len)?;
    let mut fields = Fields(header);
    let (found, crc) = (fields.u32()?, fields.u32()?);
    (found == magic && crc == checksum(place, fields.0)).then_some((crc, fields))
}

/// Reads little-endian fields from the front; `None` when they end.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32_iscsi() {
        assert_eq!(checksum(&[], b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_header_opens_only_where_it_was_written() {
        let mut out = Vec::new();
        start_header(&mut out, 7);
        out.extend_from_slice(&42u64.to_le_bytes());
        let crc = seal_header(&mut out, 0, 32, &[1, 2]);
        assert_eq!(out.len(), 32);
        let (found, mut fields) = open_header(&out, 7, 32, &[1, 2]).unwrap();
        assert_eq!((found, fields.u64()), (crc, Some(42)));
        assert!(open_header(&out, 7, 32, &[1, 3]).is_none());
        assert!(open_header(&out, 8, 32, &[1, 2]).is_none());
        out[20] ^= 1;
        assert!(open_header(&out, 7, 32, &[1, 2]).is_none());
    }
}
