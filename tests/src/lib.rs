//! What the end-to-end tests share: starting real and our programs, speaking to them byte by byte, waiting for
//! conditions, and scripts whose transcripts are compared.
//!
//! One test body runs against [`Peer::Real`] (nsqd, nsqlookupd, nsq_to_nsq as NSQ ships them) and [`Peer::Ours`]
//! (`nsq-edge` through links of those names), so a test is first proved right on the real one. The framing here is
//! written out by hand and does not use the `protocol` crate: an error there must not hide itself.
//!
//! What a test needs and does not find is a failure that names it, never a skip: `tests/run peers` builds the real
//! programs, `cargo build` ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "panicking is how a test fails"
)]

pub mod clients;
pub mod daemon;
pub mod dice;
pub mod http;
pub mod script;
pub mod wait;
pub mod wire;

pub use daemon::{Daemon, Peer};

/// Runs `body` for every case at once: these tests wait for other programs' timers most of their time.
pub fn at_once<T: Send, const N: usize>(cases: [T; N], body: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let cases = cases.map(|case| scope.spawn(|| body(case)));
        for case in cases {
            if let Err(panic) = case.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
