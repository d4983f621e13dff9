//! Q3_K: 256 elements in 16 sub-blocks, each with a signed 6-bit scale; 3-bit codes. 3.4375 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::q2_k::two_bits;
use super::scaled::{Linear, Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};

/// `value = d * scale * (code - 4)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ3K {
    /// The third bit of element `e` is bit `e / 32` of byte `e % 32`.
    pub high_bits: [u8; 32],
    /// The low two bits: four runs of 32 elements share 32 bytes, the first run lowest.
    pub low_codes: [u8; 64],
    /// Sixteen scales of six bits, each stored plus 32; [`Self::scale`] reads them.
    pub scales: [u8; 12],
    /// The unit of the scales.
    pub d: Half,
}

const _: () = assert!(size_of::<BlockQ3K>() == 110 && align_of::<BlockQ3K>() == 1);

impl BlockQ3K {
    /// The code of `element`, 0 to 7.
    pub fn code(&self, element: usize) -> u8 {
        let (byte, shift) = two_bits(element);
        let high_bit = self.high_bits[element % 32] >> (element / 32) & 1;
        self.low_codes[byte] >> shift & 3 | high_bit << 2
    }

    /// The scale of `sub_block`, -32 to 31.
    ///
    /// Bytes 0 to 7 hold low halves, of two sub-blocks each; bytes 8 to 11 two high bits of four.
    #[inline]
    pub fn scale(&self, sub_block: usize) -> i8 {
        let low = self.scales[sub_block % 8] >> (sub_block / 8 * 4) & 15;
        let high = self.scales[8 + sub_block % 4] >> (sub_block / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    }
}

impl Block for BlockQ3K {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        for (sub_block, values) in values.chunks_exact_mut(16).enumerate() {
            let scale = d * f32::from(self.scale(sub_block));
            for (index, value) in values.iter_mut().enumerate() {
                *value = scale * (f32::from(self.code(16 * sub_block + index)) - 4.0);
            }
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { d, scales, codes, .. } =
            encode_scaled::<16, _>(&Linear { zero: 4 }, values, &weights, Multiples::signed(6), 1.0);
        let mut block = Self { d, ..Self::zeroed() };
        for (element, code) in codes.into_iter().enumerate() {
            let (byte, shift) = two_bits(element);
            block.low_codes[byte] |= (code as u8 & 3) << shift;
            block.high_bits[element % 32] |= (code as u8 >> 2) << (element / 32);
        }
        for (sub_block, scale) in scales.into_iter().enumerate() {
            let scale = (scale + 32) as u8;
            block.scales[sub_block % 8] |= (scale & 15) << (sub_block / 8 * 4);
            block.scales[8 + sub_block % 4] |= (scale >> 4) << (sub_block / 4 * 2);
        }
        block
    }
}
