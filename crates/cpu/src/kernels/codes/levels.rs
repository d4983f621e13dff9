//! Layouts of 4-bit codes that stand for uneven levels: a byte shuffle looks them up. Never more than sixteen levels.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of Codes")]

use std::marker::PhantomData;

use tensor::format::{E2M1_LEVELS, IQ3_S_LEVELS, IQ3_XXS_LEVELS, IQ4_LEVELS};

use super::{Codes, nibbles};
use crate::arch::Isa;

/// What sixteen codes, or eight, stand for.
pub(super) trait Table {
    /// Level plus [`Table::BIAS`].
    const LEVELS: [u8; 16];
    const BIAS: i32;
    /// As in [`Codes`].
    const BYTES: bool = false;
    /// What the levels are in the unit of the scales.
    const UNIT: f32 = 1.0;
}

/// Levels with a bias that makes them positive.
pub(super) const fn biased(levels: [i8; 16], bias: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut code = 0;
    while code < 16 {
        bytes[code] = bias.wrapping_add_signed(levels[code]);
        code += 1;
    }
    bytes
}

/// The largest of biased levels.
pub(super) const fn largest(levels: &[u8; 16]) -> i32 {
    let mut largest = 0;
    let mut code = 0;
    while code < 16 {
        if levels[code] > largest {
            largest = levels[code];
        }
        code += 1;
    }
    largest as i32
}

/// Magnitudes, then the same with the other sign.
pub(super) const fn signed<const COUNT: usize>(magnitudes: [i8; COUNT]) -> [i8; 16] {
    let mut levels = [0; 16];
    let mut code = 0;
    while code < COUNT {
        levels[code] = magnitudes[code];
        levels[COUNT + code] = -magnitudes[code];
        code += 1;
    }
    levels
}

pub(crate) struct Iq4Table;
pub(crate) struct E2m1Table;
pub(crate) struct Iq3sTable;
pub(crate) struct Iq3xxsTable;

impl Table for Iq4Table {
    const LEVELS: [u8; 16] = biased(IQ4_LEVELS, 128);
    const BIAS: i32 = 128;
    const BYTES: bool = true;
}

impl Table for E2m1Table {
    const LEVELS: [u8; 16] = biased(E2M1_LEVELS, 16);
    const BIAS: i32 = 16;
}

impl Table for Iq3sTable {
    const LEVELS: [u8; 16] = biased(signed(IQ3_S_LEVELS), 16);
    const BIAS: i32 = 16;
}

impl Table for Iq3xxsTable {
    const LEVELS: [u8; 16] = biased(signed(IQ3_XXS_LEVELS), 64);
    const BIAS: i32 = 64;
    const UNIT: f32 = 0.25;
}

#[inline(always)]
unsafe fn levels<I: Isa, T: Table>(isa: I, at: *const u8) -> [I::U8; 2] {
    let [low, high] = nibbles(isa, at);
    [isa.lookup(&T::LEVELS, low), isa.lookup(&T::LEVELS, high)]
}

/// Record 16 × f16 scale, nibbles.
pub(crate) struct IQ4NL;
/// Header 16 × f16 unit; record 16 × i8 scale, nibbles.
pub(crate) struct Scaled<T>(PhantomData<T>);
/// Record 16 × u8 exponent, nibbles.
pub(crate) struct MXFP4;
/// Record 2 × 16 × f16 scale, nibbles.
pub(crate) struct NVFP4;

pub(crate) type IQ4XS = Scaled<Iq4Table>;
pub(crate) type IQ3S = Scaled<Iq3sTable>;
pub(crate) type IQ3XXS = Scaled<Iq3xxsTable>;

// SAFETY: here and below, offsets stay within the record sizes that `layout` writes.
unsafe impl Codes for IQ4NL {
    const HEADER: usize = 0;
    const RECORD: usize = 288;
    const RECORDS: usize = 1;
    const BIAS: i32 = Iq4Table::BIAS;
    const BYTES: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        isa.load_f16(record.cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        levels::<I, Iq4Table>(isa, record.add(32 + 64 * PAIR))
    }
}

// SAFETY: as above.
unsafe impl<T: Table> Codes for Scaled<T> {
    const HEADER: usize = 32;
    const RECORD: usize = 272;
    const RECORDS: usize = 8;
    const BIAS: i32 = T::BIAS;
    const LARGEST: i32 = largest(&T::LEVELS);
    const BYTES: bool = T::BYTES;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        let scale = isa.mul(isa.load_f16(header.cast()), isa.load_i8(record.cast()));
        if T::UNIT == 1.0 { scale } else { isa.mul(scale, isa.splat(T::UNIT)) }
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        levels::<I, T>(isa, record.add(16 + 64 * PAIR))
    }
}

// SAFETY: as above.
unsafe impl Codes for MXFP4 {
    const HEADER: usize = 0;
    const RECORD: usize = 272;
    const RECORDS: usize = 1;
    const BIAS: i32 = E2m1Table::BIAS;
    const LARGEST: i32 = largest(&E2m1Table::LEVELS);

    /// `2^(exponent - 128)`, in two factors of half the exponent, as the least are no normal numbers.
    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, _half: usize) -> I::F32 {
        let exponent = isa.sub(isa.load_u8(record), isa.splat(128.0));
        let half = isa.round(isa.mul(exponent, isa.splat(0.5)));
        let rest = isa.round(isa.sub(exponent, isa.to_f32(half)));
        isa.mul(isa.exp2_int(half), isa.exp2_int(rest))
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        levels::<I, E2m1Table>(isa, record.add(16 + 64 * PAIR))
    }
}

// SAFETY: as above.
unsafe impl Codes for NVFP4 {
    const HEADER: usize = 0;
    const RECORD: usize = 320;
    const RECORDS: usize = 2;
    const BIAS: i32 = E2m1Table::BIAS;
    const LARGEST: i32 = largest(&E2m1Table::LEVELS);
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, half: usize) -> I::F32 {
        isa.load_f16(record.add(32 * half).cast())
    }
    #[inline(always)]
    unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
        levels::<I, E2m1Table>(isa, record.add(64 + 64 * PAIR))
    }
}
