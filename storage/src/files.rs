//! Segment files held open, and where their blocks begin.

use std::io;
use std::sync::Arc;

use crate::disk::Disk;
use crate::ids::Seq;
use crate::limits::{SEGMENT_BLOCK_BYTES, SEGMENT_FILES_MAX};
use crate::segment::{
    BLOCK_HEADER_BYTES, BLOCK_MAGIC_BYTES, BlockHeader, FILE_HEADER_BYTES, SegmentKey,
};

/// Where a block of a segment is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockAt {
    pub(crate) offset: u64,
    pub(crate) header: BlockHeader,
}

struct OpenSegment<F> {
    key: SegmentKey,
    file: F,
    /// All blocks below `indexed`, in order.
    blocks: Vec<(Seq, u64)>,
    indexed: u64,
    used: u64,
}

/// The segment files used last.
pub(crate) struct SegmentFiles<D: Disk> {
    disk: Arc<D>,
    open: Vec<OpenSegment<D::File>>,
    clock: u64,
}

impl<D: Disk> SegmentFiles<D> {
    pub(crate) fn new(disk: Arc<D>) -> SegmentFiles<D> {
        SegmentFiles {
            disk,
            open: Vec::new(),
            clock: 0,
        }
    }

    /// The segment's file.
    pub(crate) fn file(&mut self, key: SegmentKey) -> io::Result<D::File> {
        Ok(self.segment(key)?.file.clone())
    }

    /// Keeps a file that was just created.
    pub(crate) fn insert(&mut self, key: SegmentKey, file: D::File) {
        if self.open.len() >= SEGMENT_FILES_MAX {
            let oldest = self
                .open
                .iter()
                .enumerate()
                .min_by_key(|(_, open)| open.used);
            if let Some((index, _)) = oldest {
                self.open.swap_remove(index);
            }
        }
        self.clock += 1;
        let indexed = FILE_HEADER_BYTES as u64;
        self.open.push(OpenSegment {
            key,
            file,
            blocks: Vec::new(),
            indexed,
            used: self.clock,
        });
    }

    /// Forgets a segment.
    pub(crate) fn remove(&mut self, key: SegmentKey) {
        self.open.retain(|open| open.key != key);
    }

    /// The first block of a segment that holds records at or after `seq`, reading no further than `end`.
    /// Reads the headers of blocks that were not walked yet.
    pub(crate) fn block_at(
        &mut self,
        key: SegmentKey,
        end: u64,
        seq: Seq,
    ) -> io::Result<Option<BlockAt>> {
        let disk = Arc::clone(&self.disk);
        let segment = self.segment(key)?;
        let next = segment.blocks.partition_point(|(first, _)| *first <= seq);
        // The last block that starts at or before `seq` may end before it: then the next one is asked for.
        let mut candidates = Vec::with_capacity(2);
        candidates.extend(next.checked_sub(1).and_then(|at| segment.blocks.get(at)));
        candidates.extend(segment.blocks.get(next));
        for (_, offset) in candidates.iter().copied() {
            let header = read_header(&*disk, &segment.file, key, offset, end)?;
            if let Some(header) = header.filter(|header| header.last >= seq) {
                return Ok(Some(BlockAt { offset, header }));
            }
        }
        while let Some(at) = segment.walk(&*disk, end)? {
            if at.header.last >= seq {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn segment(&mut self, key: SegmentKey) -> io::Result<&mut OpenSegment<D::File>> {
        self.clock += 1;
        let found = self.open.iter().position(|open| open.key == key);
        if found.is_none() {
            let file = self
                .disk
                .open(&crate::entry::file_name(key.topic, key.number))?;
            self.insert(key, file);
        }
        let clock = self.clock;
        let segment = match found {
            Some(index) => self.open.get_mut(index),
            None => self.open.last_mut(),
        };
        let segment = segment.ok_or_else(|| io::Error::other("no segment file is open"))?;
        segment.used = clock;
        Ok(segment)
    }
}

impl<F> OpenSegment<F> {
    /// The next block after those that were walked.
    fn walk<D: Disk<File = F>>(&mut self, disk: &D, end: u64) -> io::Result<Option<BlockAt>> {
        for offset in [self.indexed, crate::block::pages(self.indexed)] {
            if let Some(header) = read_header(disk, &self.file, self.key, offset, end)? {
                self.blocks.push((header.first, offset));
                self.indexed = header.end(offset);
                return Ok(Some(BlockAt { offset, header }));
            }
        }
        // After the last block there are less than a page of zeros.
        let from = crate::block::pages(self.indexed);
        if from + BLOCK_HEADER_BYTES as u64 > end {
            return Ok(None);
        }
        let found = self.search(disk, end)?;
        match found {
            Some(BlockAt { offset, header }) => {
                self.blocks.push((header.first, offset));
                self.indexed = header.end(offset);
            }
            None => self.indexed = end,
        }
        Ok(found)
    }

    /// The next whole header behind a damaged place.
    fn search<D: Disk<File = F>>(&self, disk: &D, end: u64) -> io::Result<Option<BlockAt>> {
        let mut chunk = vec![0; SEGMENT_BLOCK_BYTES];
        let mut at = self.indexed;
        while at + BLOCK_HEADER_BYTES as u64 <= end {
            let len = (end - at).min(SEGMENT_BLOCK_BYTES as u64) as usize;
            let bytes = chunk.get_mut(..len).unwrap_or_default();
            disk.read_at(&self.file, at, bytes)?;
            for (index, magic) in bytes.windows(BLOCK_MAGIC_BYTES.len()).enumerate() {
                if magic != BLOCK_MAGIC_BYTES {
                    continue;
                }
                let offset = at + index as u64;
                if let Some(header) = read_header(disk, &self.file, self.key, offset, end)? {
                    return Ok(Some(BlockAt { offset, header }));
                }
            }
            at += (len + 1 - BLOCK_MAGIC_BYTES.len()) as u64;
        }
        Ok(None)
    }
}

/// The header at `offset`, if a block stands there that ends by `end`.
fn read_header<D: Disk>(
    disk: &D,
    file: &D::File,
    key: SegmentKey,
    offset: u64,
    end: u64,
) -> io::Result<Option<BlockHeader>> {
    if offset + BLOCK_HEADER_BYTES as u64 > end {
        return Ok(None);
    }
    let mut bytes = [0; BLOCK_HEADER_BYTES];
    disk.read_at(file, offset, &mut bytes)?;
    let header = BlockHeader::decode(&bytes, &key, offset);
    Ok(header.filter(|header| header.end(offset) <= end))
}
