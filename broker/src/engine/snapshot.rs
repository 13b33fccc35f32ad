//! What /stats tells, in nsqd's words and JSON keys.

use serde::Serialize;
use storage::disk::Disk;

use super::Engine;
use super::catalogue::distributed;
use super::channel::{Channel, Topic};
use super::session::Session;

/// nsqadmin reads into this object without looking, so it is always there.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// Messages measured: none, the broker does not measure.
    pub count: u64,
    /// Always null.
    pub percentiles: Option<()>,
}

/// One topic.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "nsqd's keys")]
pub struct TopicStats {
    pub topic_name: String,
    pub channels: Vec<ChannelStats>,
    /// Messages that no channel has been given yet.
    pub depth: u64,
    /// The same: everything is in the log.
    pub backend_depth: u64,
    pub message_count: u64,
    pub message_bytes: u64,
    pub paused: bool,
    pub e2e_processing_latency: Latency,
}

/// One channel.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "nsqd's keys")]
pub struct ChannelStats {
    pub channel_name: String,
    /// Messages not finished, without those in flight and deferred.
    pub depth: u64,
    pub backend_depth: u64,
    pub in_flight_count: u64,
    pub deferred_count: u64,
    pub message_count: u64,
    pub requeue_count: u64,
    pub timeout_count: u64,
    pub client_count: usize,
    pub clients: Option<Vec<ClientStats>>,
    pub paused: bool,
    pub e2e_processing_latency: Latency,
    /// Messages that an ephemeral or limited channel never got. Ours, not NSQ's.
    pub missed_count: u64,
}

/// One connection.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "nsqd's keys")]
pub struct ClientStats {
    pub client_id: String,
    pub hostname: String,
    pub version: &'static str,
    pub remote_address: String,
    pub state: u8,
    pub ready_count: u32,
    pub in_flight_count: u32,
    pub message_count: u64,
    pub finish_count: u64,
    pub requeue_count: u64,
    /// Seconds since 1970.
    pub connect_ts: i64,
    pub sample_rate: u8,
    pub deflate: bool,
    pub snappy: bool,
    pub user_agent: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pub_counts: Vec<PubCount>,
    pub tls: bool,
    pub tls_cipher_suite: &'static str,
    pub tls_version: &'static str,
    pub tls_negotiated_protocol: &'static str,
    pub tls_negotiated_protocol_is_mutual: bool,
}

/// Messages that one connection published to one topic.
#[derive(Clone, Debug, Serialize)]
pub struct PubCount {
    pub topic: String,
    pub count: u64,
}

impl<D: Disk> Engine<D> {
    /// Topics by name, of one topic or channel if they are named (a topic that lacks the channel is
    /// left out).
    pub fn topic_stats(
        &self,
        topic: Option<&str>,
        channel: Option<&str>,
        clients: bool,
    ) -> Vec<TopicStats> {
        let wanted = |name: &str| topic.is_none_or(|topic| topic == name);
        let topics = self.catalogue.topics_by_name.iter();
        topics
            .filter(|(name, _)| wanted(name.as_str()))
            .filter_map(|(_, no)| Some((*no, self.catalogue.topics.get(no)?)))
            .filter(|(_, topic)| channel.is_none_or(|name| topic.channels.contains_key(name)))
            .map(|(no, topic)| self.stats_of_topic(no, topic, channel, clients))
            .collect()
    }

    /// Connections that have published.
    pub fn producer_stats(&self, topic: Option<&str>) -> Vec<ClientStats> {
        let producers = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.published.is_empty());
        producers
            .map(|(_, session)| self.stats_of_client(session, topic))
            .collect()
    }

    fn stats_of_topic(
        &self,
        no: storage::TopicNo,
        topic: &Topic,
        only: Option<&str>,
        clients: bool,
    ) -> TopicStats {
        let info = self.store.topic_info(no);
        let depth = info.as_ref().map_or(0, |info| info.undistributed);
        let channels = topic.channels.iter();
        TopicStats {
            topic_name: topic.name.to_string(),
            channels: channels
                .filter(|(name, _)| only.is_none_or(|only| only == name.as_str()))
                .filter_map(|(_, no)| Some((*no, self.catalogue.channels.get(no)?)))
                .map(|(no, channel)| self.stats_of_channel(no, channel, clients))
                .collect(),
            depth,
            backend_depth: depth,
            message_count: topic.messages,
            message_bytes: topic.message_bytes,
            paused: info.is_some_and(|info| info.paused),
            e2e_processing_latency: Latency::default(),
        }
    }

    fn stats_of_channel(
        &self,
        no: storage::ChannelNo,
        channel: &Channel,
        clients: bool,
    ) -> ChannelStats {
        let info = self.store.channel_info(no);
        let unfinished = info.as_ref().map_or(0, |info| info.unfinished);
        let in_flight = u64::from(channel.in_flight);
        let deferred = channel.deferred.len() as u64;
        let depth = unfinished.saturating_sub(in_flight + deferred);
        let consumers = channel
            .consumers
            .iter()
            .filter_map(|no| self.sessions.get(*no));
        ChannelStats {
            channel_name: channel.name.to_string(),
            depth,
            backend_depth: depth,
            in_flight_count: in_flight,
            deferred_count: deferred,
            message_count: distributed(&self.store, channel.topic)
                .saturating_sub(channel.counted_from),
            requeue_count: channel.requeues,
            timeout_count: channel.timeouts,
            client_count: channel.consumers.len(),
            clients: clients.then(|| {
                consumers
                    .map(|session| self.stats_of_client(session, None))
                    .collect()
            }),
            paused: channel.paused,
            e2e_processing_latency: Latency::default(),
            missed_count: info.map_or(0, |info| info.missed),
        }
    }

    fn stats_of_client(&self, session: &Session, topic: Option<&str>) -> ClientStats {
        let host = host_of(&session.peer);
        let or_host = |said: &str| if said.is_empty() { host } else { said }.to_owned();
        let published = session.published.iter();
        ClientStats {
            client_id: or_host(&session.negotiated.client_id),
            hostname: or_host(&session.negotiated.hostname),
            version: "V2",
            remote_address: session.peer.to_string(),
            state: session.state as u8,
            ready_count: session.ready_count,
            in_flight_count: session.in_flight.len(),
            message_count: session.messages,
            finish_count: session.finishes,
            requeue_count: session.requeues,
            connect_ts: session.connected_wall_ns.div_euclid(1_000_000_000),
            sample_rate: session.negotiated.sample_rate,
            deflate: false,
            snappy: false,
            user_agent: session.negotiated.user_agent.to_string(),
            pub_counts: published
                .filter_map(|(no, count)| Some((self.catalogue.topics.get(no)?, *count)))
                .filter(|(published, _)| topic.is_none_or(|topic| topic == published.name.as_str()))
                .map(|(published, count)| PubCount {
                    topic: published.name.to_string(),
                    count,
                })
                .collect(),
            tls: false,
            tls_cipher_suite: "",
            tls_version: "",
            tls_negotiated_protocol: "",
            tls_negotiated_protocol_is_mutual: false,
        }
    }
}

/// The part of a remote address that nsqd takes for client id and host name.
fn host_of(peer: &str) -> &str {
    match peer.rsplit_once(':') {
        Some((host, _)) => host.trim_start_matches('[').trim_end_matches(']'),
        None => peer,
    }
}
