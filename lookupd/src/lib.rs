//! The registry of brokers, its TCP and HTTP face: the nsqlookupd side.
//!
//! [`registry`] holds the rules and does no I/O; [`Lookupd`] is the daemon around it. State is in
//! memory only: brokers register again after a restart, and several registries know nothing of each
//! other.

mod http;
mod limits;
mod link;
pub mod registry;
mod serve;

pub use serve::{Lookupd, StartError};

/// The version of NSQ whose protocol this is, as told in /info and in the answer to IDENTIFY:
/// nsqadmin and others compare it as such.
pub const NSQ_VERSION: &str = "1.3.0";
