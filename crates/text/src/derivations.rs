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

    /// Takes note of the next merges in order, where `merges` has these and all earlier ones.
    pub(crate) fn add(&mut self, merges: &MergeTable, next: &[(Piece, Piece, Merge)]) {
        for &(left, right, merge) in next {
            // Memory for all of them is asked for before any is waited for.
            self.are_whole_before(left, right, merge, |left, right| {
                merges.expect(left, right);
                Merge::NONE
            });
        }
        for &(left, right, merge) in next {
            if self.are_whole_before(left, right, merge, |left, right| merges.get(left, right)) {
                *self.entry(merge.result) = Derivation { rank: merge.rank + 1, left, right };
            }
        }
    }

    /// Whether bytes become `left` and `right`, side by side, and then for the first time the result of `merge`.
    fn are_whole_before(
        &self,
        left: Piece,
        right: Piece,
        merge: Merge,
        merge_of: impl Fn(Piece, Piece) -> Merge,
    ) -> bool {
        let rank = merge.rank + 1;
        // Where a part is made after the whole, merges are not applied in the order of their ranks. That is left alone.
        let parts_come_first = self.of(left).rank < rank && self.of(right).rank < rank;
        parts_come_first && self.of(merge.result).rank == NONE && self.stay_apart(left, right, merge_of)
    }

    /// Whether the bytes of `left` and `right`, side by side, become these two before anything merges across the border.
    /// Goes back in time from the end. Each step undoes the later of the two merges that made the pieces at the border;
    /// the pair before it must not have merged sooner than that merge came. Of equal merges the left one is first.
    fn stay_apart(&self, mut left: Piece, mut right: Piece, merge_of: impl Fn(Piece, Piece) -> Merge) -> bool {
        loop {
            let (made_left, made_right) = (self.of(left), self.of(right));
            let across_is_sooner = if made_left.rank > made_right.rank {
                left = made_left.right;
                merge_of(left, right).rank < made_left.rank - 1
            } else if made_right.rank > 0 {
                right = made_right.left;
                merge_of(left, right).rank < made_right.rank
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LETTERS: usize = 2;

    /// Texts over two letters, each a piece by its place, and merges between them; by rank.
    fn merges_of(texts: &[String], wanted: &[(usize, usize)]) -> Vec<(Piece, Piece, Merge)> {
        let piece = |text: &str| texts.iter().position(|known| known == text).map(|at| at as Piece);
        let mut merges: Vec<(Piece, Piece, Merge)> = Vec::new();
        for &(text, middle) in wanted {
            let text = &texts[text % texts.len()];
            let (first, second) = text.split_at(middle % text.len());
            if let (Some(left), Some(right), Some(result)) = (piece(first), piece(second), piece(text))
                && !merges.iter().any(|&(l, r, _)| (l, r) == (left, right))
            {
                merges.push((left, right, Merge { rank: merges.len() as u32, result }));
            }
        }
        merges
    }

    /// The first of the best merges, again and again.
    fn merged(text: &str, merges: &[(Piece, Piece, Merge)]) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = text.bytes().map(|b| u32::from(b - b'a')).collect();
        let found = |pieces: &[Piece]| {
            merges.iter().find_map(|&(left, right, merge)| {
                pieces.windows(2).position(|pair| pair == [left, right]).map(|at| (at, merge.result))
            })
        };
        while let Some((at, result)) = found(&pieces) {
            pieces.splice(at..at + 2, [result]);
        }
        pieces
    }

    fn made(texts: &[String], merges: &[(Piece, Piece, Merge)], together: usize) -> Vec<bool> {
        let mut table = MergeTable::with_capacity(merges.len());
        let mut derivations = Derivations::new(&[0, 1], texts.len());
        for chunk in merges.chunks(together) {
            for &(left, right, merge) in chunk {
                table.insert(left, right, merge);
            }
            derivations.add(&table, chunk);
        }
        let bits = derivations.made(texts.len());
        (0..texts.len()).map(|at| bits[at / 64] >> (at % 64) & 1 != 0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn what_is_made_merges_to_itself(
            mut texts in prop::collection::vec("[ab]{2,6}", 1..40),
            mut wanted in prop::collection::vec((0..1000usize, 0..1000usize), 0..120),
            proper in any::<bool>(),
            together in 1..20usize,
        ) {
            texts.splice(0..0, ["a".to_owned(), "b".to_owned()]);
            // The letters stay in front. Where parts come before what is made of them, the answer is exact.
            texts[LETTERS..].sort_by_key(|text| text.len());
            texts.dedup();
            if proper {
                wanted.sort_by_key(|&(text, _)| texts[text % texts.len()].len());
            }
            let merges = merges_of(&texts, &wanted);
            for (at, made) in made(&texts, &merges, together).into_iter().enumerate() {
                let piece = texts.iter().position(|text| *text == texts[at]).unwrap_or(at);
                let to_itself = merged(&texts[at], &merges) == [piece as Piece];
                if at == piece {
                    prop_assert!(to_itself || !made, "{} {merges:?}", texts[at]);
                    prop_assert!(made || !to_itself || !proper, "{} {merges:?}", texts[at]);
                }
            }
        }
    }
}
