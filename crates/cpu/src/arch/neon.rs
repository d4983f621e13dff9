//! AArch64: four 128-bit registers are sixteen lanes, with three ways to multiply bytes.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::marker::PhantomData;

use super::{Isa, ManyRows};

/// How four bytes at a time are multiplied and added to a lane.
///
/// # Safety
/// As for [`Isa`].
pub(crate) unsafe trait ByteDot: Copy + Send + Sync + 'static {
    const BYTE_BIAS: i32;
    /// As in [`Isa`].
    const MANY_ROWS: ManyRows = ManyRows::Codes;

    /// `weights` up to 127 each, times signed bytes.
    unsafe fn dot(acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t;
    /// `weights` are value + 128; `acc` has been lowered for [`ByteDot::BYTE_BIAS`].
    unsafe fn dot_biased(acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t;
    /// Signed bytes times unsigned ones up to 127, which are the same with a sign.
    unsafe fn dot_signed(acc: int32x4_t, codes: int8x16_t, quads: uint8x16_t) -> int32x4_t;
}

/// Products of 16 bits, widened as they are added: every AArch64 processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widening;
/// `sdot` of FEAT_DotProd: Apple M1, Cortex-A76, Neoverse N1 and later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sdot;
/// `usdot` of FEAT_I8MM, which takes biased bytes as they are: Apple M2, Cortex-A710, Neoverse V1 and later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usdot;

/// Proof that the processor has what `D` multiplies with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes<D>(PhantomData<D>);

pub(crate) type Neon = Lanes<Widening>;
pub(crate) type NeonDot = Lanes<Sdot>;
pub(crate) type NeonI8mm = Lanes<Usdot>;

impl Neon {
    pub(crate) fn detect() -> Option<Neon> {
        is_aarch64_feature_detected!("neon").then_some(Lanes(PhantomData))
    }
}

impl NeonDot {
    pub(crate) fn detect() -> Option<NeonDot> {
        let found = is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
        found.then_some(Lanes(PhantomData))
    }
}

impl NeonI8mm {
    pub(crate) fn detect() -> Option<NeonI8mm> {
        let found = is_aarch64_feature_detected!("neon")
            && is_aarch64_feature_detected!("dotprod")
            && is_aarch64_feature_detected!("i8mm");
        found.then_some(Lanes(PhantomData))
    }
}

impl<D> Lanes<D> {
    /// For entry points, which are reached only through a table made from a proof.
    ///
    /// # Safety
    /// The processor has the features.
    pub(crate) unsafe fn assume() -> Lanes<D> {
        Lanes(PhantomData)
    }
}

#[inline(always)]
unsafe fn flip_sign(biased: uint8x16_t) -> uint8x16_t {
    veorq_u8(biased, vdupq_n_u8(0x80))
}

// SAFETY: intrinsics of NEON.
unsafe impl ByteDot for Widening {
    const BYTE_BIAS: i32 = 0;

    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t {
        let weights = vreinterpretq_s8_u8(weights);
        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(quads));
        let high = vmull_high_s8(weights, quads);
        // Two products fit 16 bits: activations are codes in -127..=127, and 2 · 128 · 127 < 2^15.
        vpadalq_s16(acc, vpaddq_s16(low, high))
    }
    #[inline(always)]
    unsafe fn dot_biased(acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t {
        Self::dot(acc, flip_sign(weights), quads)
    }
    #[inline(always)]
    unsafe fn dot_signed(acc: int32x4_t, codes: int8x16_t, quads: uint8x16_t) -> int32x4_t {
        Self::dot(acc, vreinterpretq_u8_s8(codes), vreinterpretq_s8_u8(quads))
    }
}

// The dot-product intrinsics are not stable, the instructions are. Functions of their own, as in `std::arch`, so that
// the assembler knows the feature wherever the compiler puts them.

/// Signed by signed bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn sdot(mut acc: int32x4_t, weights: int8x16_t, quads: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {weights:v}.16b, {quads:v}.16b",
            acc = inout(vreg) acc,
            weights = in(vreg) weights,
            quads = in(vreg) quads,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Unsigned by signed bytes.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn usdot(mut acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "usdot {acc:v}.4s, {weights:v}.16b, {quads:v}.16b",
            acc = inout(vreg) acc,
            weights = in(vreg) weights,
            quads = in(vreg) quads,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

// SAFETY: one instruction of the feature that `detect` has checked.
unsafe impl ByteDot for Sdot {
    const BYTE_BIAS: i32 = 0;

    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t {
        sdot(acc, vreinterpretq_s8_u8(weights), quads)
    }
    #[inline(always)]
    unsafe fn dot_biased(acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t {
        sdot(acc, vreinterpretq_s8_u8(flip_sign(weights)), quads)
    }
    #[inline(always)]
    unsafe fn dot_signed(acc: int32x4_t, codes: int8x16_t, quads: uint8x16_t) -> int32x4_t {
        sdot(acc, codes, vreinterpretq_s8_u8(quads))
    }
}

// SAFETY: one instruction of the feature that `detect` has checked.
unsafe impl ByteDot for Usdot {
    const BYTE_BIAS: i32 = 128;
    // Tiles of two rows by two have an order of their own, which takes quads apart once for a panel.
    const MANY_ROWS: ManyRows = ManyRows::Packed;

    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t {
        usdot(acc, weights, quads)
    }
    #[inline(always)]
    unsafe fn dot_biased(acc: int32x4_t, weights: uint8x16_t, quads: int8x16_t) -> int32x4_t {
        usdot(acc, weights, quads)
    }
    #[inline(always)]
    unsafe fn dot_signed(acc: int32x4_t, codes: int8x16_t, quads: uint8x16_t) -> int32x4_t {
        usdot(acc, quads, codes)
    }
}

/// Four lanes each.
type Four<T> = [T; 4];

#[inline(always)]
unsafe fn each<T: Copy, U: Copy, R>(a: Four<T>, b: Four<U>, f: impl Fn(T, U) -> R) -> Four<R> {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

/// The arrays' own `map` may stay out of line, in the middle of a kernel.
#[inline(always)]
unsafe fn map<T: Copy, R>(a: Four<T>, f: impl Fn(T) -> R) -> Four<R> {
    [f(a[0]), f(a[1]), f(a[2]), f(a[3])]
}

/// `vmaxq` would return NaN where the other instruction sets return `b`.
#[inline(always)]
unsafe fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// Sixteen signed bytes as f32.
#[inline(always)]
unsafe fn from_i8(bytes: int8x16_t) -> Four<float32x4_t> {
    let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
    [
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
        vcvtq_f32_s32(vmovl_high_s16(low)),
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
        vcvtq_f32_s32(vmovl_high_s16(high)),
    ]
}

/// `amount` in each byte whose bit in the two bytes of a mask is set.
#[inline(always)]
unsafe fn where_set(first: uint8x8_t, second: uint8x8_t, amount: u8) -> uint8x16_t {
    let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    vandq_u8(vtstq_u8(vcombine_u8(first, second), bit), vdupq_n_u8(amount))
}

// SAFETY: each method is intrinsics of NEON, or of the features that `detect` has checked for `D`.
unsafe impl<D: ByteDot> Isa for Lanes<D> {
    type F32 = Four<float32x4_t>;
    type I32 = Four<int32x4_t>;
    type U8 = Four<uint8x16_t>;

    const BYTE_BIAS: i32 = D::BYTE_BIAS;
    const MANY_ROWS: ManyRows = D::MANY_ROWS;
    // Two rows by sixteen: 16 registers of integer sums, 8 of weights and 8 of f32 sums would be all thirty-two.
    const TILE_ROWS: usize = 2;
    const TILE_GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> Four<float32x4_t> {
        [vdupq_n_f32(value); 4]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Four<float32x4_t> {
        map([0, 4, 8, 12], |at| vld1q_f32(from.add(at)))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Four<float32x4_t>) {
        vst1q_f32(to, value[0]);
        vst1q_f32(to.add(4), value[1]);
        vst1q_f32(to.add(8), value[2]);
        vst1q_f32(to.add(12), value[3]);
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Four<float32x4_t> {
        let low = vreinterpretq_f16_u16(vld1q_u16(from));
        let high = vreinterpretq_f16_u16(vld1q_u16(from.add(8)));
        [
            vcvt_f32_f16(vget_low_f16(low)),
            vcvt_high_f32_f16(low),
            vcvt_f32_f16(vget_low_f16(high)),
            vcvt_high_f32_f16(high),
        ]
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, value: Four<float32x4_t>) {
        // To nearest even: the mode that Rust runs every program in.
        let low = vcvt_high_f16_f32(vcvt_f16_f32(value[0]), value[1]);
        let high = vcvt_high_f16_f32(vcvt_f16_f32(value[2]), value[3]);
        vst1q_u16(to, vreinterpretq_u16_f16(low));
        vst1q_u16(to.add(8), vreinterpretq_u16_f16(high));
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> Four<float32x4_t> {
        let (low, high) = (vld1q_u16(from), vld1q_u16(from.add(8)));
        [
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(low))),
            vreinterpretq_f32_u32(vshll_high_n_u16::<16>(low)),
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(high))),
            vreinterpretq_f32_u32(vshll_high_n_u16::<16>(high)),
        ]
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> Four<float32x4_t> {
        from_i8(vld1q_s8(from))
    }
    #[inline(always)]
    unsafe fn load_levels(self, levels: &[i8; 16], from: *const u8) -> [Four<float32x4_t>; 2] {
        let (levels, bytes) = (vld1q_s8(levels.as_ptr()), vld1q_u8(from));
        let nibbles = [vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)];
        [from_i8(vqtbl1q_s8(levels, nibbles[0])), from_i8(vqtbl1q_s8(levels, nibbles[1]))]
    }
    #[inline(always)]
    unsafe fn add(self, a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        each(a, b, |x, y| vaddq_f32(x, y))
    }
    #[inline(always)]
    unsafe fn sub(self, a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        each(a, b, |x, y| vsubq_f32(x, y))
    }
    #[inline(always)]
    unsafe fn mul(self, a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        each(a, b, |x, y| vmulq_f32(x, y))
    }
    #[inline(always)]
    unsafe fn div(self, a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        each(a, b, |x, y| vdivq_f32(x, y))
    }
    #[inline(always)]
    unsafe fn fma(self, a: Four<float32x4_t>, b: Four<float32x4_t>, c: Four<float32x4_t>) -> Four<float32x4_t> {
        [
            vfmaq_f32(c[0], a[0], b[0]),
            vfmaq_f32(c[1], a[1], b[1]),
            vfmaq_f32(c[2], a[2], b[2]),
            vfmaq_f32(c[3], a[3], b[3]),
        ]
    }
    #[inline(always)]
    unsafe fn max(self, a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        each(a, b, |x, y| larger(x, y))
    }
    #[inline(always)]
    unsafe fn min(self, a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        each(a, b, |x, y| vbslq_f32(vcltq_f32(x, y), x, y))
    }
    #[inline(always)]
    unsafe fn abs(self, a: Four<float32x4_t>) -> Four<float32x4_t> {
        map(a, |part| vabsq_f32(part))
    }
    #[inline(always)]
    unsafe fn choose(self, mask: u16, a: Four<float32x4_t>, b: Four<float32x4_t>) -> Four<float32x4_t> {
        let mask = vdupq_n_u32(u32::from(mask));
        let low = vld1q_u32([1, 2, 4, 8].as_ptr());
        [
            vbslq_f32(vtstq_u32(mask, low), a[0], b[0]),
            vbslq_f32(vtstq_u32(mask, vshlq_n_u32::<4>(low)), a[1], b[1]),
            vbslq_f32(vtstq_u32(mask, vshlq_n_u32::<8>(low)), a[2], b[2]),
            vbslq_f32(vtstq_u32(mask, vshlq_n_u32::<12>(low)), a[3], b[3]),
        ]
    }
    #[inline(always)]
    unsafe fn sum(self, a: Four<float32x4_t>) -> f32 {
        let quarter = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
        vpadds_f32(vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter)))
    }
    #[inline(always)]
    unsafe fn largest(self, a: Four<float32x4_t>) -> f32 {
        let quarter = larger(larger(a[0], a[2]), larger(a[1], a[3]));
        let pair = larger(quarter, vextq_f32::<2>(quarter, quarter));
        vgetq_lane_f32::<0>(larger(pair, vextq_f32::<1>(pair, pair)))
    }
    #[inline(always)]
    unsafe fn round(self, a: Four<float32x4_t>) -> Four<int32x4_t> {
        map(a, |part| vcvtnq_s32_f32(part))
    }
    #[inline(always)]
    unsafe fn to_f32(self, a: Four<int32x4_t>) -> Four<float32x4_t> {
        map(a, |part| vcvtq_f32_s32(part))
    }
    #[inline(always)]
    unsafe fn exp2_int(self, a: Four<int32x4_t>) -> Four<float32x4_t> {
        map(a, |part| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(part, vdupq_n_s32(127)))))
    }

    #[inline(always)]
    unsafe fn splat_i32(self, value: i32) -> Four<int32x4_t> {
        [vdupq_n_s32(value); 4]
    }
    #[inline(always)]
    unsafe fn add_i32(self, a: Four<int32x4_t>, b: Four<int32x4_t>) -> Four<int32x4_t> {
        each(a, b, |x, y| vaddq_s32(x, y))
    }
    #[inline(always)]
    unsafe fn sum_i32(self, a: Four<int32x4_t>) -> i32 {
        vaddvq_s32(vaddq_s32(vaddq_s32(a[0], a[2]), vaddq_s32(a[1], a[3])))
    }
    #[inline(always)]
    unsafe fn widen_u8(self, from: *const u8) -> Four<int32x4_t> {
        let bytes = vld1q_u8(from);
        let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
        [
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
            vreinterpretq_s32_u32(vmovl_high_u16(low)),
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
            vreinterpretq_s32_u32(vmovl_high_u16(high)),
        ]
    }
    #[inline(always)]
    unsafe fn and_i32(self, a: Four<int32x4_t>, mask: i32) -> Four<int32x4_t> {
        map(a, |part| vandq_s32(part, vdupq_n_s32(mask)))
    }
    #[inline(always)]
    unsafe fn shift_left(self, a: Four<int32x4_t>, bits: u32) -> Four<int32x4_t> {
        map(a, |part| vshlq_s32(part, vdupq_n_s32(bits.cast_signed())))
    }
    #[inline(always)]
    unsafe fn shift_right(self, a: Four<int32x4_t>, bits: u32) -> Four<int32x4_t> {
        let right = vdupq_n_s32(-bits.cast_signed());
        map(a, |part| vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(part), right)))
    }
    #[inline(always)]
    unsafe fn fields<const WIDTH: u32>(self, word: u32) -> Four<int32x4_t> {
        let word = vdupq_n_u32(word);
        let fields = map([0, 4, 8, 12], |first: i32| {
            let places = map([0, -1, -2, -3], |place: i32| (place - first) * WIDTH.cast_signed());
            vreinterpretq_s32_u32(vshlq_u32(word, vld1q_s32(places.as_ptr())))
        });
        self.and_i32(fields, (1 << WIDTH) - 1)
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8, value: Four<int32x4_t>) {
        let [a, b, c, d] = map(value, |part| vreinterpretq_s16_s32(part));
        let low = vreinterpretq_s8_s16(vuzp1q_s16(a, b));
        let high = vreinterpretq_s8_s16(vuzp1q_s16(c, d));
        vst1q_s8(to, vuzp1q_s8(low, high));
    }
    #[inline(always)]
    unsafe fn sum_codes(self, codes: *const i8) -> [i32; 2] {
        [codes, codes.add(16)].map(|codes| i32::from(vaddlvq_s8(vld1q_s8(codes))))
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> Four<uint8x16_t> {
        map([0, 16, 32, 48], |at| vld1q_u8(from.add(at)))
    }
    #[inline(always)]
    unsafe fn low_nibbles(self, a: Four<uint8x16_t>) -> Four<uint8x16_t> {
        map(a, |part| vandq_u8(part, vdupq_n_u8(15)))
    }
    #[inline(always)]
    unsafe fn high_nibbles(self, a: Four<uint8x16_t>) -> Four<uint8x16_t> {
        map(a, |part| vshrq_n_u8::<4>(part))
    }
    #[inline(always)]
    unsafe fn splat_bytes(self, byte: u8) -> Four<uint8x16_t> {
        [vdupq_n_u8(byte); 4]
    }
    #[inline(always)]
    unsafe fn two_bits<const SHIFT: u32>(self, a: Four<uint8x16_t>) -> Four<uint8x16_t> {
        let moved = match SHIFT {
            0 => a,
            2 => map(a, |part| vshrq_n_u8::<2>(part)),
            4 => map(a, |part| vshrq_n_u8::<4>(part)),
            _ => map(a, |part| vshrq_n_u8::<6>(part)),
        };
        map(moved, |part| vandq_u8(part, vdupq_n_u8(3)))
    }
    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16], a: Four<uint8x16_t>) -> Four<uint8x16_t> {
        let table = vld1q_u8(table.as_ptr());
        map(a, |part| vqtbl1q_u8(table, part))
    }
    #[inline(always)]
    unsafe fn add_where(self, a: Four<uint8x16_t>, mask: u64, amount: u8) -> Four<uint8x16_t> {
        let mask = vcreate_u8(mask);
        [
            vaddq_u8(a[0], where_set(vdup_lane_u8::<0>(mask), vdup_lane_u8::<1>(mask), amount)),
            vaddq_u8(a[1], where_set(vdup_lane_u8::<2>(mask), vdup_lane_u8::<3>(mask), amount)),
            vaddq_u8(a[2], where_set(vdup_lane_u8::<4>(mask), vdup_lane_u8::<5>(mask), amount)),
            vaddq_u8(a[3], where_set(vdup_lane_u8::<6>(mask), vdup_lane_u8::<7>(mask), amount)),
        ]
    }
    #[inline(always)]
    unsafe fn or_two_bits<const SHIFT: u32>(self, a: Four<uint8x16_t>, high: Four<uint8x16_t>) -> Four<uint8x16_t> {
        let moved = match SHIFT {
            0 => map(high, |part| vshlq_n_u8::<4>(part)),
            2 => map(high, |part| vshlq_n_u8::<2>(part)),
            4 => high,
            _ => map(high, |part| vshrq_n_u8::<2>(part)),
        };
        each(a, moved, |x, bits| vorrq_u8(x, vandq_u8(bits, vdupq_n_u8(0x30))))
    }
    #[inline(always)]
    unsafe fn dot(self, acc: Four<int32x4_t>, weights: Four<uint8x16_t>, quad: i32) -> Four<int32x4_t> {
        let quads = vreinterpretq_s8_s32(vdupq_n_s32(quad));
        each(acc, weights, |sum, part| D::dot(sum, part, quads))
    }
    #[inline(always)]
    unsafe fn dot_biased(self, acc: Four<int32x4_t>, weights: Four<uint8x16_t>, quad: i32) -> Four<int32x4_t> {
        let quads = vreinterpretq_s8_s32(vdupq_n_s32(quad));
        each(acc, weights, |sum, part| D::dot_biased(sum, part, quads))
    }
    #[inline(always)]
    unsafe fn dot_signed(self, acc: Four<int32x4_t>, codes: Four<uint8x16_t>, quad: i32) -> Four<int32x4_t> {
        let quads = vreinterpretq_u8_s32(vdupq_n_s32(quad));
        each(acc, codes, |sum, part| D::dot_signed(sum, vreinterpretq_s8_u8(part), quads))
    }
    #[inline(always)]
    unsafe fn prefetch(self, from: *const u8) {
        // Asks for no permission: an address past the end is ignored.
        asm!("prfm pldl1keep, [{at}]", at = in(reg) from, options(nostack, readonly, preserves_flags));
    }
    #[inline(always)]
    unsafe fn prefetch_to_write(self, to: *const u8) {
        asm!("prfm pstl1keep, [{at}]", at = in(reg) to, options(nostack, readonly, preserves_flags));
    }
}
