//! Q4_0: 32 elements, one scale, 4-bit codes around 8. 4.5 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half, farthest_from_zero, inverse};
use super::scaled::{Linear, fit_scale};
use super::search::weights;

/// `value = d * (code - 8)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ4_0 {
    /// The scale.
    pub d: Half,
    /// Byte `j` holds element `j` in its low and element `j + 16` in its high four bits.
    pub codes: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && align_of::<BlockQ4_0>() == 1);

impl Block for BlockQ4_0 {
    const ELEMENTS: usize = 32;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        let (low, high) = values.split_at_mut(16);
        for ((low, high), &codes) in low.iter_mut().zip(high).zip(&self.codes) {
            *low = (f32::from(codes & 15) - 8.0) * d;
            *high = (f32::from(codes >> 4) - 8.0) * d;
        }
    }

    /// The value farthest from zero, of either sign, takes code 0: the one code without a mirror image. With
    /// importances the scale is searched for instead.
    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let d = match importances {
            None => farthest_from_zero(values) / -8.0,
            Some(_) => fit_scale(&Linear { zero: 8 }, values, &weights::<32>(importances)),
        };
        let per_step = inverse(d);
        let code = |value: f32| ((value * per_step + 8.5) as u8).min(15);
        Self { d: Half::from_f32(d), codes: std::array::from_fn(|j| code(values[j]) | code(values[j + 16]) << 4) }
    }
}
