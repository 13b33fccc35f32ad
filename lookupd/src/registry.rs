//! Who has which topics and channels. No I/O: time comes as an argument.
//!
//! As in nsqlookupd a broker is a connection, names outlive their brokers (so that consumers and
//! new brokers still see the channels), and everything is forgotten with the process. Unlike there,
//! names that end in `#ephemeral` go whenever their last broker goes, also by a lost connection,
//! and the table is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::lookup::{LookupAnswer, Node, PeerInfo, Producer};
use protocol::names;
use serde::Serialize;

/// A broker's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(u64);

/// There is no room for another entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many registrations (at most {entries_max} topics, channels and brokers of each)")]
pub struct Full {
    entries_max: usize,
}

/// How long things count.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// A broker that did not PING for so long is not shown.
    pub inactive_producer_timeout: Duration,
    /// How long a tombstone hides a broker from a topic.
    pub tombstone_lifetime: Duration,
}

/// The registry. See the module.
#[derive(Debug)]
pub struct Registry {
    lifetimes: Lifetimes,
    entries_max: usize,
    /// Topics, channels, and the brokers of each.
    entries: usize,
    next_peer: u64,
    peers: BTreeMap<PeerId, Peer>,
    topics: BTreeMap<Box<str>, Topic>,
}

#[derive(Debug)]
struct Peer {
    producer: Producer,
    heard_at: Duration,
}

#[derive(Debug, Default)]
struct Topic {
    /// With the time of its tombstone, if it has one.
    producers: BTreeMap<PeerId, Option<Duration>>,
    channels: BTreeMap<Box<str>, BTreeSet<PeerId>>,
}

impl Topic {
    fn entries(&self) -> usize {
        let channels: usize = self.channels.values().map(|peers| 1 + peers.len()).sum();
        1 + self.producers.len() + channels
    }
}

impl Registry {
    /// An empty one, of `entries_max` entries at most.
    pub fn new(lifetimes: Lifetimes, entries_max: usize) -> Registry {
        Registry {
            lifetimes,
            entries_max,
            entries: 0,
            next_peer: 0,
            peers: BTreeMap::new(),
            topics: BTreeMap::new(),
        }
    }

    /// A broker told who it is. `remote_address` is its connection's other end.
    pub fn add_peer(&mut self, info: PeerInfo, remote_address: String, now: Duration) -> PeerId {
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let producer = Producer {
            remote_address,
            hostname: info.hostname,
            broadcast_address: info.broadcast_address,
            tcp_port: info.tcp_port,
            http_port: info.http_port,
            version: info.version,
        };
        self.peers.insert(
            id,
            Peer {
                producer,
                heard_at: now,
            },
        );
        id
    }

    /// A broker's connection is gone, and with it all that it registered.
    pub fn remove_peer(&mut self, id: PeerId) {
        self.peers.remove(&id);
        let mut freed = 0;
        self.topics.retain(|name, topic| {
            let before = topic.entries();
            topic.producers.remove(&id);
            topic.channels.retain(|name, peers| {
                peers.remove(&id);
                !(peers.is_empty() && names::is_ephemeral(name))
            });
            let keep = !(topic.producers.is_empty() && names::is_ephemeral(name));
            freed += before - if keep { topic.entries() } else { 0 };
            keep
        });
        self.entries = self.entries.saturating_sub(freed);
    }

    /// A broker said PING.
    pub fn touch(&mut self, id: PeerId, now: Duration) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.heard_at = now;
        }
    }

    /// A broker has a topic, or a channel and so its topic. A tombstone stays.
    ///
    /// # Errors
    /// [`Full`]; then nothing has changed.
    pub fn register(&mut self, id: PeerId, topic: &str, channel: Option<&str>) -> Result<(), Full> {
        self.change(topic, channel, Some(id))
    }

    /// A broker no longer has a channel, or a topic and so all its channels.
    pub fn unregister(&mut self, id: PeerId, topic: &str, channel: Option<&str>) {
        let Some(known) = self.topics.get_mut(topic) else {
            return;
        };
        let before = known.entries();
        match channel {
            Some(channel) => {
                if let Some(peers) = known.channels.get_mut(channel) {
                    peers.remove(&id);
                    if peers.is_empty() && names::is_ephemeral(channel) {
                        known.channels.remove(channel);
                    }
                }
            }
            None => {
                known.producers.remove(&id);
                known.channels.retain(|name, peers| {
                    peers.remove(&id);
                    !(peers.is_empty() && names::is_ephemeral(name))
                });
            }
        }
        let mut after = known.entries();
        let gone = channel.is_none() && known.producers.is_empty() && names::is_ephemeral(topic);
        if gone {
            self.topics.remove(topic);
            after = 0;
        }
        self.entries = self.entries.saturating_sub(before - after);
    }

    /// An operator made a topic known before any broker has it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn create_topic(&mut self, topic: &str) -> Result<(), Full> {
        self.change(topic, None, None)
    }

    /// An operator made a channel known, and so its topic: brokers that get the topic will create
    /// it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn create_channel(&mut self, topic: &str, channel: &str) -> Result<(), Full> {
        self.change(topic, Some(channel), None)
    }

    /// Forgets a topic and its channels, until a broker registers them again.
    pub fn delete_topic(&mut self, topic: &str) {
        if let Some(deleted) = self.topics.remove(topic) {
            self.entries = self.entries.saturating_sub(deleted.entries());
        }
    }

    /// Forgets a channel. False when it is not known.
    pub fn delete_channel(&mut self, topic: &str, channel: &str) -> bool {
        let deleted = self
            .topics
            .get_mut(topic)
            .and_then(|topic| topic.channels.remove(channel));
        if let Some(peers) = &deleted {
            self.entries = self.entries.saturating_sub(1 + peers.len());
        }
        deleted.is_some()
    }

    /// Hides the brokers at `node` (`broadcast_address:http_port`) from those who look the topic
    /// up, while it is being deleted there.
    pub fn tombstone(&mut self, topic: &str, node: &str, now: Duration) {
        let Some(topic) = self.topics.get_mut(topic) else {
            return;
        };
        for (id, tombstoned_at) in &mut topic.producers {
            let Some(Peer { producer, .. }) = self.peers.get(id) else {
                continue;
            };
            if format!("{}:{}", producer.broadcast_address, producer.http_port) == node {
                *tombstoned_at = Some(now);
            }
        }
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<String> {
        self.topics.keys().map(|name| name.to_string()).collect()
    }

    /// A topic's channels, by name; of an unknown topic none.
    pub fn channels(&self, topic: &str) -> Vec<String> {
        let Some(topic) = self.topics.get(topic) else {
            return Vec::new();
        };
        topic.channels.keys().map(|name| name.to_string()).collect()
    }

    /// A topic's channels and living brokers; `None` when the topic is not known.
    pub fn lookup(&self, topic: &str, now: Duration) -> Option<LookupAnswer> {
        let known = self.topics.get(topic)?;
        let producers = known
            .producers
            .iter()
            .filter(|(_, tombstoned_at)| !self.is_tombstoned(**tombstoned_at, now))
            .filter_map(|(id, _)| self.peers.get(id))
            .filter(|peer| self.is_active(peer, now))
            .map(|peer| peer.producer.clone())
            .collect();
        Some(LookupAnswer {
            channels: self.channels(topic),
            producers,
        })
    }

    /// All living brokers with their topics.
    pub fn nodes(&self, now: Duration) -> Vec<Node> {
        let active = self
            .peers
            .iter()
            .filter(|(_, peer)| self.is_active(peer, now));
        active
            .map(|(id, peer)| {
                let mut node = Node {
                    producer: peer.producer.clone(),
                    ..Node::default()
                };
                for (name, topic) in &self.topics {
                    if let Some(tombstoned_at) = topic.producers.get(id) {
                        node.topics.push(name.to_string());
                        node.tombstones
                            .push(self.is_tombstoned(*tombstoned_at, now));
                    }
                }
                node
            })
            .collect()
    }

    /// Everything that has a broker, keyed `category:topic:channel` as nsqlookupd's /debug has it.
    /// Wall time only shows here.
    pub fn debug(&self, now: Duration, wall_ns: i64) -> BTreeMap<String, Vec<DebugProducer<'_>>> {
        let wall_of = |at: Duration| {
            let ago = now.saturating_sub(at).as_nanos();
            wall_ns.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
        };
        let describe = |id: &PeerId, tombstoned_at: Option<Duration>| {
            let peer = self.peers.get(id)?;
            Some(DebugProducer {
                broadcast_address: &peer.producer.broadcast_address,
                hostname: &peer.producer.hostname,
                http_port: peer.producer.http_port,
                id: &peer.producer.remote_address,
                last_update: wall_of(peer.heard_at),
                tcp_port: peer.producer.tcp_port,
                tombstoned: tombstoned_at.is_some(),
                tombstoned_at: tombstoned_at.map_or(0, wall_of),
                version: &peer.producer.version,
            })
        };
        let mut all = BTreeMap::new();
        let clients = self
            .peers
            .keys()
            .filter_map(|id| describe(id, None))
            .collect();
        all.insert("client::".to_owned(), clients);
        for (name, topic) in &self.topics {
            let producers = topic
                .producers
                .iter()
                .filter_map(|(id, at)| describe(id, *at));
            all.insert(format!("topic:{name}:"), producers.collect());
            for (channel, peers) in &topic.channels {
                let producers = peers.iter().filter_map(|id| describe(id, None)).collect();
                all.insert(format!("channel:{name}:{channel}"), producers);
            }
        }
        all.retain(|_, producers: &mut Vec<_>| !producers.is_empty());
        all
    }

    /// Number of topics, channels and brokers of each: what is bounded.
    pub fn entries(&self) -> usize {
        self.entries
    }

    fn change(
        &mut self,
        topic: &str,
        channel: Option<&str>,
        id: Option<PeerId>,
    ) -> Result<(), Full> {
        let known = self.topics.get(topic);
        let known_channel = channel.and_then(|name| known?.channels.get(name));
        let is_new = |there: bool| usize::from(!there);
        let mut added = is_new(known.is_some());
        if channel.is_some() {
            added += is_new(known_channel.is_some());
        }
        if let Some(id) = &id {
            added += is_new(known.is_some_and(|topic| topic.producers.contains_key(id)));
            if channel.is_some() {
                added += is_new(known_channel.is_some_and(|peers| peers.contains(id)));
            }
        }
        if added > self.entries_max.saturating_sub(self.entries) {
            return Err(Full {
                entries_max: self.entries_max,
            });
        }
        self.entries += added;
        let topic = self.topics.entry(topic.into()).or_default();
        if let Some(id) = id {
            topic.producers.entry(id).or_insert(None);
        }
        if let Some(channel) = channel {
            topic.channels.entry(channel.into()).or_default().extend(id);
        }
        Ok(())
    }

    fn is_active(&self, peer: &Peer, now: Duration) -> bool {
        now.saturating_sub(peer.heard_at) <= self.lifetimes.inactive_producer_timeout
    }

    fn is_tombstoned(&self, tombstoned_at: Option<Duration>, now: Duration) -> bool {
        let fresh = |at| now.saturating_sub(at) < self.lifetimes.tombstone_lifetime;
        tombstoned_at.is_some_and(fresh)
    }
}

/// A broker as /debug shows it.
#[derive(Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "nsqlookupd's keys, in its order; times are wall time in ns"
)]
pub struct DebugProducer<'a> {
    pub broadcast_address: &'a str,
    pub hostname: &'a str,
    pub http_port: i32,
    pub id: &'a str,
    pub last_update: i64,
    pub tcp_port: i32,
    pub tombstoned: bool,
    /// 0 without a tombstone.
    pub tombstoned_at: i64,
    pub version: &'a str,
}

#[cfg(test)]
mod tests;
