//! IQ4_XS: 256 elements in 8 sub-blocks, each with a signed 6-bit scale; the codes of IQ4_NL. 4.25 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::iq4_nl::{IQ4_BOOK, IQ4_LEVELS, decode_levels, pair_codes};
use super::scaled::{Multiples, Scaled, encode_scaled};
use super::search::{SUPER_BLOCK, weights};

/// `value = d * scale * IQ4_LEVELS[code]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ4XS {
    /// The unit of the scales.
    pub d: Half,
    /// A little-endian 16-bit word with the upper two bits of each scale, the first sub-block lowest.
    pub high_scales: [u8; 2],
    /// The low four bits of the scales, two sub-blocks to a byte.
    pub low_scales: [u8; 4],
    /// For each sub-block 16 bytes; byte `j` holds element `j` in its low and `j + 16` in its high four bits.
    pub codes: [u8; 128],
}

const _: () = assert!(size_of::<BlockIQ4XS>() == 136 && align_of::<BlockIQ4XS>() == 1);

impl BlockIQ4XS {
    /// The scale of `sub_block`, -32 to 31.
    #[inline]
    pub fn scale(&self, sub_block: usize) -> i8 {
        let low = self.low_scales[sub_block / 2] >> (sub_block % 2 * 4) & 15;
        let high = (u16::from_le_bytes(self.high_scales) >> (2 * sub_block) & 3) as u8;
        (low | high << 4) as i8 - 32
    }
}

impl Block for BlockIQ4XS {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        for (sub_block, values) in values.chunks_exact_mut(32).enumerate() {
            let scale = d * f32::from(self.scale(sub_block));
            decode_levels(scale, &self.codes[16 * sub_block..][..16], &IQ4_LEVELS, values);
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let weights: [f32; SUPER_BLOCK] = weights(importances);
        let Scaled { d, scales, codes, .. } =
            encode_scaled::<8, _>(&IQ4_BOOK, values, &weights, Multiples::signed(6), 1.0);
        let mut block = Self { d, ..Self::zeroed() };
        let mut high_scales = 0;
        for (sub_block, scale) in scales.into_iter().enumerate() {
            let scale = (scale + 32) as u8;
            block.low_scales[sub_block / 2] |= (scale & 15) << (sub_block % 2 * 4);
            high_scales |= u16::from(scale >> 4) << (2 * sub_block);
            let codes: [u8; 16] = pair_codes(&codes[32 * sub_block..][..32]);
            block.codes[16 * sub_block..][..16].copy_from_slice(&codes);
        }
        block.high_scales = high_scales.to_le_bytes();
        block
    }
}
