//! IQ1_M: 256 elements in 16 sub-blocks with 3-bit scales; ternary words of eight out of 2048. 1.75 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::grid::{IQ1_WORDS, Words};
use super::iq1_s::decode_shifted;
use super::scaled::{Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};
use super::word_search::{Shifted, index_of, is_down};

/// `value = d * (2 * scale + 1) * (level ± 1/8)`, with one sign for eight elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ1M {
    /// For eight elements the low eight bits of their word's index.
    pub low_indices: [u8; 32],
    /// For eight elements four bits, two to a byte: the upper three bits of the index, and a bit that is set where 1/8 is
    /// subtracted.
    pub high_indices: [u8; 16],
    /// Four little-endian words of 16 bits: four times three bits of scale, from below, and four bits of `d`.
    pub scales: [[u8; 2]; 4],
}

const _: () = assert!(size_of::<BlockIQ1M>() == 56 && align_of::<BlockIQ1M>() == 1);

impl Words for BlockIQ1M {
    /// Each word of scales holds four bits of it, the first the lowest.
    #[inline]
    fn unit(&self) -> Half {
        let four_bits = |(word, place): (&[u8; 2], u32)| u16::from(word[1] >> 4) << (4 * place);
        Half(self.scales.iter().zip(0..).map(four_bits).sum::<u16>().to_le_bytes())
    }

    #[inline]
    fn scale(&self, sixteen: usize) -> u8 {
        (u16::from_le_bytes(self.scales[sixteen / 4]) >> (sixteen % 4 * 3) & 7) as u8
    }

    #[inline]
    fn units(scale: u8) -> f32 {
        f32::from(2 * scale + 1)
    }

    #[inline]
    fn word(&self, eight: usize) -> ([i8; 8], u8) {
        let high = self.high_indices[eight / 2] >> (eight % 2 * 4);
        let index = usize::from(self.low_indices[eight]) | usize::from(high & 7) << 8;
        (IQ1_WORDS[index], if high >> 3 & 1 == 1 { 0xFF } else { 0 })
    }
}

impl Block for BlockIQ1M {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        decode_shifted(self, values);
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { lengthened: d, scales, codes, .. } =
            encode_scaled::<16, _>(&Shifted { shared: 8 }, values, &weights, Multiples::odd(3), 1.0);
        let mut block = Self::zeroed();
        for (eight, &code) in codes[..32].iter().enumerate() {
            let index = index_of(code, 0);
            block.low_indices[eight] = index as u8;
            block.high_indices[eight / 2] |= ((index >> 8) as u8 | u8::from(is_down(code)) << 3) << (eight % 2 * 4);
        }
        let d = u16::from_le_bytes(d.0);
        block.scales = std::array::from_fn(|word| {
            let scales = scales[4 * word..][..4].iter().zip(0..).map(|(&scale, place)| (scale as u16) << (3 * place));
            (scales.sum::<u16>() | (d >> (4 * word) & 15) << 12).to_le_bytes()
        });
        block
    }
}
