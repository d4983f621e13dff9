//! Q5_0: 32 elements, one scale, 5-bit codes around 16. 5.5 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half, farthest_from_zero, inverse};
use super::scaled::{Linear, fit_scale};
use super::search::weights;

/// `value = d * (code - 16)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ5_0 {
    /// The scale.
    pub d: Half,
    /// A little-endian 32-bit word; bit `j` is the fifth bit of element `j`.
    pub high_bits: [u8; 4],
    /// Byte `j` holds the low four bits of element `j`, above them those of element `j + 16`.
    pub low_codes: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22 && align_of::<BlockQ5_0>() == 1);

impl Block for BlockQ5_0 {
    const ELEMENTS: usize = 32;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        let codes = join(self.high_bits, self.low_codes);
        for (value, code) in values.iter_mut().zip(codes) {
            *value = (f32::from(code) - 16.0) * d;
        }
    }

    /// The value farthest from zero, of either sign, takes code 0: the one code without a mirror image. With
    /// importances the scale is searched for instead.
    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let d = match importances {
            None => farthest_from_zero(values) / -16.0,
            Some(_) => fit_scale(&Linear { zero: 16 }, values, &weights::<32>(importances)),
        };
        let per_step = inverse(d);
        let (high_bits, low_codes) = split(std::array::from_fn(|j| ((values[j] * per_step + 16.5) as u8).min(31)));
        Self { d: Half::from_f32(d), high_bits, low_codes }
    }
}

/// The 5-bit codes of a Q5_0 or Q5_1 block.
pub(super) fn join(high_bits: [u8; 4], low_codes: [u8; 16]) -> [u8; 32] {
    let high_bits = u32::from_le_bytes(high_bits);
    std::array::from_fn(|j| {
        let low = if j < 16 { low_codes[j] & 15 } else { low_codes[j - 16] >> 4 };
        low | ((high_bits >> j & 1) as u8) << 4
    })
}

/// The inverse of [`join`].
pub(super) fn split(codes: [u8; 32]) -> ([u8; 4], [u8; 16]) {
    let high_bits = (0..32).fold(0, |bits, j| bits | u32::from(codes[j] >> 4) << j);
    let low_codes = std::array::from_fn(|j| codes[j] & 15 | (codes[j + 16] & 15) << 4);
    (high_bits.to_le_bytes(), low_codes)
}
