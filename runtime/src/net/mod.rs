//! Listeners and streams, over TCP and unix sockets alike.

mod address;
mod connect;
mod listener;
mod stream;

pub use address::{Address, AddressError};
pub use connect::{ConnectError, connect};
pub use listener::{BindError, Listener};
pub use stream::{Peer, Stream};
