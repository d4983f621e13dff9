//! Q8_K: 256 elements, one f32 scale, 8-bit signed codes and their sums; activations, never weights.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, farthest_from_zero};

/// `value = d * code`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ8K {
    /// The scale, a little-endian f32.
    pub d: [u8; 4],
    /// One signed code per element.
    pub codes: [i8; 256],
    /// For each 16 elements the sum of their codes, a little-endian i16.
    pub sums: [[u8; 2]; 16],
}

const _: () = assert!(size_of::<BlockQ8K>() == 292 && align_of::<BlockQ8K>() == 1);

impl Block for BlockQ8K {
    const ELEMENTS: usize = 256;

    fn decode(&self, values: &mut [f32]) {
        let d = f32::from_le_bytes(self.d);
        for (value, &code) in values.iter_mut().zip(&self.codes) {
            *value = d * f32::from(code);
        }
    }

    /// The value farthest from zero, of either sign, takes code -127.
    fn encode(values: &[f32], _importances: Option<&[f32]>) -> Self {
        let farthest = farthest_from_zero(values);
        if farthest == 0.0 {
            return Self::zeroed();
        }
        let per_step = -127.0 / farthest;
        let codes: [i8; 256] = std::array::from_fn(|j| (per_step * values[j]).round_ties_even() as i8);
        let sums = std::array::from_fn(|group| {
            let codes = &codes[16 * group..16 * (group + 1)];
            codes.iter().copied().map(i16::from).sum::<i16>().to_le_bytes()
        });
        Self { d: (1.0 / per_step).to_le_bytes(), codes, sums }
    }
}
