//! The bounds of what an operator may set, and the costs that the memory formula counts with.
//! Relations among the bounds themselves are asserted at compile time.

use std::ops::RangeInclusive;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Flash is written and read in pages of this size.
pub const PAGE_BYTES: u64 = 4 * KIB;

/// A block is at most this share of the ring: what is larger goes straight to a segment, so that one
/// publisher cannot fill the ring by itself.
pub const RING_BLOCKS_MIN: u64 = 16;

/// `ring.bytes` is a multiple of this, so that the largest block is whole pages.
pub const RING_BYTES_UNIT: u64 = RING_BLOCKS_MIN * PAGE_BYTES;

/// The smallest useful block: an event and its header on a few pages, with room for a burst.
pub const BLOCK_BYTES_MIN: u64 = 64 * KIB;

/// `ring.bytes`. Below, blocks are too small to gather a burst; above, filling the ring with zeros at
/// the first start takes minutes on a card.
pub const RING_BYTES: RangeInclusive<u64> = MIB..=GIB;

/// `segment.bytes`. Below, a segment is not larger than a topic's first small one; above, a quota
/// cannot be kept finely.
pub const SEGMENT_BYTES: RangeInclusive<u64> = 256 * KIB..=GIB;

/// What a record costs in a segment beside its body, generously: headers of record, block and
/// segment.
pub const RECORD_OVERHEAD_BYTES: u64 = 4 * KIB;

/// `broker.message_bytes_max`. The upper bound keeps body pool and segment within a small machine.
pub const MESSAGE_BYTES: RangeInclusive<u64> = 1..=64 * MIB;

/// `broker.body_bytes_max`. The lower bound leaves room for the IDENTIFY of every known client.
pub const BODY_BYTES: RangeInclusive<u64> = 4 * KIB..=256 * MIB;

/// `cache.bytes`. The lower bound is two blocks of the default ring: the newest of producers and the
/// one that is read.
pub const CACHE_BYTES: RangeInclusive<u64> = 64 * KIB..=256 * MIB;

/// `memory.bodies` and `memory.pending`; they must also hold one largest body.
pub const POOL_BYTES: RangeInclusive<u64> = 64 * KIB..=GIB;

/// `memory.max`.
pub const MEMORY_BYTES: RangeInclusive<u64> = 8 * MIB..=64 * GIB;

/// Timeouts of messages, in milliseconds: the protocol speaks milliseconds.
pub const MSG_TIMEOUT_MS: RangeInclusive<u64> = 1..=24 * 3_600_000;

/// `broker.req_timeout_max`, in milliseconds. Deferrals are kept as milliseconds; a year is beyond
/// what a deferral is for.
pub const REQ_TIMEOUT_MS: RangeInclusive<u64> = 0..=365 * 24 * 3_600_000;

/// `broker.heartbeat_interval_max`, in milliseconds. NSQ's clients may ask for a second and more.
pub const HEARTBEAT_INTERVAL_MS: RangeInclusive<u64> = 1_000..=3_600_000;

/// `broker.output_buffer_bytes_max`. Clients may ask for 64 bytes and more; what they get is bounded by
/// the broker.
pub const OUTPUT_BUFFER_BYTES: RangeInclusive<u64> = 64..=64 * MIB;

/// Bounds of the time between flushes that clients may ask for, in milliseconds.
pub const OUTPUT_BUFFER_TIMEOUT_MS: RangeInclusive<u64> = 1..=3_600_000;

/// `broker.rdy_count_max`.
pub const RDY_COUNT: RangeInclusive<u64> = 1..=1_000_000;

/// `connections_max` of broker and lookupd. The upper bound keeps well below the usual limit of open
/// files (1024 soft, 524,288 hard under systemd).
pub const CONNECTIONS: RangeInclusive<u64> = 2..=10_000;

/// `broker.topics_max`.
pub const TOPICS: RangeInclusive<u64> = 1..=10_000;

/// `broker.channels_max`.
pub const CHANNELS: RangeInclusive<u64> = 1..=100_000;

/// `broker.outstanding_max`.
pub const OUTSTANDING: RangeInclusive<u64> = 1..=10_000_000;

/// `broker.lookupd_tcp_addresses`: each costs a connection and is asked in turn.
pub const LOOKUPDS: RangeInclusive<u64> = 0..=16;

/// `[[forwarder.route]]`: each costs a connection to the broker and one to each of its upstreams.
pub const ROUTES: RangeInclusive<u64> = 0..=64;

/// Brokers that one route consumes from, when it is not the local one.
pub const SOURCES: RangeInclusive<u64> = 0..=32;

/// Addresses of one route.
pub const UPSTREAMS: RangeInclusive<u64> = 1..=32;

/// `batch_count` of a route. nsqd's default of 5 MiB for one command has room for a million empty
/// messages; no batch that large is meant.
pub const BATCH_COUNT: RangeInclusive<u64> = 1..=10_000;

/// `batch_bytes` of a route; an upstream nsqd takes 5 MiB in one command by default.
pub const BATCH_BYTES: RangeInclusive<u64> = 1..=64 * MIB;

/// `batch_age` of a route, in milliseconds: above, messages would time out while they wait.
pub const BATCH_AGE_MS: RangeInclusive<u64> = 0..=30_000;

/// `in_flight_batches` of a route.
pub const IN_FLIGHT_BATCHES: RangeInclusive<u64> = 1..=64;

/// `backoff_min` and `backoff_max` of a route, in milliseconds. An hour: the link of a mobile
/// gateway may be there for minutes only.
pub const BACKOFF_MS: RangeInclusive<u64> = 10..=3_600_000;

/// The lookupd's timeouts, in milliseconds.
pub const LOOKUPD_TIMEOUT_MS: RangeInclusive<u64> = 1..=7 * 24 * 3_600_000;

/// What the program needs before the first connection: code and data that are touched, the runtime,
/// allocator slack.
pub const MEMORY_BASE_BYTES: u64 = 6 * MIB;

/// One connection: 16 KiB for what is read, twice 25 KiB for messages and replies (those being written and
/// those that gather meanwhile), replies that wait for a commit, the session and its task. The kernel's own
/// buffers are not counted. A test of the broker compares it with the broker's own sum.
pub const MEMORY_CONNECTION_BYTES: u64 = 88 * KIB;

/// One topic: name, counters, its place in maps, its part of the state that is written at a
/// checkpoint.
pub const MEMORY_TOPIC_BYTES: u64 = 2 * KIB;

/// What all ephemeral topics keep together: `storage::limits::EPHEMERAL_BYTES_MAX`, which a test compares.
pub const MEMORY_EPHEMERAL_BYTES: u64 = 4 * MIB;

/// One channel: name, cursor, counters, its consumers' list, its part of the state.
pub const MEMORY_CHANNEL_BYTES: u64 = KIB;

/// One message in flight, requeued or deferred: an entry in the channel's set, one in the timers',
/// its slot in the finished set, its part of the state; no body.
pub const MEMORY_OUTSTANDING_BYTES: u64 = 192;

/// Blocks of segments in memory at once: one that is packed, its packed form, one that is read.
pub const MEMORY_SEGMENT_BLOCKS: u64 = 3;

/// One block of a segment beside the largest message, which makes it as much larger.
pub const MEMORY_SEGMENT_BLOCK_BYTES: u64 = 128 * KIB;

/// One connection of the registry: its buffers for commands of under 200 bytes and for answers.
pub const MEMORY_LINK_BYTES: u64 = 24 * KIB;

/// What the registry holds at its bound of entries (lookupd's `limits.rs`).
pub const MEMORY_REGISTRY_BYTES: u64 = 10 * MIB;

const _: () = assert!(*RING_BYTES.start() / RING_BLOCKS_MIN >= BLOCK_BYTES_MIN);
const _: () = assert!(*RING_BYTES.start() % RING_BYTES_UNIT == 0);
const _: () = assert!(*SEGMENT_BYTES.start() % PAGE_BYTES == 0);
// The largest message has a segment that holds two of it, and pools that hold one.
const _: () = assert!(*SEGMENT_BYTES.end() >= 2 * (*MESSAGE_BYTES.end() + RECORD_OVERHEAD_BYTES));
const _: () = assert!(*POOL_BYTES.end() >= *BODY_BYTES.end());
// Options hold these as u32.
const _: () = assert!(*BODY_BYTES.end() <= u32::MAX as u64);
const _: () = assert!(*POOL_BYTES.end() <= u32::MAX as u64);
const _: () = assert!(*CACHE_BYTES.end() <= u32::MAX as u64);
