//! TQ2_0: 256 elements, one scale, 2-bit codes for -1, 0 and 1. 2.0625 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::q2_k::two_bits;
use super::scaled::{Codebook, Wide, fit_scale};
use super::search::{SUPER_BLOCK, weights};

/// `value = d * (code - 1)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockTQ2_0 {
    /// Two bits per element: four runs of 32 elements share 32 bytes, the first run lowest. Encoders write 0 to 2.
    pub codes: [u8; 64],
    /// The scale.
    pub d: Half,
}

const _: () = assert!(size_of::<BlockTQ2_0>() == 66 && align_of::<BlockTQ2_0>() == 1);

impl BlockTQ2_0 {
    /// The code of `element`, 0 to 3.
    pub fn code(&self, element: usize) -> u8 {
        let (byte, shift) = two_bits(element);
        self.codes[byte] >> shift & 3
    }
}

impl Block for BlockTQ2_0 {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        for (index, value) in values.iter_mut().enumerate() {
            *value = (f32::from(self.code(index)) - 1.0) * d;
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let (d, trits) = encode_ternary(values, importances);
        let mut codes = [0; 64];
        for (index, trit) in trits.into_iter().enumerate() {
            let (byte, shift) = two_bits(index);
            codes[byte] |= trit << shift;
        }
        Self { codes, d }
    }
}

/// The scale, and for each value 0, 1 or 2 for -1, 0 and 1 times it.
pub(super) fn encode_ternary(values: &[f32], importances: Option<&[f32]>) -> (Half, [u8; SUPER_BLOCK]) {
    let book = Wide { least: -1.0, greatest: 1.0, signs: &[1.0] };
    let weights: [f32; SUPER_BLOCK] = weights(importances);
    let d = Half::from_f32(fit_scale(&book, values, &weights));
    let (mut codes, mut levels) = ([0; SUPER_BLOCK], [0.0; SUPER_BLOCK]);
    book.quantise(values, &weights, d.to_f32(), &mut codes, &mut levels);
    (d, codes.map(|code| code as u8))
}
