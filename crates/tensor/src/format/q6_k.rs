//! Q6_K: 256 elements in 16 sub-blocks, each with a signed 8-bit scale; 6-bit codes. 6.5625 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::q2_k::two_bits;
use super::scaled::{Linear, Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};

/// `value = d * scale * (code - 32)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ6K {
    /// The low four bits: of each 128 elements, the first 64 in the low halves of 64 bytes.
    pub low_codes: [u8; 128],
    /// The upper two bits: four runs of 32 elements share 32 bytes, the first run lowest.
    pub high_bits: [u8; 64],
    /// The sub-blocks' scales.
    pub scales: [i8; 16],
    /// The unit of the scales.
    pub d: Half,
}

const _: () = assert!(size_of::<BlockQ6K>() == 210 && align_of::<BlockQ6K>() == 1);

impl BlockQ6K {
    /// The code of `element`, 0 to 63.
    pub fn code(&self, element: usize) -> u8 {
        let (byte, shift) = low_four_bits(element);
        let (high_byte, high_shift) = two_bits(element);
        self.low_codes[byte] >> shift & 15 | (self.high_bits[high_byte] >> high_shift & 3) << 4
    }
}

impl Block for BlockQ6K {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        for (sub_block, values) in values.chunks_exact_mut(16).enumerate() {
            let scale = d * f32::from(self.scales[sub_block]);
            for (index, value) in values.iter_mut().enumerate() {
                *value = scale * (f32::from(self.code(16 * sub_block + index)) - 32.0);
            }
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { d, scales, codes, .. } =
            encode_scaled::<16, _>(&Linear { zero: 32 }, values, &weights, Multiples::signed(8), 1.0);
        let mut block = Self { d, scales: scales.map(|scale| scale as i8), ..Self::zeroed() };
        for (element, code) in codes.into_iter().enumerate() {
            let (byte, shift) = low_four_bits(element);
            block.low_codes[byte] |= (code as u8 & 15) << shift;
            let (byte, shift) = two_bits(element);
            block.high_bits[byte] |= (code as u8 >> 4) << shift;
        }
        block
    }
}

/// Byte and shift of an element's low four bits: two runs of 64 elements share 64 bytes.
fn low_four_bits(element: usize) -> (usize, usize) {
    (element / 128 * 64 + element % 64, element % 128 / 64 * 4)
}
