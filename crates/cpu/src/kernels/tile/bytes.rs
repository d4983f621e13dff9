//! Codes that are written out as bytes, with many rows.
//!
//! Sketch for six rows by two groups and 32 inputs: 96 dot instructions, 36 for scales, 64 loads: 67 cycles of two vector
//! pipes, 0.72 of the dot peak. The twelve sums in flight cover a dot product of five cycles, which those of four rows (eight)
//! do not. Quads are taken one after the other, so that a part with its own scale needs no sums of its own.
//!
//! Each output comes from the operations of [`super::in_pairs`] in their order, so that it has the same bits.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of TileArgs")]

use std::sync::atomic::{Ordering, compiler_fence};

use crate::activations::ActivationBlock;
use crate::arch::Isa;
use crate::kernels::codes::Codes;

/// As [`super::in_pairs`].
#[inline(always)]
pub(super) unsafe fn one_by_one<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    groups: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    sums: &mut [[I::F32; GROUPS]; ROWS],
) {
    let mut dots = [[isa.splat_i32(0); GROUPS]; ROWS];
    for row in 0..ROWS {
        let codes = &(*rows[row]).sums;
        let lowered = if C::HALVES { codes.lowered_low(I::BYTE_BIAS) } else { codes.lowered(I::BYTE_BIAS) };
        dots[row] = [isa.splat_i32(lowered); GROUPS];
    }
    add_half::<I, C, ROWS, GROUPS, 0>(isa, groups, rows, &mut dots);
    if C::HALVES {
        add_scaled::<I, C, ROWS, GROUPS>(isa, groups, rows, 0, &dots, sums);
        for row in 0..ROWS {
            dots[row] = [isa.splat_i32((*rows[row]).sums.lowered_high(I::BYTE_BIAS)); GROUPS];
        }
    }
    add_half::<I, C, ROWS, GROUPS, 1>(isa, groups, rows, &mut dots);
    add_scaled::<I, C, ROWS, GROUPS>(isa, groups, rows, C::HALVES as usize, &dots, sums);
}

/// Adds the products of four quads.
#[inline(always)]
unsafe fn add_half<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize, const HALF: usize>(
    isa: I,
    groups: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    dots: &mut [[I::I32; GROUPS]; ROWS],
) {
    add_quad::<I, C, ROWS, GROUPS, HALF, 0>(isa, groups, rows, dots);
    add_quad::<I, C, ROWS, GROUPS, HALF, 1>(isa, groups, rows, dots);
    add_quad::<I, C, ROWS, GROUPS, HALF, 2>(isa, groups, rows, dots);
    add_quad::<I, C, ROWS, GROUPS, HALF, 3>(isa, groups, rows, dots);
}

#[inline(always)]
unsafe fn add_quad<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize, const HALF: usize, const PAIR: usize>(
    isa: I,
    groups: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    dots: &mut [[I::I32; GROUPS]; ROWS],
) {
    let mut weights = [isa.splat_bytes(0); GROUPS];
    for group in 0..GROUPS {
        weights[group] = C::quads::<I, PAIR>(isa, groups[group])[HALF];
    }
    for row in 0..ROWS {
        let quad = (*rows[row]).codes.as_ptr().cast::<i32>().add(PAIR + 4 * HALF).read_unaligned();
        for group in 0..GROUPS {
            dots[row][group] = isa.settled(isa.dot_biased(dots[row][group], weights[group], quad));
        }
    }
    // As in `super::add_quads`.
    compiler_fence(Ordering::SeqCst);
}

/// Adds the products of the part with scale `half` to every sum.
#[inline(always)]
unsafe fn add_scaled<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    groups: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    half: usize,
    dots: &[[I::I32; GROUPS]; ROWS],
    sums: &mut [[I::F32; GROUPS]; ROWS],
) {
    let mut scales = [isa.splat(0.0); GROUPS];
    for group in 0..GROUPS {
        scales[group] = C::scale(isa, groups[group], groups[group], half);
    }
    for row in 0..ROWS {
        let step = isa.splat((*rows[row]).sums.scale);
        for group in 0..GROUPS {
            let dot = isa.to_f32(dots[row][group]);
            sums[row][group] = isa.fma(dot, isa.mul(scales[group], step), sums[row][group]);
        }
    }
}
