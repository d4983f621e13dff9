//! The merges of one short word. Pieces stay where they begin, so that nothing is moved, and the next pair is the least
//! of a row of numbers, so that no branch depends on which it is. Knows no vocabulary.

use crate::merge_table::{Merge, MergeTable, Piece};

/// Up to this many pieces, a look at all pairs beats a heap.
pub(crate) const SHORT_WORD: usize = 48;

/// More than any pair's number.
const NO_PAIR: u64 = u64::MAX;
const PLACE_BITS: u32 = 6;

/// The pairs of a word, by the place where they begin.
pub(crate) struct ShortPairs {
    /// Rank, then place: the least is the next to merge.
    order: [u64; SHORT_WORD],
    results: [Piece; SHORT_WORD],
}

impl Default for ShortPairs {
    fn default() -> Self {
        Self { order: [NO_PAIR; SHORT_WORD], results: [0; SHORT_WORD] }
    }
}

impl ShortPairs {
    #[inline(always)]
    fn set(&mut self, at: usize, merge: Merge) {
        let order = u64::from(merge.rank) << PLACE_BITS | at as u64;
        self.order[at] = if merge == Merge::NONE { NO_PAIR } else { order };
        self.results[at] = merge.result;
    }

    /// Asks for the merges that the pair at `at` would have with its neighbours, long before it is known that it comes to
    /// that: what a word costs is waiting for them.
    #[inline(always)]
    fn expect_neighbours(&self, pieces: &[Piece], live: u64, at: usize, merges: &MergeTable) {
        if self.order[at] == NO_PAIR {
            return;
        }
        let (before, from_second) = (live & !(u64::MAX << at), live & u64::MAX << (at + 1));
        let after = from_second & from_second.wrapping_sub(1);
        if let Some(left) = before.checked_ilog2() {
            merges.expect(pieces[left as usize], self.results[at]);
        }
        if after != 0 {
            merges.expect(self.results[at], pieces[after.trailing_zeros() as usize]);
        }
    }

    /// Merges `pieces`, at most `SHORT_WORD`, until no pair is left that does. `first_pair` gives the merge of the pair
    /// that begins at a place, `merges` that of any two pieces.
    #[inline(always)]
    pub(crate) fn merge(
        &mut self,
        pieces: &mut Vec<Piece>,
        first_pair: impl Fn(&[Piece], usize) -> Merge,
        merges: &MergeTable,
    ) {
        let count = pieces.len();
        if count < 2 {
            return;
        }
        for at in 0..count - 1 {
            self.set(at, first_pair(pieces, at));
        }
        // One bit for each place that a piece still begins at.
        let mut live = u64::MAX >> (u64::BITS as usize - count);
        loop {
            let best = self.order[..count - 1].iter().fold(NO_PAIR, |least, &order| least.min(order));
            if best == NO_PAIR {
                break;
            }
            let at = best as usize & ((1 << PLACE_BITS) - 1);
            let swallowed = (live & u64::MAX << (at + 1)).trailing_zeros() as usize;
            live &= !(1 << swallowed);
            let merged = self.results[at];
            pieces[at] = merged;
            if swallowed < count - 1 {
                self.order[swallowed] = NO_PAIR;
            }
            let (before, after) = (live & !(u64::MAX << at), live & u64::MAX << swallowed);
            let left = before.checked_ilog2().map(|left| left as usize);
            if let Some(left) = left {
                // Both neighbours' merges are on their way before one is waited for.
                merges.expect(pieces[left], merged);
            }
            let right = after.trailing_zeros() as usize;
            self.set(at, if after == 0 { Merge::NONE } else { merges.get(merged, pieces[right]) });
            self.expect_neighbours(pieces, live, at, merges);
            if let Some(left) = left {
                self.set(left, merges.get(pieces[left], merged));
                self.expect_neighbours(pieces, live, left, merges);
            }
        }
        let mut kept = 0;
        while live != 0 {
            pieces[kept] = pieces[live.trailing_zeros() as usize];
            live &= live - 1;
            kept += 1;
        }
        pieces.truncate(kept);
    }
}
