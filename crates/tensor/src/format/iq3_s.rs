//! IQ3_S: 256 elements in 8 sub-blocks with 4-bit scales; words of four magnitudes out of 512. 3.4375 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::grid::{IQ3_S_WORDS, Words, decode_signed, join_words};
use super::iq2_xs::{nibble, nibbles};
use super::scaled::{Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};
use super::word_search::{IQ3_S, Signed, Signs, index_of, signs_of};

/// `value = ± d * (2 * scale + 1) * level`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ3S {
    /// The unit of the scales.
    pub d: Half,
    /// For four elements the low eight bits of their word's index.
    pub low_indices: [u8; 64],
    /// The ninth bits, eight to a byte.
    pub high_indices: [u8; 8],
    /// For eight elements their signs, the first lowest, set where negative.
    pub signs: [u8; 32],
    /// The scales, two sub-blocks to a byte, the first lower.
    pub scales: [u8; 4],
}

const _: () = assert!(size_of::<BlockIQ3S>() == 110 && align_of::<BlockIQ3S>() == 1);

impl Words for BlockIQ3S {
    #[inline]
    fn unit(&self) -> Half {
        self.d
    }

    #[inline]
    fn scale(&self, sixteen: usize) -> u8 {
        nibble(&self.scales, sixteen / 2)
    }

    #[inline]
    fn units(scale: u8) -> f32 {
        1.0 + 2.0 * f32::from(scale)
    }

    #[inline]
    fn word(&self, eight: usize) -> ([i8; 8], u8) {
        let index = |four: usize| {
            let high = self.high_indices[four / 8] >> (four % 8) & 1;
            usize::from(self.low_indices[four]) | usize::from(high) << 8
        };
        let words = [IQ3_S_WORDS[index(2 * eight)], IQ3_S_WORDS[index(2 * eight + 1)]];
        (join_words(words), self.signs[eight])
    }
}

impl Block for BlockIQ3S {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        decode_signed(self, values);
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let book = Signed { search: &*IQ3_S, signs: Signs::Free };
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { d, scales, codes, .. } = encode_scaled::<8, _>(&book, values, &weights, Multiples::odd(4), 1.0);
        let mut block = Self { d, scales: nibbles(&scales), ..Self::zeroed() };
        for four in 0..64 {
            let index = index_of(codes[four / 2], four % 2);
            block.low_indices[four] = index as u8;
            block.high_indices[four / 8] |= (index >> 8 << (four % 8)) as u8;
        }
        block.signs = std::array::from_fn(|eight| signs_of(codes[eight]));
        block
    }
}
