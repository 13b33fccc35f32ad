//! NSQ's words: names, commands, frames, IDENTIFY, error codes, lookupd V1. No I/O.
//!
//! Everything here works on byte slices that the caller holds, and is bounded: a parser never
//! asks for more bytes than the [`command::Bounds`] or the limits in [`limits`] allow, and
//! allocates only for errors and JSON. All integers on the wire are big-endian.
//!
//! Texts and the order of checks are nsqd's and nsqlookupd's (v1.3.0), because clients and
//! scripts match on them.

pub mod batch;
pub mod command;
pub mod encode;
pub mod error;
pub mod frame;
pub mod id;
pub mod identify;
pub mod limits;
pub mod lookup;
pub mod names;
pub mod quote;

mod json;

/// The first four bytes of a V2 connection to nsqd.
pub const MAGIC_V2: &[u8; 4] = b"  V2";

/// The first four bytes of a V1 connection to nsqlookupd.
pub const MAGIC_V1: &[u8; 4] = b"  V1";

/// What a parser found at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<T> {
    /// A whole item.
    Done {
        /// The item.
        value: T,
        /// Bytes of the buffer that the item takes; drop them before parsing the next one.
        consumed: usize,
    },
    /// The item is not complete.
    NeedBytes {
        /// Length that the buffer must have, counted from the item's start, before another try
        /// can get further. Already checked against the bounds: safe to reserve.
        total: usize,
    },
}

/// The big-endian `u32` at `at`, if it is there.
pub(crate) fn read_u32(buffer: &[u8], at: usize) -> Option<u32> {
    let bytes = buffer.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
