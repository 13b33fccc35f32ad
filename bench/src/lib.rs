//! What the benches share: both programs as children, a load that costs its own side little, a loop-mounted
//! flash, the machine's description, and the page of results.
//!
//! Every bench runs ours and NSQ's nsqd in turns, in one run on one machine, and prints ratios: absolute figures
//! of a shared machine say little. The shell wrappers beside this crate (`bench/wear` and so on) build everything,
//! give a directory to work in, and clean up behind an interrupted run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "panicking is how a bench fails; its wrapper cleans up"
)]

pub mod args;
pub mod figures;
pub mod flash;
pub mod load;
pub mod machine;
pub mod process;
pub mod report;
pub mod server;
pub mod time;

// The demo's generator, which ships in the executable. Included by its path: the product must not depend on a crate
// of the benches, and a crate of its own for one file would be an edge between every pair of users.
#[path = "../../gateway/src/demo/clicks.rs"]
mod clicks;

use client::rng::Rng;

/// The seed of every generator here: two runs publish the same bytes.
pub const SEED: u64 = 4;

/// Bytes of a random body, about a click's.
pub const RANDOM_BYTES: usize = 200;

/// Ad clicks as JSON of about 200 bytes.
pub fn clicks() -> impl Iterator<Item = Vec<u8>> {
    clicks::Clicks::new(SEED)
}

/// Bodies of [`RANDOM_BYTES`] that no compressor shortens.
pub fn random_bodies() -> impl Iterator<Item = Vec<u8>> {
    let mut rng = Rng::new(SEED);
    std::iter::repeat_with(move || {
        (0..RANDOM_BYTES / 8)
            .flat_map(|_| rng.next_u64().to_le_bytes())
            .collect()
    })
}
