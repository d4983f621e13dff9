//! Products of 16 bits, as instruction sets make them that have no dot product of bytes: several quads are summed before they
//! are widened.
//!
//! Sketch for sixteen 4-bit weights of AVX2 and 32 inputs of a row: 8 products and 8 sums of 16 bits in each of two registers
//! and one widening, 36 instructions where widening each would take 48. Whole numbers: the sums are the same. The loop is its own:
//! one for both ways cost 1 to 7 % with either.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of TileArgs")]

use std::sync::atomic::{Ordering, compiler_fence};

use super::quads_of;
use crate::activations::ActivationBlock;
use crate::arch::Isa;
use crate::kernels::codes::Codes;

/// Quads of codes up to `largest` whose products 16 bits hold, two of each lane's four in one sum.
pub(super) const fn quads_before_widening(largest: i32) -> i32 {
    i16::MAX as i32 / (2 * 127 * largest)
}

/// As `super::add_quads`.
#[inline(always)]
pub(super) unsafe fn add_quads<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    records: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    split: bool,
    low: &mut [[I::I32; GROUPS]; ROWS],
    high: &mut [[I::I32; GROUPS]; ROWS],
) {
    let mut sums = Sums { first: [[isa.splat_i32(0); GROUPS]; ROWS], second: [[isa.splat_i32(0); GROUPS]; ROWS] };
    sums.add_pair::<C, 0>(isa, records, rows, split);
    sums.widen_after::<C, 0>(isa, split, low, high);
    compiler_fence(Ordering::SeqCst);
    sums.add_pair::<C, 1>(isa, records, rows, split);
    sums.widen_after::<C, 1>(isa, split, low, high);
    compiler_fence(Ordering::SeqCst);
    sums.add_pair::<C, 2>(isa, records, rows, split);
    sums.widen_after::<C, 2>(isa, split, low, high);
    compiler_fence(Ordering::SeqCst);
    sums.add_pair::<C, 3>(isa, records, rows, split);
    sums.widen_after::<C, 3>(isa, split, low, high);
    compiler_fence(Ordering::SeqCst);
}

/// Products that are not widened yet: of the first half of the inputs, or all of them, and of the second half.
struct Sums<I: Isa, const ROWS: usize, const GROUPS: usize> {
    first: [[I::I32; GROUPS]; ROWS],
    second: [[I::I32; GROUPS]; ROWS],
}

impl<I: Isa, const ROWS: usize, const GROUPS: usize> Sums<I, ROWS, GROUPS> {
    /// Quads `PAIR` and `PAIR + 4` of every group against every row.
    #[inline(always)]
    unsafe fn add_pair<C: Codes, const PAIR: usize>(
        &mut self,
        isa: I,
        records: &[*const u8; GROUPS],
        rows: &[*const ActivationBlock; ROWS],
        split: bool,
    ) {
        let weights = quads_of::<I, C, GROUPS, PAIR>(isa, records);
        for row in 0..ROWS {
            let quads = (*rows[row]).codes.as_ptr().cast::<i32>();
            let a = quads.add(PAIR).read_unaligned();
            let b = quads.add(PAIR + 4).read_unaligned();
            for group in 0..GROUPS {
                let sum = &mut self.first[row][group];
                *sum = isa.add_products(*sum, weights[group][0], a);
                let sum = if split { &mut self.second[row][group] } else { sum };
                *sum = isa.add_products(*sum, weights[group][1], b);
                if const { ROWS > 2 } {
                    *sum = isa.settled(*sum);
                }
            }
        }
    }

    /// Widens what has been summed, where no further pair fits or there is none.
    #[inline(always)]
    unsafe fn widen_after<C: Codes, const PAIR: i32>(
        &mut self,
        isa: I,
        split: bool,
        low: &mut [[I::I32; GROUPS]; ROWS],
        high: &mut [[I::I32; GROUPS]; ROWS],
    ) {
        let quads = const { quads_before_widening(C::LARGEST) };
        let pairs = if split { quads } else { quads / 2 };
        if PAIR < 3 && (PAIR + 1) % pairs.max(1) != 0 {
            return;
        }
        for row in 0..ROWS {
            for group in 0..GROUPS {
                low[row][group] = isa.widen(low[row][group], self.first[row][group]);
                self.first[row][group] = isa.splat_i32(0);
                if split {
                    high[row][group] = isa.widen(high[row][group], self.second[row][group]);
                    self.second[row][group] = isa.splat_i32(0);
                }
            }
        }
    }
}
