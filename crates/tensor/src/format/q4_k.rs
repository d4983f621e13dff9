//! Q4_K: 256 elements in 8 sub-blocks, each with a 6-bit scale and min; 4-bit codes. 4.5 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::search::{Affine, SUPER_BLOCK, encode_affine};

/// `value = d * scale * code - dmin * min`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ4K {
    /// The unit of the scales.
    pub d: Half,
    /// The unit of the mins.
    pub dmin: Half,
    /// The sub-blocks' scales and mins.
    pub scales_and_mins: SixBitPairs,
    /// Of each 64 elements, the first 32 in the low and the others in the high halves of 32 bytes.
    pub codes: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ4K>() == 144 && align_of::<BlockQ4K>() == 1);

impl BlockQ4K {
    /// The code of `element`, 0 to 15.
    pub fn code(&self, element: usize) -> u8 {
        let (byte, shift) = four_bits(element);
        self.codes[byte] >> shift & 15
    }
}

impl Block for BlockQ4K {
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
        let Affine { d, dmin, scales, mins, codes: unpacked } = encode_affine::<8>(values, importances, 63, 15);
        let mut codes = [0; 128];
        for (element, code) in unpacked.into_iter().enumerate() {
            let (byte, shift) = four_bits(element);
            codes[byte] |= code << shift;
        }
        Self { d, dmin, scales_and_mins: SixBitPairs::new(scales, mins), codes }
    }
}

/// Byte and shift of an element's four bits: two runs of 32 elements share 32 bytes.
pub(super) fn four_bits(element: usize) -> (usize, usize) {
    (element / 64 * 32 + element % 32, element % 64 / 32 * 4)
}

/// Eight scales and eight mins of six bits, in 12 bytes.
///
/// Scales 0 to 3 fill the low six bits of bytes 0 to 3, mins 0 to 3 those of bytes 4 to 7. Bytes 8
/// to 11 hold the low halves of scales (low) and mins (high) 4 to 7, whose upper two bits sit on
/// top of bytes 0 to 3 (scales) and 4 to 7 (mins).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SixBitPairs(pub [u8; 12]);

impl SixBitPairs {
    /// Packs scales and mins of 0 to 63.
    pub fn new(scales: [u8; 8], mins: [u8; 8]) -> Self {
        let mut bytes = [0; 12];
        for index in 0..4 {
            bytes[index] = scales[index] & 63 | (scales[index + 4] >> 4) << 6;
            bytes[index + 4] = mins[index] & 63 | (mins[index + 4] >> 4) << 6;
            bytes[index + 8] = scales[index + 4] & 15 | (mins[index + 4] & 15) << 4;
        }
        Self(bytes)
    }

    /// Scale and min of `sub_block`, 0 to 7.
    #[inline]
    pub fn get(&self, sub_block: usize) -> (u8, u8) {
        let bytes = &self.0;
        match sub_block.checked_sub(4) {
            None => (bytes[sub_block] & 63, bytes[sub_block + 4] & 63),
            Some(index) => {
                (bytes[index + 8] & 15 | bytes[index] >> 6 << 4, bytes[index + 8] >> 4 | bytes[index + 4] >> 6 << 4)
            }
        }
    }
}
