//! Tiles of integer codes for instruction sets that multiply two rows by two. Leaves one or two rows to the others.
//!
//! Sketch (`usmmla`, 32 inputs of sixteen weight rows). By row, two rows at a time: 64 `usdot`, 16 broadcasts, 16 starts of
//! sums, 8 sums of halves, 24 for scales, and each time some 16 loads and, for nibbles, 32 instructions that take them
//! apart: 72 (Q8_0) to 90 (Q4_0) for a row, if nothing spilled. By matrix, four rows at a time: 64 `usmmla`, 16 for inputs,
//! 16 starts, 48 for scales, 36 loads and stores of weights, scales and sums in memory, 16 for steps and the loop: 49 for a
//! row. Before that, once for all rows of the panel, 32 `zip` beside what takes weights apart, 16 loads and stores and 20 for
//! scales, about 110: 5 for a row of 24.
//!
//! So the records are outside and the rows inside: taking weights apart is paid once, weights are read once, and sums stay in
//! the first cache. docs/arm64.md has the counts of what the compiler made of it.
//!
//! Each output comes from the operations of [`super::record`] in their order, so that it has the same bits.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of TileArgs")]

use super::{OfCodes, Product, TileArgs, TileOutput, codes_by_row, halves, place, prefetch_record, prefetch_results};
use crate::activations::{ActivationBlock, PANEL_ROWS};
use crate::arch::byte_matrix::ByteMatrix;
use crate::kernels::codes::Codes;
use crate::layout::GROUP_ROWS;

/// With fewer rows, unpacking by way of memory costs more than the product saves.
const LEAST_ROWS: usize = 3;

// Rows are taken four at a time, and results of those that a tile has too many need room.
const _: () = assert!(PANEL_ROWS.is_multiple_of(4));

/// One record of a group.
#[derive(Clone, Copy)]
struct Unpacked<I: ByteMatrix> {
    /// (inputs / 8, weight rows / 8).
    weights: [[I::U8; 2]; 4],
    /// (half, weight rows / 8).
    scales: [[I::F32; 2]; 2],
    /// (half, weight rows / 8).
    minimums: [[I::F32; 2]; 2],
}

/// Integer codes, two rows by two.
///
/// # Safety
/// As for [`super::TileFn`].
#[inline(always)]
pub(crate) unsafe fn codes_by_matrix<I: ByteMatrix, C: Codes>(isa: I, args: &TileArgs, out: &mut TileOutput) {
    if args.row_count < LEAST_ROWS {
        return codes_by_row::<I, C>(isa, args, out);
    }
    prefetch_results(isa, args);
    // The last row stands in for those that a tile has too many.
    let rows: [*const ActivationBlock; PANEL_ROWS] = std::array::from_fn(|row| args.row(row));
    let none = [[isa.splat(0.0); 2]; 2];
    let mut unpacked = [Unpacked { weights: [[isa.splat_bytes(0); 2]; 4], scales: none, minimums: none }; 2];
    out[..args.row_count.next_multiple_of(4)].fill([[0.0; GROUP_ROWS]; 2]);
    // One stream of memory at a time, as in `super::tile`.
    let together = if args.streams { 1 } else { args.group_count };
    for first in (0..args.group_count).step_by(together) {
        let unpacked = &mut unpacked[first..first + together];
        for block in 0..args.columns / 32 {
            for (group, unpacked) in (first..).zip(unpacked.iter_mut()) {
                let (header, record) = place::<C>(args.groups[group], block);
                if args.streams {
                    prefetch_record::<I, C>(isa, record);
                }
                unpack::<I, C>(isa, header, record, unpacked);
            }
            for row in (0..args.row_count).step_by(4) {
                add_record::<I, C>(isa, (first, unpacked), &rows[row..], block, &mut out[row..]);
            }
        }
    }
    for pair in out[..args.row_count.next_multiple_of(2)].as_chunks_mut::<2>().0 {
        for group in 0..args.group_count {
            let sums = isa.untangle([isa.load(pair[0][group].as_ptr()), isa.load(pair[1][group].as_ptr())]);
            isa.store(pair[0][group].as_mut_ptr(), sums[0]);
            isa.store(pair[1][group].as_mut_ptr(), sums[1]);
        }
    }
    OfCodes::<C>::finish(isa, args, out);
}

#[inline(always)]
unsafe fn unpack<I: ByteMatrix, C: Codes>(isa: I, header: *const u8, record: *const u8, unpacked: &mut Unpacked<I>) {
    let (a, b) = (C::quads::<I, 0>(isa, record), C::quads::<I, 1>(isa, record));
    unpacked.weights[0] = isa.eights(a[0], b[0]);
    unpacked.weights[2] = isa.eights(a[1], b[1]);
    let (c, d) = (C::quads::<I, 2>(isa, record), C::quads::<I, 3>(isa, record));
    unpacked.weights[1] = isa.eights(c[0], d[0]);
    unpacked.weights[3] = isa.eights(c[1], d[1]);
    for half in 0..halves::<C>() {
        unpacked.scales[half] = isa.twice(C::scale(isa, header, record, half));
        if C::MINIMUM {
            unpacked.minimums[half] = isa.twice(C::minimum(isa, header, record, half));
        }
    }
}

/// Adds one record's product with four rows to their sums, which are tangled up by pairs of rows.
#[inline(always)]
unsafe fn add_record<I: ByteMatrix, C: Codes>(
    isa: I,
    (first, groups): (usize, &[Unpacked<I>]),
    rows: &[*const ActivationBlock],
    block: usize,
    out: &mut [[[f32; GROUP_ROWS]; 2]],
) {
    let pairs = [[&*rows[0].add(block), &*rows[1].add(block)], [&*rows[2].add(block), &*rows[3].add(block)]];
    for (group, unpacked) in (first..).zip(groups) {
        add_half::<I, C, 0>(isa, unpacked, &pairs, group, out);
        if C::HALVES {
            add_half::<I, C, 1>(isa, unpacked, &pairs, group, out);
        }
    }
}

/// Adds the part of a record that has one scale.
#[inline(always)]
unsafe fn add_half<I: ByteMatrix, C: Codes, const HALF: usize>(
    isa: I,
    unpacked: &Unpacked<I>,
    pairs: &[[&ActivationBlock; 2]; 2],
    group: usize,
    out: &mut [[[f32; GROUP_ROWS]; 2]],
) {
    // (weight rows / 8, pair).
    let mut acc = [[isa.splat_i32(0); 2]; 2];
    for pair in 0..2 {
        let [a, b] = pairs[pair];
        let lowered = match (C::HALVES, HALF) {
            (false, _) => [a.sums.lowered(C::BIAS), b.sums.lowered(C::BIAS)],
            (true, 0) => [a.sums.lowered_low(C::BIAS), b.sums.lowered_low(C::BIAS)],
            (true, _) => [a.sums.lowered_high(C::BIAS), b.sums.lowered_high(C::BIAS)],
        };
        acc[0][pair] = isa.alternate_i32(lowered);
        acc[1][pair] = acc[0][pair];
    }
    if !C::HALVES || HALF == 0 {
        multiply::<I, 0>(isa, unpacked, pairs, &mut acc);
        multiply::<I, 1>(isa, unpacked, pairs, &mut acc);
    }
    if !C::HALVES || HALF == 1 {
        multiply::<I, 2>(isa, unpacked, pairs, &mut acc);
        multiply::<I, 3>(isa, unpacked, pairs, &mut acc);
    }
    for pair in 0..2 {
        let step = isa.alternate([pairs[pair][0].sums.scale, pairs[pair][1].sums.scale]);
        for part in 0..2 {
            let scale = isa.mul(unpacked.scales[HALF][part], step);
            let at = out[2 * pair + part][group].as_mut_ptr();
            let mut sum = isa.fma(isa.to_f32(acc[part][pair]), scale, isa.load(at));
            if C::MINIMUM && HALF + 1 == halves::<C>() {
                sum = add_minimums::<I, C>(isa, unpacked, pairs[pair], part, sum);
            }
            isa.store(at, sum);
        }
    }
}

/// Eight inputs of every weight row and activation row.
#[inline(always)]
unsafe fn multiply<I: ByteMatrix, const STEP: usize>(
    isa: I,
    unpacked: &Unpacked<I>,
    pairs: &[[&ActivationBlock; 2]; 2],
    acc: &mut [[I::I32; 2]; 2],
) {
    let [[a, b], [c, d]] = *pairs;
    let at = 8 * STEP;
    let inputs = [
        isa.inputs(a.codes.as_ptr().add(at), b.codes.as_ptr().add(at)),
        isa.inputs(c.codes.as_ptr().add(at), d.codes.as_ptr().add(at)),
    ];
    for part in 0..2 {
        acc[part] = isa.multiply(acc[part], unpacked.weights[STEP][part], inputs);
    }
}

#[inline(always)]
unsafe fn add_minimums<I: ByteMatrix, C: Codes>(
    isa: I,
    unpacked: &Unpacked<I>,
    pair: [&ActivationBlock; 2],
    part: usize,
    mut sum: I::F32,
) -> I::F32 {
    for half in 0..halves::<C>() {
        let of =
            |block: &ActivationBlock| if C::HALVES { block.sums.scaled_sum_of(half) } else { block.sums.scaled_sum };
        sum = isa.fma(unpacked.minimums[half][part], isa.alternate([of(pair[0]), of(pair[1])]), sum);
    }
    sum
}
