//! What a store has to hold, naively.
//!
//! A [`Model`] is the state after some prefix of what was asked for. Of a finish or a requeue nobody says when
//! it is durable, so a message is finished surely, or perhaps.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// A message; its key stands at the front of its body and is unique in a test.
#[derive(Debug)]
pub struct Sent {
    pub key: u64,
    pub body: Vec<u8>,
    pub wall_ns: i64,
    /// When it was published, since boot, and how long it was to wait from then on.
    pub at: Duration,
    pub defer: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub topics: BTreeMap<String, Rc<Topic>>,
}

#[derive(Clone, Debug, Default)]
pub struct Topic {
    pub paused: bool,
    pub lasting: bool,
    pub messages: Vec<Rc<Sent>>,
    /// How many of them channels may see; `None`: all, also those to come.
    pub standing: Option<usize>,
    pub channels: BTreeMap<String, Channel>,
}

#[derive(Clone, Debug, Default)]
pub struct Channel {
    pub paused: bool,
    pub lasting: bool,
    /// Messages before this one are not its business.
    pub start: usize,
    pub finished: BTreeSet<u64>,
    pub perhaps_finished: BTreeSet<u64>,
    /// By key: the attempts that are surely recorded, and the most that may be.
    pub attempts: BTreeMap<u64, (u16, u16)>,
}

/// A change with its places as they were when it was asked for: what is not committed then comes after it.
#[derive(Clone, Debug)]
pub enum Op {
    CreateTopic {
        topic: String,
        lasting: bool,
    },
    DeleteTopic {
        topic: String,
    },
    PauseTopic {
        topic: String,
        paused: bool,
    },
    Stand {
        topic: String,
        standing: Option<usize>,
    },
    /// The channels of a paused topic have not seen what is dropped; for them it is finished.
    Skip {
        topic: String,
        keys: Vec<u64>,
    },
    CreateChannel {
        topic: String,
        channel: String,
        start: usize,
        lasting: bool,
    },
    DeleteChannel {
        topic: String,
        channel: String,
    },
    PauseChannel {
        topic: String,
        channel: String,
        paused: bool,
    },
    EmptyChannel {
        topic: String,
        channel: String,
        through: usize,
    },
    Publish {
        topic: String,
        batch: Vec<Rc<Sent>>,
    },
}

impl Op {
    /// The topic that has to be there for it.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Op::CreateTopic { .. } => None,
            Op::DeleteTopic { topic }
            | Op::PauseTopic { topic, .. }
            | Op::Stand { topic, .. }
            | Op::Skip { topic, .. }
            | Op::CreateChannel { topic, .. }
            | Op::DeleteChannel { topic, .. }
            | Op::PauseChannel { topic, .. }
            | Op::EmptyChannel { topic, .. }
            | Op::Publish { topic, .. } => Some(topic),
        }
    }
}

impl Topic {
    pub fn distributed(&self) -> usize {
        self.standing.unwrap_or(self.messages.len())
    }

    /// What a channel may deliver, in order; those that are perhaps finished, too.
    pub fn due<'a>(&'a self, channel: &'a Channel) -> impl Iterator<Item = &'a Rc<Sent>> {
        let seen = self
            .messages
            .get(channel.start..self.distributed())
            .unwrap_or_default();
        seen.iter()
            .filter(|sent| !channel.finished.contains(&sent.key))
    }
}

impl Model {
    pub fn get(&self, topic: &str, channel: &str) -> Option<(&Topic, &Channel)> {
        let topic = self.topics.get(topic)?;
        Some((topic, topic.channels.get(channel)?))
    }

    pub fn topic_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.topics.get_mut(name).map(Rc::make_mut)
    }

    pub fn channel_mut(&mut self, topic: &str, channel: &str) -> Option<&mut Channel> {
        self.topic_mut(topic)?.channels.get_mut(channel)
    }

    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::CreateTopic { topic, lasting } => {
                let new = Topic {
                    lasting: *lasting,
                    standing: Some(0),
                    ..Topic::default()
                };
                self.topics.entry(topic.clone()).or_insert(Rc::new(new));
            }
            Op::DeleteTopic { topic } => {
                self.topics.remove(topic);
            }
            Op::PauseTopic { topic, paused } => {
                if let Some(topic) = self.topic_mut(topic) {
                    topic.paused = *paused;
                }
            }
            Op::Stand { topic, standing } => {
                if let Some(topic) = self.topic_mut(topic) {
                    topic.standing = *standing;
                }
            }
            Op::Skip { topic, keys } => {
                if let Some(topic) = self.topic_mut(topic) {
                    for channel in topic.channels.values_mut() {
                        channel.finished.extend(keys);
                    }
                }
            }
            Op::CreateChannel {
                topic,
                channel,
                start,
                lasting,
            } => {
                let (start, lasting) = (*start, *lasting);
                if let Some(topic) = self.topic_mut(topic) {
                    let new = Channel {
                        start,
                        lasting,
                        ..Channel::default()
                    };
                    topic.channels.entry(channel.clone()).or_insert(new);
                }
            }
            Op::DeleteChannel { topic, channel } => {
                if let Some(topic) = self.topic_mut(topic) {
                    topic.channels.remove(channel);
                }
            }
            Op::PauseChannel {
                topic,
                channel,
                paused,
            } => {
                if let Some(channel) = self.channel_mut(topic, channel) {
                    channel.paused = *paused;
                }
            }
            Op::EmptyChannel {
                topic,
                channel,
                through,
            } => {
                if let Some(channel) = self.channel_mut(topic, channel) {
                    channel.start = channel.start.max(*through);
                }
            }
            Op::Publish { topic, batch } => {
                if let Some(topic) = self.topic_mut(topic) {
                    topic.messages.extend_from_slice(batch);
                }
            }
        }
    }

    /// What a restart forgets.
    pub fn restart(&mut self) {
        self.topics.retain(|_, topic| topic.lasting);
        for topic in self.topics.values_mut() {
            let topic = Rc::make_mut(topic);
            topic.channels.retain(|_, channel| channel.lasting);
            if topic.channels.is_empty() {
                topic.standing = Some(topic.distributed());
            }
        }
    }
}
