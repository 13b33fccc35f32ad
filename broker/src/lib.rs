//! Topics, channels, in-flight, sessions: the nsqd side.
//!
//! [`engine`] holds the rules and does no I/O. The rest of the crate is its shell: `serve` (TCP),
//! `http`, `drive` (the storage thread and the clock), `registration` (lookupds), and [`Broker`],
//! which puts them together.

mod daemon;
mod drive;
pub mod engine;
mod host;
mod http;
pub mod limits;
pub mod memory;
mod progress;
mod registration;
mod serve;
mod stats;

pub use daemon::{Broker, OpenStore, StartError};
pub use progress::Progress;
