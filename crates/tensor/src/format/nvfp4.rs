//! NVFP4: 64 elements of E2M1 floats in 4 sub-blocks, each with an unsigned E4M3 float as scale. 4.5 bits per element.
//!
//! Scales end at 448 and have no sign, so the format holds values from 2^-11 to 2,688; smaller ones become zero.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, farthest_from_zero};
use super::iq4_nl::{decode_levels, pair_codes};
use super::mxfp4::{E2M1_LEVELS, quantise_e2m1};
use super::search::weights;

/// `value = scale * E2M1_LEVELS[code]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockNVFP4 {
    /// The sub-blocks' scales, doubled: four bits of exponent with a bias of 7, three of mantissa.
    pub scales: [u8; 4],
    /// For each sub-block 8 bytes; byte `j` holds element `j` in its low and `j + 8` in its high four bits.
    pub codes: [u8; 32],
}

const _: () = assert!(size_of::<BlockNVFP4>() == 36 && align_of::<BlockNVFP4>() == 1);

impl BlockNVFP4 {
    /// What the levels of `sub_block` are multiplied with.
    #[inline]
    pub fn scale(&self, sub_block: usize) -> f32 {
        half_e4m3(self.scales[sub_block])
    }
}

impl Block for BlockNVFP4 {
    const ELEMENTS: usize = 64;

    fn decode(&self, values: &mut [f32]) {
        for (sub_block, values) in values.chunks_exact_mut(16).enumerate() {
            decode_levels(self.scale(sub_block), &self.codes[8 * sub_block..][..8], &E2M1_LEVELS, values);
        }
    }

    /// Around the scale that puts the largest value on the last level, the one that errs least.
    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let weights: [f32; 64] = weights(importances);
        let mut block = Self::zeroed();
        for (sub_block, (values, weights)) in values.chunks_exact(16).zip(weights.chunks_exact(16)).enumerate() {
            let target = farthest_from_zero(values).abs() / 12.0;
            let spanning = (1..E4M3_LAST).find(|&scale| half_e4m3(scale) >= target).unwrap_or(E4M3_LAST);
            let mut least = f32::INFINITY;
            for scale in spanning.saturating_sub(TRIALS)..=spanning.saturating_add(TRIALS).min(E4M3_LAST) {
                let (codes, error) = quantise_e2m1(values, weights, half_e4m3(scale));
                if error < least {
                    least = error;
                    block.scales[sub_block] = scale;
                    block.codes[8 * sub_block..][..8].copy_from_slice(&pair_codes::<8>(&codes));
                }
            }
        }
        block
    }
}

/// Scales tried on each side of the spanning one: from two thirds of it to one and a half.
const TRIALS: u8 = 5;

/// The code of the largest scale, 448.
const E4M3_LAST: u8 = 0x7E;

/// Half of what an unsigned E4M3 float stands for. The code after the last, a NaN by the standard, is zero, as ggml has it;
/// the upper bit is not read.
#[inline]
fn half_e4m3(code: u8) -> f32 {
    // Put where those of an f32 are, the bits are a number too small by the difference of the biases, denormals too. Half of
    // it is asked for.
    const BIASES: f32 = f32::from_bits((127 + 127 - 7 - 1) << 23);
    match code & 0x7F {
        0x7F => 0.0,
        code => f32::from_bits(u32::from(code) << 20) * BIASES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_those_of_the_standard() {
        for code in 0..=u8::MAX {
            let (exponent, mantissa) = (code >> 3 & 15, f32::from(code & 7) / 8.0);
            let doubled = match (exponent, code & 7) {
                (15, 7) => 0.0,
                (0, _) => mantissa * 2.0f32.powi(-6),
                _ => (1.0 + mantissa) * 2.0f32.powi(i32::from(exponent) - 7),
            };
            assert_eq!(half_e4m3(code), doubled / 2.0, "{code:#04x}");
        }
    }
}
