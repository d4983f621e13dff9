//! What every block struct shares: the trait, little-endian halves, and the walk over whole slices.
//!
//! Block structs hold bytes alone, so their alignment is 1 and a file may place them anywhere.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::Codec;

/// The layout of one block, with its readable conversion to and from `f32`.
pub trait Block: Pod {
    /// Elements in one block.
    const ELEMENTS: usize;

    /// Writes the block's [`Self::ELEMENTS`] values; panics when `values` holds another count.
    fn decode(&self, values: &mut [f32]);

    /// The block closest to [`Self::ELEMENTS`] values; panics when `values` holds another count.
    ///
    /// Where there are importances, one for each value, errors count by them. Formats whose codes follow from the values
    /// alone do not read them. A block with a NaN, an infinity or a scale beyond f16 encodes to unspecified contents.
    fn encode(values: &[f32], importances: Option<&[f32]>) -> Self;
}

/// An f16 in little-endian bytes, at any alignment.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Half(pub [u8; 2]);

impl Half {
    /// Rounds to the nearest f16, ties to even.
    pub fn from_f32(value: f32) -> Self {
        Self(f16::from_f32(value).to_le_bytes())
    }

    /// The exact value.
    ///
    /// Every block begins with one, so this has no branch and no look at what the processor can: an f16 whose bits are put
    /// where those of an f32 are is too small by the difference of the biases, denormals too. Infinities and NaNs keep their
    /// exponent full.
    #[inline]
    pub fn to_f32(self) -> f32 {
        const BIASES: f32 = f32::from_bits((127 + 127 - 15) << 23);
        let bits = u32::from(u16::from_le_bytes(self.0));
        let magnitude = f32::from_bits((bits & 0x7FFF) << 13) * BIASES;
        let full = if bits & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
        f32::from_bits(magnitude.to_bits() | full | (bits & 0x8000) << 16)
    }
}

/// The codec of a block struct.
pub(super) const fn codec<B: Block>() -> Codec {
    Codec { decode: decode_blocks::<B>, encode: encode_blocks::<B>, encode_weighted: encode_weighted_blocks::<B> }
}

fn decode_blocks<B: Block>(blocks: &[u8], values: &mut [f32]) {
    let blocks: &[B] = bytemuck::cast_slice(blocks);
    assert_eq!(blocks.len() * B::ELEMENTS, values.len(), "values do not match the blocks");
    for (block, values) in blocks.iter().zip(values.chunks_exact_mut(B::ELEMENTS)) {
        block.decode(values);
    }
}

fn encode_blocks<B: Block>(values: &[f32], blocks: &mut [u8]) {
    let blocks: &mut [B] = bytemuck::cast_slice_mut(blocks);
    assert_eq!(blocks.len() * B::ELEMENTS, values.len(), "values do not match the blocks");
    for (block, values) in blocks.iter_mut().zip(values.chunks_exact(B::ELEMENTS)) {
        *block = B::encode(values, None);
    }
}

fn encode_weighted_blocks<B: Block>(values: &[f32], importances: &[f32], blocks: &mut [u8]) {
    let blocks: &mut [B] = bytemuck::cast_slice_mut(blocks);
    assert_eq!(blocks.len() * B::ELEMENTS, values.len(), "values do not match the blocks");
    assert!(importances.len().is_multiple_of(B::ELEMENTS), "importances end inside a block");
    assert!(values.len().is_multiple_of(importances.len().max(1)), "values are no whole rows");
    let mut columns = importances.chunks_exact(B::ELEMENTS).cycle();
    for (block, values) in blocks.iter_mut().zip(values.chunks_exact(B::ELEMENTS)) {
        let importances = columns.next().filter(|importances| are_usable(importances));
        *block = B::encode(values, importances);
    }
}

/// Whether importances say anything: none is negative, infinite or NaN, and not all are zero.
fn are_usable(importances: &[f32]) -> bool {
    let largest = importances.iter().copied().fold(0.0, f32::max);
    largest > 0.0 && importances.iter().all(|importance| (0.0..=f32::MAX).contains(importance))
}

/// The codec of a plain number type, from its conversions to and from `f32`.
macro_rules! number_codec {
    ($number:ty, $to_f32:expr, $from_f32:expr) => {
        $crate::format::Codec {
            decode: |bytes, values| {
                $crate::format::block::decode_numbers(bytes, values, |number| {
                    $to_f32(<$number>::from_le_bytes(number))
                });
            },
            encode: |values, bytes| {
                $crate::format::block::encode_numbers(values, bytes, |value| $from_f32(value).to_le_bytes());
            },
            encode_weighted: |values, _importances, bytes| {
                $crate::format::block::encode_numbers(values, bytes, |value| $from_f32(value).to_le_bytes());
            },
        }
    };
}
pub(super) use number_codec;

/// Decodes plain numbers of `BYTES` bytes each.
pub(super) fn decode_numbers<const BYTES: usize>(
    bytes: &[u8],
    values: &mut [f32],
    number: impl Fn([u8; BYTES]) -> f32,
) {
    let (numbers, rest) = bytes.as_chunks();
    assert!(rest.is_empty() && numbers.len() == values.len(), "values do not match the bytes");
    for (value, bytes) in values.iter_mut().zip(numbers) {
        *value = number(*bytes);
    }
}

/// Encodes plain numbers of `BYTES` bytes each.
pub(super) fn encode_numbers<const BYTES: usize>(
    values: &[f32],
    bytes: &mut [u8],
    number: impl Fn(f32) -> [u8; BYTES],
) {
    let (numbers, rest) = bytes.as_chunks_mut();
    assert!(rest.is_empty() && numbers.len() == values.len(), "values do not match the bytes");
    for (value, bytes) in values.iter().zip(numbers) {
        *bytes = number(*value);
    }
}

/// The value farthest from zero, with its sign; the first of equals, 0 for no values.
pub(super) fn farthest_from_zero(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |far, &value| if value.abs() > far.abs() { value } else { far })
}

/// The least and the greatest value.
pub(super) fn extent(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::MAX, f32::MIN), |(least, greatest), &value| {
        (if value < least { value } else { least }, if value > greatest { value } else { greatest })
    })
}

/// `1 / step`, and 0 for a step of 0, whose codes are then all 0.
pub(super) fn inverse(step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { 1.0 / step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_converts_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (Half(bits.to_le_bytes()).to_f32(), f16::from_bits(bits).to_f32());
            let same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
            assert!(same, "{bits:#06x}: {ours} is not {theirs}");
        }
    }
}
