//! F32, F64, F16 and BF16: plain little-endian floating point numbers.
//!
//! Narrowing rounds to nearest, ties to even; nothing here flushes denormals.

use half::{bf16, f16};

use super::Codec;
use super::block::number_codec;

/// 4 bytes, exact both ways.
pub(super) const F32: Codec = number_codec!(f32, std::convert::identity, std::convert::identity);

/// 8 bytes; decoding rounds.
pub(super) const F64: Codec = number_codec!(f64, |number: f64| number as f32, f64::from);

/// IEEE half precision.
pub(super) const F16: Codec = number_codec!(f16, f16::to_f32, f16::from_f32);

/// The upper half of an f32.
pub(super) const BF16: Codec = number_codec!(bf16, bf16::to_f32, bf16::from_f32);
