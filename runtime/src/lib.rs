//! The one crate that names smol, async-io, hyper and systemd: listeners, streams, clock, timers,
//! signals, HTTP.
//!
//! One thread runs everything: [`run`] drives a main future and all that it [`spawn`]s on this
//! thread, so nothing here needs to be `Send`, and no lock is taken by our own code. A program
//! starts like this:
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! let mut signals = runtime::signal::Signals::block()?; // before any thread starts
//! runtime::run(async move {
//!     let stop = runtime::Stop::new();
//!     // spawn the daemons with stop.clone(), then:
//!     runtime::notify::ready();
//!     signals.next().await;
//!     stop.request();
//! });
//! # Ok(())
//! # }
//! ```
//!
//! What async-io costs: it always keeps a helper thread of its own that shares the work of waiting
//! for the kernel; our futures never run on it. Name resolution is the one user of the `blocking`
//! pool (its number of threads is bounded by the environment variable `BLOCKING_MAX_THREADS`).

pub mod clock;
mod executor;
pub mod http;
mod limits;
pub mod net;
pub mod notify;
mod race;
pub mod signal;
pub mod timer;
mod wake;

pub use executor::{Task, run, spawn, yield_now};
pub use race::{Either, Race, join_all, race};
pub use wake::{Notify, Slot, Slots, Stop};

/// The traits of byte streams and their combinators, under one name so that only this crate names
/// where they are from.
pub mod io {
    pub use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
}
