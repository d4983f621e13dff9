//! Which pairs of pieces merge, when, and into what. Knows no texts. The hash is seeded per table, so that a file cannot be
//! made to collide.

use std::hash::{BuildHasher, RandomState};

use crate::prefetch::prefetch;
use crate::text_table::fold;

/// A piece of a word: a token's id, or, from the vocabulary's size on, a text that merges build
/// but that is no token itself.
pub(crate) type Piece = u32;

/// No piece, no rank.
pub(crate) const NONE: u32 = u32::MAX;

/// What a pair of pieces becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) rank: u32,
    pub(crate) result: Piece,
}

impl Merge {
    pub(crate) const NONE: Self = Self { rank: NONE, result: NONE };
}

/// Pair to merge, open addressing.
pub(crate) struct MergeTable {
    slots: Vec<MergeSlot>,
    /// An odd factor.
    seed: u64,
}

#[derive(Clone, Copy)]
struct MergeSlot {
    left: Piece,
    right: Piece,
    merge: Merge,
}

impl MergeTable {
    pub(crate) fn with_capacity(merges: usize) -> Self {
        let empty = MergeSlot { left: NONE, right: NONE, merge: Merge::NONE };
        let slots = vec![empty; (merges + merges / 2).max(4).next_power_of_two()];
        Self { slots, seed: RandomState::new().hash_one(0u64) | 1 }
    }

    #[inline]
    fn start(&self, left: Piece, right: Piece) -> usize {
        fold(u64::from(left) << 32 | u64::from(right), self.seed) as usize & (self.slots.len() - 1)
    }

    /// Asks for the memory that `get` will read.
    #[inline]
    pub(crate) fn expect(&self, left: Piece, right: Piece) {
        prefetch(&self.slots, self.start(left, right));
    }

    /// The merge of a pair; of a pair given twice, the first. `Merge::NONE` where there is none.
    #[inline]
    pub(crate) fn get(&self, left: Piece, right: Piece) -> Merge {
        let mut at = self.start(left, right);
        loop {
            let slot = &self.slots[at];
            if (slot.left == left && slot.right == right) || slot.left == NONE {
                return slot.merge;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// False where the pair had a merge before.
    pub(crate) fn insert(&mut self, left: Piece, right: Piece, merge: Merge) -> bool {
        let mut at = self.start(left, right);
        while self.slots[at].left != NONE {
            if self.slots[at].left == left && self.slots[at].right == right {
                return false;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = MergeSlot { left, right, merge };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs that a fixed factor, here the one that was used once, brings to a thousandth of the places.
    fn pairs_that_collide(count: usize, places: u64) -> Vec<(Piece, Piece)> {
        let at = |left: u32, right: u32| {
            fold(u64::from(left) << 32 | u64::from(right), 0x9e37_79b9_7f4a_7c15) & (places - 1)
        };
        let all = (0..100_000).flat_map(|left| (0..256).map(move |right| (left, right)));
        all.filter(|&(left, right)| at(left, right) < places / 1024).take(count).collect()
    }

    #[test]
    fn pairs_cannot_be_chosen_to_collide() {
        const MERGES: usize = 8192;
        let mut table = MergeTable::with_capacity(MERGES);
        for (rank, (left, right)) in pairs_that_collide(MERGES, table.slots.len() as u64).into_iter().enumerate() {
            assert!(table.insert(left, right, Merge { rank: rank as u32, result: 1 }));
        }
        let longest_run = table.slots.split(|slot| slot.left == NONE).map(<[MergeSlot]>::len).max();
        assert!(longest_run < Some(MERGES / 4), "{longest_run:?}");
    }
}
