//! IQ4_NL: 32 elements, one scale, 4-bit codes for levels that lie closer near zero. 4.5 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::scaled::{Codebook, Levels, fit_scale};
use super::search::weights;

/// What the codes of IQ4_NL and IQ4_XS stand for.
pub const IQ4_LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(super) static IQ4_BOOK: Levels<16> = Levels::new(IQ4_LEVELS);

/// `value = d * IQ4_LEVELS[code]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockIQ4NL {
    /// The scale.
    pub d: Half,
    /// Byte `j` holds element `j` in its low and element `j + 16` in its high four bits.
    pub codes: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4NL>() == 18 && align_of::<BlockIQ4NL>() == 1);

impl Block for BlockIQ4NL {
    const ELEMENTS: usize = 32;

    fn decode(&self, values: &mut [f32]) {
        decode_levels(self.d.to_f32(), &self.codes, &IQ4_LEVELS, values);
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let weights: [f32; 32] = weights(importances);
        let d = Half::from_f32(fit_scale(&IQ4_BOOK, values, &weights));
        let (mut codes, mut levels) = ([0; 32], [0.0; 32]);
        IQ4_BOOK.quantise(values, &weights, d.to_f32(), &mut codes, &mut levels);
        Self { d, codes: pair_codes(&codes) }
    }
}

/// Decodes 4-bit codes, of which each byte holds one of the first half and one of the second.
pub(super) fn decode_levels(scale: f32, codes: &[u8], levels: &[i8; 16], values: &mut [f32]) {
    let (low, high) = values.split_at_mut(codes.len());
    for ((low, high), &codes) in low.iter_mut().zip(high).zip(codes) {
        *low = scale * f32::from(levels[usize::from(codes & 15)]);
        *high = scale * f32::from(levels[usize::from(codes >> 4)]);
    }
}

/// The inverse of the order that [`decode_levels`] reads, for `2 * N` codes.
pub(super) fn pair_codes<const N: usize>(codes: &[u32]) -> [u8; N] {
    std::array::from_fn(|j| codes[j] as u8 | (codes[j + N] as u8) << 4)
}
