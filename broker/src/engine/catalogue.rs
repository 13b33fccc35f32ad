//! Topics and channels: made by commands and by administrators, emptied, paused, deleted.

use std::time::Duration;

use protocol::names::{ChannelName, TopicName};
use storage::disk::Disk;
use storage::{ChannelNo, Cursor, Stamp, StoreError, Ticket, TopicNo};

use super::Engine;
use super::channel::{Channel, Topic};
use super::session::{Blocked, Ending};
use crate::limits;

/// Why something cannot be done for a client.
pub(crate) enum Refusal {
    /// Not yet: again when this is over.
    Wait(Blocked),
    /// Not at all.
    Error(Box<str>),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::Error(error.to_string().into())
    }
}

/// Why an administrator's request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// There is no such topic.
    #[error("topic not found")]
    TopicNotFound,
    /// The topic has no such channel.
    #[error("channel not found")]
    ChannelNotFound,
    /// Not now: again when [`Engine::handle_done`] or [`Engine::lookup_done`] was called.
    #[error("the store has no room, or lookupds are being asked")]
    NotNow,
    /// The store's reason.
    #[error("{0}")]
    Store(Box<str>),
}

impl From<Refusal> for AdminError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wait(_) => AdminError::NotNow,
            Refusal::Error(reason) => AdminError::Store(reason),
        }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        AdminError::Store(error.to_string().into())
    }
}

impl<D: Disk> Engine<D> {
    /// Stores one publish; `OK` may be said when the ticket is resolved. HTTP's way in.
    ///
    /// # Errors
    /// [`AdminError::NotNow`], or the store's reason.
    pub fn publish_bodies<'a>(
        &mut self,
        topic: &TopicName,
        bodies: impl Iterator<Item = &'a [u8]> + Clone,
        defer: Duration,
        stamp: Stamp,
    ) -> Result<Ticket, AdminError> {
        let (_, ticket) = self.publish(topic.as_str(), bodies, defer, stamp)?;
        Ok(ticket)
    }

    /// Makes a topic if it is not there.
    ///
    /// # Errors
    /// [`AdminError::NotNow`], or the store's reason.
    pub fn create_topic(&mut self, name: &TopicName) -> Result<Ticket, AdminError> {
        let no = self.topic(name.as_str())?;
        Ok(self
            .catalogue
            .topics
            .get(&no)
            .map_or(Ticket(0), |topic| topic.created))
    }

    /// Makes a channel of an existing topic if it is not there.
    ///
    /// # Errors
    /// The topic is not there, or the store's reason.
    pub fn create_channel(
        &mut self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<Ticket, AdminError> {
        let topic = self.find_topic(topic.as_str())?;
        let no = self.channel(topic, channel)?;
        Ok(self
            .catalogue
            .channels
            .get(&no)
            .map_or(Ticket(0), |channel| channel.created))
    }

    /// Makes a topic and a channel without asking lookupds: for routes, before listeners open.
    ///
    /// # Errors
    /// The store's reason.
    pub fn precreate(
        &mut self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<Ticket, AdminError> {
        if self.find_topic(topic.as_str()).is_err() {
            self.make_topic(topic)?;
        }
        self.create_channel(topic, channel)
    }

    /// Deletes a topic with its channels and messages; its consumers are disconnected.
    ///
    /// # Errors
    /// The topic is not there, or the store's reason.
    pub fn delete_topic(&mut self, name: &TopicName, now: Duration) -> Result<Ticket, AdminError> {
        let no = self.find_topic(name.as_str())?;
        self.remove_topic(no, now)
    }

    /// Drops what of a topic no channel has been given yet.
    ///
    /// # Errors
    /// The topic is not there, or the store's reason.
    pub fn empty_topic(&mut self, name: &TopicName) -> Result<Ticket, AdminError> {
        let no = self.find_topic(name.as_str())?;
        Ok(self.store.empty_topic(no)?)
    }

    /// Stops, or resumes, giving a topic's messages to its channels.
    ///
    /// # Errors
    /// The topic is not there, or the store's reason.
    pub fn pause_topic(&mut self, name: &TopicName, paused: bool) -> Result<Ticket, AdminError> {
        let no = self.find_topic(name.as_str())?;
        let ticket = self.store.pause_topic(no, paused)?;
        self.queue_topic(no);
        Ok(ticket)
    }

    /// Deletes a channel with its messages; its consumers are disconnected.
    ///
    /// # Errors
    /// Topic or channel is not there, or the store's reason.
    pub fn delete_channel(
        &mut self,
        topic: &TopicName,
        channel: &ChannelName,
        now: Duration,
    ) -> Result<Ticket, AdminError> {
        let (topic_no, no) = self.find_channel(topic, channel)?;
        let ticket = self.remove_channel(no, now)?;
        self.drop_if_unused(topic_no, now);
        Ok(ticket)
    }

    /// Drops all of a channel's messages, in flight and deferred ones too.
    ///
    /// # Errors
    /// Topic or channel is not there, or the store's reason.
    pub fn empty_channel(
        &mut self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<Ticket, AdminError> {
        let (_, no) = self.find_channel(topic, channel)?;
        let ticket = self.store.empty_channel(no)?;
        self.drop_outstanding(no);
        let floor = self.store.channel_info(no).map(|info| info.floor);
        if let (Some(channel), Some(floor)) = (self.catalogue.channels.get_mut(&no), floor) {
            channel.cursor = Cursor::new(floor);
        }
        self.queue_channel(no);
        Ok(ticket)
    }

    /// Stops, or resumes, delivery from a channel.
    ///
    /// # Errors
    /// Topic or channel is not there, or the store's reason.
    pub fn pause_channel(
        &mut self,
        topic: &TopicName,
        channel: &ChannelName,
        paused: bool,
    ) -> Result<Ticket, AdminError> {
        let (_, no) = self.find_channel(topic, channel)?;
        let ticket = self.store.pause_channel(no, paused)?;
        if let Some(channel) = self.catalogue.channels.get_mut(&no) {
            channel.paused = paused;
        }
        self.queue_channel(no);
        Ok(ticket)
    }

    /// All topics with their channels, by name: what lookupds shall know.
    pub fn names(&self) -> impl Iterator<Item = (&TopicName, impl Iterator<Item = &ChannelName>)> {
        let topics = self.catalogue.topics_by_name.values();
        let topics = topics.filter_map(|no| self.catalogue.topics.get(no));
        topics.map(|topic| (&topic.name, topic.channels.keys()))
    }

    /// Whether topics or channels came or went since the last call.
    pub fn take_catalogue_changed(&mut self) -> bool {
        std::mem::take(&mut self.catalogue_changed)
    }

    /// A new topic whose channels lookupds shall be asked for; answered by [`Engine::lookup_done`].
    pub fn poll_lookup(&mut self) -> Option<TopicName> {
        self.lookups.to_ask.pop_front()
    }

    /// Makes a topic with the channels that lookupds know (ephemeral ones are left out, as they are
    /// for those who are there), and lets those go on who wait for it.
    pub fn lookup_done(&mut self, topic: &TopicName, channels: &[ChannelName]) {
        self.lookups.asked.remove(topic);
        let lasting = channels.iter().filter(|channel| !channel.is_ephemeral());
        let made = match self.find_topic(topic.as_str()) {
            Ok(no) => Ok(no),
            Err(_) => self.make_topic(topic),
        };
        match made {
            Ok(no) => {
                for channel in lasting {
                    if let Err(Refusal::Error(error)) = self.channel(no, channel) {
                        log::warn!("channel {topic}/{channel} of the lookupds: {error}");
                    }
                }
            }
            Err(_) => {
                // Who waits meets the same error without another question; nobody may wait any
                // more.
                self.lookups.failed.insert(topic.clone());
                if self.lookups.failed.len() > limits::LOOKUPS_MAX {
                    self.lookups.failed.pop_first();
                }
            }
        }
        for no in std::mem::take(&mut self.lookups.waiting) {
            self.wake(no);
        }
    }

    /// Takes over what the store knows from before.
    pub(super) fn adopt_recovered(&mut self) {
        let topics: Vec<(TopicNo, TopicName)> = self
            .store
            .topics()
            .filter_map(|info| Some((info.no, TopicName::new(info.name).ok()?)))
            .collect();
        for (topic_no, name) in topics {
            let mut topic = Topic::new(name.clone(), Ticket(0));
            for info in self.store.channels(topic_no) {
                let Ok(channel_name) = ChannelName::new(info.name) else {
                    continue;
                };
                let mut channel =
                    Channel::new(topic_no, channel_name.clone(), Ticket(0), info.floor);
                channel.paused = info.paused;
                topic.channels.insert(channel_name, info.no);
                self.catalogue.channels.insert(info.no, channel);
            }
            self.catalogue.topics_by_name.insert(name, topic_no);
            self.catalogue.topics.insert(topic_no, topic);
        }
        for channel in self.catalogue.channels.values_mut() {
            channel.counted_from = distributed(&self.store, channel.topic);
        }
    }

    pub(super) fn queue_topic(&mut self, no: TopicNo) {
        let Some(topic) = self.catalogue.topics.get(&no) else {
            return;
        };
        let channels: Vec<ChannelNo> = topic.channels.values().copied().collect();
        for channel in channels {
            self.queue_channel(channel);
        }
    }

    fn find_topic(&self, name: &str) -> Result<TopicNo, AdminError> {
        self.catalogue
            .topics_by_name
            .get(name)
            .copied()
            .ok_or(AdminError::TopicNotFound)
    }

    fn find_channel(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(TopicNo, ChannelNo), AdminError> {
        let topic_no = self.find_topic(topic.as_str())?;
        let found = self
            .catalogue
            .topics
            .get(&topic_no)
            .and_then(|topic| topic.channels.get(channel));
        found
            .map(|no| (topic_no, *no))
            .ok_or(AdminError::ChannelNotFound)
    }

    /// The topic of that name, made if need be, after lookupds were asked if need be.
    pub(super) fn topic(&mut self, name: &str) -> Result<TopicNo, Refusal> {
        if let Some(no) = self.catalogue.topics_by_name.get(name) {
            return Ok(*no);
        }
        let Ok(name) = TopicName::new(name) else {
            return Err(Refusal::Error("bad topic name".into()));
        };
        if self.settings.lookups && !self.lookups.failed.remove(&name) {
            let known = self.lookups.asked.contains(&name);
            if !known && self.lookups.asked.len() < limits::LOOKUPS_MAX {
                self.lookups.asked.insert(name.clone());
                self.lookups.to_ask.push_back(name);
            }
            return Err(Refusal::Wait(Blocked::Lookup));
        }
        self.make_topic(&name)
    }

    fn make_topic(&mut self, name: &TopicName) -> Result<TopicNo, Refusal> {
        let (no, ticket) = self
            .store
            .create_topic(name.as_str(), !name.is_ephemeral())?;
        self.catalogue.topics_by_name.insert(name.clone(), no);
        self.catalogue
            .topics
            .insert(no, Topic::new(name.clone(), ticket));
        self.catalogue_changed = true;
        log::info!("topic {name}: created");
        Ok(no)
    }

    pub(super) fn channel(
        &mut self,
        topic_no: TopicNo,
        name: &ChannelName,
    ) -> Result<ChannelNo, Refusal> {
        let Some(topic) = self.catalogue.topics.get_mut(&topic_no) else {
            return Err(Refusal::Error("to deleted topic/channel".into()));
        };
        if let Some(no) = topic.channels.get(name) {
            return Ok(*no);
        }
        let lasting = !name.is_ephemeral() && !topic.name.is_ephemeral();
        let counted_from = distributed(&self.store, topic_no);
        let (no, ticket) = self
            .store
            .create_channel(topic_no, name.as_str(), lasting)?;
        let floor = self
            .store
            .channel_info(no)
            .map_or(storage::Seq(0), |info| info.floor);
        let mut channel = Channel::new(topic_no, name.clone(), ticket, floor);
        channel.counted_from = counted_from;
        topic.channels.insert(name.clone(), no);
        self.catalogue_changed = true;
        log::info!("topic {}: channel {name} created", topic.name);
        self.catalogue.channels.insert(no, channel);
        Ok(no)
    }

    fn remove_topic(&mut self, no: TopicNo, now: Duration) -> Result<Ticket, AdminError> {
        let Some(topic) = self.catalogue.topics.get(&no) else {
            return Err(AdminError::TopicNotFound);
        };
        let channels: Vec<ChannelNo> = topic.channels.values().copied().collect();
        let ticket = self.store.delete_topic(no)?;
        for channel in channels {
            self.forget_channel(channel, now);
        }
        if let Some(topic) = self.catalogue.topics.remove(&no) {
            self.catalogue.topics_by_name.remove(&topic.name);
            log::info!("topic {}: deleted", topic.name);
        }
        self.catalogue.publishing.remove(&no);
        self.catalogue_changed = true;
        Ok(ticket)
    }

    fn remove_channel(&mut self, no: ChannelNo, now: Duration) -> Result<Ticket, AdminError> {
        let ticket = self.store.delete_channel(no)?;
        self.forget_channel(no, now);
        Ok(ticket)
    }

    /// Takes a channel that the store has deleted out of everything; its consumers are
    /// disconnected.
    fn forget_channel(&mut self, no: ChannelNo, now: Duration) {
        self.drop_outstanding(no);
        let Some(channel) = self.catalogue.channels.remove(&no) else {
            return;
        };
        self.stalled.remove(&no);
        if let Some(topic) = self.catalogue.topics.get_mut(&channel.topic) {
            topic.channels.remove(&channel.name);
            log::info!("topic {}: channel {} deleted", topic.name, channel.name);
        }
        self.catalogue_changed = true;
        for consumer in channel.consumers {
            self.end_session(consumer, Ending::Draining, now);
        }
    }

    /// A consumer left: an ephemeral channel goes with its last one, an ephemeral topic with its
    /// last channel.
    pub(super) fn channel_left(&mut self, no: ChannelNo, now: Duration) {
        let Some(channel) = self.catalogue.channels.get(&no) else {
            return;
        };
        if !channel.consumers.is_empty() || !channel.name.is_ephemeral() {
            return;
        }
        let topic = channel.topic;
        if let Err(error) = self.remove_channel(no, now) {
            log::warn!("an ephemeral channel is kept: {error}");
        }
        self.drop_if_unused(topic, now);
    }

    /// An ephemeral topic without channels goes.
    pub(super) fn drop_if_unused(&mut self, no: TopicNo, now: Duration) {
        let unused = self
            .catalogue
            .topics
            .get(&no)
            .is_some_and(|topic| topic.name.is_ephemeral() && topic.channels.is_empty());
        if unused {
            if let Err(error) = self.remove_topic(no, now) {
                log::warn!("an ephemeral topic is kept: {error}");
            }
        }
    }
}

/// How many messages of a topic its channels have been given.
pub(super) fn distributed<D: Disk>(store: &storage::Store<D>, topic: TopicNo) -> u64 {
    store
        .topic_info(topic)
        .map_or(0, |info| info.end.0.saturating_sub(info.undistributed))
}
