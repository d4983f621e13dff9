//! I8, I16, I32 and I64: plain little-endian integers.
//!
//! Decoding rounds where `f32` has too few bits. Encoding rounds to nearest, ties to even, and
//! saturates; a NaN becomes 0.

use super::Codec;
use super::block::number_codec;

pub(super) const I8: Codec = number_codec!(i8, |number: i8| number as f32, |value: f32| value.round_ties_even() as i8);

pub(super) const I16: Codec =
    number_codec!(i16, |number: i16| number as f32, |value: f32| value.round_ties_even() as i16);

pub(super) const I32: Codec =
    number_codec!(i32, |number: i32| number as f32, |value: f32| value.round_ties_even() as i32);

pub(super) const I64: Codec =
    number_codec!(i64, |number: i64| number as f32, |value: f32| value.round_ties_even() as i64);
