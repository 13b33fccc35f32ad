//! NSQ producer and consumer: cores without I/O, and their host.
//!
//! From the wire up:
//! - [`connection::Connection`]: one V2 connection. Bytes in, [`connection::Event`]s out, commands
//!   and heartbeats' answers into its output.
//! - [`links::Links`]: connections to a changing set of brokers: when to dial, how long to leave a
//!   failing one alone, what was lost with one.
//! - [`Producer`] and [`Consumer`]: what programs use. Each has its rules in a core of its own and
//!   runs on the event loop of the `runtime` crate.
//! - [`host`]: moves the bytes of any core that has `Links`; the forwarder's routes use it too.
//!
//! Cores take `now` (time since boot) and a seed for their jitter as arguments, so they run in
//! virtual time.

pub mod backoff;
pub mod connection;
pub mod consumer;
pub mod discovery;
pub mod host;
pub mod limits;
pub mod links;
pub mod producer;
pub mod rng;

mod bell;

pub use consumer::{Consumer, ConsumerOptions, Delivery};
pub use producer::{Producer, ProducerOptions, PublishError};
