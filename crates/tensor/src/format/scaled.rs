//! The search behind formats whose values are a scale times what a codebook holds, without a minimum.
//!
//! A super-block has one f16 unit, its sub-blocks whole multiples of it, and codes that stand for one value or several.
//! Each sub-block is first fitted alone; then the scales are rounded to multiples of a shared unit, each is tried against
//! its neighbours with the values it really decodes to, and the unit is fitted again to what was chosen. Nothing here
//! knows how codes are packed.

use super::block::{Half, farthest_from_zero};
use super::search::{SUPER_BLOCK, round_small};

/// What codes can stand for.
pub(super) trait Codebook {
    /// Values that share a code.
    const WIDTH: usize;

    /// For each [`Self::WIDTH`] values the code whose levels, times `scale`, are nearest, and those levels.
    fn quantise(&self, values: &[f32], weights: &[f32], scale: f32, codes: &mut [u32], levels: &mut [f32]);

    /// Scales worth trying for these values.
    fn guesses(&self, values: &[f32]) -> impl Iterator<Item = f32>;
}

/// The multiples of the unit that a sub-block's scale can be: `step * index + offset`.
#[derive(Clone, Copy)]
pub(super) struct Multiples {
    pub(super) least: i32,
    pub(super) greatest: i32,
    pub(super) step: f32,
    pub(super) offset: f32,
}

impl Multiples {
    /// Every whole number of this many bits, of either sign.
    pub(super) const fn signed(bits: u32) -> Self {
        Self { least: -1 << (bits - 1), greatest: (1 << (bits - 1)) - 1, step: 1.0, offset: 0.0 }
    }

    /// `2 * index + 1` for an index of this many bits.
    pub(super) const fn odd(bits: u32) -> Self {
        Self { least: 0, greatest: (1 << bits) - 1, step: 2.0, offset: 1.0 }
    }

    fn at(self, index: i32) -> f32 {
        self.step * index as f32 + self.offset
    }

    /// The multiple that is farthest from zero.
    fn farthest(self) -> f32 {
        self.at(if self.least < 0 { self.least } else { self.greatest })
    }

    /// The index nearest to `ratio`, then the ones beside it.
    fn near(self, ratio: f32) -> [i32; 3] {
        let nearest = ((ratio - self.offset) / self.step).round_ties_even() as i32;
        let within = |index: i32| index.clamp(self.least, self.greatest);
        [within(nearest), within(nearest.saturating_sub(1)), within(nearest.saturating_add(1))]
    }
}

/// A super-block, not yet packed.
pub(super) struct Scaled<const SUB_BLOCKS: usize> {
    /// The unit, as it is stored.
    pub(super) d: Half,
    /// For each sub-block the index of its multiple.
    pub(super) scales: [i32; SUB_BLOCKS],
    /// In the order of the values, [`Codebook::WIDTH`] values to a code.
    pub(super) codes: [u32; SUPER_BLOCK],
    /// The unit, as it would be stored, that gives the decoded values the norm of the source. The one that errs least makes
    /// them shorter by what is lost, which at one or two bits is a tenth, and layer after layer a model feels that more than
    /// the slightly larger error.
    pub(super) lengthened: Half,
    error: f32,
}

/// Most rounds of choosing scales and codes for a unit, and a unit for them.
const ROUNDS: usize = 3;

/// Fits unit, scales and codes; the stored unit is `factor` times the one that multiplies.
pub(super) fn encode_scaled<const SUB_BLOCKS: usize, C: Codebook>(
    book: &C,
    values: &[f32],
    weights: &[f32],
    multiples: Multiples,
    factor: f32,
) -> Scaled<SUB_BLOCKS> {
    let length = SUPER_BLOCK / SUB_BLOCKS;
    let part = |index: usize| index * length..(index + 1) * length;
    let fitted: [f32; SUB_BLOCKS] =
        std::array::from_fn(|index| fit_scale(book, &values[part(index)], &weights[part(index)]));
    let mut unit = farthest_from_zero(&fitted) / multiples.farthest();
    let mut best = None;
    for _ in 0..ROUNDS {
        let d = Half::from_f32(unit * factor);
        let (mut scaled, moments) = assign(book, values, weights, multiples, &fitted, (d, d.to_f32() / factor));
        let improves = best.as_ref().is_none_or(|best: &Scaled<SUB_BLOCKS>| scaled.error < best.error);
        if !improves {
            break;
        }
        unit = moments.best_scale().unwrap_or(unit);
        let lengthened = if moments.ll > 0.0 { (moments.xx / moments.ll).sqrt().copysign(unit) } else { unit };
        scaled.lengthened = Half::from_f32(lengthened * factor);
        best = Some(scaled);
    }
    best.expect("the first round always counts")
}

/// Scales and codes for a unit, and the sums over what they decode to in that unit.
fn assign<const SUB_BLOCKS: usize, C: Codebook>(
    book: &C,
    values: &[f32],
    weights: &[f32],
    multiples: Multiples,
    fitted: &[f32; SUB_BLOCKS],
    (d, unit): (Half, f32),
) -> (Scaled<SUB_BLOCKS>, Moments) {
    let length = SUPER_BLOCK / SUB_BLOCKS;
    let mut scaled = Scaled { d, scales: [0; SUB_BLOCKS], codes: [0; SUPER_BLOCK], lengthened: d, error: 0.0 };
    let (mut codes, mut levels) = ([0; SUPER_BLOCK], [0.0; SUPER_BLOCK]);
    let (codes, levels) = (&mut codes[..length / C::WIDTH], &mut levels[..length]);
    let mut moments = Moments::default();
    for (index, &target) in fitted.iter().enumerate() {
        let (values, weights) = (&values[index * length..][..length], &weights[index * length..][..length]);
        let ratio = if unit == 0.0 { 0.0 } else { target / unit };
        let mut least = f32::INFINITY;
        let mut chosen = Moments::default();
        for (place, candidate) in multiples.near(ratio).into_iter().enumerate() {
            let multiple = multiples.at(candidate);
            book.quantise(values, weights, unit * multiple, codes, levels);
            let found = Moments::of(values, weights, levels);
            let error = found.error(unit * multiple);
            // The first is taken whatever its error, which may be no number.
            if place == 0 || error < least {
                (least, chosen) = (error, found.times(multiple));
                scaled.scales[index] = candidate;
                scaled.codes[index * length / C::WIDTH..][..codes.len()].copy_from_slice(codes);
            }
        }
        scaled.error += least;
        moments.add(chosen);
    }
    (scaled, moments)
}

/// Weighted sums over values `x` and levels `l`.
#[derive(Clone, Copy, Default)]
struct Moments {
    xx: f32,
    lx: f32,
    ll: f32,
}

impl Moments {
    fn of(values: &[f32], weights: &[f32], levels: &[f32]) -> Self {
        let mut moments = Self::default();
        for ((&value, &weight), &level) in values.iter().zip(weights).zip(levels) {
            moments.xx += weight * value * value;
            moments.lx += weight * level * value;
            moments.ll += weight * level * level;
        }
        moments
    }

    /// The squared error of `scale * l`.
    fn error(self, scale: f32) -> f32 {
        self.xx + scale * (scale * self.ll - 2.0 * self.lx)
    }

    /// The scale with the least error; none where all levels are zero.
    fn best_scale(self) -> Option<f32> {
        (self.ll > 0.0).then(|| self.lx / self.ll)
    }

    /// How much the best scale takes from the error of all zeros.
    fn gain(self) -> f32 {
        self.lx * self.lx / self.ll
    }

    /// The sums for levels that are `multiple` times as large.
    fn times(self, multiple: f32) -> Self {
        Self { xx: self.xx, lx: self.lx * multiple, ll: self.ll * multiple * multiple }
    }

    fn add(&mut self, other: Self) {
        self.xx += other.xx;
        self.lx += other.lx;
        self.ll += other.ll;
    }
}

/// The scale, of either sign, with which the codebook meets the values best; 0 for zeros.
pub(super) fn fit_scale<C: Codebook>(book: &C, values: &[f32], weights: &[f32]) -> f32 {
    let (mut codes, mut levels) = ([0; SUPER_BLOCK], [0.0; SUPER_BLOCK]);
    let (codes, levels) = (&mut codes[..values.len() / C::WIDTH], &mut levels[..values.len()]);
    let (mut best, mut best_gain) = (0.0, 0.0);
    let mut attempt = |guess: f32| {
        book.quantise(values, weights, guess, codes, levels);
        let moments = Moments::of(values, weights, levels);
        let improves = moments.gain() > best_gain;
        if improves {
            (best, best_gain) = (moments.lx / moments.ll, moments.gain());
        }
        improves.then_some(best)
    };
    let mut last = None;
    for guess in book.guesses(values) {
        last = attempt(guess).or(last);
    }
    // From there on, codes for the best scale and the best scale for the codes.
    while let Some(scale) = last {
        last = attempt(scale);
    }
    best
}

/// Whole numbers `-zero..zero`; the code is the number plus `zero`.
pub(super) struct Linear {
    pub(super) zero: u8,
}

/// How many inverse scales are tried on each side of the one that spans the values exactly.
const TRIALS: i32 = 6;

/// The distance of two tried inverse scales, in codes.
const TRIAL_STEP: f32 = 0.2;

impl Codebook for Linear {
    const WIDTH: usize = 1;

    fn quantise(&self, values: &[f32], _weights: &[f32], scale: f32, codes: &mut [u32], levels: &mut [f32]) {
        let zero = f32::from(self.zero);
        let per_step = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        for ((&value, code), level) in values.iter().zip(codes).zip(levels) {
            *level = round_small((value * per_step).clamp(-zero, zero - 1.0));
            *code = (*level + zero) as u32;
        }
    }

    /// The value farthest from zero, of either sign, falls near `-zero`, the one level without a mirror image.
    fn guesses(&self, values: &[f32]) -> impl Iterator<Item = f32> {
        let (farthest, zero) = (farthest_from_zero(values), f32::from(self.zero));
        (-TRIALS..=TRIALS).map(move |trial| -farthest / (zero + TRIAL_STEP * trial as f32))
    }
}

/// The few whole numbers `least..=greatest` around zero; the code is the number less `least`.
///
/// With so few levels the farthest value says little about the best scale, so guesses cover a wide range.
pub(super) struct Wide {
    pub(super) least: f32,
    pub(super) greatest: f32,
    /// Signs that a scale may have: both where the numbers are no mirror image of themselves.
    pub(super) signs: &'static [f32],
}

impl Codebook for Wide {
    const WIDTH: usize = 1;

    fn quantise(&self, values: &[f32], _weights: &[f32], scale: f32, codes: &mut [u32], levels: &mut [f32]) {
        let per_step = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        for ((&value, code), level) in values.iter().zip(codes).zip(levels) {
            *level = round_small((value * per_step).clamp(self.least, self.greatest));
            *code = (*level - self.least) as u32;
        }
    }

    fn guesses(&self, values: &[f32]) -> impl Iterator<Item = f32> {
        let farthest = farthest_from_zero(values);
        let parts = (1..=20).map(move |part| farthest.abs() * part as f32 / 20.0);
        parts.flat_map(|scale| self.signs.iter().map(move |sign| sign * scale))
    }
}

/// Levels for single values, in ascending order; the code is the place.
pub(super) struct Levels<const COUNT: usize> {
    levels: [f32; COUNT],
    /// Between two levels, where the nearest one changes; the last is past everything.
    borders: [f32; COUNT],
}

impl<const COUNT: usize> Levels<COUNT> {
    pub(super) const fn new(levels: [i8; COUNT]) -> Self {
        let (mut floats, mut borders) = ([0.0; COUNT], [f32::INFINITY; COUNT]);
        let mut index = 0;
        while index < COUNT {
            floats[index] = levels[index] as f32;
            if index > 0 {
                assert!(levels[index - 1] < levels[index]);
                borders[index - 1] = (levels[index - 1] as f32 + levels[index] as f32) / 2.0;
            }
            index += 1;
        }
        Self { levels: floats, borders }
    }

    /// The place of the level nearest to `value`.
    pub(super) fn nearest(&self, value: f32) -> usize {
        self.borders[..COUNT - 1].iter().map(|&border| usize::from(value > border)).sum()
    }
}

impl<const COUNT: usize> Codebook for Levels<COUNT> {
    const WIDTH: usize = 1;

    fn quantise(&self, values: &[f32], _weights: &[f32], scale: f32, codes: &mut [u32], levels: &mut [f32]) {
        let per_step = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        for ((&value, code), level) in values.iter().zip(codes).zip(levels) {
            let place = self.nearest(value * per_step);
            (*code, *level) = (place as u32, self.levels[place]);
        }
    }

    /// The value farthest from zero falls near the least level or near the greatest.
    fn guesses(&self, values: &[f32]) -> impl Iterator<Item = f32> {
        let farthest = farthest_from_zero(values);
        let ends = [self.levels[0], self.levels[COUNT - 1]];
        let ratios = (-SPREAD..=SPREAD).map(|trial| 1.0 + SPREAD_STEP * trial as f32);
        ratios.flat_map(move |ratio| ends.map(|end| farthest / (end * ratio)))
    }
}

/// Trials on each side of the scale that puts the farthest value on the last level.
const SPREAD: i32 = 7;

/// The distance of two trials, relative to the last level.
const SPREAD_STEP: f32 = 0.012;
