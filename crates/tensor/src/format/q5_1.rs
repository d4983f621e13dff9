//! Q5_1: 32 elements, a scale and a minimum, 5-bit codes. 6 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half, extent, inverse};
use super::q5_0::{join, split};
use super::search::{fit_line, weights};

/// `value = d * code + m`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ5_1 {
    /// The scale.
    pub d: Half,
    /// The minimum.
    pub m: Half,
    /// A little-endian 32-bit word; bit `j` is the fifth bit of element `j`.
    pub high_bits: [u8; 4],
    /// Byte `j` holds the low four bits of element `j`, above them those of element `j + 16`.
    pub low_codes: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24 && align_of::<BlockQ5_1>() == 1);

impl Block for BlockQ5_1 {
    const ELEMENTS: usize = 32;

    fn decode(&self, values: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        let codes = join(self.high_bits, self.low_codes);
        for (value, code) in values.iter_mut().zip(codes) {
            *value = f32::from(code) * d + m;
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let (least, d) = match importances {
            None => {
                let (least, greatest) = extent(values);
                (least, (greatest - least) / 31.0)
            }
            Some(_) => {
                let line = fit_line(values, &weights::<32>(importances), 31, f32::NEG_INFINITY);
                (-line.min, line.scale)
            }
        };
        let per_step = inverse(d);
        let (high_bits, low_codes) =
            split(std::array::from_fn(|j| (((values[j] - least) * per_step + 0.5) as u8).min(31)));
        Self { d: Half::from_f32(d), m: Half::from_f32(least), high_bits, low_codes }
    }
}
