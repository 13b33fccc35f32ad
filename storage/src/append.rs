//! The one path by which bytes get into segments: blocks are appended to a topic's last segment or to a new one,
//! synced, and only then named by a ring block.

use crate::block::pages;
use crate::disk::{Disk, SEGMENTS_DIR};
use crate::entry::{SegmentImage, file_name};
use crate::ids::{Seq, TopicNo};
use crate::job::{Step, Target};
use crate::limits::SEGMENT_BYTES_FIRST;
use crate::segment::{BLOCK_HEADER_BYTES, FILE_HEADER_BYTES, SegmentKey, encode_file_header};
use crate::store::Store;

/// Blocks written to a topic's segments that nothing names yet.
pub(crate) struct Append<F> {
    pub(crate) topic: TopicNo,
    parts: Vec<Part<F>>,
}

/// The writes to one segment.
struct Part<F> {
    image: SegmentImage,
    file: Target<F>,
    is_new: bool,
}

impl<F: Clone> Append<F> {
    pub(crate) fn new(topic: TopicNo) -> Append<F> {
        Append {
            topic,
            parts: Vec::new(),
        }
    }

    /// True if nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Ends the writes: the last segment stands for all below `through`.
    pub(crate) fn close(&mut self, through: Seq) {
        if let Some(last) = self.parts.last_mut() {
            last.image.through = last.image.through.max(through);
        }
    }

    /// Adds the steps that make the writes durable.
    pub(crate) fn sync(&mut self, steps: &mut Vec<Step<F>>) {
        for part in &mut self.parts {
            let end = pages(part.image.end);
            // Zeros up to the page's end: what an earlier, never named write left there must not be taken for a
            // block that follows.
            let bytes = vec![0; (end - part.image.end) as usize];
            if !bytes.is_empty() {
                steps.push(Step::Write {
                    file: part.file.clone(),
                    offset: part.image.end,
                    bytes,
                });
            }
            steps.push(Step::Sync {
                file: part.file.clone(),
            });
            part.image.end = end;
        }
        if self.parts.iter().any(|part| part.is_new) {
            steps.push(Step::SyncDir { dir: SEGMENTS_DIR });
        }
    }

    /// The segments as they are to be named.
    pub(crate) fn images(&self) -> impl Iterator<Item = SegmentImage> + '_ {
        self.parts.iter().map(|part| part.image)
    }

    /// Files that the append made.
    pub(crate) fn new_files(&self) -> impl Iterator<Item = String> + '_ {
        let new = self.parts.iter().filter(|part| part.is_new);
        new.map(|part| part.image.file_name(self.topic))
    }

    /// Segments that were there before.
    pub(crate) fn old_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts
            .iter()
            .filter(|part| !part.is_new)
            .map(|part| part.image.number)
    }

    /// Takes the files that a job created for this append, in order.
    pub(crate) fn opened(&mut self, files: &[F]) -> Vec<(SegmentKey, F)> {
        let mut opened = Vec::new();
        for part in &mut self.parts {
            if let Target::Created(index) = part.file {
                let Some(file) = files.get(index) else {
                    continue;
                };
                part.file = Target::Open(file.clone());
                opened.push((key(self.topic, &part.image), file.clone()));
            }
        }
        opened
    }
}

fn key(topic: TopicNo, image: &SegmentImage) -> SegmentKey {
    SegmentKey {
        store: image.store,
        topic,
        number: image.number,
    }
}

impl<D: Disk> Store<D> {
    /// Adds the steps that append a block of runs with sequences from `first` to `last`. `created` counts the
    /// files that the job's steps create.
    pub(crate) fn append_block(
        &mut self,
        append: &mut Append<D::File>,
        (first, last): (Seq, Seq),
        raw: &[u8],
        steps: &mut Vec<Step<D::File>>,
        created: &mut usize,
    ) {
        // Compression only shrinks it.
        let need = (BLOCK_HEADER_BYTES + raw.len()) as u64;
        let has_room = |image: &SegmentImage| pages(image.end + need) <= image.bytes;
        if append.parts.is_empty() {
            append
                .parts
                .extend(self.reopened_part(append.topic, has_room));
        }
        let mut bytes = Vec::new();
        if !append
            .parts
            .last()
            .is_some_and(|part| has_room(&part.image))
        {
            let earlier = append.new_files().count();
            let (part, header) = self.new_part(append.topic, first, need, *created, earlier);
            let image = &part.image;
            steps.push(Step::Create {
                name: image.file_name(append.topic),
                bytes: image.bytes,
            });
            *created += 1;
            bytes = header;
            append.parts.push(part);
        }
        let topic = append.topic;
        let Some(part) = append.parts.last_mut() else {
            return;
        };
        let key = key(topic, &part.image);
        let offset = part.image.end;
        let block_at = offset + bytes.len() as u64;
        crate::segment::push_block(&mut bytes, &key, block_at, (first, last), raw);
        part.image.end = offset + bytes.len() as u64;
        part.image.through = last.plus(1);
        steps.push(Step::Write {
            file: part.file.clone(),
            offset,
            bytes,
        });
    }

    /// The topic's last segment, if it may still be written to.
    fn reopened_part(
        &mut self,
        topic: TopicNo,
        has_room: impl Fn(&SegmentImage) -> bool,
    ) -> Option<Part<D::File>> {
        let segments = &mut self.catalog.topics.get_mut(&topic)?.segments;
        let last = segments.back_mut()?;
        let image = last.image;
        if last.sealed || !has_room(&image) {
            return None;
        }
        match self.files.file(key(topic, &image)) {
            Ok(file) => Some(Part {
                image,
                file: Target::Open(file),
                is_new: false,
            }),
            Err(error) => {
                // It takes nothing more, and is no obstacle.
                log::error!("cannot open {}: {error}", image.file_name(topic));
                last.sealed = true;
                None
            }
        }
    }

    /// A new segment for a block of `need` bytes, and its file header; `earlier` ones of the same append are not named
    /// yet.
    fn new_part(
        &mut self,
        number: TopicNo,
        first: Seq,
        need: u64,
        created: usize,
        earlier: usize,
    ) -> (Part<D::File>, Vec<u8>) {
        let (mut segment, mut live, mut name) = (0, 0, Default::default());
        if let Some(topic) = self.catalog.topics.get_mut(&number) {
            segment = topic.next_segment;
            topic.next_segment = segment.saturating_add(1);
            live = topic.segments.len() + earlier;
            name = topic.name.clone();
        }
        let doubled = SEGMENT_BYTES_FIRST << live.min(16);
        let bytes = doubled
            .min(self.options.segment_bytes)
            .max(pages(FILE_HEADER_BYTES as u64 + need));
        let store = self.store_id;
        let image = SegmentImage {
            store,
            number: segment,
            bytes,
            end: 0,
            first,
            through: first,
        };
        let header = encode_file_header(&key(number, &image), &name);
        (
            Part {
                image,
                file: Target::Created(created),
                is_new: true,
            },
            header,
        )
    }

    /// The append will not be named: its new files are garbage, the old ones take nothing more.
    pub(crate) fn abandon(&mut self, append: &Append<D::File>) {
        self.garbage.extend(append.new_files());
        for image in append.images() {
            self.files.remove(key(append.topic, &image));
        }
        if let Some(topic) = self.catalog.topics.get_mut(&append.topic) {
            for number in append.old_numbers() {
                let segments = topic.segments.iter_mut();
                for segment in segments.filter(|segment| segment.image.number == number) {
                    segment.sealed = true;
                }
            }
        }
    }

    /// Files that a job created are open for reading, too.
    pub(crate) fn append_opened(&mut self, append: &mut Append<D::File>, files: &[D::File]) {
        for (key, file) in append.opened(files) {
            self.files.insert(key, file);
        }
    }

    /// Segments that no channel needs any more are removed. While the ring does not know of some change of the
    /// catalogue nothing is: the channel that is gone here may be back after a crash.
    pub(crate) fn release_segments(&mut self) {
        if self.queue.ops_bytes() > 0 {
            return;
        }
        let with_segments = self.catalog.topics.iter();
        let numbers: Vec<TopicNo> = with_segments
            .filter(|(_, topic)| !topic.segments.is_empty())
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            while let Some(topic) = self.catalog.topics.get(&number) {
                let needed_from = self.catalog.needed_from(topic);
                let front = topic.segments.front().map(|segment| segment.image);
                let Some(image) = front.filter(|image| image.through <= needed_from) else {
                    break;
                };
                if let Some(topic) = self.catalog.topics.get_mut(&number) {
                    topic.segments.pop_front();
                }
                self.files.remove(key(number, &image));
                self.garbage.push_back(file_name(number, image.number));
            }
        }
    }
}
