//! Codes of any layout written out as bytes, which tiles only load: for products with many rows.
//!
//! Sketch for sixteen rows of Q5_0 and 32 inputs: taking quads apart is 28 instructions of the two vector pipes, and a row's
//! product 11. In tiles of eight rows that is 3.5 for a row, in one pass over the weights that serves 256 rows 0.1, which
//! stores and loads of codes that stay in the second-level cache do not use up: they have ports of their own. And tiles have
//! registers for six rows with two groups, twelve sums in flight, where processors whose dot product takes five cycles need
//! ten.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of Codes")]

use std::marker::PhantomData;

use super::Codes;
use crate::arch::interleave::Interleave;
use crate::arch::{Isa, ManyRows};
use crate::layout::RECORD_INPUTS;

const QUAD_BYTES: usize = 64;
const CODES_BYTES: usize = 8 * QUAD_BYTES;
const VECTOR_BYTES: usize = 64;

/// Eight quads of code + 128, then 16 × f32 scale for each part that has one of its own, and as many minimums: one layout for
/// all formats, where unsigned bytes of any size can be multiplied.
pub(crate) struct Bytes<const HALVES: bool, const MINIMUM: bool>;

/// As [`Bytes`] with the codes as they are in `C`, where it matters how large they are.
pub(crate) struct Written<C>(PhantomData<C>);

macro_rules! written_out {
    () => {
        const HEADER: usize = 0;
        const RECORD: usize = record_bytes(Self::HALVES, Self::MINIMUM);
        const RECORDS: usize = 1;
        const WRITTEN: bool = true;

        #[inline(always)]
        unsafe fn scale<I: Isa>(isa: I, _header: *const u8, record: *const u8, half: usize) -> I::F32 {
            isa.load(record.add(CODES_BYTES + VECTOR_BYTES * half).cast())
        }
        #[inline(always)]
        unsafe fn minimum<I: Isa>(isa: I, _header: *const u8, record: *const u8, half: usize) -> I::F32 {
            isa.load(record.add(CODES_BYTES + VECTOR_BYTES * (1 + Self::HALVES as usize + half)).cast())
        }
        #[inline(always)]
        unsafe fn quads<I: Isa, const PAIR: usize>(isa: I, record: *const u8) -> [I::U8; 2] {
            [isa.load_bytes(record.add(QUAD_BYTES * PAIR)), isa.load_bytes(record.add(QUAD_BYTES * (PAIR + 4)))]
        }
    };
}

const fn record_bytes(halves: bool, minimum: bool) -> usize {
    CODES_BYTES + VECTOR_BYTES * (1 + halves as usize) * (1 + minimum as usize)
}

// SAFETY: offsets stay within the record.
unsafe impl<const HALVES: bool, const MINIMUM: bool> Codes for Bytes<HALVES, MINIMUM> {
    const BIAS: i32 = 128;
    const BYTES: bool = true;
    const ONE_BY_ONE: bool = true;
    const MINIMUM: bool = MINIMUM;
    const HALVES: bool = HALVES;
    written_out!();
}

// SAFETY: as above.
unsafe impl<C: Codes> Codes for Written<C> {
    const BIAS: i32 = C::BIAS;
    const LARGEST: i32 = C::LARGEST;
    const BYTES: bool = C::BYTES;
    const MINIMUM: bool = C::MINIMUM;
    const HALVES: bool = C::HALVES;
    written_out!();
}

/// What sixteen rows of `C` take for each input when they are written out.
pub(crate) const fn column_bytes<C: Codes>() -> usize {
    record_bytes(C::HALVES, C::MINIMUM) / RECORD_INPUTS
}

/// Writes out records of `C` for so many columns, with [`Isa::MANY_ROWS`] as [`Bytes`] or as [`Written`].
///
/// # Safety
/// `from` covers whole blocks for `columns` columns, `to` [`column_bytes`] for each of them; see [`Isa`] for the
/// instruction set.
#[inline(always)]
pub(crate) unsafe fn write_out<I: Interleave, C: Codes>(isa: I, from: *const u8, columns: usize, to: *mut u8) {
    let parts = 1 + C::HALVES as usize;
    let (mut header, mut to) = (from, to);
    for _ in 0..columns / (RECORD_INPUTS * C::RECORDS) {
        let mut record = header.add(C::HEADER);
        for _ in 0..C::RECORDS {
            write_quads::<I, C, 0>(isa, record, to);
            write_quads::<I, C, 1>(isa, record, to);
            write_quads::<I, C, 2>(isa, record, to);
            write_quads::<I, C, 3>(isa, record, to);
            to = to.add(CODES_BYTES);
            for half in 0..parts {
                isa.store(to.cast(), C::scale(isa, header, record, half));
                to = to.add(VECTOR_BYTES);
            }
            for half in 0..if C::MINIMUM { parts } else { 0 } {
                isa.store(to.cast(), C::minimum(isa, header, record, half));
                to = to.add(VECTOR_BYTES);
            }
            record = record.add(C::RECORD);
        }
        header = record;
    }
}

#[inline(always)]
unsafe fn write_quads<I: Interleave, C: Codes, const PAIR: usize>(isa: I, record: *const u8, to: *mut u8) {
    // The same distance from 128 as from the layout's own bias, so that products are the same whole numbers.
    let raise = matches!(I::MANY_ROWS, ManyRows::Bytes) && !C::BYTES;
    let raise = if raise { (128 - C::BIAS) as u8 } else { 0 };
    let [low, high] = C::quads::<I, PAIR>(isa, record);
    isa.store_bytes(to.add(QUAD_BYTES * PAIR), isa.add_where(low, u64::MAX, raise));
    isa.store_bytes(to.add(QUAD_BYTES * (PAIR + 4)), isa.add_where(high, u64::MAX, raise));
}
