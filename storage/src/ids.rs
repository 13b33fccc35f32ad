//! The store's numbers, each a type of its own so that none is taken for another.

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A topic of this store. Numbers are never reused, so that an old entry can never mean a new topic.
    TopicNo(u32)
}
number! {
    /// A channel of this store, of whatever topic. Never reused.
    ChannelNo(u32)
}
number! {
    /// A record's place in its topic: dense, from 0, in commit order.
    Seq(u64)
}
number! {
    /// A message's name for the world: epoch (24 bits) and a count within it over the whole store (40 bits).
    /// Never from the clock; the same at every delivery.
    MessageId(u64)
}
number! {
    /// A place in the order of commits. Everything that was asked for under a ticket is durable, or has failed,
    /// when [`crate::Outcome::through`] reaches it. `Ticket(0)` is always resolved.
    Ticket(u64)
}
number! {
    /// A ring block: counted over the store's whole life, never reused.
    BlockNo(u64)
}

impl Seq {
    /// The sequence `count` records later.
    pub(crate) fn plus(self, count: u64) -> Seq {
        Seq(self.0.saturating_add(count))
    }

    /// Records from `earlier` (included) to here (excluded).
    pub(crate) fn since(self, earlier: Seq) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Bits of the count in a [`MessageId`].
const COUNT_BITS: u32 = 40;

impl MessageId {
    /// The id of the `count`th message of an epoch.
    pub(crate) fn new(epoch: u32, count: u64) -> MessageId {
        MessageId((u64::from(epoch) << COUNT_BITS) | (count & ((1 << COUNT_BITS) - 1)))
    }

    /// The epoch (start of the store) in which the message was accepted.
    pub fn epoch(self) -> u32 {
        (self.0 >> COUNT_BITS) as u32
    }
}
