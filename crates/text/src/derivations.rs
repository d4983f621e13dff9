//! Which pieces the merges make of their own bytes. A vocabulary may hold tokens that merging never comes to, because an
//! earlier merge takes a part of their bytes elsewhere; for the others the whole word can be looked up. Holds for any
//! merge list, proper or not: what it cannot show counts as not made.

use crate::merge_table::{Merge, MergeTable, NONE, Piece};

/// How a piece is made, by the merge with this rank: 0 is a single byte, others are one more than the merge's. `NONE`
/// for a piece that is not made.
#[derive(Clone, Copy)]
struct Derivation {
    rank: u32,
    left: Piece,
    right: Piece,
}

impl Derivation {
    const BYTE: Self = Self { rank: 0, left: NONE, right: NONE };
    const NOT_MADE: Self = Self { rank: NONE, left: NONE, right: NONE };
}

pub(crate) struct Derivations {
    by_piece: Vec<Derivation>,
}

impl Derivations {
    /// Knows how bytes are made, and nothing else.
    pub(crate) fn new(bytes: &[Piece], pieces: usize) -> Self {
        let mut derivations = Self { by_piece: vec![Derivation::NOT_MADE; if bytes.is_empty() { 0 } else { pieces }] };
        for &byte in bytes {
            *derivations.entry(byte) = Derivation::BYTE;
        }
        derivations
    }

    fn entry(&mut self, piece: Piece) -> &mut Derivation {
        let at = piece as usize;
        if at >= self.by_piece.len() {
            self.by_piece.resize(at + 1, Derivation::NOT_MADE);
        }
        &mut self.by_piece[at]
    }

    fn of(&self, piece: Piece) -> Derivation {
        self.by_piece.get(piece as usize).copied().unwrap_or(Derivation::NOT_MADE)
    }

    /// Takes note of a merge, where `merges` has all earlier ones.
    #[inline]
    pub(crate) fn add(&mut self, merges: &MergeTable, left: Piece, right: Piece, merge: Merge) {
        let rank = merge.rank + 1;
        // Where a part is made after the whole, merges are not applied in the order of their ranks. That is left alone.
        let parts_come_first = self.of(left).rank < rank && self.of(right).rank < rank;
        if parts_come_first && self.of(merge.result).rank == NONE && self.stay_apart(merges, left, right) {
            *self.entry(merge.result) = Derivation { rank, left, right };
        }
    }

    /// Whether the bytes of `left` and `right`, side by side, become these two before anything merges across the border.
    /// Goes back in time from the end. Each step undoes the later of the two merges that made the pieces at the border;
    /// the pair before it must not have merged sooner than that merge came. Of equal merges the left one is first.
    fn stay_apart(&self, merges: &MergeTable, mut left: Piece, mut right: Piece) -> bool {
        loop {
            let (made_left, made_right) = (self.of(left), self.of(right));
            let across_is_sooner = if made_left.rank > made_right.rank {
                left = made_left.right;
                merges.get(left, right).rank < made_left.rank - 1
            } else if made_right.rank > 0 {
                right = made_right.left;
                merges.get(left, right).rank < made_right.rank
            } else {
                return true;
            };
            if across_is_sooner {
                return false;
            }
        }
    }

    /// One bit for each of the first `pieces` pieces that is made.
    pub(crate) fn made(&self, pieces: usize) -> Vec<u64> {
        let mut bits = vec![0; if self.by_piece.is_empty() { 0 } else { pieces.div_ceil(64) }];
        for (at, _) in self.by_piece.iter().take(pieces).enumerate().filter(|(_, made)| made.rank != NONE) {
            bits[at / 64] |= 1 << (at % 64);
        }
        bits
    }
}
