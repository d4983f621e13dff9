//! AVX-512: one register is sixteen lanes, with two ways to multiply bytes.

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{Isa, ManyRows};

/// How four bytes at a time are multiplied and added to a lane.
///
/// # Safety
/// As for [`Isa`].
pub(crate) unsafe trait ByteDot: Copy + Send + Sync + 'static {
    const BYTE_BIAS: i32;
    /// As in [`Isa`].
    const NARROW: bool = false;

    /// Unsigned bytes times signed ones, at most 127 and 128 or the other way round.
    unsafe fn dot(acc: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i;
    /// `weights` are value + 128; `acc` has been lowered for [`ByteDot::BYTE_BIAS`].
    unsafe fn dot_biased(acc: __m512i, weights: __m512i, signed: __m512i) -> __m512i;
    /// As in [`Isa`].
    #[inline(always)]
    unsafe fn add_products(sum: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        Self::dot(sum, unsigned, signed)
    }
    /// As in [`Isa`].
    #[inline(always)]
    unsafe fn widen(acc: __m512i, sum: __m512i) -> __m512i {
        _mm512_add_epi32(acc, sum)
    }
}

/// `vpdpbusd` of AVX-512 VNNI, which takes biased bytes as they are: Ice Lake, Zen 4 and later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnni;
/// Products of 16 bits, widened as they are added: every processor with AVX-512, from Skylake-X on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widening;

/// Proof that the processor has AVX-512 F, BW, DQ and VL, and what `D` multiplies with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes<D>(PhantomData<D>);

pub(crate) type Avx512Vnni = Lanes<Vnni>;
pub(crate) type Avx512 = Lanes<Widening>;

fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

impl Avx512Vnni {
    pub(crate) fn detect() -> Option<Avx512Vnni> {
        (has_avx512() && is_x86_feature_detected!("avx512vnni")).then_some(Lanes(PhantomData))
    }
}

impl Avx512 {
    pub(crate) fn detect() -> Option<Avx512> {
        has_avx512().then_some(Lanes(PhantomData))
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

// SAFETY: one instruction of the feature that `detect` has checked.
unsafe impl ByteDot for Vnni {
    const BYTE_BIAS: i32 = 128;

    #[inline(always)]
    unsafe fn dot(acc: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(acc, unsigned, signed)
    }
    #[inline(always)]
    unsafe fn dot_biased(acc: __m512i, weights: __m512i, signed: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(acc, weights, signed)
    }
}

// SAFETY: intrinsics of AVX-512 BW.
unsafe impl ByteDot for Widening {
    const BYTE_BIAS: i32 = 0;
    const NARROW: bool = true;

    #[inline(always)]
    unsafe fn dot(acc: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        // Two products of at most 127 · 128 fit 16 bits.
        Self::widen(acc, _mm512_maddubs_epi16(unsigned, signed))
    }
    #[inline(always)]
    unsafe fn add_products(sum: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        _mm512_add_epi16(sum, _mm512_maddubs_epi16(unsigned, signed))
    }
    #[inline(always)]
    unsafe fn widen(acc: __m512i, sum: __m512i) -> __m512i {
        _mm512_add_epi32(acc, _mm512_madd_epi16(sum, _mm512_set1_epi16(1)))
    }
    #[inline(always)]
    unsafe fn dot_biased(acc: __m512i, weights: __m512i, signed: __m512i) -> __m512i {
        // Unsigned bytes up to 255 would leave 16 bits, so the weight's sign goes to the other factor.
        let w = _mm512_xor_si512(weights, _mm512_set1_epi8(-128));
        let negative = _mm512_movepi8_mask(w);
        let turned = _mm512_mask_sub_epi8(signed, negative, _mm512_setzero_si512(), signed);
        Self::dot(acc, _mm512_abs_epi8(w), turned)
    }
}

/// No instruction, but one that the compiler takes to need the value in a register.
#[inline]
#[target_feature(enable = "avx512f")]
fn settled(mut value: __m512i) -> __m512i {
    // SAFETY: a comment.
    unsafe { asm!("/* {0} */", inout(zmm_reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

// SAFETY: each method is intrinsics of the features that `detect` has checked.
unsafe impl<D: ByteDot> Isa for Lanes<D> {
    type F32 = __m512;
    type I32 = __m512i;
    type U8 = __m512i;

    const BYTE_BIAS: i32 = D::BYTE_BIAS;
    const NARROW: bool = D::NARROW;
    const MANY_ROWS: ManyRows = if D::NARROW { ManyRows::Codes } else { ManyRows::Bytes };
    const TILE_ROWS: usize = 4;
    const TILE_GROUPS: usize = 2;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn splat_f16(self, bits: u16) -> __m512 {
        _mm512_cvtph_ps(_mm256_set1_epi16(bits.cast_signed()))
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        _mm512_storeu_ps(to, value);
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, value: __m512) {
        _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value));
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> __m512 {
        let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_levels(self, levels: &[i8; 16], from: *const u8) -> [__m512; 2] {
        let [low, high] = super::avx2::load_levels(levels, from);
        [_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high))]
    }
    #[inline(always)]
    unsafe fn add(self, a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(self, a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(self, a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(self, a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(self, a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min(self, a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn abs(self, a: __m512) -> __m512 {
        _mm512_abs_ps(a)
    }
    #[inline(always)]
    unsafe fn choose(self, mask: u16, a: __m512, b: __m512) -> __m512 {
        _mm512_mask_blend_ps(mask, b, a)
    }
    #[inline(always)]
    unsafe fn sum(self, a: __m512) -> f32 {
        let half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
        let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
        let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
    }
    #[inline(always)]
    unsafe fn largest(self, a: __m512) -> f32 {
        _mm512_reduce_max_ps(a)
    }
    #[inline(always)]
    unsafe fn round(self, a: __m512) -> __m512i {
        _mm512_cvtps_epi32(a)
    }
    #[inline(always)]
    unsafe fn to_f32(self, a: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(a)
    }
    #[inline(always)]
    unsafe fn exp2_int(self, a: __m512i) -> __m512 {
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(a, _mm512_set1_epi32(127))))
    }

    #[inline(always)]
    unsafe fn splat_i32(self, value: i32) -> __m512i {
        _mm512_set1_epi32(value)
    }
    #[inline(always)]
    unsafe fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn sum_i32(self, a: __m512i) -> i32 {
        _mm512_reduce_add_epi32(a)
    }
    #[inline(always)]
    unsafe fn widen_u8(self, from: *const u8) -> __m512i {
        _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn and_i32(self, a: __m512i, mask: i32) -> __m512i {
        _mm512_and_si512(a, _mm512_set1_epi32(mask))
    }
    #[inline(always)]
    unsafe fn shift_left(self, a: __m512i, bits: u32) -> __m512i {
        _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits.cast_signed()))
    }
    #[inline(always)]
    unsafe fn shift_right(self, a: __m512i, bits: u32) -> __m512i {
        _mm512_srl_epi32(a, _mm_cvtsi32_si128(bits.cast_signed()))
    }
    #[inline(always)]
    unsafe fn fields<const WIDTH: u32>(self, word: u32) -> __m512i {
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let places = if WIDTH == 1 { lanes } else { _mm512_add_epi32(lanes, lanes) };
        self.and_i32(_mm512_srlv_epi32(_mm512_set1_epi32(word.cast_signed()), places), (1 << WIDTH) - 1)
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8, value: __m512i) {
        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(value));
    }
    #[inline(always)]
    unsafe fn sum_codes(self, codes: *const i8) -> [i32; 2] {
        super::avx2::sum_codes(codes)
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }
    #[inline(always)]
    unsafe fn low_nibbles(self, a: __m512i) -> __m512i {
        _mm512_and_si512(a, _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn high_nibbles(self, a: __m512i) -> __m512i {
        _mm512_and_si512(_mm512_srli_epi16::<4>(a), _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn splat_bytes(self, byte: u8) -> __m512i {
        _mm512_set1_epi8(byte.cast_signed())
    }
    #[inline(always)]
    unsafe fn two_bits<const SHIFT: u32>(self, a: __m512i) -> __m512i {
        _mm512_and_si512(_mm512_srli_epi16::<SHIFT>(a), _mm512_set1_epi8(3))
    }
    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16], a: __m512i) -> __m512i {
        _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), a)
    }
    #[inline(always)]
    unsafe fn add_where(self, a: __m512i, mask: u64, amount: u8) -> __m512i {
        _mm512_mask_add_epi8(a, mask, a, _mm512_set1_epi8(amount.cast_signed()))
    }
    #[inline(always)]
    unsafe fn or_two_bits<const SHIFT: u32>(self, a: __m512i, high: __m512i) -> __m512i {
        // Bits SHIFT..SHIFT+2 move to 4..6: one shift either way, then a mask.
        let moved = match SHIFT {
            0 => _mm512_slli_epi16::<4>(high),
            2 => _mm512_slli_epi16::<2>(high),
            4 => high,
            _ => _mm512_srli_epi16::<2>(high),
        };
        // a | (moved & 0x30)
        _mm512_ternarylogic_epi32::<0xF8>(a, moved, _mm512_set1_epi8(0x30))
    }
    #[inline(always)]
    unsafe fn dot(self, acc: __m512i, weights: __m512i, quad: i32) -> __m512i {
        D::dot(acc, weights, _mm512_set1_epi32(quad))
    }
    #[inline(always)]
    unsafe fn dot_biased(self, acc: __m512i, weights: __m512i, quad: i32) -> __m512i {
        D::dot_biased(acc, weights, _mm512_set1_epi32(quad))
    }
    #[inline(always)]
    unsafe fn dot_signed(self, acc: __m512i, codes: __m512i, quad: i32) -> __m512i {
        D::dot(acc, _mm512_set1_epi32(quad), codes)
    }
    #[inline(always)]
    unsafe fn add_products(self, sum: __m512i, weights: __m512i, quad: i32) -> __m512i {
        D::add_products(sum, weights, _mm512_set1_epi32(quad))
    }
    #[inline(always)]
    unsafe fn widen(self, acc: __m512i, sum: __m512i) -> __m512i {
        D::widen(acc, sum)
    }
    #[inline(always)]
    unsafe fn settled(self, sum: __m512i) -> __m512i {
        settled(sum)
    }
    #[inline(always)]
    unsafe fn prefetch(self, from: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[inline(always)]
    unsafe fn prefetch_to_write(self, to: *const u8) {
        super::avx2::prefetch_to_write(to);
    }
    #[inline(always)]
    unsafe fn prefetch_far(self, from: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
}
