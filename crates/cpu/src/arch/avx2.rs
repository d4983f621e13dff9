//! AVX2 with FMA and F16C: two registers are sixteen lanes, with two ways to multiply bytes.

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
    unsafe fn dot(acc: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i;
    /// `weights` are value + 128; `acc` has been lowered for [`ByteDot::BYTE_BIAS`].
    unsafe fn dot_biased(acc: __m256i, weights: __m256i, signed: __m256i) -> __m256i;
    /// As in [`Isa`].
    #[inline(always)]
    unsafe fn add_products(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        Self::dot(sum, unsigned, signed)
    }
    /// As in [`Isa`].
    #[inline(always)]
    unsafe fn widen(acc: __m256i, sum: __m256i) -> __m256i {
        _mm256_add_epi32(acc, sum)
    }
}

/// `vpdpbusd` of AVX-VNNI, which takes biased bytes as they are: Intel's Alder Lake, Zen 5 and later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnni;
/// Products of 16 bits, widened as they are added: every processor with AVX2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widening;

/// Proof that the processor has AVX2, FMA and F16C, and what `D` multiplies with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes<D>(PhantomData<D>);

pub(crate) type Avx2Vnni = Lanes<Vnni>;
pub(crate) type Avx2 = Lanes<Widening>;

fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

impl Avx2Vnni {
    pub(crate) fn detect() -> Option<Avx2Vnni> {
        (has_avx2() && is_x86_feature_detected!("avxvnni")).then_some(Lanes(PhantomData))
    }
}

impl Avx2 {
    pub(crate) fn detect() -> Option<Avx2> {
        has_avx2().then_some(Lanes(PhantomData))
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
    unsafe fn dot(acc: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(acc, unsigned, signed)
    }
    #[inline(always)]
    unsafe fn dot_biased(acc: __m256i, weights: __m256i, signed: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(acc, weights, signed)
    }
}

// SAFETY: intrinsics of AVX2.
unsafe impl ByteDot for Widening {
    const BYTE_BIAS: i32 = 0;
    const NARROW: bool = true;

    #[inline(always)]
    unsafe fn dot(acc: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        // Two products of at most 127 · 128 fit 16 bits.
        Self::widen(acc, _mm256_maddubs_epi16(unsigned, signed))
    }
    #[inline(always)]
    unsafe fn add_products(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        _mm256_add_epi16(sum, _mm256_maddubs_epi16(unsigned, signed))
    }
    #[inline(always)]
    unsafe fn widen(acc: __m256i, sum: __m256i) -> __m256i {
        _mm256_add_epi32(acc, _mm256_madd_epi16(sum, _mm256_set1_epi16(1)))
    }
    #[inline(always)]
    unsafe fn dot_biased(acc: __m256i, weights: __m256i, signed: __m256i) -> __m256i {
        // Unsigned bytes up to 255 would leave 16 bits, so the weight's sign goes to the other factor.
        let w = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
        Self::dot(acc, _mm256_abs_epi8(w), _mm256_sign_epi8(signed, w))
    }
}

/// The lower and upper eight lanes.
type Pair<T> = [T; 2];

/// The same for both halves. A closure would be a function without the features, which calls each intrinsic.
macro_rules! both {
    ($half:ident of $pair:expr => $made:expr) => {{
        let [low, high] = $pair;
        [
            {
                let $half = low;
                $made
            },
            {
                let $half = high;
                $made
            },
        ]
    }};
}

/// No instruction, but one that the compiler takes to need the value in a register.
#[inline]
#[target_feature(enable = "avx2")]
fn settled(mut value: __m256i) -> __m256i {
    // SAFETY: a comment.
    unsafe { asm!("/* {0} */", inout(ymm_reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The low and the high four bits of sixteen bytes, as signed bytes of `levels`.
#[inline(always)]
pub(super) unsafe fn load_levels(levels: &[i8; 16], from: *const u8) -> [__m128i; 2] {
    let (levels, bytes) = (_mm_loadu_si128(levels.as_ptr().cast()), _mm_loadu_si128(from.cast()));
    let high = _mm_srli_epi16::<4>(bytes);
    both!(nibbles of [bytes, high] => _mm_shuffle_epi8(levels, _mm_and_si128(nibbles, _mm_set1_epi8(15))))
}

/// `amount` in each byte whose bit in `mask` is set.
#[inline(always)]
unsafe fn where_set(mask: u32, amount: u8) -> __m256i {
    let spread = _mm256_shuffle_epi8(
        _mm256_set1_epi32(mask.cast_signed()),
        _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303),
    );
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    let chosen = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
    _mm256_and_si256(chosen, _mm256_set1_epi8(amount.cast_signed()))
}

// SAFETY: each method is intrinsics of the features that `detect` has checked.
unsafe impl<D: ByteDot> Isa for Lanes<D> {
    type F32 = Pair<__m256>;
    type I32 = Pair<__m256i>;
    type U8 = Pair<__m256i>;

    const BYTE_BIAS: i32 = D::BYTE_BIAS;
    const NARROW: bool = D::NARROW;
    const MANY_ROWS: ManyRows = if D::NARROW { ManyRows::Codes } else { ManyRows::Bytes };
    const TILE_ROWS: usize = 4;
    const TILE_GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> Pair<__m256> {
        [_mm256_set1_ps(value); 2]
    }
    #[inline(always)]
    unsafe fn splat_f16(self, bits: u16) -> Pair<__m256> {
        [_mm256_cvtph_ps(_mm_set1_epi16(bits.cast_signed())); 2]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Pair<__m256> {
        [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Pair<__m256>) {
        _mm256_storeu_ps(to, value[0]);
        _mm256_storeu_ps(to.add(8), value[1]);
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Pair<__m256> {
        [_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()))]
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, value: Pair<__m256>) {
        _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value[0]));
        _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value[1]));
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> Pair<__m256> {
        both!(at of [0, 8] => {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(at).cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> Pair<__m256> {
        both!(at of [0, 8] => _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(at).cast()))))
    }
    #[inline(always)]
    unsafe fn load_levels(self, levels: &[i8; 16], from: *const u8) -> [Pair<__m256>; 2] {
        both!(levels of load_levels(levels, from) => {
            let eights = [levels, _mm_unpackhi_epi64(levels, levels)];
            both!(eight of eights => _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight)))
        })
    }
    #[inline(always)]
    unsafe fn add(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn sub(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn mul(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn div(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn fma(self, a: Pair<__m256>, b: Pair<__m256>, c: Pair<__m256>) -> Pair<__m256> {
        [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
    }
    #[inline(always)]
    unsafe fn max(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn min(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn abs(self, a: Pair<__m256>) -> Pair<__m256> {
        let sign = _mm256_set1_ps(-0.0);
        [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
    }
    #[inline(always)]
    unsafe fn choose(self, mask: u16, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        let mask = _mm256_set1_epi32(i32::from(mask));
        let low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        let bits = [low, _mm256_slli_epi32::<8>(low)];
        let chosen = both!(half of bits => _mm256_cmpeq_epi32(_mm256_and_si256(mask, half), half));
        let chosen = both!(half of chosen => _mm256_castsi256_ps(half));
        [_mm256_blendv_ps(b[0], a[0], chosen[0]), _mm256_blendv_ps(b[1], a[1], chosen[1])]
    }
    #[inline(always)]
    unsafe fn sum(self, a: Pair<__m256>) -> f32 {
        let half = _mm256_add_ps(a[0], a[1]);
        let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
        let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
    }
    #[inline(always)]
    unsafe fn largest(self, a: Pair<__m256>) -> f32 {
        let half = _mm256_max_ps(a[0], a[1]);
        let quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
        let pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
        _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
    }
    #[inline(always)]
    unsafe fn round(self, a: Pair<__m256>) -> Pair<__m256i> {
        [_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1])]
    }
    #[inline(always)]
    unsafe fn to_f32(self, a: Pair<__m256i>) -> Pair<__m256> {
        [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])]
    }
    #[inline(always)]
    unsafe fn exp2_int(self, a: Pair<__m256i>) -> Pair<__m256> {
        both!(half of a => _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(half, _mm256_set1_epi32(127)))))
    }

    #[inline(always)]
    unsafe fn splat_i32(self, value: i32) -> Pair<__m256i> {
        [_mm256_set1_epi32(value); 2]
    }
    #[inline(always)]
    unsafe fn add_i32(self, a: Pair<__m256i>, b: Pair<__m256i>) -> Pair<__m256i> {
        [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn sum_i32(self, a: Pair<__m256i>) -> i32 {
        let half = _mm256_add_epi32(a[0], a[1]);
        let quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        let pair = _mm_add_epi32(quarter, _mm_shuffle_epi32::<0b01_00_11_10>(quarter));
        _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<0b10_11_00_01>(pair)))
    }
    #[inline(always)]
    unsafe fn widen_u8(self, from: *const u8) -> Pair<__m256i> {
        both!(at of [0, 8] => _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(at).cast())))
    }
    #[inline(always)]
    unsafe fn and_i32(self, a: Pair<__m256i>, mask: i32) -> Pair<__m256i> {
        both!(half of a => _mm256_and_si256(half, _mm256_set1_epi32(mask)))
    }
    #[inline(always)]
    unsafe fn shift_left(self, a: Pair<__m256i>, bits: u32) -> Pair<__m256i> {
        both!(half of a => _mm256_sll_epi32(half, _mm_cvtsi32_si128(bits.cast_signed())))
    }
    #[inline(always)]
    unsafe fn shift_right(self, a: Pair<__m256i>, bits: u32) -> Pair<__m256i> {
        both!(half of a => _mm256_srl_epi32(half, _mm_cvtsi32_si128(bits.cast_signed())))
    }
    #[inline(always)]
    unsafe fn fields<const WIDTH: u32>(self, word: u32) -> Pair<__m256i> {
        let lanes = [_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)];
        let places = if WIDTH == 1 { lanes } else { both!(half of lanes => _mm256_add_epi32(half, half)) };
        let moved = both!(half of places => _mm256_srlv_epi32(_mm256_set1_epi32(word.cast_signed()), half));
        self.and_i32(moved, (1 << WIDTH) - 1)
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8, value: Pair<__m256i>) {
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(value[0], value[1]));
        let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        _mm_storeu_si128(to.cast(), bytes);
    }
    #[inline(always)]
    unsafe fn sum_codes(self, codes: *const i8) -> [i32; 2] {
        sum_codes(codes)
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> Pair<__m256i> {
        [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())]
    }
    #[inline(always)]
    unsafe fn low_nibbles(self, a: Pair<__m256i>) -> Pair<__m256i> {
        both!(half of a => _mm256_and_si256(half, _mm256_set1_epi8(15)))
    }
    #[inline(always)]
    unsafe fn high_nibbles(self, a: Pair<__m256i>) -> Pair<__m256i> {
        both!(half of a => _mm256_and_si256(_mm256_srli_epi16::<4>(half), _mm256_set1_epi8(15)))
    }
    #[inline(always)]
    unsafe fn splat_bytes(self, byte: u8) -> Pair<__m256i> {
        [_mm256_set1_epi8(byte.cast_signed()); 2]
    }
    #[inline(always)]
    unsafe fn two_bits<const SHIFT: u32>(self, a: Pair<__m256i>) -> Pair<__m256i> {
        let moved = match SHIFT {
            0 => a,
            2 => both!(half of a => _mm256_srli_epi16::<2>(half)),
            4 => both!(half of a => _mm256_srli_epi16::<4>(half)),
            _ => both!(half of a => _mm256_srli_epi16::<6>(half)),
        };
        both!(half of moved => _mm256_and_si256(half, _mm256_set1_epi8(3)))
    }
    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16], a: Pair<__m256i>) -> Pair<__m256i> {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        both!(half of a => _mm256_shuffle_epi8(table, half))
    }
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the mask")]
    unsafe fn add_where(self, a: Pair<__m256i>, mask: u64, amount: u8) -> Pair<__m256i> {
        let [low, high] = [where_set(mask as u32, amount), where_set((mask >> 32) as u32, amount)];
        [_mm256_add_epi8(a[0], low), _mm256_add_epi8(a[1], high)]
    }
    #[inline(always)]
    unsafe fn or_two_bits<const SHIFT: u32>(self, a: Pair<__m256i>, high: Pair<__m256i>) -> Pair<__m256i> {
        let moved = match SHIFT {
            0 => both!(half of high => _mm256_slli_epi16::<4>(half)),
            2 => both!(half of high => _mm256_slli_epi16::<2>(half)),
            4 => high,
            _ => both!(half of high => _mm256_srli_epi16::<2>(half)),
        };
        let mask = _mm256_set1_epi8(0x30);
        [
            _mm256_or_si256(a[0], _mm256_and_si256(moved[0], mask)),
            _mm256_or_si256(a[1], _mm256_and_si256(moved[1], mask)),
        ]
    }
    #[inline(always)]
    unsafe fn dot(self, acc: Pair<__m256i>, weights: Pair<__m256i>, quad: i32) -> Pair<__m256i> {
        let signed = _mm256_set1_epi32(quad);
        [D::dot(acc[0], weights[0], signed), D::dot(acc[1], weights[1], signed)]
    }
    #[inline(always)]
    unsafe fn dot_biased(self, acc: Pair<__m256i>, weights: Pair<__m256i>, quad: i32) -> Pair<__m256i> {
        let signed = _mm256_set1_epi32(quad);
        [D::dot_biased(acc[0], weights[0], signed), D::dot_biased(acc[1], weights[1], signed)]
    }
    #[inline(always)]
    unsafe fn dot_signed(self, acc: Pair<__m256i>, codes: Pair<__m256i>, quad: i32) -> Pair<__m256i> {
        let unsigned = _mm256_set1_epi32(quad);
        [D::dot(acc[0], unsigned, codes[0]), D::dot(acc[1], unsigned, codes[1])]
    }
    #[inline(always)]
    unsafe fn add_products(self, sum: Pair<__m256i>, weights: Pair<__m256i>, quad: i32) -> Pair<__m256i> {
        let signed = _mm256_set1_epi32(quad);
        [D::add_products(sum[0], weights[0], signed), D::add_products(sum[1], weights[1], signed)]
    }
    #[inline(always)]
    unsafe fn widen(self, acc: Pair<__m256i>, sum: Pair<__m256i>) -> Pair<__m256i> {
        [D::widen(acc[0], sum[0]), D::widen(acc[1], sum[1])]
    }
    #[inline(always)]
    unsafe fn settled(self, sum: Pair<__m256i>) -> Pair<__m256i> {
        both!(half of sum => settled(half))
    }
    #[inline(always)]
    unsafe fn prefetch(self, from: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[inline(always)]
    unsafe fn prefetch_to_write(self, to: *const u8) {
        prefetch_to_write(to);
    }
    #[inline(always)]
    unsafe fn prefetch_far(self, from: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
}

/// Both halves go through the same instructions.
#[inline(always)]
pub(super) unsafe fn sum_codes(codes: *const i8) -> [i32; 2] {
    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_loadu_si256(codes.cast()));
    let quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    let two = _mm256_add_epi32(quads, _mm256_shuffle_epi32::<0b01_00_11_10>(quads));
    let sums = _mm256_add_epi32(two, _mm256_shuffle_epi32::<0b10_11_00_01>(two));
    [_mm_cvtsi128_si32(_mm256_castsi256_si128(sums)), _mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(sums))]
}

/// The intrinsic becomes a prefetch for reading where a feature that is not detected is not set. Processors that do not know
/// the instruction pass over it.
#[inline(always)]
pub(super) unsafe fn prefetch_to_write(to: *const u8) {
    std::arch::asm!("prefetchw [{to}]", to = in(reg) to, options(nostack, readonly, preserves_flags));
}
