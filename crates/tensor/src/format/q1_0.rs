//! Q1_0: 128 elements, one scale and the signs. 1.125 bits per element.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::search::weights;

/// `value = d` where the bit is set and `-d` where not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ1_0 {
    /// The scale.
    pub d: Half,
    /// One bit per element, the first lowest.
    pub bits: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ1_0>() == 18 && align_of::<BlockQ1_0>() == 1);

impl Block for BlockQ1_0 {
    const ELEMENTS: usize = 128;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        for (index, value) in values.iter_mut().enumerate() {
            *value = if self.bits[index / 8] >> (index % 8) & 1 == 1 { d } else { -d };
        }
    }

    /// The mean magnitude is what errs least. Large values have no code of their own and count no more than others.
    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let mean = |weights: &[f32]| {
            let weighted = values.iter().zip(weights).map(|(value, weight)| weight * value.abs());
            weighted.sum::<f32>() / weights.iter().sum::<f32>()
        };
        let d = mean(&weights::<128>(importances));
        let bit = |index: usize| u8::from(values[index] >= 0.0) << (index % 8);
        let bits = std::array::from_fn(|byte| (8 * byte..8 * byte + 8).fold(0, |bits, index| bits | bit(index)));
        Self { d: Half::from_f32(d), bits }
    }
}
