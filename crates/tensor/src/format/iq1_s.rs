//! IQ1_S: 256 elements in 8 sub-blocks with 3-bit scales; ternary words of eight out of 2048. 1.5625 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::grid::{IQ1_WORDS, Words};
use super::scaled::{Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};
use super::word_search::{SHIFT, Shifted, index_of, is_down};

/// `value = d * (2 * scale + 1) * (level ± 1/8)`, with one sign for a sub-block.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ1S {
    /// The unit of the scales.
    pub d: Half,
    /// For eight elements the low eight bits of their word's index.
    pub low_indices: [u8; 32],
    /// For each sub-block a little-endian word of 16 bits: four times three upper bits of the indices, from below, three
    /// bits of scale, and a bit that is set where 1/8 is subtracted.
    pub high_words: [[u8; 2]; 8],
}

const _: () = assert!(size_of::<BlockIQ1S>() == 50 && align_of::<BlockIQ1S>() == 1);

impl BlockIQ1S {
    #[inline]
    fn high_word(&self, sub_block: usize) -> u16 {
        u16::from_le_bytes(self.high_words[sub_block])
    }
}

impl Words for BlockIQ1S {
    #[inline]
    fn unit(&self) -> Half {
        self.d
    }

    #[inline]
    fn scale(&self, sixteen: usize) -> u8 {
        (self.high_word(sixteen / 2) >> 12 & 7) as u8
    }

    #[inline]
    fn units(scale: u8) -> f32 {
        f32::from(2 * scale + 1)
    }

    #[inline]
    fn word(&self, eight: usize) -> ([i8; 8], u8) {
        let high = self.high_word(eight / 4);
        let index = usize::from(self.low_indices[eight]) | usize::from(high >> (eight % 4 * 3) & 7) << 8;
        (IQ1_WORDS[index], if high >> 15 == 1 { 0xFF } else { 0 })
    }
}

impl Block for BlockIQ1S {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        decode_shifted(self, values);
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { lengthened: d, scales, codes, .. } =
            encode_scaled::<8, _>(&Shifted { shared: 32 }, values, &weights, Multiples::odd(3), 1.0);
        let low_indices = std::array::from_fn(|eight| index_of(codes[eight], 0) as u8);
        let high_words = std::array::from_fn(|sub_block| {
            let codes = &codes[4 * sub_block..][..4];
            let indices =
                codes.iter().zip(0..).map(|(&code, eight)| (index_of(code, 0) as u16 & 0x700) >> 8 << (3 * eight));
            let scale = scales[sub_block] as u16;
            (indices.sum::<u16>() | scale << 12 | u16::from(is_down(codes[0])) << 15).to_le_bytes()
        });
        Self { d, low_indices, high_words }
    }
}

/// Decodes words whose levels are shifted up or down.
pub(super) fn decode_shifted<B: Words>(block: &B, values: &mut [f32]) {
    let d = block.unit().to_f32();
    for (eight, values) in values.chunks_exact_mut(8).enumerate() {
        let scale = d * B::units(block.scale(eight / 2));
        let (levels, downs) = block.word(eight);
        let shift = if downs == 0 { SHIFT } else { -SHIFT };
        for (value, level) in values.iter_mut().zip(levels) {
            *value = scale * (f32::from(level) + shift);
        }
    }
}
