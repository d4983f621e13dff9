//! IQ2_XXS: 256 elements in 8 sub-blocks with 4-bit scales; words of eight magnitudes out of 256. 2.0625 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::grid::{IQ2_XXS_WORDS, Words, decode_signed, even_signs};
use super::scaled::{Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};
use super::word_search::{IQ2_XXS, Signed, Signs, index_of, signs_of};

/// `value = ± d * (scale + 1/2) / 4 * level`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ2XXS {
    /// The unit of the scales.
    pub d: Half,
    /// For each sub-block the indices of four words, then a little-endian word of 32 bits: four times seven signs
    /// (the eighth makes them even), from below, and the scale on top.
    pub sub_blocks: [[u8; 8]; 8],
}

const _: () = assert!(size_of::<BlockIQ2XXS>() == 66 && align_of::<BlockIQ2XXS>() == 1);

impl BlockIQ2XXS {
    #[inline]
    fn rest(&self, sub_block: usize) -> SignsAndScale {
        let [.., a, b, c, e] = self.sub_blocks[sub_block];
        SignsAndScale::read([a, b, c, e])
    }
}

impl Words for BlockIQ2XXS {
    #[inline]
    fn unit(&self) -> Half {
        self.d
    }

    #[inline]
    fn scale(&self, sixteen: usize) -> u8 {
        self.rest(sixteen / 2).scale()
    }

    #[inline]
    fn units(scale: u8) -> f32 {
        (0.5 + f32::from(scale)) * 0.25
    }

    #[inline]
    fn word(&self, eight: usize) -> ([i8; 8], u8) {
        let index = self.sub_blocks[eight / 4][eight % 4];
        (IQ2_XXS_WORDS[usize::from(index)], self.rest(eight / 4).signs(eight % 4))
    }
}

impl Block for BlockIQ2XXS {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        decode_signed(self, values);
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let book = Signed { search: &*IQ2_XXS, signs: Signs::Even };
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { lengthened: d, scales, codes, .. } =
            encode_scaled::<8, _>(&book, values, &weights, Multiples::odd(4), 8.0);
        let mut block = Self { d, ..Self::zeroed() };
        for (index, sub_block) in block.sub_blocks.iter_mut().enumerate() {
            let codes = &codes[4 * index..][..4];
            for (byte, &code) in sub_block.iter_mut().zip(codes) {
                *byte = index_of(code, 0) as u8;
            }
            sub_block[4..].copy_from_slice(&SignsAndScale::new(codes, scales[index]).write());
        }
        block
    }
}

/// Of 32 elements four times eight signs, an even number of them set, and a 4-bit scale, in 32 bits: seven signs each,
/// from below, and the scale on top.
#[derive(Clone, Copy)]
pub(super) struct SignsAndScale(u32);

impl SignsAndScale {
    /// From a little-endian word.
    #[inline]
    pub(super) fn read(word: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(word))
    }

    pub(super) fn new(codes: &[u32], scale: i32) -> Self {
        let signs = codes.iter().zip(0..).map(|(&code, eight)| u32::from(signs_of(code) & 127) << (7 * eight));
        Self(signs.sum::<u32>() | (scale as u32) << 28)
    }

    pub(super) fn write(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// The signs of eight elements, set where negative.
    #[inline]
    pub(super) fn signs(self, eight: usize) -> u8 {
        even_signs((self.0 >> (7 * eight) & 127) as u8)
    }

    /// 0 to 15.
    #[inline]
    pub(super) fn scale(self) -> u8 {
        (self.0 >> 28) as u8
    }
}
