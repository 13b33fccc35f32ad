//! The seam between the store and the medium. The store's rules are written against [`Disk`]; `linux`
//! is the only place that makes system calls, `faulty` is a medium that loses what was not synced.
//!
//! Names are paths relative to the store's directory (`ring`, `segments/0000002a-00000001`). There is one
//! sub-directory, [`SEGMENTS_DIR`]; an implementation creates it when it is opened.

mod faulty;
mod linux;
mod names;

pub use faulty::{CrashPolicy, Fault, FaultyDisk, FaultyFile};
pub use linux::{LinuxDisk, LockError};

use names::{check_name, check_same_dir, dir_of, dir_prefix};

use std::io;

/// The directory of segment files.
pub const SEGMENTS_DIR: &str = "segments";

/// The top directory, as [`Disk::list`] and [`Disk::sync_dir`] name it.
pub const TOP_DIR: &str = "";

/// Files of one directory, written in place and synced on demand. Calls block.
///
/// What a power cut leaves: everything that a returned [`sync`](Disk::sync) or [`sync_dir`](Disk::sync_dir)
/// covered, and any subset of the rest, in units of a 512-byte sector or of one directory operation, in any
/// order. After a failed `sync` the unsynced bytes of that file may be gone although a later `sync` succeeds
/// (the kernel drops the error with the dirty flag), so nobody may sync twice to be sure.
pub trait Disk: Send + Sync + 'static {
    /// An open file; clones share it.
    type File: Clone + Send + Sync + 'static;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Creates a file of `bytes` with its space reserved, so that writes within it do not meet a full disk.
    /// A file of that name is replaced. The contents read as zeros.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;

    /// The file's length in bytes.
    fn len(&self, file: &Self::File) -> io::Result<u64>;

    /// Fills `into` from `offset`; an end of file before that is `UnexpectedEof`.
    fn read_at(&self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's data durable (fdatasync).
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Renames a file, replacing one of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name; files that are open stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names (relative to the store, directories left out) in [`TOP_DIR`] or [`SEGMENTS_DIR`], sorted.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Bytes that a program without privileges may still allocate on the file system.
    fn free_bytes(&self) -> io::Result<u64>;
}
