//! A topic in memory: where its records are, and how far they are distributed.

use std::collections::VecDeque;

use crate::block::Place;
use crate::entry::SegmentImage;
use crate::ids::{ChannelNo, Seq};
use crate::limits::NAME_BYTES_MAX;
use crate::memory::MemoryLog;

/// A topic's or channel's name.
pub(crate) type Name = heapless::String<NAME_BYTES_MAX>;

/// A run of records in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: Seq,
    pub(crate) count: u32,
    pub(crate) block: Place,
    /// Offset of the run's entry from the block's start, header included.
    pub(crate) run_at: u32,
    /// Bytes of the run's entry.
    pub(crate) run_bytes: u32,
}

impl Extent {
    pub(crate) fn end(&self) -> Seq {
        self.first.plus(u64::from(self.count))
    }
}

/// A segment that the ring or the state names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) image: SegmentImage,
    /// Nothing is appended any more: full, or a write or sync of it failed.
    pub(crate) sealed: bool,
}

/// A topic.
pub(crate) struct Topic {
    pub(crate) name: Name,
    pub(crate) paused: bool,
    /// The cursor `distributed` where it stands; `None`: it follows the end.
    pub(crate) standing: Option<Seq>,
    /// One past the newest committed record.
    pub(crate) end: Seq,
    pub(crate) next_segment: u32,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) extents: VecDeque<Extent>,
    /// The records of an ephemeral topic.
    pub(crate) memory: Option<MemoryLog>,
    pub(crate) channels: Vec<ChannelNo>,
}

impl Topic {
    /// One past the newest record that its channels may see.
    pub(crate) fn distributed(&self) -> Seq {
        self.standing.unwrap_or(self.end)
    }

    /// One past the newest record that segments stand for.
    pub(crate) fn segments_through(&self) -> Seq {
        self.segments
            .back()
            .map_or(Seq(0), |segment| segment.image.through)
    }

    /// The ring run that contains `seq`, or else the first one after it.
    pub(crate) fn extent_at(&self, seq: Seq) -> Option<&Extent> {
        self.extents
            .get(self.extents.partition_point(|extent| extent.end() <= seq))
    }

    /// The segment that stands for `seq`, or else the first one after it.
    pub(crate) fn segment_at(&self, seq: Seq) -> Option<&Segment> {
        self.segments.get(
            self.segments
                .partition_point(|segment| segment.image.through <= seq),
        )
    }

    /// Adds a run of the ring. Records that a segment stands for already, or that older copies in the ring cover
    /// (a checkpoint that a crash interrupted will move those again), are left where they are. A run may cover
    /// more than the copies before it: then the rest of it counts.
    pub(crate) fn place(&mut self, run: Extent) {
        let mut first = run.first.max(self.segments_through());
        while first < run.end() {
            let at = self.extents.partition_point(|other| other.end() <= first);
            let next = self.extents.get(at);
            if let Some(covering) = next.filter(|next| next.first <= first) {
                first = covering.end();
                continue;
            }
            let end = next.map_or(run.end(), |next| next.first.min(run.end()));
            let count = end.since(first) as u32;
            self.extents.insert(
                at,
                Extent {
                    first,
                    count,
                    ..run
                },
            );
            first = end;
        }
        self.end = self.end.max(run.end());
    }

    /// Makes a segment known, or further written; the ring's records below its end are no longer looked up.
    pub(crate) fn name_segment(&mut self, image: SegmentImage) {
        match self
            .segments
            .iter_mut()
            .find(|segment| segment.image.number == image.number)
        {
            Some(segment) => segment.image = image,
            None => {
                // A topic's older segment is never appended to once there is a newer one.
                if let Some(last) = self.segments.back_mut() {
                    last.sealed = true;
                }
                self.segments.push_back(Segment {
                    image,
                    sealed: false,
                });
            }
        }
        self.next_segment = self.next_segment.max(image.number.saturating_add(1));
        while self
            .extents
            .front()
            .is_some_and(|extent| extent.end() <= image.through)
        {
            self.extents.pop_front();
        }
        self.end = self.end.max(image.through);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BlockNo;

    fn run(first: u64, end: u64, block: u64) -> Extent {
        Extent {
            first: Seq(first),
            count: (end - first) as u32,
            block: Place {
                number: BlockNo(block),
                offset: 0,
            },
            run_at: 96,
            run_bytes: 100,
        }
    }

    #[test]
    fn of_a_run_that_overlaps_older_copies_the_rest_counts() {
        let mut topic = Topic {
            name: Name::new(),
            paused: false,
            standing: None,
            end: Seq(0),
            next_segment: 0,
            segments: VecDeque::new(),
            extents: VecDeque::new(),
            memory: None,
            channels: Vec::new(),
        };
        let places = |topic: &Topic| {
            let extents = topic.extents.iter();
            let places = extents.map(|e| (e.first.0, e.end().0, e.block.number.0));
            places.collect::<Vec<_>>()
        };
        topic.place(run(26, 30, 45));
        topic.place(run(31, 32, 42));
        // A second checkpoint carried what the first had, and one record more.
        topic.place(run(26, 31, 47));
        assert_eq!(places(&topic), [(26, 30, 45), (30, 31, 47), (31, 32, 42)]);
        topic.place(run(20, 34, 50));
        let around = [
            (20, 26, 50),
            (26, 30, 45),
            (30, 31, 47),
            (31, 32, 42),
            (32, 34, 50),
        ];
        assert_eq!(places(&topic), around);
        assert_eq!(topic.end, Seq(34));
        topic.place(run(21, 33, 51));
        assert_eq!(places(&topic), around);
    }
}
