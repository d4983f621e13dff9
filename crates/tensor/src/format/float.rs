//! F32, F64, F16 and BF16: plain little-endian floating point numbers.
//!
//! Narrowing rounds to nearest, ties to even; nothing here flushes denormals.

use half::{bf16, f16};

use super::Codec;
use super::block::{decode_numbers, encode_numbers};

/// 4 bytes, exact both ways.
pub(super) const F32: Codec = Codec {
    decode: |bytes, values| {
        decode_numbers(bytes, values, f32::from_le_bytes);
    },
    encode: |values, bytes| {
        encode_numbers(values, bytes, f32::to_le_bytes);
    },
};

/// 8 bytes; decoding rounds.
pub(super) const F64: Codec = Codec {
    decode: |bytes, values| {
        decode_numbers(bytes, values, |number| f64::from_le_bytes(number) as f32);
    },
    encode: |values, bytes| {
        encode_numbers(values, bytes, |value| f64::from(value).to_le_bytes());
    },
};

/// IEEE half precision.
pub(super) const F16: Codec = Codec {
    decode: |bytes, values| {
        decode_numbers(bytes, values, |number| f16::from_le_bytes(number).to_f32());
    },
    encode: |values, bytes| {
        encode_numbers(values, bytes, |value| f16::from_f32(value).to_le_bytes());
    },
};

/// The upper half of an f32.
pub(super) const BF16: Codec = Codec {
    decode: |bytes, values| {
        decode_numbers(bytes, values, |number| bf16::from_le_bytes(number).to_f32());
    },
    encode: |values, bytes| {
        encode_numbers(values, bytes, |value| bf16::from_f32(value).to_le_bytes());
    },
};
