//! What there is to register, and what has changed about it.

use std::cmp::Ordering;

use protocol::lookup;
use protocol::names::{ChannelName, TopicName};

/// Topics with their channels at one moment, both sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    topics: Vec<(TopicName, Vec<ChannelName>)>,
}

/// One command. Positions in a catalogue instead of names: a thousand topics would be a megabyte
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Positions in the new catalogue.
    Register {
        topic: usize,
        channel: Option<usize>,
    },
    /// Positions in the old one.
    Unregister {
        topic: usize,
        channel: Option<usize>,
    },
}

impl Catalogue {
    pub(super) fn new(mut topics: Vec<(TopicName, Vec<ChannelName>)>) -> Catalogue {
        topics.sort();
        for (_, channels) in &mut topics {
            channels.sort();
        }
        Catalogue { topics }
    }

    /// What is to be said to someone who knows `old`; the first command is the last of the list. A
    /// channel's registration is its topic's as well, so a bare topic is registered only when it
    /// has none, as nsqd does it. A topic's channels are unregistered one by one before it:
    /// nsqlookupd would else keep ephemeral ones for ever.
    pub(super) fn changes_since(&self, old: &Catalogue) -> Vec<Change> {
        let mut changes = Vec::new();
        merge(
            &old.topics,
            &self.topics,
            |(name, _)| name,
            |before, after| {
                let channels_of = |catalogue: &Catalogue, at: Option<usize>| {
                    at.and_then(|at| catalogue.topics.get(at))
                        .map(|(_, channels)| channels.len())
                };
                match (before, after) {
                    (Some(topic), None) => {
                        for channel in 0..channels_of(old, before).unwrap_or(0) {
                            changes.push(Change::Unregister {
                                topic,
                                channel: Some(channel),
                            });
                        }
                        changes.push(Change::Unregister {
                            topic,
                            channel: None,
                        });
                    }
                    (None, Some(topic)) => match channels_of(self, after) {
                        None | Some(0) => changes.push(Change::Register {
                            topic,
                            channel: None,
                        }),
                        Some(channels) => {
                            changes.extend((0..channels).map(|at| Change::Register {
                                topic,
                                channel: Some(at),
                            }))
                        }
                    },
                    (Some(from), Some(to)) => self.channel_changes(old, from, to, &mut changes),
                    (None, None) => {}
                }
            },
        );
        changes.reverse();
        changes
    }

    fn channel_changes(&self, old: &Catalogue, from: usize, to: usize, changes: &mut Vec<Change>) {
        let (Some((_, before)), Some((_, after))) = (old.topics.get(from), self.topics.get(to))
        else {
            return;
        };
        merge(
            before,
            after,
            |name| name,
            |before, after| match (before, after) {
                (Some(channel), None) => {
                    changes.push(Change::Unregister {
                        topic: from,
                        channel: Some(channel),
                    });
                }
                (None, Some(channel)) => {
                    changes.push(Change::Register {
                        topic: to,
                        channel: Some(channel),
                    });
                }
                _ => {}
            },
        );
    }

    /// Appends the command for a change between `old` and this.
    pub(super) fn encode(&self, old: &Catalogue, change: Change, out: &mut Vec<u8>) {
        match change {
            Change::Register { topic, channel } => {
                if let Some((topic, channel)) = self.names(topic, channel) {
                    lookup::encode_register(topic, channel, out);
                }
            }
            Change::Unregister { topic, channel } => {
                if let Some((topic, channel)) = old.names(topic, channel) {
                    lookup::encode_unregister(topic, channel, out);
                }
            }
        }
    }

    fn names(&self, topic: usize, channel: Option<usize>) -> Option<(&str, Option<&str>)> {
        let (name, channels) = self.topics.get(topic)?;
        let channel = match channel {
            Some(at) => Some(channels.get(at)?.as_str()),
            None => None,
        };
        Some((name.as_str(), channel))
    }
}

/// Walks two sorted lists; `each` gets the positions of every item in the old and in the new one.
fn merge<T, K: Ord>(
    old: &[T],
    new: &[T],
    key: impl Fn(&T) -> &K,
    mut each: impl FnMut(Option<usize>, Option<usize>),
) {
    let (mut at_old, mut at_new) = (0, 0);
    loop {
        let order = match (old.get(at_old), new.get(at_new)) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => key(before).cmp(key(after)),
        };
        each(
            order.is_le().then_some(at_old),
            order.is_ge().then_some(at_new),
        );
        at_old += usize::from(order.is_le());
        at_new += usize::from(order.is_ge());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `t:a,b u` is topic t with channels a and b, and topic u without any.
    pub(in super::super) fn catalogue(text: &str) -> Catalogue {
        let topics = text.split_whitespace().map(|item| {
            let (topic, channels) = item.split_once(':').unwrap_or((item, ""));
            let channels = channels.split(',').filter(|name| !name.is_empty());
            let channels = channels.map(|name| name.parse().unwrap()).collect();
            (topic.parse().unwrap(), channels)
        });
        Catalogue::new(topics.collect())
    }

    fn commands(old: &str, new: &str) -> String {
        let (old, new) = (catalogue(old), catalogue(new));
        let mut out = Vec::new();
        for change in new.changes_since(&old).into_iter().rev() {
            new.encode(&old, change, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_is_registered_with_a_new_lookupd() {
        assert_eq!(
            commands("", "u t:b,a"),
            "REGISTER t a\nREGISTER t b\nREGISTER u\n"
        );
        assert_eq!(commands("", ""), "");
    }

    #[test]
    fn only_what_changed_is_said_to_one_that_knows_us() {
        assert_eq!(commands("t:a,b u", "t:a,b u"), "");
        assert_eq!(
            commands("t:a,b", "t:b,c v:x"),
            "UNREGISTER t a\nREGISTER t c\nREGISTER v x\n"
        );
        assert_eq!(commands("t:a", "t"), "UNREGISTER t a\n");
        assert_eq!(commands("t", "t:a"), "REGISTER t a\n");
    }

    #[test]
    fn a_topic_that_is_gone_takes_its_channels_along_one_by_one() {
        let expected = "UNREGISTER s x#ephemeral\nUNREGISTER s\nREGISTER t\nUNREGISTER u\n";
        assert_eq!(commands("s:x#ephemeral u", "t"), expected);
    }
}
