//! Q2_0: 64 elements, one scale, 2-bit codes for -1, 0, 1 and 2. 2.25 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::scaled::{Codebook, Wide, fit_scale};
use super::search::weights;

/// `value = d * (code - 1)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ2_0 {
    /// The scale, of either sign.
    pub d: Half,
    /// Two bits per element, the first lowest.
    pub codes: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ2_0>() == 18 && align_of::<BlockQ2_0>() == 1);

impl BlockQ2_0 {
    /// The code of `element`, 0 to 3.
    pub fn code(&self, element: usize) -> u8 {
        self.codes[element / 4] >> (element % 4 * 2) & 3
    }
}

impl Block for BlockQ2_0 {
    const ELEMENTS: usize = 64;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        for (index, value) in values.iter_mut().enumerate() {
            *value = (f32::from(self.code(index)) - 1.0) * d;
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let book = Wide { least: -1.0, greatest: 2.0, signs: &[1.0, -1.0] };
        let weights: [f32; 64] = weights(importances);
        let d = Half::from_f32(fit_scale(&book, values, &weights));
        let (mut codes, mut levels) = ([0; 64], [0.0; 64]);
        book.quantise(values, &weights, d.to_f32(), &mut codes, &mut levels);
        let bits = |byte: usize| (0..4).fold(0, |bits, index| bits | (codes[4 * byte + index] as u8) << (2 * index));
        Self { d, codes: std::array::from_fn(bits) }
    }
}
