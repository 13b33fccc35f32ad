//! How the broker makes itself known to nsqlookupds, and what it asks them.
//!
//! The seam with the rest of the broker:
//!
//! - The daemon hands over `catalogue: Rc<dyn Fn() -> Vec<(TopicName, Vec<ChannelName>)>>` and one
//!   `runtime::Notify` that is notified after every change of topics or channels. Each link compares the
//!   catalogue with what it has registered and sends the differences (REGISTER, UNREGISTER), so nothing
//!   is queued while a lookupd is away, however many changes there are.
//! - `Registration::new(lookupd_tcp_addresses, identity, catalogue, changed)`, where `identity` is what
//!   IDENTIFY tells (broadcast address, host name, real TCP and HTTP ports, version);
//!   `async fn run(self, stop: Stop)` serves all links until `stop`.
//! - `Registration::lookup(&self) -> Lookup`, a clonable handle with
//!   `async fn channels(&self, topic: &TopicName) -> Vec<ChannelName>`: the channels of a new topic that
//!   the known lookupds have (their HTTP addresses come from IDENTIFY replies), asked before the topic's
//!   first message; answers within 2 s in all, an absent lookupd is skipped.
