//! Topics and channels in memory: where their records are, how far each cursor is.
//!
//! ```text
//!  topic   0 ......... segments ......... | ...... ring extents ...... | end
//!                 channel floor ^      finished above it ^^  ^         ^ distributed (follows the end, or stands)
//! ```
//!
//! All sequences in segments are below all those in ring extents. A change of the catalogue is an [`Entry`] that
//! is applied here by the one function that replays it at recovery, too.

use std::collections::{BTreeMap, VecDeque};

use crate::channel::{Channel, DELTA_BYTES_MAX, Deltas, Retry, TakenDeltas};
use crate::entry::{self, Entry};
use crate::ids::{BlockNo, ChannelNo, Seq, TopicNo};
use crate::memory::MemoryLog;
use crate::ranges::RangeSet;
use crate::state::{ChannelImage, Image, TopicImage};
use crate::topic::{Name, Segment, Topic};

/// All topics and channels.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) next_topic: TopicNo,
    pub(crate) next_channel: ChannelNo,
    pub(crate) topics: BTreeMap<TopicNo, Topic>,
    pub(crate) channels: BTreeMap<ChannelNo, Channel>,
    /// Channels with pending deltas, each once.
    dirty: VecDeque<ChannelNo>,
}

impl Catalog {
    /// The topic of this name.
    pub(crate) fn topic_named(&self, name: &str) -> Option<TopicNo> {
        self.topics
            .iter()
            .find(|(_, topic)| topic.name == name)
            .map(|(number, _)| *number)
    }

    /// The channel of this name in a topic.
    pub(crate) fn channel_named(&self, topic: &Topic, name: &str) -> Option<ChannelNo> {
        let mut numbers = topic.channels.iter().copied();
        numbers.find(|number| self.channels.get(number).is_some_and(|c| c.name == name))
    }

    /// Adds a topic; one whose number was given before, even if it is gone since, stays as it is.
    pub(crate) fn insert_topic(&mut self, number: TopicNo, name: &str, lasting: bool) {
        let Ok(name) = Name::try_from(name) else {
            return;
        };
        if number < self.next_topic {
            return;
        }
        self.next_topic = TopicNo(number.0.saturating_add(1));
        let topic = Topic {
            name,
            paused: false,
            standing: Some(Seq(0)),
            end: Seq(0),
            next_segment: 0,
            segments: VecDeque::new(),
            extents: VecDeque::new(),
            memory: (!lasting).then(MemoryLog::default),
            channels: Vec::new(),
        };
        self.topics.insert(number, topic);
    }

    /// Adds a channel; the same holds as for topics.
    pub(crate) fn insert_channel(
        &mut self,
        number: ChannelNo,
        topic: TopicNo,
        name: &str,
        start: Seq,
        lasting: bool,
    ) {
        let Ok(name) = Name::try_from(name) else {
            return;
        };
        let Some(of) = self.topics.get_mut(&topic) else {
            return;
        };
        if number < self.next_channel {
            return;
        }
        self.next_channel = ChannelNo(number.0.saturating_add(1));
        of.channels.push(number);
        let channel = Channel {
            topic,
            name,
            lasting,
            paused: false,
            floor: start,
            committed_floor: start,
            finished: RangeSet::default(),
            retries: BTreeMap::new(),
            missed: 0,
            pending: Deltas::default(),
        };
        self.channels.insert(number, channel);
    }

    /// Applies a statement; one about what is gone changes nothing. Runs are placed by the caller, who knows
    /// where they stand.
    pub(crate) fn apply(&mut self, entry: &Entry<'_>) {
        match *entry {
            Entry::Run(_) => {}
            Entry::CreateTopic { topic, name } => self.insert_topic(topic, name, true),
            Entry::CreateChannel {
                channel,
                topic,
                name,
                start,
            } => {
                self.insert_channel(channel, topic, name, start, true);
            }
            Entry::DeleteTopic { topic } => {
                if let Some(topic) = self.topics.remove(&topic) {
                    for channel in topic.channels {
                        self.channels.remove(&channel);
                    }
                }
            }
            Entry::DeleteChannel { channel } => {
                if let Some(gone) = self.channels.remove(&channel) {
                    if let Some(topic) = self.topics.get_mut(&gone.topic) {
                        topic.channels.retain(|number| *number != channel);
                    }
                }
            }
            Entry::Distribute {
                topic,
                paused,
                standing,
            } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    (topic.paused, topic.standing) = (paused, standing);
                }
            }
            Entry::Segment { topic, segment } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.name_segment(segment);
                }
            }
            Entry::Finish {
                channel,
                first,
                count,
            } => {
                self.with_channel(channel, |c| c.finish(first, first.plus(count)));
            }
            Entry::Retry {
                channel,
                seq,
                attempts,
                delay_ms,
            } => self.with_channel(channel, |c| {
                if !c.has_finished(seq) {
                    c.retries.insert(
                        seq,
                        Retry {
                            attempts,
                            delay_ms,
                            recovered: true,
                        },
                    );
                }
            }),
            Entry::PauseChannel { channel, paused } => {
                self.with_channel(channel, |c| c.paused = paused);
            }
            Entry::EmptyChannel { channel, through } => {
                self.with_channel(channel, |c| c.set_floor(through));
            }
        }
    }

    fn with_channel(&mut self, number: ChannelNo, change: impl FnOnce(&mut Channel)) {
        if let Some(channel) = self.channels.get_mut(&number) {
            change(channel);
        }
    }

    /// Finishes one record; the next block says so.
    pub(crate) fn finish(&mut self, number: ChannelNo, seq: Seq) {
        self.finish_range(number, seq, seq.plus(1));
    }

    /// Finishes those of `first..end` that are not to be had any more, and returns how many they are.
    pub(crate) fn miss(&mut self, number: ChannelNo, first: Seq, end: Seq) -> u64 {
        let missed = self.finish_range(number, first, end);
        self.with_channel(number, |channel| channel.missed += missed);
        missed
    }

    /// Finishes a range; the next block says so. Returns how many records were not finished before.
    fn finish_range(&mut self, number: ChannelNo, first: Seq, end: Seq) -> u64 {
        let Some(channel) = self.channels.get_mut(&number) else {
            return 0;
        };
        let from = first.max(channel.floor);
        let new = end
            .since(from)
            .saturating_sub(channel.finished.count_in(from, end));
        if from >= end || new == 0 {
            return 0;
        }
        channel.finish(from, end);
        if channel.lasting {
            mark_dirty(&mut self.dirty, number, channel);
            channel.pending.finished.insert(from, end);
        }
        new
    }

    /// Notes that a record was given back; the next block says so.
    pub(crate) fn retry(&mut self, number: ChannelNo, seq: Seq, attempts: u16, delay_ms: u64) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        if channel.has_finished(seq) {
            return;
        }
        channel.retries.insert(
            seq,
            Retry {
                attempts,
                delay_ms,
                recovered: false,
            },
        );
        if channel.lasting {
            mark_dirty(&mut self.dirty, number, channel);
            channel.pending.retries.insert(seq);
        }
    }

    /// The next block makes the channel's floor, which an entry in it moved, the one that the ring knows.
    pub(crate) fn floor_moved(&mut self, number: ChannelNo) {
        if let Some(channel) = self.channels.get(&number).filter(|channel| channel.lasting) {
            mark_dirty(&mut self.dirty, number, channel);
        }
    }

    /// True if a block has something to say of a channel.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Bytes of all pending deltas, at most.
    pub(crate) fn deltas_bytes_max(&self) -> usize {
        let channels = self
            .dirty
            .iter()
            .filter_map(|number| self.channels.get(number));
        let deltas = channels.map(|channel| channel.pending.len()).sum::<usize>();
        deltas * DELTA_BYTES_MAX
    }

    /// Writes pending deltas, up to `bytes_max`; what does not fit waits for the next block.
    pub(crate) fn take_deltas(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Vec<TakenDeltas> {
        let mut room = bytes_max / DELTA_BYTES_MAX;
        let mut taken = Vec::new();
        while let Some(number) = self.dirty.front().copied().filter(|_| room > 0) {
            self.dirty.pop_front();
            let Some(channel) = self.channels.get_mut(&number) else {
                continue;
            };
            let deltas = channel.pending.split(&mut room);
            for (first, end) in deltas.finished.iter() {
                entry::push(
                    out,
                    &Entry::Finish {
                        channel: number,
                        first,
                        count: end.since(first),
                    },
                );
            }
            for seq in deltas.retries.iter().copied() {
                if let Some(Retry {
                    attempts, delay_ms, ..
                }) = channel.retries.get(&seq).copied()
                {
                    entry::push(
                        out,
                        &Entry::Retry {
                            channel: number,
                            seq,
                            attempts,
                            delay_ms,
                        },
                    );
                }
            }
            let floor = channel.pending.is_empty().then_some(channel.floor);
            if floor.is_none() {
                self.dirty.push_front(number);
            }
            taken.push(TakenDeltas {
                channel: number,
                floor,
                deltas,
            });
        }
        taken
    }

    /// The block with these deltas is durable.
    pub(crate) fn deltas_committed(&mut self, taken: &[TakenDeltas]) {
        for delta in taken {
            if let Some(channel) = self.channels.get_mut(&delta.channel) {
                let floor = delta.floor.unwrap_or(channel.committed_floor);
                channel.committed_floor = channel.committed_floor.max(floor);
            }
        }
    }

    /// The block with these deltas failed: the next one says them.
    pub(crate) fn deltas_failed(&mut self, taken: Vec<TakenDeltas>) {
        for delta in taken {
            let Some(channel) = self.channels.get_mut(&delta.channel) else {
                continue;
            };
            mark_dirty(&mut self.dirty, delta.channel, channel);
            for (first, end) in delta.deltas.finished.iter() {
                channel.pending.finished.insert(first, end);
            }
            channel.pending.retries.extend(delta.deltas.retries);
        }
    }

    /// The lowest sequence that a lasting channel, or one to come, still needs; as the ring knows it.
    pub(crate) fn needed_from(&self, topic: &Topic) -> Seq {
        let floors = self
            .lasting_channels(topic)
            .map(|channel| channel.committed_floor);
        floors
            .chain([topic.distributed()])
            .min()
            .unwrap_or(topic.end)
    }

    /// True if a lasting channel, or one to come, still needs this record.
    pub(crate) fn is_needed(&self, topic: &Topic, seq: Seq) -> bool {
        topic.standing.is_some_and(|standing| seq >= standing)
            || self
                .lasting_channels(topic)
                .any(|channel| !channel.has_finished(seq))
    }

    /// True if some record of `first..end` may be needed; quick.
    pub(crate) fn is_any_needed(&self, topic: &Topic, first: Seq, end: Seq) -> bool {
        topic.standing.is_some_and(|standing| end > standing)
            || self
                .lasting_channels(topic)
                .any(|channel| channel.unfinished_from(first) < end)
    }

    fn lasting_channels<'a>(&'a self, topic: &'a Topic) -> impl Iterator<Item = &'a Channel> {
        let numbers = topic.channels.iter();
        numbers
            .filter_map(|number| self.channels.get(number))
            .filter(|channel| channel.lasting)
    }

    /// Forgets ring places before `live_from`; whatever was needed there has moved.
    pub(crate) fn drop_extents_before(&mut self, live_from: BlockNo) {
        for topic in self.topics.values_mut() {
            topic
                .extents
                .retain(|extent| extent.block.number >= live_from);
        }
    }

    /// All that lasts.
    pub(crate) fn image(&self, epoch: u32) -> Image {
        let topics = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.memory.is_none());
        Image {
            epoch,
            next_topic: self.next_topic,
            next_channel: self.next_channel,
            topics: topics
                .map(|(number, topic)| self.topic_image(*number, topic))
                .collect(),
        }
    }

    fn topic_image(&self, number: TopicNo, topic: &Topic) -> TopicImage {
        let channels = topic.channels.iter().filter_map(|number| {
            let channel = self
                .channels
                .get(number)
                .filter(|channel| channel.lasting)?;
            Some(ChannelImage {
                number: *number,
                name: channel.name.as_str().into(),
                paused: channel.paused,
                floor: channel.floor,
                finished: channel
                    .finished
                    .iter()
                    .map(|(a, b)| (a, b.since(a)))
                    .collect(),
                retries: channel
                    .retries
                    .iter()
                    .map(|(s, r)| (*s, r.attempts, r.delay_ms))
                    .collect(),
            })
        });
        TopicImage {
            number,
            name: topic.name.as_str().into(),
            paused: topic.paused,
            standing: topic.standing,
            end: topic.end,
            next_segment: topic.next_segment,
            segments: topic.segments.iter().map(|segment| segment.image).collect(),
            channels: channels.collect(),
        }
    }

    /// The catalogue that an image describes.
    pub(crate) fn from_image(image: &Image) -> Catalog {
        let mut catalog = Catalog::default();
        for topic in &image.topics {
            catalog.insert_topic(topic.number, &topic.name, true);
            if let Some(entry) = catalog.topics.get_mut(&topic.number) {
                (entry.paused, entry.standing, entry.end) =
                    (topic.paused, topic.standing, topic.end);
                entry.next_segment = topic.next_segment;
                let segments = topic.segments.iter();
                entry.segments = segments
                    .map(|s| Segment {
                        image: *s,
                        sealed: false,
                    })
                    .collect();
            }
        }
        let mut channels: Vec<_> = image
            .topics
            .iter()
            .flat_map(|t| t.channels.iter().map(|c| (t.number, c)))
            .collect();
        channels.sort_by_key(|(_, channel)| channel.number);
        for (topic, channel) in channels {
            let number = channel.number;
            catalog.insert_channel(number, topic, &channel.name, channel.floor, true);
            catalog.apply(&Entry::PauseChannel {
                channel: number,
                paused: channel.paused,
            });
            for (first, count) in channel.finished.iter().copied() {
                catalog.apply(&Entry::Finish {
                    channel: number,
                    first,
                    count,
                });
            }
            for (seq, attempts, delay_ms) in channel.retries.iter().copied() {
                catalog.apply(&Entry::Retry {
                    channel: number,
                    seq,
                    attempts,
                    delay_ms,
                });
            }
        }
        catalog.next_topic = catalog.next_topic.max(image.next_topic);
        catalog.next_channel = catalog.next_channel.max(image.next_channel);
        catalog
    }
}

fn mark_dirty(dirty: &mut VecDeque<ChannelNo>, number: ChannelNo, channel: &Channel) {
    if channel.pending.is_empty() {
        dirty.push_back(number);
    }
}
