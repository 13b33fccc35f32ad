//! Numbers that nobody sets, each with its reason.

use std::time::Duration;

/// What flash and page cache write at least: every block starts on a fresh page, so that no page with
/// acknowledged bytes is ever written again while they are needed.
pub const PAGE_BYTES: u64 = 4096;

/// A name is NSQ's: at most 64 bytes with its suffix.
pub const NAME_BYTES_MAX: usize = 64;

/// A batch above this part of the ring goes to its segment directly: it would push out of the ring what the
/// ring is for, small commits, and be written twice.
pub const RING_PARTS_PER_BATCH: u64 = 16;

/// Finishes, attempts and catalogue changes get this part of the ring in each block besides the batch, so
/// that a flood of publishes cannot starve them.
pub const RING_PARTS_PER_DELTAS: u64 = 64;

/// Publishes stop when less than this part of the ring is free: the rest is for blocks that free space.
pub const RING_PARTS_RESERVED: u64 = 8;

/// A checkpoint starts when the ring is this far used (one part of two), long before publishes would stop.
pub const RING_PARTS_TO_CHECKPOINT: u64 = 2;

/// All remainders that a checkpoint carries to the ring's head, together: a quarter of the ring, so that
/// carrying frees more than it takes.
pub const RING_PARTS_CARRIED: u64 = 4;

/// A topic's remainder below this is carried to the ring's head, not written to its segment: 1,000 small
/// topics must not cost 1,000 pages. Four pages.
pub const CARRY_BYTES_MAX: u64 = 16 * 1024;

/// Raw bytes of a segment block: enough for a compressor to find what clicks share, little enough to read for
/// one message.
pub const SEGMENT_BLOCK_BYTES: usize = 64 * 1024;

/// A topic's first segment; each live one doubles the next up to the configured size, so that a small topic
/// reserves little.
pub const SEGMENT_BYTES_FIRST: u64 = 64 * 1024;

/// Segment files held open with their block index; more are opened on demand.
pub const SEGMENT_FILES_MAX: usize = 16;

/// A commit gathers at most this long for those who publish at nearly the same time; bursts otherwise split
/// in two commits.
pub const GATHER_MAX: Duration = Duration::from_millis(5);

/// Finishes without a publish to ride with are committed after this long: a crash redelivers at most that
/// much of finished work, and a draining channel costs one page a second.
pub const FINISH_DELAY_MAX: Duration = Duration::from_secs(1);

/// After a failed write the medium is tried again this often; publishers get an error meanwhile.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Reads of the ring that may fail before the records there are left behind as damage. A medium that is asked again
/// a second later often answers; one that does not must not hold the ring for ever.
pub const READ_FAILURES_MAX: u32 = 8;

/// Trouble that stays is told again this often: the log may be on the same full disk or tired flash.
pub const TROUBLE_TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// An epoch's room above the highest one seen when ring or state were lost: ids of epochs that nobody can see
/// any more must not be given again.
pub const EPOCHS_SKIPPED_AFTER_LOSS: u32 = 1 << 12;

/// What all ephemeral topics keep in memory together; the oldest messages of the largest go first, and channels
/// that had not seen them count them as missed.
pub const EPHEMERAL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a segment's name entry and of one channel's or topic's image in the state file, at most; for the
/// state file's size.
pub const STATE_BYTES_PER_TOPIC: u64 = 64 + 64 + NAME_BYTES_MAX as u64;
/// See [`STATE_BYTES_PER_TOPIC`].
pub const STATE_BYTES_PER_CHANNEL: u64 = 64 + NAME_BYTES_MAX as u64;
/// A finished range (two varints) and a retry (seq, attempts, delay) for each outstanding message.
pub const STATE_BYTES_PER_OUTSTANDING: u64 = 20 + 19;
/// Six varints.
pub const STATE_BYTES_PER_SEGMENT: u64 = 60;
/// Segments that a state file is made for: 4,096 of 8 MiB are 32 GiB, more than the media this is made for. With more,
/// the file grows.
pub const SEGMENTS_MAX: u64 = 4096;

const _: () = assert!(CARRY_BYTES_MAX % PAGE_BYTES == 0);
const _: () = assert!(SEGMENT_BYTES_FIRST >= SEGMENT_BLOCK_BYTES as u64);
