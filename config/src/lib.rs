//! What an operator sets, validated.
//!
//! There is one way from what an operator writes to what a daemon is given:
//!
//! ```text
//! nsq-edge.toml ─────────────► Config ──resolve()──► Options { broker, lookupd, forwarder, .. }
//! Go-style flags of NSQ ─────►
//! ```
//!
//! [`Config`] holds the words of the file, with the defaults in code. [`Config::resolve`] checks every
//! bound and every relation and gives the plain structs that daemons take. An error names the key, the
//! value and the bound. [`flags`] is the one table of NSQ's own command line flags, for the drop-in
//! names `nsqd`, `nsqlookupd` and `nsq_to_nsq`; it ends in the same [`Config`].
//!
//! A number that an operator sets is here; a number that nobody sets is in its crate's `limits.rs`.

mod duration;
mod error;
mod file;
pub mod flags;
pub mod limits;
mod memory;
mod options;
mod resolve;
mod size;

pub use duration::{Span, format_duration, parse_duration};
pub use error::ConfigError;
pub use file::{
    Broker, Cache, Config, Forwarder, Log, Lookupd, Memory, Ring, Route, Segment, load,
};
pub use memory::{Daemon, MemoryEstimate, MemoryPart};
pub use options::{
    BrokerOptions, Environment, ForwarderOptions, InitialChannel, Level, LogOptions,
    LookupdOptions, Options, RouteOptions, StorageOptions,
};
pub use size::{Bytes, format_bytes, parse_bytes};
