//! Q5_K: 256 elements in 8 sub-blocks, each with a 6-bit scale and min; 5-bit codes. 5.5 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::q4_k::{SixBitPairs, four_bits};
use super::search::{Affine, SUPER_BLOCK, encode_affine};

/// `value = d * scale * code - dmin * min`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ5K {
    /// The unit of the scales.
    pub d: Half,
    /// The unit of the mins.
    pub dmin: Half,
    /// The sub-blocks' scales and mins.
    pub scales_and_mins: SixBitPairs,
    /// The fifth bit of element `e` is bit `e / 32` of byte `e % 32`.
    pub high_bits: [u8; 32],
    /// Of each 64 elements, the first 32 in the low and the others in the high halves of 32 bytes.
    pub low_codes: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5K>() == 176 && align_of::<BlockQ5K>() == 1);

impl BlockQ5K {
    /// The code of `element`, 0 to 31.
    pub fn code(&self, element: usize) -> u8 {
        let (byte, shift) = four_bits(element);
        let high_bit = self.high_bits[element % 32] >> (element / 32) & 1;
        self.low_codes[byte] >> shift & 15 | high_bit << 4
    }
}

impl Block for BlockQ5K {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (sub_block, values) in values.chunks_exact_mut(32).enumerate() {
            let (scale, min) = self.scales_and_mins.get(sub_block);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (index, value) in values.iter_mut().enumerate() {
                *value = scale * f32::from(self.code(32 * sub_block + index)) - min;
            }
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let Affine { d, dmin, scales, mins, codes } = encode_affine::<8>(values, importances, 63, 31);
        let scales_and_mins = SixBitPairs::new(scales, mins);
        let mut block = Self { d, dmin, scales_and_mins, ..Self::zeroed() };
        for (element, code) in codes.into_iter().enumerate() {
            let (byte, shift) = four_bits(element);
            block.low_codes[byte] |= (code & 15) << shift;
            block.high_bits[element % 32] |= (code >> 4) << (element / 32);
        }
        block
    }
}
