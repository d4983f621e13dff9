//! TQ1_0: 256 elements, one scale, ternary codes, five to a byte. 1.6875 bits per element.
//!
//! A byte is a fraction of 256 whose first base-3 digits are the codes: multiplied by three, it carries the next one out.

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Half};
use super::search::SUPER_BLOCK;
use super::tq2_0::encode_ternary;

/// `value = d * (digit - 1)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockTQ1_0 {
    /// Five digits to a byte: digit `n` of 32 bytes for elements `32 * n` and on, then the same with 16 bytes.
    pub fives: [u8; 48],
    /// Four digits to a byte: digit `n` of 4 bytes for the last sixteen elements.
    pub fours: [u8; 4],
    /// The scale.
    pub d: Half,
}

const _: () = assert!(size_of::<BlockTQ1_0>() == 54 && align_of::<BlockTQ1_0>() == 1);

/// Runs of bytes with the same count of digits: first byte, bytes, digits.
const RUNS: [(usize, usize, usize); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

impl BlockTQ1_0 {
    /// The digits of all elements, 0 to 2.
    pub fn digits(&self) -> impl Iterator<Item = u8> {
        places().map(|(byte, place)| {
            let byte = if byte < 48 { self.fives[byte] } else { self.fours[byte - 48] };
            let shifted = byte.wrapping_mul(3_u8.pow(place));
            ((u16::from(shifted) * 3) >> 8) as u8
        })
    }
}

impl Block for BlockTQ1_0 {
    const ELEMENTS: usize = SUPER_BLOCK;

    fn decode(&self, values: &mut [f32]) {
        let d = self.d.to_f32();
        for (value, digit) in values.iter_mut().zip(self.digits()) {
            *value = (f32::from(digit) - 1.0) * d;
        }
    }

    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self {
        let (d, trits) = encode_ternary(values, importances);
        let mut numbers = [0_u16; 52];
        for (trit, (byte, place)) in trits.into_iter().zip(places()) {
            numbers[byte] += u16::from(trit) * 3_u16.pow(4 - place);
        }
        // Rounded up, so that what the digits carry out is never one too low.
        let bytes = numbers.map(|number| (number * 256).div_ceil(243) as u8);
        let mut block = Self { d, ..Self::zeroed() };
        block.fives.copy_from_slice(&bytes[..48]);
        block.fours.copy_from_slice(&bytes[48..]);
        block
    }
}

/// For each element its byte and its digit, counted from the first.
fn places() -> impl Iterator<Item = (usize, u32)> {
    RUNS.into_iter().flat_map(|(first, bytes, digits)| {
        (0..digits as u32).flat_map(move |place| (0..bytes).map(move |byte| (first + byte, place)))
    })
}
