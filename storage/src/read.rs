//! From a sequence to a message: segment or ring, through the cache.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use thiserror::Error;

use crate::block::{HEADER_BYTES, Header};
use crate::cache::BlockKey;

use crate::disk::Disk;
use crate::entry::{self, Entry, Run};
use crate::ids::{ChannelNo, MessageId, Seq, TopicNo};
use crate::limits::PAGE_BYTES;
use crate::segment::{BLOCK_HEADER_BYTES, SegmentKey};
use crate::store::Store;
use crate::topic::{Extent, Segment, Topic};

/// A message as a channel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its place in the topic.
    pub seq: Seq,
    /// Its name.
    pub id: MessageId,
    /// Wall time at which it was accepted, in ns since 1970.
    pub timestamp_ns: i64,
    /// How often it was handed out before it was last given back; 0 if never.
    pub attempts: u16,
    /// Boot time before which it is deferred; zero is not at all.
    pub not_before: Duration,
    /// The payload.
    pub body: &'a [u8],
}

/// A read of the medium failed; the same read may succeed later.
#[derive(Debug, Error)]
#[error("cannot read {what}: {error}")]
pub struct ReadError {
    what: String,
    error: io::Error,
}

/// A channel's read position. It belongs to whoever reads; a new one after the channel was emptied.
#[derive(Clone, Debug)]
pub struct Cursor {
    seq: Seq,
    hint: Option<Hint>,
}

impl Cursor {
    /// A position before the record `seq`.
    pub fn new(seq: Seq) -> Cursor {
        Cursor { seq, hint: None }
    }

    /// The first record that was not returned yet.
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

/// Where the record after the last one returned stands, so that reading on costs no look-up.
#[derive(Clone, Debug)]
struct Hint {
    key: BlockKey,
    run: RunHead,
    seq: Seq,
    at: usize,
}

/// A run without its records.
#[derive(Clone, Copy, Debug)]
struct RunHead {
    topic: TopicNo,
    first_seq: Seq,
    first_id: MessageId,
    mono_ms: u64,
    wall_ns: i64,
    end: Seq,
}

/// A record in a decoded block.
struct Found {
    bytes: Rc<Vec<u8>>,
    key: Option<BlockKey>,
    run: RunHead,
    seq: Seq,
    id: MessageId,
    wall_ns: i64,
    mono_ms: u64,
    delay_ms: u32,
    body: Range<usize>,
}

impl<D: Disk> Store<D> {
    /// The next message of a channel at or after its cursor: committed, distributed and not finished. Moves the
    /// cursor past it. Records that damage took are counted as missed and passed over.
    ///
    /// # Errors
    /// The medium cannot be read; the cursor stays.
    pub fn next(
        &mut self,
        channel: ChannelNo,
        cursor: &mut Cursor,
    ) -> Result<Option<Message<'_>>, ReadError> {
        loop {
            let Some((topic, seq)) = self.unfinished_from(channel, cursor.seq) else {
                return Ok(None);
            };
            let found = match self.found_by_hint(cursor, seq) {
                Some(found) => Some(found),
                None => self.find(topic, seq)?,
            };
            let limit = self
                .catalog
                .topics
                .get(&topic)
                .map_or(seq, Topic::distributed);
            let found = found.filter(|found| found.seq < limit);
            let reached = found.as_ref().map_or(limit, |found| found.seq);
            if reached > seq {
                self.miss(channel, seq, reached);
            }
            cursor.seq = reached;
            let Some(found) = found else { continue };
            if self
                .catalog
                .channels
                .get(&channel)
                .is_some_and(|c| c.has_finished(found.seq))
            {
                continue;
            }
            cursor.seq = found.seq.plus(1);
            cursor.hint = found.next_hint();
            return Ok(Some(self.message(channel, found)));
        }
    }

    /// A message that was read before, again.
    ///
    /// # Errors
    /// The medium cannot be read.
    pub fn read(&mut self, channel: ChannelNo, seq: Seq) -> Result<Option<Message<'_>>, ReadError> {
        if self
            .unfinished_from(channel, seq)
            .is_none_or(|(_, unfinished)| unfinished != seq)
        {
            return Ok(None);
        }
        let Some(topic) = self
            .catalog
            .channels
            .get(&channel)
            .map(|channel| channel.topic)
        else {
            return Ok(None);
        };
        match self.find(topic, seq)?.filter(|found| found.seq == seq) {
            Some(found) => Ok(Some(self.message(channel, found))),
            None => {
                self.miss(channel, seq, seq.plus(1));
                Ok(None)
            }
        }
    }

    /// The channel's topic and its first unfinished, distributed record from `seq` on.
    fn unfinished_from(&self, channel: ChannelNo, seq: Seq) -> Option<(TopicNo, Seq)> {
        let channel = self.catalog.channels.get(&channel)?;
        let topic = self.catalog.topics.get(&channel.topic)?;
        let seq = channel.unfinished_from(seq);
        (seq < topic.distributed()).then_some((channel.topic, seq))
    }

    /// The records of `first..end` that a channel has not finished are not to be had any more.
    fn miss(&mut self, number: ChannelNo, first: Seq, end: Seq) {
        let missed = self.catalog.miss(number, first, end);
        let Some(channel) = self.catalog.channels.get(&number) else {
            return;
        };
        if missed > 0 && channel.lasting {
            self.counters.damaged_records += missed;
            log::error!(
                "{missed} records of channel {} (topic {}, sequences {first}..{end}) cannot be read and are lost",
                channel.name,
                channel.topic,
            );
        }
    }

    fn message(&mut self, channel: ChannelNo, found: Found) -> Message<'_> {
        let channel = self.catalog.channels.get(&channel);
        let retry = channel
            .and_then(|channel| channel.retries.get(&found.seq))
            .copied();
        let not_before = match retry {
            Some(retry) if retry.recovered => self.after_start(retry.delay_ms),
            Some(_) => Duration::ZERO,
            // The clock of an earlier start means nothing now: the deferral counts anew, late but never early.
            None if found.id.epoch() != self.epoch => self.after_start(found.delay_ms.into()),
            None if found.delay_ms == 0 => Duration::ZERO,
            None => Duration::from_millis(found.mono_ms + u64::from(found.delay_ms)),
        };
        let bytes = self.reading.insert(found.bytes);
        Message {
            seq: found.seq,
            id: found.id,
            timestamp_ns: found.wall_ns,
            attempts: retry.map_or(0, |retry| retry.attempts),
            not_before,
            body: bytes.get(found.body).unwrap_or_default(),
        }
    }

    fn after_start(&self, delay_ms: u64) -> Duration {
        if delay_ms == 0 {
            return Duration::ZERO;
        }
        self.opened_at
            .saturating_add(Duration::from_millis(delay_ms))
    }

    fn found_by_hint(&mut self, cursor: &Cursor, seq: Seq) -> Option<Found> {
        let hint = cursor.hint.as_ref().filter(|hint| hint.seq == seq)?;
        let bytes = self.cache.get(&hint.key)?;
        Found::at(bytes, Some(hint.key), hint.run, seq, hint.at)
    }

    /// The first record of a topic at or after `seq`.
    fn find(&mut self, number: TopicNo, mut seq: Seq) -> Result<Option<Found>, ReadError> {
        loop {
            let Some(topic) = self.catalog.topics.get(&number) else {
                return Ok(None);
            };
            if let Some(memory) = &topic.memory {
                return Ok(memory.at_or_after(seq).map(|(seq, record)| Found {
                    bytes: Rc::new(record.body.to_vec()),
                    key: None,
                    run: RunHead::default_at(number, seq),
                    seq,
                    id: record.id,
                    wall_ns: record.wall_ns,
                    mono_ms: record.mono_ms,
                    delay_ms: record.delay_ms,
                    body: 0..record.body.len(),
                }));
            }
            if let Some(segment) = topic.segment_at(seq).copied() {
                match self.find_in_segment(number, &segment, seq)? {
                    Ok(found) => return Ok(Some(found)),
                    Err(next) => seq = next,
                }
            } else if let Some(extent) = topic.extent_at(seq).copied() {
                match self.find_in_ring(number, &extent, seq)? {
                    Some(found) => return Ok(Some(found)),
                    None => seq = extent.end(),
                }
            } else {
                return Ok(None);
            }
        }
    }

    /// The first record of a segment at or after `seq`, or where to go on.
    fn find_in_segment(
        &mut self,
        topic: TopicNo,
        segment: &Segment,
        seq: Seq,
    ) -> Result<Result<Found, Seq>, ReadError> {
        let image = segment.image;
        let key = SegmentKey {
            store: image.store,
            topic,
            number: image.number,
        };
        let failed = |error| ReadError {
            what: image.file_name(topic),
            error,
        };
        let at = match self.files.block_at(key, image.end, seq) {
            Ok(Some(at)) => at,
            Ok(None) => return Ok(Err(image.through)),
            Err(error) if is_damage(&error) => {
                log::error!("{}: {error}", image.file_name(topic));
                return Ok(Err(image.through));
            }
            Err(error) => return Err(failed(error)),
        };
        let block_key = BlockKey::Segment(key, at.offset);
        let bytes = match self.cache.get(&block_key) {
            Some(bytes) => bytes,
            None => {
                let file = self.files.file(key).map_err(failed)?;
                let mut stored = vec![0; at.header.stored_bytes as usize];
                let from = at.offset + BLOCK_HEADER_BYTES as u64;
                let read = match self.disk.read_at(&file, from, &mut stored) {
                    Err(error) if !is_damage(&error) => return Err(failed(error)),
                    other => other,
                };
                let unpack = || at.header.unpack(&stored, &key, at.offset);
                let Some(raw) = read.ok().and_then(|()| unpack()) else {
                    log::error!(
                        "{}: block at {} is damaged",
                        image.file_name(topic),
                        at.offset
                    );
                    return Ok(Err(at.header.last.plus(1)));
                };
                let bytes = Rc::new(raw);
                self.cache.insert(block_key, Rc::clone(&bytes));
                bytes
            }
        };
        let runs = entry::entries(&bytes).filter_map(|(at, entry)| match entry {
            Entry::Run(run) if run.end() > seq => Some((at, run)),
            _ => None,
        });
        let found = { runs }.next().and_then(|(at, run)| {
            let records_end = at + entry_bytes(bytes.get(at..)?)?;
            Found::scan(Rc::clone(&bytes), block_key, &run, seq, records_end)
        });
        Ok(found.ok_or(at.header.last.plus(1)))
    }

    /// The first record of a ring run at or after `seq`; `None` if it is damaged.
    fn find_in_ring(
        &mut self,
        topic: TopicNo,
        extent: &Extent,
        seq: Seq,
    ) -> Result<Option<Found>, ReadError> {
        let key = BlockKey::Ring(extent.block.number);
        let bytes = match self.cache.get(&key) {
            Some(bytes) => bytes,
            None => match self.read_ring_block(extent)? {
                Some(bytes) => {
                    let bytes = Rc::new(bytes);
                    self.cache.insert(key, Rc::clone(&bytes));
                    bytes
                }
                None => return Ok(None),
            },
        };
        let run_at = extent.run_at as usize;
        let run_end = run_at + extent.run_bytes as usize;
        let Some((Entry::Run(run), _)) = bytes.get(run_at..run_end).and_then(entry::take) else {
            return Ok(None);
        };
        if run.topic != topic {
            return Ok(None);
        }
        Ok(Found::scan(Rc::clone(&bytes), key, &run, seq, run_end))
    }

    /// A ring block, whole; `None` if it is damaged.
    pub(crate) fn read_ring_block(&self, extent: &Extent) -> Result<Option<Vec<u8>>, ReadError> {
        let offset = u64::from(extent.block.offset);
        let failed = |error| ReadError {
            what: format!("ring at {offset}"),
            error,
        };
        let mut bytes = vec![0; PAGE_BYTES as usize];
        self.disk
            .read_at(&self.ring.file, offset, &mut bytes)
            .map_err(failed)?;
        let header = Header::decode(&bytes, self.ring_id, extent.block.offset)
            .filter(|header| header.place.number == extent.block.number)
            .filter(|header| offset + header.ring_bytes() <= self.ring.bytes);
        let Some(header) = header else {
            log::error!("ring: block {} at {offset} is damaged", extent.block.number);
            return Ok(None);
        };
        let end = HEADER_BYTES + header.payload_bytes as usize;
        bytes.resize(end, 0);
        if let Some(rest) = bytes
            .get_mut(PAGE_BYTES as usize..)
            .filter(|rest| !rest.is_empty())
        {
            self.disk
                .read_at(&self.ring.file, offset + PAGE_BYTES, rest)
                .map_err(failed)?;
        }
        if header.payload(&bytes, self.ring_id).is_none() {
            log::error!(
                "ring: payload of block {} at {offset} is damaged",
                extent.block.number
            );
            return Ok(None);
        }
        Ok(Some(bytes))
    }
}

/// True if a file is gone or too short: no second try helps.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | UnexpectedEof)
}

/// Bytes of the entry at the front.
fn entry_bytes(bytes: &[u8]) -> Option<usize> {
    let (_, rest) = entry::take(bytes)?;
    Some(bytes.len() - rest.len())
}

impl RunHead {
    fn of(run: &Run<'_>) -> RunHead {
        RunHead {
            topic: run.topic,
            first_seq: run.first_seq,
            first_id: run.first_id,
            mono_ms: run.mono_ms,
            wall_ns: run.wall_ns,
            end: run.end(),
        }
    }

    fn default_at(topic: TopicNo, seq: Seq) -> RunHead {
        let first_id = MessageId(0);
        RunHead {
            topic,
            first_seq: seq,
            first_id,
            mono_ms: 0,
            wall_ns: 0,
            end: seq.plus(1),
        }
    }

    fn without_records(&self) -> Run<'static> {
        Run {
            topic: self.topic,
            first_seq: self.first_seq,
            first_id: self.first_id,
            mono_ms: self.mono_ms,
            wall_ns: self.wall_ns,
            count: self.end.since(self.first_seq) as u32,
            records: &[],
        }
    }
}

impl Found {
    /// The first record at or after `seq` of a run whose entry ends at `run_end`.
    fn scan(
        bytes: Rc<Vec<u8>>,
        key: BlockKey,
        run: &Run<'_>,
        seq: Seq,
        run_end: usize,
    ) -> Option<Found> {
        // The records are the run's last field.
        let mut at = run_end.checked_sub(run.records.len())?;
        let wanted = seq.max(run.first_seq);
        for _ in 0..wanted.since(run.first_seq) {
            let rest = bytes.get(at..)?;
            let (_, after) = entry::take_record(rest)?;
            at += rest.len() - after.len();
        }
        Found::at(bytes, Some(key), RunHead::of(run), wanted, at)
    }

    /// The record `seq` of a run, which stands at `at`.
    fn at(
        bytes: Rc<Vec<u8>>,
        key: Option<BlockKey>,
        run: RunHead,
        seq: Seq,
        at: usize,
    ) -> Option<Found> {
        if !(run.first_seq..run.end).contains(&seq) {
            return None;
        }
        let rest = bytes.get(at..)?;
        let (record, after) = entry::take_record(rest)?;
        let located = run
            .without_records()
            .locate(seq.since(run.first_seq), record);
        // The body is the record's last field.
        let end = at + rest.len() - after.len();
        let (id, wall_ns, delay_ms) = (located.id, located.wall_ns, located.delay_ms);
        let body = end - record.body.len()..end;
        Some(Found {
            key,
            run,
            seq,
            id,
            wall_ns,
            mono_ms: run.mono_ms,
            delay_ms,
            body,
            bytes,
        })
    }

    fn next_hint(&self) -> Option<Hint> {
        let seq = self.seq.plus(1);
        let key = self.key.filter(|_| seq < self.run.end)?;
        Some(Hint {
            key,
            run: self.run,
            seq,
            at: self.body.end,
        })
    }
}
