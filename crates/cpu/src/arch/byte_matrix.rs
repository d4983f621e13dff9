//! Products of bytes, two weight rows by two activation rows at once: what tiles of many rows need beyond arithmetic.
//! Computes no scales.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Isa;
use super::neon::NeonI8mm;

/// Instructions that multiply two rows by two, for two pairs of activation rows at once.
///
/// Sixteen weight rows by a pair of activation rows are two vectors: lane `2·i + j` of the first belongs to weight row `i`
/// and activation row `j`, that of the second to weight row `8 + i`.
///
/// # Safety
/// As for [`Isa`].
pub(crate) unsafe trait ByteMatrix: Isa {
    /// Eight bytes of each row of a pair.
    type Inputs: Copy;

    /// Eight bytes from `first` and eight from `second`.
    unsafe fn inputs(self, first: *const i8, second: *const i8) -> Self::Inputs;
    /// The four bytes of each lane of `first`, each time followed by those of `second`: weight rows 0–7, then 8–15.
    unsafe fn eights(self, first: Self::U8, second: Self::U8) -> [Self::U8; 2];
    /// For each pair `p` and lane `2·i + j`: `acc[p] + Σ weights[8·i + k] · inputs[p][j][k]` over eight `k`; weights are
    /// unsigned, with all eight bits.
    unsafe fn multiply(self, acc: [Self::I32; 2], weights: Self::U8, inputs: [Self::Inputs; 2]) -> [Self::I32; 2];
    /// `values[j]` in the lanes of activation row `j`.
    unsafe fn alternate(self, values: [f32; 2]) -> Self::F32;
    /// As [`ByteMatrix::alternate`].
    unsafe fn alternate_i32(self, values: [i32; 2]) -> Self::I32;
    /// Each weight row's lane for both activation rows.
    unsafe fn twice(self, a: Self::F32) -> [Self::F32; 2];
    /// Sixteen weight rows of the first activation row, then of the second.
    unsafe fn untangle(self, a: [Self::F32; 2]) -> [Self::F32; 2];
}

// As with the dot products in `neon`, the intrinsic is not stable, the instruction is.

/// Unsigned by signed bytes, both pairs of rows at once: apart, the compiler puts one pair after the other and keeps all
/// weights in between.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn usmmla(mut acc: [int32x4_t; 2], weights: uint8x16_t, inputs: [int8x16_t; 2]) -> [int32x4_t; 2] {
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "usmmla {first:v}.4s, {weights:v}.16b, {first_inputs:v}.16b",
            "usmmla {second:v}.4s, {weights:v}.16b, {second_inputs:v}.16b",
            first = inout(vreg) acc[0],
            second = inout(vreg) acc[1],
            weights = in(vreg) weights,
            first_inputs = in(vreg) inputs[0],
            second_inputs = in(vreg) inputs[1],
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Words of four bytes in turn.
#[inline(always)]
unsafe fn zip(first: uint8x16_t, second: uint8x16_t) -> [uint8x16_t; 2] {
    let (first, second) = (vreinterpretq_u32_u8(first), vreinterpretq_u32_u8(second));
    [vreinterpretq_u8_u32(vzip1q_u32(first, second)), vreinterpretq_u8_u32(vzip2q_u32(first, second))]
}

// SAFETY: intrinsics of NEON, and one instruction of the feature that `detect` has checked.
unsafe impl ByteMatrix for NeonI8mm {
    type Inputs = int8x16_t;

    #[inline(always)]
    unsafe fn inputs(self, first: *const i8, second: *const i8) -> int8x16_t {
        vcombine_s8(vld1_s8(first), vld1_s8(second))
    }
    #[inline(always)]
    unsafe fn eights(self, first: [uint8x16_t; 4], second: [uint8x16_t; 4]) -> [[uint8x16_t; 4]; 2] {
        let ([a, b], [c, d]) = (zip(first[0], second[0]), zip(first[1], second[1]));
        let ([e, f], [g, h]) = (zip(first[2], second[2]), zip(first[3], second[3]));
        [[a, b, c, d], [e, f, g, h]]
    }
    #[inline(always)]
    unsafe fn multiply(
        self,
        [first, second]: [[int32x4_t; 4]; 2],
        weights: [uint8x16_t; 4],
        inputs: [int8x16_t; 2],
    ) -> [[int32x4_t; 4]; 2] {
        let a = usmmla([first[0], second[0]], weights[0], inputs);
        let b = usmmla([first[1], second[1]], weights[1], inputs);
        let c = usmmla([first[2], second[2]], weights[2], inputs);
        let d = usmmla([first[3], second[3]], weights[3], inputs);
        [[a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]]]
    }
    #[inline(always)]
    unsafe fn alternate(self, values: [f32; 2]) -> [float32x4_t; 4] {
        [vzip1q_f32(vdupq_n_f32(values[0]), vdupq_n_f32(values[1])); 4]
    }
    #[inline(always)]
    unsafe fn alternate_i32(self, values: [i32; 2]) -> [int32x4_t; 4] {
        [vzip1q_s32(vdupq_n_s32(values[0]), vdupq_n_s32(values[1])); 4]
    }
    #[inline(always)]
    unsafe fn twice(self, a: [float32x4_t; 4]) -> [[float32x4_t; 4]; 2] {
        [
            [vzip1q_f32(a[0], a[0]), vzip2q_f32(a[0], a[0]), vzip1q_f32(a[1], a[1]), vzip2q_f32(a[1], a[1])],
            [vzip1q_f32(a[2], a[2]), vzip2q_f32(a[2], a[2]), vzip1q_f32(a[3], a[3]), vzip2q_f32(a[3], a[3])],
        ]
    }
    #[inline(always)]
    unsafe fn untangle(self, [a, b]: [[float32x4_t; 4]; 2]) -> [[float32x4_t; 4]; 2] {
        [
            [vuzp1q_f32(a[0], a[1]), vuzp1q_f32(a[2], a[3]), vuzp1q_f32(b[0], b[1]), vuzp1q_f32(b[2], b[3])],
            [vuzp2q_f32(a[0], a[1]), vuzp2q_f32(a[2], a[3]), vuzp2q_f32(b[0], b[1]), vuzp2q_f32(b[2], b[3])],
        ]
    }
}
