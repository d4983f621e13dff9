//! IQ2_S: 256 elements in 16 sub-blocks with 4-bit scales; words of eight magnitudes out of 1024. 2.5625 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::grid::{IQ2_S_WORDS, Words, decode_signed};
use super::iq2_xs::{nibble, nibbles};
use super::scaled::{Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};
use super::word_search::{IQ2_S, Signed, Signs, index_of, signs_of};

/// `value = ± d * (scale + 1/2) / 4 * level`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ2S {
    /// The unit of the scales.
    pub d: Half,
    /// For eight elements the low eight bits of their word's index.
    pub low_indices: [u8; 32],
    /// For eight elements their signs, the first lowest, set where negative.
    pub signs: [u8; 32],
    /// The upper two bits of the indices, four to a byte.
    pub high_indices: [u8; 8],
    /// The scales, two sub-blocks to a byte, the first lower.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIQ2S>() == 82 && align_of::<BlockIQ2S>() == 1);

impl Words for BlockIQ2S {
    #[inline]
    fn unit(&self) -> Half {
        self.d
    }

    #[inline]
    fn scale(&self, sixteen: usize) -> u8 {
        nibble(&self.scales, sixteen)
    }

    #[inline]
    fn units(scale: u8) -> f32 {
        (0.5 + f32::from(scale)) * 0.25
    }

    #[inline]
    fn word(&self, eight: usize) -> ([i8; 8], u8) {
        let high = self.high_indices[eight / 4] >> (eight % 4 * 2) & 3;
        let index = usize::from(self.low_indices[eight]) | usize::from(high) << 8;
        (IQ2_S_WORDS[index], self.signs[eight])
    }
}

impl Block for BlockIQ2S {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        decode_signed(self, values);
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let book = Signed { search: &*IQ2_S, signs: Signs::Free };
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { d, scales, codes, .. } = encode_scaled::<16, _>(&book, values, &weights, Multiples::odd(4), 8.0);
        let mut block = Self { d, scales: nibbles(&scales), ..Self::zeroed() };
        for (eight, &code) in codes[..32].iter().enumerate() {
            let index = index_of(code, 0);
            block.low_indices[eight] = index as u8;
            block.high_indices[eight / 4] |= (index >> 8 << (eight % 4 * 2)) as u8;
            block.signs[eight] = signs_of(code);
        }
        block
    }
}
