//! How each layout's records become quads of codes, scales and minimums. One type per layout.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of Codes")]

use crate::arch::Isa;

mod bytes;
mod levels;
mod two_bits;

pub(crate) use bytes::{Bytes, Written, column_bytes, write_out};
pub(crate) use levels::{IQ3S, IQ3XXS, IQ4NL, IQ4XS, MXFP4, NVFP4};
pub(crate) use two_bits::{IQ1M, IQ1S, IQ2, Q1_0, Q2_0, Q2K, Q3K, Ternary};

/// A layout of integer codes, as the tile kernel reads it.
///
/// A value is `scale · (code - BIAS) + minimum`, with one scale and minimum for 32 inputs or, with `HALVES`, one for each 16.
///
/// # Safety
/// `header` and `record` must point at a whole header and record of the layout; see [`Isa`] for the instruction set.
pub(crate) unsafe trait Codes {
    /// Bytes before the records of a block.
    const HEADER: usize;
    /// Bytes of a record.
    const RECORD: usize;
    /// Records behind one header.
    const RECORDS: usize;
    /// Subtracted from each code.
    const BIAS: i32;
    /// No code is above it, but for [`Codes::BYTES`].
    const LARGEST: i32 = 127;
    /// Codes use all eight bits, stored with [`Isa::BYTE_BIAS`] in mind.
    const BYTES: bool = false;
    /// Whether values have a minimum.
    const MINIMUM: bool = false;
    /// Whether inputs 0–15 and 16–31 have scales and minimums of their own.
    const HALVES: bool = false;
    /// Whether these are codes that have been written out for many rows.
    const WRITTEN: bool = false;
    /// Whether tiles take quads one after the other, as bytes, rather than in pairs, which leaves registers for six rows.
    const ONE_BY_ONE: bool = false;

    /// Sixteen rows' scales, for `half` 0 or 1 of the record.
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, half: usize) -> I::F32;
    /// Sixteen rows' minimums, for `half` 0 or 1 of the record.
    unsafe fn minimum<I: Isa>(isa: I, _header: *const u8, _record: *const u8, _half: usize) -> I::F32 {
        isa.splat(0.0)
    }
    /// Quads `pair` and `pair + 4`, for `pair` in 0..4.
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2];
}

#[inline(always)]
unsafe fn nibbles<I: Isa>(isa: I, at: *const u8) -> [I::U8; 2] {
    let bytes = isa.load_bytes(at);
    [isa.low_nibbles(bytes), isa.high_nibbles(bytes)]
}

/// Eight masks of sixty-four bits, one for each quad, start at `masks`.
#[inline(always)]
unsafe fn mask(masks: *const u8, quad: usize) -> u64 {
    u64::from_le(masks.cast::<u64>().add(quad).read_unaligned())
}

#[inline(always)]
unsafe fn five_bits<I: Isa>(isa: I, codes: *const u8, masks: *const u8, pair: usize) -> [I::U8; 2] {
    let [low, high] = nibbles(isa, codes.add(64 * pair));
    [isa.add_where(low, mask(masks, pair), 16), isa.add_where(high, mask(masks, pair + 4), 16)]
}

pub(crate) struct Q8_0;
pub(crate) struct Q4_0;
pub(crate) struct Q4_1;
pub(crate) struct Q5_0;
pub(crate) struct Q5_1;
pub(crate) struct Q4K;
pub(crate) struct Q5K;
pub(crate) struct Q6K;

// SAFETY: here and below, offsets stay within the record sizes that `layout` writes.
unsafe impl Codes for Q8_0 {
    const HEADER: usize = 0;
    const RECORD: usize = 544;
    const RECORDS: usize = 1;
    const BIAS: i32 = 128;
    const BYTES: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(record.cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        [isa.load_bytes(record.add(32 + 64 * PAIR)), isa.load_bytes(record.add(32 + 64 * (PAIR + 4)))]
    }
}

// SAFETY: as above.
unsafe impl Codes for Q4_0 {
    const HEADER: usize = 0;
    const RECORD: usize = 288;
    const RECORDS: usize = 1;
    const BIAS: i32 = 8;
    const LARGEST: i32 = 15;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(record.cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        nibbles(isa, record.add(32 + 64 * PAIR))
    }
}

// SAFETY: as above.
unsafe impl Codes for Q4_1 {
    const HEADER: usize = 0;
    const RECORD: usize = 320;
    const RECORDS: usize = 1;
    const BIAS: i32 = 0;
    const LARGEST: i32 = 15;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(record.cast())
    }
    #[inline(always)]
    unsafe fn minimum<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(record.add(32).cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        nibbles(isa, record.add(64 + 64 * PAIR))
    }
}

// SAFETY: as above.
unsafe impl Codes for Q5_0 {
    const HEADER: usize = 0;
    const RECORD: usize = 352;
    const RECORDS: usize = 1;
    const BIAS: i32 = 16;
    const LARGEST: i32 = 31;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(record.cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        five_bits(isa, record.add(96), record.add(32), PAIR)
    }
}

// SAFETY: as above.
unsafe impl Codes for Q5_1 {
    const HEADER: usize = 0;
    const RECORD: usize = 384;
    const RECORDS: usize = 1;
    const BIAS: i32 = 0;
    const LARGEST: i32 = 31;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(record.cast())
    }
    #[inline(always)]
    unsafe fn minimum<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(record.add(32).cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        five_bits(isa, record.add(128), record.add(64), PAIR)
    }
}

/// `d · scale` of the 256-element formats with byte scales.
#[inline(always)]
unsafe fn super_scale<I: Isa>(isa: I, header: *const u8, scales: *const u8) -> I::F32 {
    isa.mul(isa.load_f16(header.cast()), isa.load_u8(scales))
}

/// `-dmin · minimum` of the 256-element formats.
#[inline(always)]
unsafe fn super_minimum<I: Isa>(isa: I, header: *const u8, minimums: *const u8) -> I::F32 {
    let product = isa.mul(isa.load_f16(header.add(32).cast()), isa.load_u8(minimums));
    isa.mul(product, isa.splat(-1.0))
}

// SAFETY: as above.
unsafe impl Codes for Q4K {
    const HEADER: usize = 64;
    const RECORD: usize = 288;
    const RECORDS: usize = 8;
    const BIAS: i32 = 0;
    const LARGEST: i32 = 15;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        super_scale(isa, header, record)
    }
    #[inline(always)]
    unsafe fn minimum<I: Isa>(isa: I, header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        super_minimum(isa, header, record.add(16))
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        nibbles(isa, record.add(32 + 64 * PAIR))
    }
}

// SAFETY: as above.
unsafe impl Codes for Q5K {
    const HEADER: usize = 64;
    const RECORD: usize = 352;
    const RECORDS: usize = 8;
    const BIAS: i32 = 0;
    const LARGEST: i32 = 31;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        super_scale(isa, header, record)
    }
    #[inline(always)]
    unsafe fn minimum<I: Isa>(isa: I, header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        super_minimum(isa, header, record.add(16))
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        five_bits(isa, record.add(96), record.add(32), PAIR)
    }
}

// SAFETY: as above.
unsafe impl Codes for Q6K {
    const HEADER: usize = 32;
    const RECORD: usize = 416;
    const RECORDS: usize = 8;
    const BIAS: i32 = 32;
    const LARGEST: i32 = 63;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, half: usize) -> I::F32 {
        isa.mul(isa.load_f16(header.cast()), isa.load_i8(record.add(16 * half).cast()))
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        let [low, high] = nibbles(isa, record.add(32 + 64 * PAIR));
        let upper = [isa.load_bytes(record.add(288)), isa.load_bytes(record.add(352))];
        match PAIR {
            0 => [isa.or_two_bits::<0>(low, upper[0]), isa.or_two_bits::<0>(high, upper[1])],
            1 => [isa.or_two_bits::<2>(low, upper[0]), isa.or_two_bits::<2>(high, upper[1])],
            2 => [isa.or_two_bits::<4>(low, upper[0]), isa.or_two_bits::<4>(high, upper[1])],
            _ => [isa.or_two_bits::<6>(low, upper[0]), isa.or_two_bits::<6>(high, upper[1])],
        }
    }
}
