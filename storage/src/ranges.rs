//! A set of sequences as ranges: what a channel has finished above its floor.

use std::collections::BTreeMap;

use crate::ids::Seq;

/// Disjoint ranges that do not touch. Empty, it costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    /// First -> one past the last.
    ranges: BTreeMap<Seq, Seq>,
}

impl RangeSet {
    /// The ranges in order: first, one past the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        self.ranges.iter().map(|(first, end)| (*first, *end))
    }

    /// Ranges, not sequences.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Takes out the first `count` ranges.
    pub(crate) fn split_first(&mut self, count: usize) -> RangeSet {
        let rest = match self.ranges.keys().nth(count).copied() {
            Some(first_left) => self.ranges.split_off(&first_left),
            None => BTreeMap::new(),
        };
        RangeSet {
            ranges: std::mem::replace(&mut self.ranges, rest),
        }
    }

    /// One past the range that contains `seq`.
    pub(crate) fn end_of_range_at(&self, seq: Seq) -> Option<Seq> {
        let (_, end) = self.ranges.range(..=seq).next_back()?;
        (*end > seq).then_some(*end)
    }

    /// Sequences of the set in `first..end`.
    pub(crate) fn count_in(&self, first: Seq, end: Seq) -> u64 {
        let before = self
            .end_of_range_at(first)
            .map_or(0, |to| to.min(end).since(first));
        let inside = self
            .ranges
            .range(first..end)
            .filter(|(from, _)| **from > first);
        before
            + inside
                .map(|(from, to)| (*to).min(end).since(*from))
                .sum::<u64>()
    }

    /// Adds `first..end`.
    pub(crate) fn insert(&mut self, mut first: Seq, mut end: Seq) {
        if first >= end {
            return;
        }
        if let Some((from, to)) = self.ranges.range(..first).next_back() {
            if *to >= first {
                (first, end) = (*from, end.max(*to));
            }
        }
        while let Some((from, to)) = self.ranges.range(first..=end).next() {
            let (from, to) = (*from, *to);
            self.ranges.remove(&from);
            end = end.max(to);
        }
        self.ranges.insert(first, end);
    }

    /// Removes all below `floor`.
    pub(crate) fn remove_below(&mut self, floor: Seq) {
        while let Some((from, to)) = self.ranges.iter().next() {
            let (from, to) = (*from, *to);
            if from >= floor {
                break;
            }
            self.ranges.remove(&from);
            if to > floor {
                self.insert(floor, to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_numbers(ops in prop::collection::vec((0u64..60, 0u64..12, any::<bool>()), 0..60)) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (first, count, insert) in ops {
                if insert {
                    set.insert(Seq(first), Seq(first + count));
                    model.extend(first..first + count);
                } else {
                    set.remove_below(Seq(first / 4));
                    model.retain(|seq| *seq >= first / 4);
                }
                prop_assert_eq!(set.count_in(Seq(0), Seq(1000)), model.len() as u64);
                for seq in 0..72 {
                    prop_assert_eq!(set.end_of_range_at(Seq(seq)).is_some(), model.contains(&seq));
                }
                for (a, b) in [(0, 10), (5, 30), (7, 8), (20, 72)] {
                    let want = model.range(a..b).count() as u64;
                    prop_assert_eq!(set.count_in(Seq(a), Seq(b)), want);
                }
                let touching = set.iter().zip(set.iter().skip(1)).any(|((_, end), (next, _))| end >= next);
                prop_assert!(!touching);
            }
        }
    }
}
