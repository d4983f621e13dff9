//! Moving bytes of sixteen rows side by side: what repacking weights needs beyond arithmetic. Computes nothing.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::Isa;

/// Instructions that interleave.
///
/// # Safety
/// As for [`Isa`].
pub(crate) unsafe trait Interleave: Isa {
    /// From each of sixteen rows, `stride` bytes apart, four words of four bytes: word `w` of row `r` becomes word `r` of
    /// vector `w`.
    unsafe fn words(self, from: *const u8, stride: usize) -> [Self::U8; 4];
    unsafe fn store_bytes(self, to: *mut u8, value: Self::U8);
    /// Each byte with its highest bit turned over.
    unsafe fn flip(self, a: Self::U8) -> Self::U8;
    /// `low | high << BITS` for each byte, with `BITS` 2, 4 or 6; no bit of `high` may leave its byte.
    unsafe fn join<const BITS: u32>(self, low: Self::U8, high: Self::U8) -> Self::U8;
    /// Of thirty-two numbers of two bytes, those at even places, then the others.
    unsafe fn unzip(self, a: Self::U8) -> Self::U8;
}

/// Four rows in one register, each in 128 bits: `from`, and 4, 8 and 12 rows on.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn every_fourth(from: *const u8, stride: usize) -> __m512i {
    let rows = _mm512_castsi128_si512(_mm_loadu_si128(from.cast()));
    let rows = _mm512_inserti32x4::<1>(rows, _mm_loadu_si128(from.add(4 * stride).cast()));
    let rows = _mm512_inserti32x4::<2>(rows, _mm_loadu_si128(from.add(8 * stride).cast()));
    _mm512_inserti32x4::<3>(rows, _mm_loadu_si128(from.add(12 * stride).cast()))
}

// SAFETY: intrinsics of the features that `detect` has checked.
#[cfg(target_arch = "x86_64")]
unsafe impl<D: super::avx512::ByteDot> Interleave for super::avx512::Lanes<D> {
    #[inline(always)]
    unsafe fn words(self, from: *const u8, stride: usize) -> [__m512i; 4] {
        let (a, b) = (every_fourth(from, stride), every_fourth(from.add(stride), stride));
        let (c, d) = (every_fourth(from.add(2 * stride), stride), every_fourth(from.add(3 * stride), stride));
        let (ab, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, value: __m512i) {
        _mm512_storeu_si512(to.cast(), value);
    }
    #[inline(always)]
    unsafe fn flip(self, a: __m512i) -> __m512i {
        _mm512_xor_si512(a, _mm512_set1_epi8(-128))
    }
    #[inline(always)]
    unsafe fn join<const BITS: u32>(self, low: __m512i, high: __m512i) -> __m512i {
        _mm512_or_si512(low, _mm512_slli_epi16::<BITS>(high))
    }
    #[inline(always)]
    unsafe fn unzip(self, a: __m512i) -> __m512i {
        // Truncating words keeps the even places; the odd ones are shifted down first.
        let (even, odd) = (_mm512_cvtepi32_epi16(a), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(a)));
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(even), odd)
    }
}

/// Two rows in one register: `from`, and 4 rows on.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn fourth(from: *const u8, stride: usize) -> __m256i {
    let row = _mm256_castsi128_si256(_mm_loadu_si128(from.cast()));
    _mm256_inserti128_si256::<1>(row, _mm_loadu_si128(from.add(4 * stride).cast()))
}

/// Words of eight rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn words_of_eight(from: *const u8, stride: usize) -> [__m256i; 4] {
    let (a, b) = (fourth(from, stride), fourth(from.add(stride), stride));
    let (c, d) = (fourth(from.add(2 * stride), stride), fourth(from.add(3 * stride), stride));
    let (ab, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Of sixteen numbers of two bytes, the even places in the lower 128 bits.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn unzip_half(a: __m256i) -> __m256i {
    let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_shuffle_epi8(a, order))
}

// SAFETY: as above.
#[cfg(target_arch = "x86_64")]
unsafe impl<D: super::avx2::ByteDot> Interleave for super::avx2::Lanes<D> {
    #[inline(always)]
    unsafe fn words(self, from: *const u8, stride: usize) -> [[__m256i; 2]; 4] {
        let (low, high) = (words_of_eight(from, stride), words_of_eight(from.add(8 * stride), stride));
        [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, value: [__m256i; 2]) {
        _mm256_storeu_si256(to.cast(), value[0]);
        _mm256_storeu_si256(to.add(32).cast(), value[1]);
    }
    #[inline(always)]
    unsafe fn flip(self, a: [__m256i; 2]) -> [__m256i; 2] {
        let bit = _mm256_set1_epi8(-128);
        [_mm256_xor_si256(a[0], bit), _mm256_xor_si256(a[1], bit)]
    }
    #[inline(always)]
    unsafe fn join<const BITS: u32>(self, low: [__m256i; 2], high: [__m256i; 2]) -> [__m256i; 2] {
        let moved = match BITS {
            2 => [_mm256_slli_epi16::<2>(high[0]), _mm256_slli_epi16::<2>(high[1])],
            4 => [_mm256_slli_epi16::<4>(high[0]), _mm256_slli_epi16::<4>(high[1])],
            _ => [_mm256_slli_epi16::<6>(high[0]), _mm256_slli_epi16::<6>(high[1])],
        };
        [_mm256_or_si256(low[0], moved[0]), _mm256_or_si256(low[1], moved[1])]
    }
    #[inline(always)]
    unsafe fn unzip(self, a: [__m256i; 2]) -> [__m256i; 2] {
        let (low, high) = (unzip_half(a[0]), unzip_half(a[1]));
        [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)]
    }
}

/// Words of four rows.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn words_of_four(from: *const u8, stride: usize) -> [uint8x16_t; 4] {
    let (a, b) = (vld1q_u8(from), vld1q_u8(from.add(stride)));
    let (c, d) = (vld1q_u8(from.add(2 * stride)), vld1q_u8(from.add(3 * stride)));
    let (a, b) = (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
    let (c, d) = (vreinterpretq_u32_u8(c), vreinterpretq_u32_u8(d));
    let (ab, ab_odd) = (vreinterpretq_u64_u32(vtrn1q_u32(a, b)), vreinterpretq_u64_u32(vtrn2q_u32(a, b)));
    let (cd, cd_odd) = (vreinterpretq_u64_u32(vtrn1q_u32(c, d)), vreinterpretq_u64_u32(vtrn2q_u32(c, d)));
    [
        vreinterpretq_u8_u64(vtrn1q_u64(ab, cd)),
        vreinterpretq_u8_u64(vtrn1q_u64(ab_odd, cd_odd)),
        vreinterpretq_u8_u64(vtrn2q_u64(ab, cd)),
        vreinterpretq_u8_u64(vtrn2q_u64(ab_odd, cd_odd)),
    ]
}

// SAFETY: intrinsics of NEON.
#[cfg(target_arch = "aarch64")]
unsafe impl<D: super::neon::ByteDot> Interleave for super::neon::Lanes<D> {
    #[inline(always)]
    unsafe fn words(self, from: *const u8, stride: usize) -> [[uint8x16_t; 4]; 4] {
        let a = words_of_four(from, stride);
        let b = words_of_four(from.add(4 * stride), stride);
        let c = words_of_four(from.add(8 * stride), stride);
        let d = words_of_four(from.add(12 * stride), stride);
        [[a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]], [a[2], b[2], c[2], d[2]], [a[3], b[3], c[3], d[3]]]
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, value: [uint8x16_t; 4]) {
        vst1q_u8(to, value[0]);
        vst1q_u8(to.add(16), value[1]);
        vst1q_u8(to.add(32), value[2]);
        vst1q_u8(to.add(48), value[3]);
    }
    #[inline(always)]
    unsafe fn flip(self, a: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        let bit = vdupq_n_u8(128);
        [veorq_u8(a[0], bit), veorq_u8(a[1], bit), veorq_u8(a[2], bit), veorq_u8(a[3], bit)]
    }
    #[inline(always)]
    unsafe fn join<const BITS: u32>(self, low: [uint8x16_t; 4], high: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        let up = vdupq_n_s8(BITS as i8);
        [
            vorrq_u8(low[0], vshlq_u8(high[0], up)),
            vorrq_u8(low[1], vshlq_u8(high[1], up)),
            vorrq_u8(low[2], vshlq_u8(high[2], up)),
            vorrq_u8(low[3], vshlq_u8(high[3], up)),
        ]
    }
    #[inline(always)]
    unsafe fn unzip(self, a: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        let (first, second) = (vreinterpretq_u16_u8(a[0]), vreinterpretq_u16_u8(a[1]));
        let (third, fourth) = (vreinterpretq_u16_u8(a[2]), vreinterpretq_u16_u8(a[3]));
        [
            vreinterpretq_u8_u16(vuzp1q_u16(first, second)),
            vreinterpretq_u8_u16(vuzp1q_u16(third, fourth)),
            vreinterpretq_u8_u16(vuzp2q_u16(first, second)),
            vreinterpretq_u8_u16(vuzp2q_u16(third, fourth)),
        ]
    }
}

// SAFETY: plain arithmetic; pointers are the caller's promise.
unsafe impl Interleave for super::portable::Portable {
    #[inline(always)]
    unsafe fn words(self, from: *const u8, stride: usize) -> [[u8; 64]; 4] {
        let mut words = [[0; 64]; 4];
        for row in 0..16 {
            let bytes = from.add(row * stride).cast::<[[u8; 4]; 4]>().read_unaligned();
            for (vector, word) in words.iter_mut().zip(bytes) {
                vector[4 * row..][..4].copy_from_slice(&word);
            }
        }
        words
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, value: [u8; 64]) {
        to.cast::<[u8; 64]>().write_unaligned(value);
    }
    #[inline(always)]
    unsafe fn flip(self, a: [u8; 64]) -> [u8; 64] {
        a.map(|byte| byte ^ 128)
    }
    #[inline(always)]
    unsafe fn join<const BITS: u32>(self, low: [u8; 64], high: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| low[i] | high[i] << BITS)
    }
    #[inline(always)]
    unsafe fn unzip(self, a: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| a[i % 32 / 2 * 4 + i / 32 * 2 + i % 2])
    }
}
