//! IQ3_XXS: 256 elements in 8 sub-blocks with 4-bit scales; words of four magnitudes out of 256. 3.0625 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::grid::{IQ3_XXS_WORDS, Words, decode_signed, join_words};
use super::iq2_xxs::SignsAndScale;
use super::scaled::{Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};
use super::word_search::{IQ3_XXS, Signed, Signs, index_of};

/// `value = ± d * (scale + 1/2) / 2 * level`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ3XXS {
    /// The unit of the scales.
    pub d: Half,
    /// For four elements the index of their word.
    pub indices: [u8; 64],
    /// For each sub-block its signs and scale, as in IQ2_XXS.
    pub signs_and_scales: [[u8; 4]; 8],
}

const _: () = assert!(size_of::<BlockIQ3XXS>() == 98 && align_of::<BlockIQ3XXS>() == 1);

impl Words for BlockIQ3XXS {
    #[inline]
    fn unit(&self) -> Half {
        self.d
    }

    #[inline]
    fn scale(&self, sixteen: usize) -> u8 {
        SignsAndScale::read(self.signs_and_scales[sixteen / 2]).scale()
    }

    #[inline]
    fn units(scale: u8) -> f32 {
        (0.5 + f32::from(scale)) * 0.5
    }

    #[inline]
    fn word(&self, eight: usize) -> ([i8; 8], u8) {
        let [first, second] = [self.indices[2 * eight], self.indices[2 * eight + 1]];
        let words = [IQ3_XXS_WORDS[usize::from(first)], IQ3_XXS_WORDS[usize::from(second)]];
        (join_words(words), SignsAndScale::read(self.signs_and_scales[eight / 4]).signs(eight % 4))
    }
}

impl Block for BlockIQ3XXS {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        decode_signed(self, values);
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let book = Signed { search: &*IQ3_XXS, signs: Signs::Even };
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { d, scales, codes, .. } = encode_scaled::<8, _>(&book, values, &weights, Multiples::odd(4), 4.0);
        let signs_and_scales =
            std::array::from_fn(|index| SignsAndScale::new(&codes[4 * index..][..4], scales[index]).write());
        Self { d, indices: std::array::from_fn(|four| index_of(codes[four / 2], four % 2) as u8), signs_and_scales }
    }
}
