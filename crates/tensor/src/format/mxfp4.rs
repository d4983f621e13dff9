//! MXFP4: 32 elements of E2M1 floats with a power of two as scale. 4.25 bits per element.
//!
//! The element and scale formats are those of the OCP Microscaling Formats (MX) specification, version 1.0, with the
//! levels doubled so that they are whole.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, farthest_from_zero};
use super::iq4_nl::{decode_levels, pair_codes};
use super::search::weights;

/// What the codes of MXFP4 and NVFP4 stand for: E2M1 times two, sign in the upper bit.
pub const E2M1_LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// `value = 2^(exponent - 128) * E2M1_LEVELS[code]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockMXFP4 {
    /// E8M0: the biased exponent of the scale.
    pub exponent: u8,
    /// Byte `j` holds element `j` in its low and element `j + 16` in its high four bits.
    pub codes: [u8; 16],
}

const _: () = assert!(size_of::<BlockMXFP4>() == 17 && align_of::<BlockMXFP4>() == 1);

impl BlockMXFP4 {
    /// What the levels are multiplied with.
    #[inline]
    pub fn scale(&self) -> f32 {
        half_power(self.exponent)
    }
}

impl Block for BlockMXFP4 {
    const ELEMENTS: usize = 32;

    fn decode(&self, values: &mut [f32]) {
        decode_levels(self.scale(), &self.codes, &E2M1_LEVELS, values);
    }

    /// The exponent that keeps the largest value below the next power over the last level, or one beside it.
    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let weights: [f32; 32] = weights(importances);
        let largest = farthest_from_zero(values).abs();
        // The largest level is 12, of which 8 is the power: the scale's exponent is the value's, less 3.
        let exponent = (largest.to_bits() >> 23 & 255).saturating_sub(2) as u8;
        let mut best = Self { exponent, codes: [0; 16] };
        let mut least = f32::INFINITY;
        for exponent in [exponent, exponent.saturating_sub(1), exponent.saturating_add(1).min(254)] {
            let (codes, error) = quantise_e2m1(values, &weights, half_power(exponent));
            if error < least {
                (best, least) = (Self { exponent, codes: pair_codes(&codes) }, error);
            }
        }
        best
    }
}

/// Half of the power of two that an E8M0 exponent stands for.
#[inline]
fn half_power(exponent: u8) -> f32 {
    match exponent {
        // Below the normal numbers.
        0 => f32::from_bits(0x0020_0000),
        1 => f32::from_bits(0x0040_0000),
        _ => f32::from_bits(u32::from(exponent - 1) << 23),
    }
}

/// The nearest codes for up to 32 values, and their weighted squared error.
pub(super) fn quantise_e2m1(values: &[f32], weights: &[f32], scale: f32) -> ([u32; 32], f32) {
    const BORDERS: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
    let per_step = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let (mut codes, mut error) = ([0; 32], 0.0);
    for ((&value, &weight), code) in values.iter().zip(weights).zip(&mut codes) {
        let ratio = value.abs() * per_step;
        let magnitude: usize = BORDERS.iter().map(|&border| usize::from(ratio > border)).sum();
        *code = magnitude as u32 | if value < 0.0 && magnitude > 0 { 8 } else { 0 };
        let difference = value.abs() - scale * f32::from(E2M1_LEVELS[magnitude]);
        error += weight * difference * difference;
    }
    (codes, error)
}
