//! Q4_1: 32 elements, a scale and a minimum, 4-bit codes. 5 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half, extent, inverse};
use super::search::{fit_line, weights};

/// `value = d * code + m`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ4_1 {
    /// The scale.
    pub d: Half,
    /// The minimum.
    pub m: Half,
    /// Byte `j` holds element `j` in its low and element `j + 16` in its high four bits.
    pub codes: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20 && align_of::<BlockQ4_1>() == 1);

impl Block for BlockQ4_1 {
    const ELEMENTS: usize = 32;

    fn decode(&self, values: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        let (low, high) = values.split_at_mut(16);
        for ((low, high), &codes) in low.iter_mut().zip(high).zip(&self.codes) {
            *low = f32::from(codes & 15) * d + m;
            *high = f32::from(codes >> 4) * d + m;
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let (least, d) = match importances {
            None => {
                let (least, greatest) = extent(values);
                (least, (greatest - least) / 15.0)
            }
            Some(_) => {
                let line = fit_line(values, &weights::<32>(importances), 15, f32::NEG_INFINITY);
                (-line.min, line.scale)
            }
        };
        let per_step = inverse(d);
        let code = |value: f32| (((value - least) * per_step + 0.5) as u8).min(15);
        Self {
            d: Half::from_f32(d),
            m: Half::from_f32(least),
            codes: std::array::from_fn(|j| code(values[j]) | code(values[j + 16]) << 4),
        }
    }
}
