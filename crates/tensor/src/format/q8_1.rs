//! Q8_1: Q8_0 with the sum of its codes; activations, never weights. 9 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half, farthest_from_zero, inverse};

/// `value = d * code`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ8_1 {
    /// The scale.
    pub d: Half,
    /// The unrounded scale times the sum of the codes: what a weight's minimum is multiplied by.
    pub scaled_sum: Half,
    /// One signed code per element.
    pub codes: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_1>() == 36 && align_of::<BlockQ8_1>() == 1);

impl Block for BlockQ8_1 {
    const ELEMENTS: usize = 32;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        for (value, &code) in values.iter_mut().zip(&self.codes) {
            *value = f32::from(code) * d;
        }
    }

    fn encode(values: &[f32], _importances: Option<&[f32]>) -> Self {
        let d = farthest_from_zero(values).abs() / 127.0;
        let per_step = inverse(d);
        let codes: [i8; 32] = std::array::from_fn(|j| (values[j] * per_step).round() as i8);
        let sum: i32 = codes.iter().copied().map(i32::from).sum();
        Self { d: Half::from_f32(d), scaled_sum: Half::from_f32(sum as f32 * d), codes }
    }
}
