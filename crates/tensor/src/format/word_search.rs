//! The search behind the IQ formats' encoders: the words of a codebook that are nearest to a few values.
//!
//! Values are rounded to levels one by one. A result that is a word is the nearest one; otherwise the words around it, which
//! a table lists for every result, are compared. The tables are made on first use and kept.

use std::sync::LazyLock;

use super::grid::{
    IQ1_WORDS, IQ2_S_WORDS, IQ2_XS_WORDS, IQ2_XXS_WORDS, IQ3_S_LEVELS, IQ3_S_WORDS, IQ3_XXS_LEVELS, IQ3_XXS_WORDS,
    TERNARY_LEVELS, TWO_BIT_LEVELS,
};
use super::scaled::Codebook;

/// Words that are compared where rounding gives none.
const NEIGHBOURS: usize = 16;

/// A codebook with the table of what lies around each result of rounding.
pub(super) struct WordSearch<const WIDTH: usize> {
    levels: &'static [i8],
    words: Vec<[f32; WIDTH]>,
    /// By the result of rounding as a number with a digit for each level, the first the least: nearest first. Where the
    /// result is a word, all are that word.
    near: Vec<[u16; NEIGHBOURS]>,
}

pub(super) static IQ2_XXS: LazyLock<WordSearch<8>> = LazyLock::new(|| WordSearch::new(&TWO_BIT_LEVELS, &IQ2_XXS_WORDS));
pub(super) static IQ2_XS: LazyLock<WordSearch<8>> = LazyLock::new(|| WordSearch::new(&TWO_BIT_LEVELS, &IQ2_XS_WORDS));
pub(super) static IQ2_S: LazyLock<WordSearch<8>> = LazyLock::new(|| WordSearch::new(&TWO_BIT_LEVELS, &IQ2_S_WORDS));
pub(super) static IQ3_XXS: LazyLock<WordSearch<4>> = LazyLock::new(|| WordSearch::new(&IQ3_XXS_LEVELS, &IQ3_XXS_WORDS));
pub(super) static IQ3_S: LazyLock<WordSearch<4>> = LazyLock::new(|| WordSearch::new(&IQ3_S_LEVELS, &IQ3_S_WORDS));
pub(super) static IQ1: LazyLock<WordSearch<8>> = LazyLock::new(|| WordSearch::new(&TERNARY_LEVELS, &IQ1_WORDS));

impl<const WIDTH: usize> WordSearch<WIDTH> {
    fn new(levels: &'static [i8], words: &[[i8; WIDTH]]) -> Self {
        let results = levels.len().pow(WIDTH as u32);
        let mut near = Vec::with_capacity(results);
        let mut distances: Vec<(u32, u16)> = Vec::with_capacity(words.len());
        for result in 0..results {
            let mut rest = result;
            let point: [i32; WIDTH] = std::array::from_fn(|_| {
                let level = levels[rest % levels.len()];
                rest /= levels.len();
                i32::from(level)
            });
            distances.clear();
            distances.extend(words.iter().zip(0..).map(|(word, index)| {
                let squares = word.iter().zip(&point).map(|(level, x)| (i32::from(*level) - x).pow(2).cast_unsigned());
                (squares.sum(), index)
            }));
            distances.select_nth_unstable(NEIGHBOURS - 1);
            distances[..NEIGHBOURS].sort_unstable();
            let exact = distances[0].0 == 0;
            near.push(std::array::from_fn(|place| distances[if exact { 0 } else { place }].1));
        }
        Self { levels, words: words.iter().map(|word| word.map(f32::from)).collect(), near }
    }

    /// The index of the word that errs least when it is multiplied by `scale`.
    fn nearest(&self, values: &[f32], weights: &[f32], scale: f32) -> u16 {
        let per_step = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let (mut result, mut place_value) = (0, 1);
        for value in values {
            result += self.nearest_level(value * per_step) * place_value;
            place_value *= self.levels.len();
        }
        let near = &self.near[result];
        if near[0] == near[1] {
            return near[0];
        }
        let (mut best, mut least) = (near[0], f32::INFINITY);
        for &index in near {
            let mut error = 0.0;
            for ((value, weight), level) in values.iter().zip(weights).zip(&self.words[usize::from(index)]) {
                let difference = value - scale * level;
                error += weight * difference * difference;
            }
            if error < least {
                (best, least) = (index, error);
            }
        }
        best
    }

    fn nearest_level(&self, ratio: f32) -> usize {
        let borders = self.levels.windows(2).map(|pair| f32::from(pair[0] + pair[1]) / 2.0);
        borders.map(|border| usize::from(ratio > border)).sum()
    }
}

/// Which signs eight values can have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signs {
    /// An even number of them negative.
    Even,
    /// Any.
    Free,
}

/// Eight values as signs and words of magnitudes. The code has the signs in its upper eight bits, then, from below, the
/// words' indices in [`INDEX_BITS`] each.
pub(super) struct Signed<const WORD: usize> {
    pub(super) search: &'static WordSearch<WORD>,
    pub(super) signs: Signs,
}

/// Bits of an index in a code.
pub(super) const INDEX_BITS: usize = 12;

/// The index of a code's word, counted from the first values.
pub(super) fn index_of(code: u32, word: usize) -> usize {
    code as usize >> (INDEX_BITS * word) & ((1 << INDEX_BITS) - 1)
}

/// The signs of a code.
pub(super) fn signs_of(code: u32) -> u8 {
    (code >> 24) as u8
}

impl<const WORD: usize> Codebook for Signed<WORD> {
    const WIDTH: usize = 8;

    fn quantise(&self, values: &[f32], weights: &[f32], scale: f32, codes: &mut [u32], levels: &mut [f32]) {
        let eights = values.chunks_exact(8).zip(weights.chunks_exact(8));
        for (((values, weights), code), levels) in eights.zip(codes).zip(levels.chunks_exact_mut(8)) {
            let mut magnitudes: [f32; 8] = std::array::from_fn(|index| values[index].abs());
            let mut signs = (0..8).fold(0_u8, |signs, index| signs | u8::from(values[index] < 0.0) << index);
            if self.signs == Signs::Even && signs.count_ones() % 2 == 1 {
                // One value must have the wrong sign: the one whose square counts least.
                let cost = |index: &usize| weights[*index] * values[*index] * values[*index];
                let least = (0..8).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(0);
                signs ^= 1 << least;
                magnitudes[least] = -magnitudes[least];
            }
            *code = u32::from(signs) << 24;
            let words = magnitudes.chunks_exact(WORD).zip(weights.chunks_exact(WORD));
            for (word, (magnitudes, weights)) in words.enumerate() {
                let index = self.search.nearest(magnitudes, weights, scale);
                *code |= u32::from(index) << (INDEX_BITS * word);
                levels[WORD * word..][..WORD].copy_from_slice(&self.search.words[usize::from(index)]);
            }
            for (index, level) in levels.iter_mut().enumerate() {
                *level = if signs >> index & 1 == 1 { -*level } else { *level };
            }
        }
    }

    /// The largest magnitude falls around the last level, or far past it where it is an outlier; or all values lie on the
    /// first level, as there may be no word of last levels alone.
    fn guesses(&self, values: &[f32]) -> impl Iterator<Item = f32> {
        let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let [first, last] = [0, self.search.levels.len() - 1].map(|index| f32::from(self.search.levels[index]));
        let around_last = (0..GUESSES).map(move |guess| largest / (last * (0.75 + 0.05 * guess as f32)));
        around_last.chain(std::iter::once(largest / first))
    }
}

/// Scales tried for signs and words.
const GUESSES: i32 = 16;

/// Eight values as a ternary word, all shifted up or down by [`SHIFT`]. The code has the index, and 1 above
/// [`INDEX_BITS`] where the shift is down.
pub(super) struct Shifted {
    /// Values that share a shift: a multiple of eight.
    pub(super) shared: usize,
}

/// What the formats of IQ1 add to every level, or subtract.
pub(super) const SHIFT: f32 = 0.125;

/// Whether a code's shift is down.
pub(super) fn is_down(code: u32) -> bool {
    code >> INDEX_BITS & 1 == 1
}

impl Codebook for Shifted {
    const WIDTH: usize = 8;

    fn quantise(&self, values: &[f32], weights: &[f32], scale: f32, codes: &mut [u32], levels: &mut [f32]) {
        let parts = values.chunks_exact(self.shared).zip(weights.chunks_exact(self.shared));
        let outputs = codes.chunks_exact_mut(self.shared / 8).zip(levels.chunks_exact_mut(self.shared));
        for ((values, weights), (codes, levels)) in parts.zip(outputs) {
            let up = shifted(values, weights, scale, SHIFT, codes, levels);
            let (mut down_codes, mut down_levels) = ([0; 4], [0.0; 32]);
            let (down_codes, down_levels) = (&mut down_codes[..codes.len()], &mut down_levels[..levels.len()]);
            let down = shifted(values, weights, scale, -SHIFT, down_codes, down_levels);
            if down < up {
                down_codes.iter_mut().for_each(|code| *code |= 1 << INDEX_BITS);
                codes.copy_from_slice(down_codes);
                levels.copy_from_slice(down_levels);
            }
        }
    }

    fn guesses(&self, values: &[f32]) -> impl Iterator<Item = f32> {
        let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        (0..GUESSES).map(move |guess| largest * (0.25 + 0.05 * guess as f32))
    }
}

/// The nearest ternary words at one shift, and their weighted squared error.
fn shifted(values: &[f32], weights: &[f32], scale: f32, shift: f32, codes: &mut [u32], levels: &mut [f32]) -> f32 {
    let mut error = 0.0;
    let eights = values.chunks_exact(8).zip(weights.chunks_exact(8));
    for (((values, weights), code), levels) in eights.zip(codes).zip(levels.chunks_exact_mut(8)) {
        let centred: [f32; 8] = std::array::from_fn(|index| values[index] - scale * shift);
        let index = IQ1.nearest(&centred, weights, scale);
        *code = u32::from(index);
        for (((level, word), centred), weight) in
            levels.iter_mut().zip(&IQ1.words[usize::from(index)]).zip(&centred).zip(weights)
        {
            *level = word + shift;
            let difference = centred - scale * word;
            error += weight * difference * difference;
        }
    }
    error
}
