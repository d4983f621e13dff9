//! The searches behind the K formats' encoders: scales that make a weighted squared error small.
//!
//! A super-block holds 256 values in sub-blocks. Each sub-block is first fitted alone; then the
//! scales are rounded to integers times a shared f16, and each integer is tried against its
//! neighbours with the values it really decodes to. Nothing here knows how codes are packed.

use super::block::{Half, extent, farthest_from_zero};

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

/// A super-block with `value = d * scale * (code - zero)`, not yet packed.
pub(super) struct Symmetric {
    pub(super) d: Half,
    pub(super) scales: [i8; 16],
    pub(super) codes: [u8; SUPER_BLOCK],
}

/// Fits scales and mins up to `scale_max` and codes up to `code_max`.
pub(super) fn encode_affine<const SUB_BLOCKS: usize>(
    values: &[f32],
    scale_max: u8,
    code_max: u8,
) -> Affine<SUB_BLOCKS> {
    let length = SUPER_BLOCK / SUB_BLOCKS;
    let weights = importance(values, length);
    let part = |index: usize| index * length..(index + 1) * length;
    let lines: [Line; SUB_BLOCKS] =
        std::array::from_fn(|index| fit_line(&values[part(index)], &weights[part(index)], code_max));

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

/// Fits signed scales down to `scale_min` and codes below `2 * zero` for sub-blocks of 16.
pub(super) fn encode_symmetric(values: &[f32], scale_min: i8, zero: u8) -> Symmetric {
    let weights = importance(values, 16);
    let part = |index: usize| index * 16..(index + 1) * 16;
    let fitted: [f32; 16] = std::array::from_fn(|index| fit_scale(&values[part(index)], &weights[part(index)], zero));

    let d = Half::from_f32(farthest_from_zero(&fitted) / f32::from(scale_min));
    let unit = d.to_f32();
    let mut symmetric = Symmetric { d, scales: [0; 16], codes: [zero; SUPER_BLOCK] };
    for (index, &scale) in fitted.iter().enumerate() {
        let (values, weights) = (&values[part(index)], &weights[part(index)]);
        let scale = round_scale(values, weights, scale, unit, scale_min, zero);
        symmetric.scales[index] = scale;
        let scale = unit * f32::from(scale);
        for (code, &value) in symmetric.codes[part(index)].iter_mut().zip(values) {
            *code = (signed_code(value, scale, zero) + f32::from(zero)) as u8;
        }
    }
    symmetric
}

/// `value = scale * code - min`.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    min: f32,
}

impl Line {
    fn times(&self, scale: u8, min: u8) -> Self {
        Self { scale: self.scale * f32::from(scale), min: self.min * f32::from(min) }
    }

    /// The nearest code; 0 when all codes mean the same.
    fn code(&self, value: f32, code_max: u8) -> f32 {
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

/// The line whose codes meet the values best, with a min that is not negative.
fn fit_line(values: &[f32], weights: &[f32], code_max: u8) -> Line {
    let (least, greatest) = extent(values);
    let least = least.min(0.0);
    let mut best = Line { scale: (greatest - least) / f32::from(code_max), min: -least };
    if greatest <= least {
        return Line { scale: 0.0, ..best };
    }
    let mut best_error = best.error(values, weights, code_max);
    for trial in -TRIALS..=TRIALS {
        let steps = f32::from(code_max) + TRIAL_STEP * trial as f32;
        let spanning = Line { scale: (greatest - least) / steps, min: -least };
        let Some(line) = refit_line(values, weights, &spanning, code_max) else {
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
fn refit_line(values: &[f32], weights: &[f32], line: &Line, code_max: u8) -> Option<Line> {
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
    let line = if min >= 0.0 { Line { scale, min } } else { Line { scale: wcx / wcc, min: 0.0 } };
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

/// The scale, of either sign, whose codes `-zero..zero` meet the values best.
fn fit_scale(values: &[f32], weights: &[f32], zero: u8) -> f32 {
    let farthest = farthest_from_zero(values);
    let (mut best, mut best_gain) = (0.0, 0.0);
    for trial in -TRIALS..=TRIALS {
        let spanning = -farthest / (f32::from(zero) + TRIAL_STEP * trial as f32);
        let (mut wcx, mut wcc) = (0.0, 0.0);
        for (&value, &weight) in values.iter().zip(weights) {
            let code = signed_code(value, spanning, zero);
            wcx += weight * code * value;
            wcc += weight * code * code;
        }
        // Scaled by wcx / wcc, the best for these codes, they lower the error of all zeros by this gain.
        let gain = wcx * wcx / wcc;
        if gain > best_gain {
            (best, best_gain) = (wcx / wcc, gain);
        }
    }
    best
}

/// The integer next to `scale` in `unit` whose decoded values err least.
fn round_scale(values: &[f32], weights: &[f32], scale: f32, unit: f32, scale_min: i8, zero: u8) -> i8 {
    let least = f32::from(scale_min);
    let mut best = 0;
    let mut best_error = f32::INFINITY;
    for candidate in neighbours(scale, unit, least, -least - 1.0) {
        let scale = unit * candidate;
        let error = weighted_error(values, weights, |value| scale * signed_code(value, scale, zero));
        if error < best_error {
            (best, best_error) = (candidate as i8, error);
        }
    }
    best
}

/// The nearest code in `-zero..zero`; 0 when all codes mean the same.
fn signed_code(value: f32, scale: f32, zero: u8) -> f32 {
    let zero = f32::from(zero);
    if scale == 0.0 { 0.0 } else { round_small((value / scale).clamp(-zero, zero - 1.0)) }
}

/// Rounds to nearest, ties to even, for magnitudes under 2^22.
///
/// Beside 1.5 * 2^23 an f32 has no fraction bits left, so the addition rounds. Unlike
/// `round_ties_even` this is no library call on a plain x86-64, and the searches spend their time here.
fn round_small(value: f32) -> f32 {
    const ROUNDER: f32 = 12_582_912.0;
    value + ROUNDER - ROUNDER
}

/// `target / unit` rounded, and the integers beside it, all within `least..=greatest`.
fn neighbours(target: f32, unit: f32, least: f32, greatest: f32) -> [f32; 3] {
    let nearest = if unit == 0.0 { 0.0 } else { (target / unit).round_ties_even() };
    [0.0, -1.0, 1.0].map(|offset| (nearest + offset).clamp(least, greatest))
}

/// Large values matter more, as errors in them move a dot product more; none matters nothing.
fn importance(values: &[f32], length: usize) -> [f32; SUPER_BLOCK] {
    let mut weights = [0.0; SUPER_BLOCK];
    for (weights, values) in weights.chunks_exact_mut(length).zip(values.chunks_exact(length)) {
        let squares: f32 = values.iter().map(|value| value * value).sum();
        let rms = (squares / length as f32).sqrt();
        for (weight, value) in weights.iter_mut().zip(values) {
            *weight = rms + value.abs();
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
