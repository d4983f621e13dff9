//! Layouts of codes with two bits, with a third in masks, or with one.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of Codes")]

use std::marker::PhantomData;

use tensor::format::TWO_BIT_LEVELS;

use super::levels::{Table, biased, largest};
use super::{Codes, mask};
use crate::arch::Isa;

/// Quads `PAIR` and `PAIR + 4` of two-bit codes: two planes of sixty-four bytes, four quads to each.
#[inline(always)]
unsafe fn two_bits<I: Isa, const PAIR: usize>(isa: I, planes: *const u8) -> [I::U8; 2] {
    let planes = [isa.load_bytes(planes), isa.load_bytes(planes.add(64))];
    match PAIR {
        0 => [isa.two_bits::<0>(planes[0]), isa.two_bits::<0>(planes[1])],
        1 => [isa.two_bits::<2>(planes[0]), isa.two_bits::<2>(planes[1])],
        2 => [isa.two_bits::<4>(planes[0]), isa.two_bits::<4>(planes[1])],
        _ => [isa.two_bits::<6>(planes[0]), isa.two_bits::<6>(planes[1])],
    }
}

/// Header 16 × f16 scale, 16 × f16 minimum; record 2 × 16 bytes (inputs 0–15, 16–31) of scale below minimum, two planes.
pub(crate) struct Q2K;
/// Header 16 × f16 unit; record 2 × 16 × i8 scale (inputs 0–15, 16–31), eight 64-bit masks of third bits, two planes.
pub(crate) struct Q3K;
/// Header 16 × f16 unit; record 16 bytes of scale (inputs 0–15 below 16–31), eight 64-bit masks of third bits, two planes.
pub(crate) struct Words<T>(PhantomData<T>);
/// Header 16 × f16 unit; record 16 × i8 scale, negative where an eighth is subtracted, two planes.
pub(crate) struct IQ1S;
/// Header 16 × f16 scale; records of two planes.
pub(crate) struct TwoBits<const RECORDS: usize>;
/// Header 16 × f16 scale; records of eight 64-bit masks.
pub(crate) struct Q1_0;

pub(crate) type IQ2 = Words<Iq2Table>;
pub(crate) type IQ1M = Words<Iq1Table>;
pub(crate) type Ternary = TwoBits<8>;
pub(crate) type Q2_0 = TwoBits<2>;

pub(crate) struct Iq2Table;
pub(crate) struct Iq1Table;

impl Table for Iq2Table {
    const LEVELS: [u8; 16] = {
        let [a, b, c] = TWO_BIT_LEVELS;
        biased([a, b, c, 0, -a, -b, -c, 0, 0, 0, 0, 0, 0, 0, 0, 0], 64)
    };
    const BIAS: i32 = 64;
    const UNIT: f32 = 0.125;
}

impl Table for Iq1Table {
    /// In eighths: -1, 0 and 1 plus an eighth, then less an eighth.
    const LEVELS: [u8; 16] = biased([-7, 1, 9, 0, -9, -1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0], 16);
    const BIAS: i32 = 16;
    const UNIT: f32 = 0.125;
}

/// Scale and minimum of sixteen bytes: four bits below four. No rounding: all are small whole numbers and sixteenths.
#[inline(always)]
unsafe fn nibbles_of_bytes<I: Isa>(isa: I, at: *const u8) -> [I::F32; 2] {
    let bytes = isa.load_u8(at);
    let high = isa.to_f32(isa.round(isa.fma(bytes, isa.splat(1.0 / 16.0), isa.splat(-15.0 / 32.0))));
    [isa.fma(high, isa.splat(-16.0), bytes), high]
}

// SAFETY: here and below, offsets stay within the record sizes that `layout` writes.
unsafe impl Codes for Q2K {
    const HEADER: usize = 64;
    const RECORD: usize = 160;
    const RECORDS: usize = 8;
    const BIAS: i32 = 0;
    const LARGEST: i32 = 3;
    const MINIMUM: bool = true;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, half: usize) -> I::F32 {
        let [scale, _] = nibbles_of_bytes(isa, record.add(16 * half));
        isa.mul(isa.load_f16(header.cast()), scale)
    }
    #[inline(always)]
    unsafe fn minimum<I: Isa>(isa: I, header: *const u8, record: *const u8, half: usize) -> I::F32 {
        let [_, minimum] = nibbles_of_bytes(isa, record.add(16 * half));
        isa.mul(isa.mul(isa.load_f16(header.add(32).cast()), minimum), isa.splat(-1.0))
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        two_bits::<I, PAIR>(isa, record.add(32))
    }
}

/// Two bits, and four where the mask says so.
#[inline(always)]
unsafe fn three_bits<I: Isa, const PAIR: usize>(isa: I, masks: *const u8, planes: *const u8) -> [I::U8; 2] {
    let [low, high] = two_bits::<I, PAIR>(isa, planes);
    [isa.add_where(low, mask(masks, PAIR), 4), isa.add_where(high, mask(masks, PAIR + 4), 4)]
}

// SAFETY: as above.
unsafe impl Codes for Q3K {
    const HEADER: usize = 32;
    const RECORD: usize = 224;
    const RECORDS: usize = 8;
    const BIAS: i32 = 4;
    const LARGEST: i32 = 7;
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, half: usize) -> I::F32 {
        isa.mul(isa.load_f16(header.cast()), isa.load_i8(record.add(16 * half).cast()))
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        three_bits::<I, PAIR>(isa, record.add(32), record.add(96))
    }
}

// SAFETY: as above.
unsafe impl<T: Table> Codes for Words<T> {
    const HEADER: usize = 32;
    const RECORD: usize = 208;
    const RECORDS: usize = 8;
    const BIAS: i32 = T::BIAS;
    const LARGEST: i32 = largest(&T::LEVELS);
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, half: usize) -> I::F32 {
        let multiple = isa.fma(nibbles_of_bytes(isa, record)[half], isa.splat(2.0), isa.splat(1.0));
        isa.mul(isa.mul(isa.load_f16(header.cast()), multiple), isa.splat(T::UNIT))
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        let [low, high] = three_bits::<I, PAIR>(isa, record.add(16), record.add(80));
        [isa.lookup(&T::LEVELS, low), isa.lookup(&T::LEVELS, high)]
    }
}

// SAFETY: as above.
unsafe impl Codes for IQ1S {
    const HEADER: usize = 32;
    const RECORD: usize = 144;
    const RECORDS: usize = 8;
    const BIAS: i32 = 1;
    const LARGEST: i32 = 3;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.mul(isa.load_f16(header.cast()), isa.abs(isa.load_i8(record.cast())))
    }
    #[inline(always)]
    unsafe fn minimum<I: Isa>(isa: I, header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        let eighth = isa.mul(isa.load_i8(record.cast()), isa.splat(0.125));
        isa.mul(isa.load_f16(header.cast()), eighth)
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        two_bits::<I, PAIR>(isa, record.add(16))
    }
}

// SAFETY: as above.
unsafe impl<const RECORDS: usize> Codes for TwoBits<RECORDS> {
    const HEADER: usize = 32;
    const RECORD: usize = 128;
    const RECORDS: usize = RECORDS;
    const BIAS: i32 = 1;
    const LARGEST: i32 = 3;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, _record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(header.cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        two_bits::<I, PAIR>(isa, record)
    }
}

// SAFETY: as above.
unsafe impl Codes for Q1_0 {
    const HEADER: usize = 32;
    const RECORD: usize = 64;
    const RECORDS: usize = 4;
    const BIAS: i32 = 1;
    const LARGEST: i32 = 2;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, _record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(header.cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        let zero = isa.splat_bytes(0);
        [isa.add_where(zero, mask(record, PAIR), 2), isa.add_where(zero, mask(record, PAIR + 4), 2)]
    }
}
