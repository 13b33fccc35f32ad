//! Messages of a route that travel together.

use std::time::Duration;

use client::links::LinkId;
use protocol::encode;
use protocol::frame::Message;
use protocol::id::WireId;

/// A message that a route holds: whose it is, and how many of its batch's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// The link that it came over, and that its FIN takes.
    pub(crate) link: LinkId,
    pub(crate) id: WireId,
    bytes: usize,
    /// When it came.
    taken: Duration,
}

/// Messages in the order in which they came, bodies in one piece.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    items: Vec<Item>,
    bodies: Vec<u8>,
    /// When the oldest message came, or all were touched. Meaningless without messages.
    fresh: Duration,
}

impl Batch {
    pub(crate) fn push(&mut self, now: Duration, link: LinkId, message: &Message<'_>) {
        if self.items.is_empty() {
            self.fresh = now;
        }
        let bytes = message.body.len();
        self.items.push(Item {
            link,
            id: message.id,
            bytes,
            taken: now,
        });
        self.bodies.extend_from_slice(message.body);
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of all bodies.
    pub(crate) fn bytes(&self) -> usize {
        self.bodies.len()
    }

    /// When the first message came.
    pub(crate) fn opened(&self) -> Option<Duration> {
        self.items.first().map(|item| item.taken)
    }

    /// When the message time-out of the oldest message began.
    pub(crate) fn fresh(&self) -> Option<Duration> {
        (!self.items.is_empty()).then_some(self.fresh)
    }

    /// All messages have their time-out anew.
    pub(crate) fn touched(&mut self, now: Duration) {
        self.fresh = now;
    }

    /// Each message with its body.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Item, &[u8])> {
        let mut rest = self.bodies.as_slice();
        self.items.iter().map(move |item| {
            let (body, after) = rest.split_at_checked(item.bytes).unwrap_or_default();
            rest = after;
            (*item, body)
        })
    }

    /// PUB for one message, MPUB for several: a message too large for an MPUB fits its PUB.
    pub(crate) fn encode(&self, topic: &str, out: &mut Vec<u8>) {
        match self.items.as_slice() {
            [_] => encode::publish(topic, &self.bodies, out),
            _ => encode::publish_many(topic, self.iter().map(|(_, body)| body), out),
        }
    }

    /// The first and the second half, both with a message at least when there are two.
    pub(crate) fn split(mut self) -> (Self, Self) {
        let half = self.items.len() / 2;
        let items = self.items.split_off(half);
        let bytes = self.items.iter().map(|item| item.bytes).sum();
        let bodies = self.bodies.split_off(bytes);
        let fresh = self.fresh;
        (
            self,
            Self {
                items,
                bodies,
                fresh,
            },
        )
    }

    /// The messages of which `keep` is true by their size, and the others.
    pub(crate) fn partition(&self, keep: impl Fn(usize) -> bool) -> (Self, Self) {
        self.divide(|item| keep(item.bytes))
    }

    /// Forgets the messages that came over `link`.
    pub(crate) fn forget(&mut self, link: LinkId) {
        if self.items.iter().any(|item| item.link == link) {
            (*self, _) = self.divide(|item| item.link != link);
        }
    }

    fn divide(&self, first: impl Fn(&Item) -> bool) -> (Self, Self) {
        let empty = || Self {
            fresh: self.fresh,
            ..Self::default()
        };
        let mut divided = (empty(), empty());
        for (item, body) in self.iter() {
            let part = if first(&item) {
                &mut divided.0
            } else {
                &mut divided.1
            };
            part.items.push(item);
            part.bodies.extend_from_slice(body);
        }
        divided
    }
}
