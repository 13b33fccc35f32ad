//! What a block says: postcard entries, in ring blocks all of them, in segment blocks only runs.
//!
//! postcard is not self-describing: variants and fields are never reordered, new ones go last, and the block's
//! magic carries the version. Every entry says where things stand, not by how much they change, so that applying
//! one twice, or on a state that includes it already, changes nothing.

use serde::{Deserialize, Serialize, Serializer};

use crate::ids::{ChannelNo, MessageId, Seq, TopicNo};

/// One statement.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry<'a> {
    /// Records of one topic.
    #[serde(borrow)]
    Run(Run<'a>),
    /// `count` records of a channel from `first` are finished.
    Finish {
        channel: ChannelNo,
        first: Seq,
        count: u64,
    },
    /// A record was handed out `attempts` times and given back, to be delivered not before `delay_ms` from then.
    Retry {
        channel: ChannelNo,
        seq: Seq,
        attempts: u16,
        delay_ms: u64,
    },
    /// A topic exists.
    CreateTopic { topic: TopicNo, name: &'a str },
    /// A topic and its channels are gone.
    DeleteTopic { topic: TopicNo },
    /// A topic is paused or not; `standing` is its cursor `distributed` when that does not follow the end.
    Distribute {
        topic: TopicNo,
        paused: bool,
        standing: Option<Seq>,
    },
    /// A channel exists; all below `start` is not its business.
    CreateChannel {
        channel: ChannelNo,
        topic: TopicNo,
        name: &'a str,
        start: Seq,
    },
    /// A channel is gone.
    DeleteChannel { channel: ChannelNo },
    /// A channel is paused or not.
    PauseChannel { channel: ChannelNo, paused: bool },
    /// All records of a channel below `through` are finished, none above.
    EmptyChannel { channel: ChannelNo, through: Seq },
    /// A segment's bytes up to `end` are durable. It stands for all records of the topic from `first` to below
    /// `through` that any channel still needed then.
    Segment {
        topic: TopicNo,
        segment: SegmentImage,
    },
}

/// Records of one topic with consecutive sequences and ids.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run<'a> {
    pub(crate) topic: TopicNo,
    pub(crate) first_seq: Seq,
    pub(crate) first_id: MessageId,
    /// Boot time in ms of the epoch in the id, for deferrals: not before the records were accepted.
    pub(crate) mono_ms: u64,
    /// Wall time in ns, from which the records' own differ.
    pub(crate) wall_ns: i64,
    pub(crate) count: u32,
    /// postcard [`Record`]s.
    #[serde(serialize_with = "whole")]
    pub(crate) records: &'a [u8],
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    /// Microseconds after the run's wall time.
    pub(crate) wall_delta_us: i32,
    /// Deferral from the run's `mono_ms`; 0 is none.
    pub(crate) delay_ms: u32,
    #[serde(serialize_with = "whole")]
    pub(crate) body: &'a [u8],
}

impl Record<'_> {
    /// Microseconds from a run's wall time to a record's, if they fit.
    pub(crate) fn delta_us(base_ns: i64, wall_ns: i64) -> Option<i32> {
        i32::try_from(wall_ns.wrapping_sub(base_ns) / 1000).ok()
    }
}

/// A segment as ring and state name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentImage {
    /// Store id that seeds its checksums: an earlier one in a segment that outlived a lost ring.
    pub(crate) store: u64,
    pub(crate) number: u32,
    /// The file's length.
    pub(crate) bytes: u64,
    /// Offset below which all bytes are durable.
    pub(crate) end: u64,
    pub(crate) first: Seq,
    pub(crate) through: Seq,
}

impl SegmentImage {
    /// The file that holds it.
    pub(crate) fn file_name(&self, topic: TopicNo) -> String {
        file_name(topic, self.number)
    }
}

/// The file of a topic's segment, relative to the store.
pub(crate) fn file_name(topic: TopicNo, number: u32) -> String {
    format!(
        "{}/{:08x}-{:08x}",
        crate::disk::SEGMENTS_DIR,
        topic.0,
        number
    )
}

/// Appends an entry.
pub(crate) fn push(out: &mut Vec<u8>, entry: &Entry<'_>) {
    encode(out, entry);
}

/// Appends a record.
pub(crate) fn push_record(out: &mut Vec<u8>, record: &Record<'_>) {
    encode(out, record);
}

#[expect(
    clippy::expect_used,
    reason = "postcard fails on a full buffer only; a Vec grows"
)]
fn encode<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    *out = postcard::to_extend(value, std::mem::take(out)).expect("a Vec takes every entry");
}

/// Bytes as bytes. serde takes a slice for a sequence of numbers and would push one after the other, which was half of
/// what a publish costs; postcard writes both the same.
fn whole<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// The first entry of `bytes` and what follows it; `None` if they are no entry.
pub(crate) fn take(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// The first record of `bytes` and what follows it; `None` if they are no record.
pub(crate) fn take_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// The entries of a payload with their offsets in it; ends at the first that cannot be read.
pub(crate) fn entries(payload: &[u8]) -> impl Iterator<Item = (usize, Entry<'_>)> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = payload.len() - rest.len();
        let (entry, after) = take(rest)?;
        rest = after;
        Some((at, entry))
    })
}

/// A record with what its run says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Located<'a> {
    pub(crate) seq: Seq,
    pub(crate) id: MessageId,
    pub(crate) wall_ns: i64,
    pub(crate) mono_ms: u64,
    pub(crate) delay_ms: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Run<'a> {
    /// The sequence after the last record.
    pub(crate) fn end(&self) -> Seq {
        self.first_seq.plus(u64::from(self.count))
    }

    /// The records in order; ends early where they cannot be read.
    pub(crate) fn located(self) -> impl Iterator<Item = Located<'a>> {
        let mut rest = self.records;
        (0..u64::from(self.count)).map_while(move |index| {
            let (record, after) = take_record(rest)?;
            rest = after;
            Some(self.locate(index, record))
        })
    }

    /// What the run says of its record number `index`.
    pub(crate) fn locate(&self, index: u64, record: Record<'a>) -> Located<'a> {
        Located {
            seq: self.first_seq.plus(index),
            id: MessageId(self.first_id.0.wrapping_add(index)),
            wall_ns: self
                .wall_ns
                .saturating_add(i64::from(record.wall_delta_us) * 1000),
            mono_ms: self.mono_ms,
            delay_ms: record.delay_ms,
            body: record.body,
        }
    }
}

/// Builds runs again from single records, for those that move: consecutive ones of one run stay together.
#[derive(Default)]
pub(crate) struct RunBuilder {
    records: Vec<u8>,
    open: Option<Located<'static>>,
    count: u32,
}

impl RunBuilder {
    /// Adds a record; writes the run before it to `out` if it does not continue that.
    pub(crate) fn push(&mut self, topic: TopicNo, record: &Located<'_>, out: &mut Vec<u8>) {
        if self.delta_us(record).is_none() {
            self.finish(topic, out);
            self.open = Some(Located {
                body: &[],
                ..*record
            });
        }
        let wall_delta_us = self.delta_us(record).unwrap_or(0);
        let record = Record {
            wall_delta_us,
            delay_ms: record.delay_ms,
            body: record.body,
        };
        push_record(&mut self.records, &record);
        self.count += 1;
    }

    /// Writes what is open.
    pub(crate) fn finish(&mut self, topic: TopicNo, out: &mut Vec<u8>) {
        if let Some(first) = self.open.take() {
            let run = Run {
                topic,
                first_seq: first.seq,
                first_id: first.id,
                mono_ms: first.mono_ms,
                wall_ns: first.wall_ns,
                count: self.count,
                records: &self.records,
            };
            push(out, &Entry::Run(run));
        }
        self.records.clear();
        self.count = 0;
    }

    /// Bytes that [`finish`](Self::finish) would write, about.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The record's wall time after the open run's, if it continues that run.
    fn delta_us(&self, record: &Located<'_>) -> Option<i32> {
        let first = self.open.as_ref()?;
        let index = u64::from(self.count);
        let continues = record.seq == first.seq.plus(index)
            && record.id.0 == first.id.0.wrapping_add(index)
            && record.mono_ms == first.mono_ms;
        Record::delta_us(first.wall_ns, record.wall_ns).filter(|_| continues)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_whole_in_the_format_of_a_sequence() {
        for len in [0, 1, 127, 128, 70_000] {
            let body = vec![0xa5; len];
            let record = Record {
                wall_delta_us: -3,
                delay_ms: 300,
                body: &body,
            };
            let mut out = Vec::new();
            push_record(&mut out, &record);
            assert_eq!(out, postcard::to_stdvec(&(-3_i32, 300_u32, &body)).unwrap());
            assert_eq!(take_record(&out), Some((record, &b""[..])));
        }
    }

    #[test]
    fn records_that_moved_are_the_same_and_only_what_was_left_out_is_missing() {
        let mut records = Vec::new();
        for body in [&b"a"[..], b"bb", b"ccc", b"dddd"] {
            push_record(
                &mut records,
                &Record {
                    wall_delta_us: 5,
                    delay_ms: 7,
                    body,
                },
            );
        }
        let run = Run {
            topic: TopicNo(3),
            first_seq: Seq(10),
            first_id: MessageId::new(2, 100),
            mono_ms: 1,
            wall_ns: 1_000_000,
            count: 4,
            records: &records,
        };
        let all: Vec<_> = run.located().collect();
        assert_eq!(all.len(), 4);
        assert_eq!(
            (all[3].seq, all[3].body, all[3].id.epoch()),
            (Seq(13), &b"dddd"[..], 2)
        );

        let (mut out, mut builder) = (Vec::new(), RunBuilder::default());
        for record in all.iter().filter(|record| record.seq != Seq(11)) {
            builder.push(TopicNo(3), record, &mut out);
        }
        builder.finish(TopicNo(3), &mut out);
        let runs: Vec<_> = entries(&out)
            .map(|(_, entry)| match entry {
                Entry::Run(run) => run,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(runs.len(), 2);
        let moved: Vec<_> = runs.iter().flat_map(|run| run.located()).collect();
        assert_eq!(moved, [all[0], all[2], all[3]]);
    }
}
