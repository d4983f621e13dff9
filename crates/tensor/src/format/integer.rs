//! I8, I16, I32 and I64: plain little-endian integers.
//!
//! Decoding rounds where `f32` has too few bits. Encoding rounds to nearest, ties to even, and
//! saturates; a NaN becomes 0.

use super::Codec;
use super::block::{decode_numbers, encode_numbers};

pub(super) const I8: Codec = Codec {
    decode: |bytes, values| {
        decode_numbers(bytes, values, |number| i8::from_le_bytes(number) as f32);
    },
    encode: |values, bytes| {
        encode_numbers(values, bytes, |value| (value.round_ties_even() as i8).to_le_bytes());
    },
};

pub(super) const I16: Codec = Codec {
    decode: |bytes, values| {
        decode_numbers(bytes, values, |number| i16::from_le_bytes(number) as f32);
    },
    encode: |values, bytes| {
        encode_numbers(values, bytes, |value| (value.round_ties_even() as i16).to_le_bytes());
    },
};

pub(super) const I32: Codec = Codec {
    decode: |bytes, values| {
        decode_numbers(bytes, values, |number| i32::from_le_bytes(number) as f32);
    },
    encode: |values, bytes| {
        encode_numbers(values, bytes, |value| (value.round_ties_even() as i32).to_le_bytes());
    },
};

pub(super) const I64: Codec = Codec {
    decode: |bytes, values| {
        decode_numbers(bytes, values, |number| i64::from_le_bytes(number) as f32);
    },
    encode: |values, bytes| {
        encode_numbers(values, bytes, |value| (value.round_ties_even() as i64).to_le_bytes());
    },
};
