//! Which of 64 bytes are letters, digits, white space and so on, as one bit each. Knows nothing beyond ASCII and no
//! splitting rule. The one place of this crate with instructions that not every processor has.

/// Bytes that are looked at together.
pub(crate) const WINDOW: usize = 64;

/// One bit for each byte, the first byte's lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AsciiMasks {
    pub(crate) letters: u64,
    pub(crate) digits: u64,
    /// All of ASCII's white space, the next two among it.
    pub(crate) white: u64,
    /// Line feeds and carriage returns.
    pub(crate) breaks: u64,
    /// The space itself.
    pub(crate) spaces: u64,
    pub(crate) apostrophes: u64,
    /// Bytes of characters beyond ASCII; they have no other bit.
    pub(crate) beyond: u64,
}

/// A way of making masks. The value is the proof that the processor has the instructions.
pub(crate) trait Classify: Copy {
    fn masks(self, window: &[u8; WINDOW]) -> AsciiMasks;
}

/// Eight bytes a step in plain integers.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const HIGH: u64 = 0x8080_8080_8080_8080;
const EACH: u64 = 0x0101_0101_0101_0101;

impl Classify for Portable {
    fn masks(self, window: &[u8; WINDOW]) -> AsciiMasks {
        let mut masks = AsciiMasks { letters: 0, digits: 0, white: 0, breaks: 0, spaces: 0, apostrophes: 0, beyond: 0 };
        for (i, eight) in window.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*eight);
            let beyond = word & HIGH;
            let low = word & !HIGH;
            // The high bit of each byte that is ASCII and at least `first`: no byte's sum runs into the next.
            let from = |bytes: u64, first: u8| (bytes + EACH * u64::from(0x80 - first)) & !beyond;
            let between = |bytes: u64, first: u8, last: u8| from(bytes, first) & !from(bytes, last + 1) & HIGH;
            let equal = |byte: u8| between(low, byte, byte);
            let spaces = equal(b' ');
            let put = |mask: &mut u64, bits: u64| *mask |= gather(bits) << (8 * i);
            put(&mut masks.letters, between(low | (EACH * 0x20), b'a', b'z'));
            put(&mut masks.digits, between(low, b'0', b'9'));
            put(&mut masks.white, between(low, b'\t', b'\r') | spaces);
            put(&mut masks.breaks, equal(b'\n') | equal(b'\r'));
            put(&mut masks.spaces, spaces);
            put(&mut masks.apostrophes, equal(b'\''));
            put(&mut masks.beyond, beyond);
        }
        masks
    }
}

/// The high bits of eight bytes, in their order. The product brings each to a place of its own in the top byte.
#[inline]
fn gather(high_bits: u64) -> u64 {
    (high_bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Avx2;

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a call of instructions that were detected")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set_epi64x,
        _mm256_set1_epi8, _mm256_sub_epi8,
    };

    use super::{AsciiMasks, Classify, WINDOW};

    /// Two vectors of 32 bytes, and quick counting of zeros.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    impl Avx2 {
        pub(crate) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt");
            found.then_some(Self(()))
        }

        /// Runs `work`, compiled for these instructions as far as it is inlined.
        #[inline]
        pub(crate) fn run(self, work: impl FnOnce()) {
            // SAFETY: `self` exists only where all of these features were detected.
            unsafe { with_features(work) }
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    fn with_features(work: impl FnOnce()) {
        work();
    }

    impl Classify for Avx2 {
        #[inline(always)]
        fn masks(self, window: &[u8; WINDOW]) -> AsciiMasks {
            // SAFETY: `self` exists only where AVX2 was detected.
            unsafe { masks(window) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn masks(window: &[u8; WINDOW]) -> AsciiMasks {
        let (halves, _) = window.as_chunks::<32>();
        let (low, high) = (half(&halves[0]), half(&halves[1]));
        AsciiMasks {
            letters: low.letters | high.letters << 32,
            digits: low.digits | high.digits << 32,
            white: low.white | high.white << 32,
            breaks: low.breaks | high.breaks << 32,
            spaces: low.spaces | high.spaces << 32,
            apostrophes: low.apostrophes | high.apostrophes << 32,
            beyond: low.beyond | high.beyond << 32,
        }
    }

    /// The masks of half a window, in the low halves.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn half(bytes: &[u8; WINDOW / 2]) -> AsciiMasks {
        let word = |i: usize| i64::from_le_bytes(bytes.as_chunks::<8>().0[i]);
        let v = _mm256_set_epi64x(word(3), word(2), word(1), word(0));
        let spaces = equal(v, b' ');
        AsciiMasks {
            letters: bits(between(_mm256_or_si256(v, _mm256_set1_epi8(0x20)), b'a', b'z')),
            digits: bits(between(v, b'0', b'9')),
            white: bits(_mm256_or_si256(between(v, b'\t', b'\r'), spaces)),
            breaks: bits(_mm256_or_si256(equal(v, b'\n'), equal(v, b'\r'))),
            spaces: bits(spaces),
            apostrophes: bits(equal(v, b'\'')),
            beyond: bits(v),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn equal(v: __m256i, byte: u8) -> __m256i {
        _mm256_cmpeq_epi8(v, _mm256_set1_epi8(byte as i8))
    }

    /// All ones in each byte from `first` to `last`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn between(v: __m256i, first: u8, last: u8) -> __m256i {
        let from_first = _mm256_sub_epi8(v, _mm256_set1_epi8(first as i8));
        let at_most = _mm256_min_epu8(from_first, _mm256_set1_epi8((last - first) as i8));
        _mm256_cmpeq_epi8(at_most, from_first)
    }

    /// The high bit of each byte.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn bits(v: __m256i) -> u64 {
        u64::from(_mm256_movemask_epi8(v) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_by_one(window: &[u8; WINDOW]) -> AsciiMasks {
        let mask = |test: fn(u8) -> bool| (0..WINDOW).fold(0, |mask, i| mask | u64::from(test(window[i])) << i);
        AsciiMasks {
            letters: mask(|b| b.is_ascii_alphabetic()),
            digits: mask(|b| b.is_ascii_digit()),
            white: mask(|b| matches!(b, 9..=13 | 32)),
            breaks: mask(|b| matches!(b, 10 | 13)),
            spaces: mask(|b| b == 32),
            apostrophes: mask(|b| b == 39),
            beyond: mask(|b| b >= 128),
        }
    }

    #[test]
    fn every_byte_at_every_place_has_its_bits() {
        for first in 0..=255u8 {
            for step in [0, 1, 7, 101] {
                let window = std::array::from_fn(|i| first.wrapping_add((i as u8).wrapping_mul(step)));
                let expected = one_by_one(&window);
                assert_eq!(Portable.masks(&window), expected, "{window:?}");
                #[cfg(target_arch = "x86_64")]
                if let Some(avx2) = Avx2::detect() {
                    assert_eq!(avx2.masks(&window), expected, "{window:?}");
                }
            }
        }
    }
}
