//! Q8_0: 32 elements, one scale, 8-bit signed codes. 8.5 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half, farthest_from_zero, inverse};

/// `value = d * code`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ8_0 {
    /// The scale.
    pub d: Half,
    /// One signed code per element.
    pub codes: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34 && align_of::<BlockQ8_0>() == 1);

impl Block for BlockQ8_0 {
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
        Self { d: Half::from_f32(d), codes: std::array::from_fn(|j| (values[j] * per_step).round() as i8) }
    }
}
