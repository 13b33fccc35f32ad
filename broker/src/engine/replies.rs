//! What waits for a commit: publishes and subscriptions, and their answers once it is done.

use std::time::Duration;

use protocol::command::State;
use protocol::error::{CommandError, Verb};
use protocol::frame;
use protocol::names::ChannelName;
use storage::disk::Disk;
use storage::{Outcome, Stamp, Ticket, TopicNo};

use super::catalogue::Refusal;
use super::commands::ExactCount;
use super::session::{Blocked, Ending, Reply, append};
use super::{Engine, SessionNo};
use crate::limits;

impl<D: Disk> Engine<D> {
    pub(super) fn publish<'a>(
        &mut self,
        topic: &str,
        bodies: impl ExactCount<'a>,
        defer: Duration,
        stamp: Stamp,
    ) -> Result<(TopicNo, Ticket), Refusal> {
        let (count, bytes) = bodies
            .clone()
            .fold((0_u64, 0_usize), |(count, bytes), body| {
                (count + 1, bytes + body.len())
            });
        if !self.store.has_room(bytes) {
            return Err(Refusal::Wait(Blocked::Room { since: stamp.now }));
        }
        let no = self.topic(topic)?;
        let ticket = self.store.publish(no, bodies, defer, stamp)?;
        let is_resolved = self.is_resolved(ticket);
        if let Some(topic) = self.catalogue.topics.get_mut(&no) {
            topic.note_publish(ticket, count, bytes as u64);
            if is_resolved {
                topic.published(ticket, true);
            } else {
                self.catalogue.publishing.insert(no);
            }
        }
        if is_resolved {
            self.queue_topic(no);
        }
        Ok((no, ticket))
    }

    pub(super) fn subscribe(
        &mut self,
        no: SessionNo,
        topic: &str,
        channel: &str,
        now: Duration,
    ) -> Result<Ticket, Refusal> {
        let Ok(channel_name) = ChannelName::new(channel) else {
            return Err(Refusal::Error("bad channel name".into()));
        };
        let topic_no = self.topic(topic)?;
        let channel_no = match self.channel(topic_no, &channel_name) {
            Ok(channel_no) => channel_no,
            Err(refusal) => {
                self.drop_if_unused(topic_no, now);
                return Err(refusal);
            }
        };
        let Some(channel) = self.catalogue.channels.get_mut(&channel_no) else {
            return Err(Refusal::Error("to deleted topic/channel".into()));
        };
        channel.consumers.push(no);
        let mut created = channel.created;
        if let Some(topic) = self.catalogue.topics.get(&topic_no) {
            created = created.max(topic.created);
        }
        if let Some(session) = self.sessions.get_mut(no) {
            session.channel = Some(channel_no);
            session.state = State::Subscribed;
        }
        Ok(created)
    }

    /// Answers everybody whose commit this was, and lets channels see what it brought.
    pub(super) fn resolve(&mut self, outcome: &Outcome, now: Duration) {
        self.resolved = self.resolved.max(outcome.through);
        for no in self.catalogue.publishing.clone() {
            let topic = self.catalogue.topics.get_mut(&no);
            if topic.is_none_or(|topic| topic.published(outcome.through, outcome.result.is_ok())) {
                self.catalogue.publishing.remove(&no);
            }
            self.queue_topic(no);
        }
        let result = match &outcome.result {
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        for no in std::mem::take(&mut self.awaiting_commit) {
            self.release_replies(no, &result, now);
            if let Some(session) = self.sessions.get_mut(no) {
                session.awaits_commit = !session.replies.is_empty();
                if session.awaits_commit {
                    self.awaiting_commit.push(no);
                }
            }
        }
    }

    /// Writes a session's replies up to the first that still waits for a commit.
    pub(super) fn release_replies(
        &mut self,
        no: SessionNo,
        result: &Result<(), String>,
        now: Duration,
    ) {
        let resolved = self.resolved;
        let Some(session) = self.sessions.get_mut(no) else {
            return;
        };
        let mut subscribed = None;
        while let Some(reply) = session.replies.front() {
            match reply {
                Reply::Commit { ticket, .. } if *ticket > resolved => break,
                Reply::Commit { verb, count, .. } => {
                    let (verb, count) = (*verb, *count);
                    session.replies.pop_front();
                    session.replies_waiting =
                        session.replies_waiting.saturating_sub(count as usize);
                    if let Err(reason) = result {
                        return self.commit_failed(no, verb, reason, now);
                    }
                    for _ in 0..count {
                        append(&mut session.output, frame::OK_FRAME);
                    }
                    session.reply_bytes += count as usize * frame::OK_FRAME.len();
                    if verb == Verb::Sub {
                        session.delivering = true;
                        subscribed = session.channel;
                    }
                }
                Reply::Frame(framed) => {
                    append(&mut session.output, framed);
                    session.reply_bytes += framed.len();
                    session.waiting_bytes = session.waiting_bytes.saturating_sub(framed.len());
                    session.replies.pop_front();
                    session.replies_waiting = session.replies_waiting.saturating_sub(1);
                }
            }
        }
        if session.replies.is_empty() {
            session.replies.shrink_to(limits::REPLIES_KEPT);
        }
        self.wake(no);
        if let Some(channel) = subscribed {
            self.queue_channel(channel);
        }
    }

    /// The first reply that a failed commit owes is an error, and nothing comes after it.
    fn commit_failed(&mut self, no: SessionNo, verb: Verb, reason: &str, now: Duration) {
        let error = match verb {
            Verb::Sub => CommandError::SubFailed(reason.into()),
            verb => CommandError::PublishFailed(verb, reason.into()),
        };
        if let Some(session) = self.sessions.get_mut(no) {
            // The store has said it, and repeats itself less often.
            log::debug!("{}: {error}", session.peer);
            session.replies.clear();
            session.replies_waiting = 0;
            let mut framed = Vec::new();
            error.encode(&mut framed);
            append(&mut session.output, &framed);
        }
        self.end_session(no, Ending::Draining, now);
    }
}
