//! IQ2_XS: 256 elements in 16 sub-blocks with 4-bit scales; words of eight magnitudes out of 512. 2.3125 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::grid::{IQ2_XS_WORDS, Words, decode_signed, even_signs};
use super::scaled::{Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};
use super::word_search::{IQ2_XS, Signed, Signs, index_of, signs_of};

/// `value = ± d * (scale + 1/2) / 4 * level`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ2XS {
    /// The unit of the scales.
    pub d: Half,
    /// For eight elements a little-endian word of 16 bits: the index of their word, then seven of their signs.
    pub words: [[u8; 2]; 32],
    /// The scales, two sub-blocks to a byte, the first lower.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIQ2XS>() == 74 && align_of::<BlockIQ2XS>() == 1);

impl Words for BlockIQ2XS {
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
        let word = u16::from_le_bytes(self.words[eight]);
        (IQ2_XS_WORDS[usize::from(word & 511)], even_signs((word >> 9) as u8))
    }
}

impl Block for BlockIQ2XS {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        decode_signed(self, values);
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let book = Signed { search: &*IQ2_XS, signs: Signs::Even };
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { lengthened: d, scales, codes, .. } =
            encode_scaled::<16, _>(&book, values, &weights, Multiples::odd(4), 8.0);
        let words = std::array::from_fn(|eight| {
            let code = codes[eight];
            (index_of(code, 0) as u16 | u16::from(signs_of(code) & 127) << 9).to_le_bytes()
        });
        Self { d, words, scales: nibbles(&scales) }
    }
}

/// Four bits of a list in which a byte holds two, the first lower.
#[inline]
pub(super) fn nibble(bytes: &[u8], index: usize) -> u8 {
    bytes[index / 2] >> (index % 2 * 4) & 15
}

/// The inverse of [`nibble`], for `2 * N` numbers.
pub(super) fn nibbles<const N: usize>(numbers: &[i32]) -> [u8; N] {
    std::array::from_fn(|byte| numbers[2 * byte] as u8 | (numbers[2 * byte + 1] as u8) << 4)
}
