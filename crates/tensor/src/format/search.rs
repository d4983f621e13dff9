//! The search behind formats with minimums, and how much each value counts: lines that make a weighted squared error small.
//!
//! A super-block holds 256 values in sub-blocks. Each sub-block is first fitted alone; then the
//! scales are rounded to integers times a shared f16, and each integer is tried against its
//! neighbours with the values it really decodes to. Nothing here knows how codes are packed.

use super::block::{Half, extent};

/// Elements of a super-block.
pub(super) const SUPER_BLOCK: usize = 256;

/// A super-block with `value = d * scale * code - dmin * min`, not yet packed.
pub(super) struct Affine<const SUB_BLOCKS: usize> {
    pub(super) d: Half,
    pub(super) dmin: Half,
    pub(super) scales: [u8; SUB_BLOCKS],
    pub(super) mins: [u8; SUB_BLOCKS],
    pub(super) codes: [u8; SUPER_BLOCK],
}

/// Fits scales and mins up to `scale_max` and codes up to `code_max`.
pub(super) fn encode_affine<const SUB_BLOCKS: usize>(
    values: &[f32],
    importances: Option<&[f32]>,
    scale_max: u8,
    code_max: u8,
) -> Affine<SUB_BLOCKS> {
    let length = SUPER_BLOCK / SUB_BLOCKS;
    let weights: [f32; SUPER_BLOCK] = weights(importances);
    let part = |index: usize| index * length..(index + 1) * length;
    let lines: [Line; SUB_BLOCKS] =
        std::array::from_fn(|index| fit_line(&values[part(index)], &weights[part(index)], code_max, 0.0));

    let scale_largest = lines.iter().fold(0.0, |largest: f32, line| largest.max(line.scale));
    let min_largest = lines.iter().fold(0.0, |largest: f32, line| largest.max(line.min));
    let d = Half::from_f32(scale_largest / f32::from(scale_max));
    let dmin = Half::from_f32(min_largest / f32::from(scale_max));
    let units = Line { scale: d.to_f32(), min: dmin.to_f32() };

    let mut affine = Affine { d, dmin, scales: [0; SUB_BLOCKS], mins: [0; SUB_BLOCKS], codes: [0; SUPER_BLOCK] };
    for (index, line) in lines.iter().enumerate() {
        let (values, weights) = (&values[part(index)], &weights[part(index)]);
        let (scale, min) = round_line(values, weights, line, &units, scale_max, code_max);
        affine.scales[index] = scale;
        affine.mins[index] = min;
        let line = units.times(scale, min);
        for (code, &value) in affine.codes[part(index)].iter_mut().zip(values) {
            *code = line.code(value, code_max) as u8;
        }
    }
    affine
}

/// `value = scale * code - min`.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) min: f32,
}

impl Line {
    fn times(&self, scale: u8, min: u8) -> Self {
        Self { scale: self.scale * f32::from(scale), min: self.min * f32::from(min) }
    }

    /// The nearest code; 0 when all codes mean the same.
    pub(super) fn code(&self, value: f32, code_max: u8) -> f32 {
        if self.scale == 0.0 {
            return 0.0;
        }
        round_small(((value + self.min) / self.scale).clamp(0.0, f32::from(code_max)))
    }

    /// The weighted squared error of `values` after rounding to codes.
    fn error(&self, values: &[f32], weights: &[f32], code_max: u8) -> f32 {
        weighted_error(values, weights, |value| self.scale * self.code(value, code_max) - self.min)
    }
}

/// How many inverse scales are tried on each side of the one that spans the values exactly.
const TRIALS: i32 = 6;

/// The distance of two tried inverse scales, in codes over the whole span.
const TRIAL_STEP: f32 = 0.2;

/// The line whose codes meet the values best, with a min that is not under `min_floor`.
pub(super) fn fit_line(values: &[f32], weights: &[f32], code_max: u8, min_floor: f32) -> Line {
    let (least, greatest) = extent(values);
    let least = least.min(-min_floor);
    let mut best = Line { scale: (greatest - least) / f32::from(code_max), min: -least };
    if greatest <= least {
        return Line { scale: 0.0, ..best };
    }
    let mut best_error = best.error(values, weights, code_max);
    for trial in -TRIALS..=TRIALS {
        let steps = f32::from(code_max) + TRIAL_STEP * trial as f32;
        let spanning = Line { scale: (greatest - least) / steps, min: -least };
        let Some(line) = refit_line(values, weights, &spanning, code_max, min_floor) else {
            continue;
        };
        let error = line.error(values, weights, code_max);
        if error < best_error {
            (best, best_error) = (line, error);
        }
    }
    best
}

/// Weighted least squares through the codes `line` gives; `None` where they determine no line.
fn refit_line(values: &[f32], weights: &[f32], line: &Line, code_max: u8, min_floor: f32) -> Option<Line> {
    let (mut w, mut wx, mut wc, mut wcc, mut wcx) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (&value, &weight) in values.iter().zip(weights) {
        let code = line.code(value, code_max);
        w += weight;
        wx += weight * value;
        wc += weight * code;
        wcc += weight * code * code;
        wcx += weight * code * value;
    }
    let determinant = w * wcc - wc * wc;
    let scale = (w * wcx - wx * wc) / determinant;
    let min = (wc * wcx - wcc * wx) / determinant;
    let line = if min >= min_floor { Line { scale, min } } else { Line { scale: wcx / wcc, min: 0.0 } };
    (determinant > 0.0 && line.scale > 0.0).then_some(line)
}

/// The integers next to `line` in `units` whose decoded line errs least.
fn round_line(values: &[f32], weights: &[f32], line: &Line, units: &Line, scale_max: u8, code_max: u8) -> (u8, u8) {
    let mut best = (0, 0);
    let mut best_error = f32::INFINITY;
    for scale in neighbours(line.scale, units.scale, 0.0, f32::from(scale_max)) {
        for min in neighbours(line.min, units.min, 0.0, f32::from(scale_max)) {
            let (scale, min) = (scale as u8, min as u8);
            let error = units.times(scale, min).error(values, weights, code_max);
            if error < best_error {
                (best, best_error) = ((scale, min), error);
            }
        }
    }
    best
}

/// Rounds to nearest, ties to even, for magnitudes under 2^22.
///
/// Beside 1.5 * 2^23 an f32 has no fraction bits left, so the addition rounds. Unlike
/// `round_ties_even` this is no library call on a plain x86-64, and the searches spend their time here.
pub(super) fn round_small(value: f32) -> f32 {
    const ROUNDER: f32 = 12_582_912.0;
    value + ROUNDER - ROUNDER
}

/// `target / unit` rounded, and the integers beside it, all within `least..=greatest`.
fn neighbours(target: f32, unit: f32, least: f32, greatest: f32) -> [f32; 3] {
    let nearest = if unit == 0.0 { 0.0 } else { (target / unit).round_ties_even() };
    [0.0, -1.0, 1.0].map(|offset| (nearest + offset).clamp(least, greatest))
}

/// How much the error of each value counts: its importance over the largest, so that their scale does not matter; ones
/// where there are none.
///
/// Large values count no more than others. An error costs a dot product what its input is worth, whatever the value was;
/// with the values' own size in the weights, models of one bit lost a tenth more (docs/formats.md).
pub(super) fn weights<const N: usize>(importances: Option<&[f32]>) -> [f32; N] {
    let mut weights = [1.0; N];
    if let Some(importances) = importances {
        let largest = importances.iter().copied().fold(0.0, f32::max);
        for (weight, importance) in weights.iter_mut().zip(importances) {
            *weight = importance / largest;
        }
    }
    weights
}

fn weighted_error(values: &[f32], weights: &[f32], decoded: impl Fn(f32) -> f32) -> f32 {
    let error = |(&value, &weight): (&f32, &f32)| {
        let difference = decoded(value) - value;
        weight * difference * difference
    };
    values.iter().zip(weights).map(error).sum()
}
