//! Q2_K: 256 elements in 16 sub-blocks, each with a 4-bit scale and min; 2-bit codes. 2.625 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::search::{Affine, SUPER_BLOCK, encode_affine};

/// `value = d * scale * code - dmin * min`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ2K {
    /// For each sub-block its scale in the low and its min in the high four bits.
    pub scales_and_mins: [u8; 16],
    /// Two bits per element: four runs of 32 elements share 32 bytes, the first run lowest.
    pub codes: [u8; 64],
    /// The unit of the scales.
    pub d: Half,
    /// The unit of the mins.
    pub dmin: Half,
}

const _: () = assert!(size_of::<BlockQ2K>() == 84 && align_of::<BlockQ2K>() == 1);

impl BlockQ2K {
    /// The code of `element`, 0 to 3.
    pub fn code(&self, element: usize) -> u8 {
        let (byte, shift) = two_bits(element);
        self.codes[byte] >> shift & 3
    }
}

impl Block for BlockQ2K {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (sub_block, values) in values.chunks_exact_mut(16).enumerate() {
            let scale = d * f32::from(self.scales_and_mins[sub_block] & 15);
            let min = dmin * f32::from(self.scales_and_mins[sub_block] >> 4);
            for (index, value) in values.iter_mut().enumerate() {
                *value = scale * f32::from(self.code(16 * sub_block + index)) - min;
            }
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let Affine { d, dmin, scales, mins, codes: unpacked } = encode_affine::<16>(values, importances, 15, 3);
        let mut codes = [0; 64];
        for (element, code) in unpacked.into_iter().enumerate() {
            let (byte, shift) = two_bits(element);
            codes[byte] |= code << shift;
        }
        let scales_and_mins = std::array::from_fn(|index| scales[index] | mins[index] << 4);
        Self { scales_and_mins, codes, d, dmin }
    }
}

/// Byte and shift of an element's two bits: four runs of 32 elements share 32 bytes.
pub(super) fn two_bits(element: usize) -> (usize, usize) {
    (element / 128 * 32 + element % 32, element % 128 / 32 * 2)
}
