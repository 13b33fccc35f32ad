//! After the loss of ring or state: what the segment files themselves can tell.

use std::io;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::disk::{Disk, SEGMENTS_DIR};
use crate::entry::{self, Entry, SegmentImage};
use crate::files::SegmentFiles;
use crate::ids::{Seq, TopicNo};
use crate::segment::{BLOCK_HEADER_BYTES, FILE_HEADER_BYTES, SegmentKey, decode_file_header};

/// Topic and segment number of a segment's file.
pub(crate) fn parse_file_name(name: &str) -> Option<(TopicNo, u32)> {
    let (topic, number) = name
        .strip_prefix(SEGMENTS_DIR)?
        .strip_prefix('/')?
        .split_once('-')?;
    let hex = |digits: &str| {
        let is_plain = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_plain
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
    };
    Some((TopicNo(hex(topic)?), hex(number)?))
}

/// Makes known every segment file that the catalogue does not name, or not to its end, and the topics whose
/// segments they are; such a topic gives all it has to its first channel. The highest epoch that was seen.
pub(crate) fn import_segments<D: Disk>(disk: &Arc<D>, catalog: &mut Catalog) -> io::Result<u32> {
    let mut epoch = 0;
    for name in disk.list(SEGMENTS_DIR)? {
        let Some((topic, number)) = parse_file_name(&name) else {
            continue;
        };
        let file = disk.open(&name)?;
        let bytes = disk.len(&file)?;
        let mut head = [0; FILE_HEADER_BYTES];
        if disk.read_at(&file, 0, &mut head).is_err() {
            continue;
        }
        let decoded =
            decode_file_header(&head).filter(|(key, _)| (key.topic, key.number) == (topic, number));
        let Some((key, topic_name)) = decoded else {
            log::error!("{name}: the file's header is damaged; it is left as it is");
            continue;
        };
        let Some((image, seen)) = walk(disk, file, key, bytes)? else {
            continue;
        };
        epoch = epoch.max(seen);
        let is_new = !catalog.topics.contains_key(&topic);
        // Names come in the order of topic numbers. A number that was given before is that of a deleted topic.
        if is_new && topic < catalog.next_topic {
            continue;
        }
        catalog.insert_topic(topic, topic_name, true);
        let known = catalog.topics.get(&topic);
        if is_new || known.is_some_and(|topic| topic.segments_through() < image.through) {
            catalog.apply(&Entry::Segment {
                topic,
                segment: image,
            });
        }
        if let (true, Some(topic)) = (is_new, catalog.topics.get_mut(&topic)) {
            topic.standing = Some(image.first);
        }
    }
    Ok(epoch)
}

/// All whole blocks of a segment, and the epoch of the newest record.
fn walk<D: Disk>(
    disk: &Arc<D>,
    file: D::File,
    key: SegmentKey,
    bytes: u64,
) -> io::Result<Option<(SegmentImage, u32)>> {
    let mut image = SegmentImage {
        store: key.store,
        number: key.number,
        bytes,
        end: 0,
        first: Seq(u64::MAX),
        through: Seq(0),
    };
    let mut epoch = 0;
    let mut files = SegmentFiles::new(Arc::clone(disk));
    files.insert(key, file.clone());
    // Blocks are in order; one that goes back is what an earlier, never named write left.
    while let Some(at) = files.block_at(key, bytes, image.through)? {
        let mut stored = vec![0; at.header.stored_bytes as usize];
        disk.read_at(&file, at.offset + BLOCK_HEADER_BYTES as u64, &mut stored)?;
        if let Some(raw) = at.header.unpack(&stored, &key, at.offset) {
            for (_, entry) in entry::entries(&raw) {
                if let Entry::Run(run) = entry {
                    epoch = epoch.max(run.first_id.epoch());
                }
            }
        }
        image.first = image.first.min(at.header.first);
        image.through = at.header.last.plus(1);
        image.end = crate::block::pages(at.header.end(at.offset));
    }
    Ok((image.end > 0).then_some((image, epoch)))
}
