//! The products of outliers' high digits, which are added to those of the low ones.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of TileArgs")]

use std::mem::MaybeUninit;

use super::{TileArgs, TileOutput, dot, halves, place, quads_of};
use crate::activations::{Outliers, PANEL_ROWS};
use crate::arch::Isa;
use crate::kernels::codes::Codes;
use crate::layout::GROUP_ROWS;

/// Adds the outliers of the panel. They come after the tiles because few blocks have any: within, each would cost a tile of
/// its own for all rows, or branches that the registers of the sums do not outlive.
#[inline(always)]
pub(super) unsafe fn add_panel<I: Isa, C: Codes, const GROUPS: usize>(isa: I, args: &TileArgs, out: &mut TileOutput) {
    // (row of the panel, group, weight row of the group).
    let mut sums = [[[MaybeUninit::<f32>::uninit(); GROUP_ROWS]; GROUPS]; PANEL_ROWS];
    let sums: *mut [f32; GROUP_ROWS] = sums.as_mut_ptr().cast();
    let zero = [0.0_f32; GROUP_ROWS];
    // Rows that have sums.
    let mut begun = 0_u32;
    let mut at = args.outliers;
    while (*at).block != Outliers::END {
        let outliers = &*at;
        let (block, row) = (outliers.block as usize, outliers.row as usize);
        let mut headers = [std::ptr::null(); GROUPS];
        let mut records = headers;
        let mut found = [isa.splat(0.0); GROUPS];
        let so_far = sums.add(row * GROUPS);
        for group in 0..GROUPS {
            (headers[group], records[group]) = place::<C>(args.groups[group], block);
            // A choice of addresses: whether a row has begun is no branch that could be foretold.
            let from = if outliers.begins == 1 { &raw const zero } else { so_far.add(group) };
            found[group] = isa.load(from.cast());
        }
        add_outliers::<I, C, GROUPS>(isa, &headers, &records, outliers, &mut found);
        for group in 0..GROUPS {
            isa.store(so_far.add(group).cast(), found[group]);
        }
        begun |= 1 << row;
        at = at.add(1);
    }
    while begun != 0 {
        let row = begun.trailing_zeros() as usize;
        begun &= begun - 1;
        for group in 0..GROUPS {
            let at = out[row][group].as_mut_ptr();
            isa.store(at, isa.add(isa.load(at), isa.load(sums.add(row * GROUPS + group).cast())));
        }
    }
}

/// Adds the product of one pair of quads to a row's sums.
#[inline(always)]
pub(super) unsafe fn add_outliers<I: Isa, C: Codes, const GROUPS: usize>(
    isa: I,
    headers: &[*const u8; GROUPS],
    records: &[*const u8; GROUPS],
    outliers: &Outliers,
    sums: &mut [I::F32; GROUPS],
) {
    let codes = &outliers.sums;
    let bias = if C::BYTES { I::BYTE_BIAS } else { C::BIAS };
    let quads = outliers.codes.as_ptr().cast::<i32>();
    let (first, second) = (quads.read_unaligned(), quads.add(1).read_unaligned());
    let step = isa.splat(codes.scale);
    // Rows that share a channel follow each other, so that the branch is mostly foretold.
    let weights = match outliers.pair {
        0 => quads_of::<I, C, GROUPS, 0>(isa, records),
        1 => quads_of::<I, C, GROUPS, 1>(isa, records),
        2 => quads_of::<I, C, GROUPS, 2>(isa, records),
        _ => quads_of::<I, C, GROUPS, 3>(isa, records),
    };
    for group in 0..GROUPS {
        let (header, record) = (headers[group], records[group]);
        let mut low = isa.splat_i32(if C::HALVES { codes.lowered_low(bias) } else { codes.lowered(bias) });
        low = dot::<I, C>(isa, low, weights[group][0], first);
        if C::HALVES {
            let high = dot::<I, C>(isa, isa.splat_i32(codes.lowered_high(bias)), weights[group][1], second);
            let scales = [C::scale(isa, header, record, 0), C::scale(isa, header, record, 1)];
            sums[group] = isa.fma(isa.to_f32(low), isa.mul(scales[0], step), sums[group]);
            sums[group] = isa.fma(isa.to_f32(high), isa.mul(scales[1], step), sums[group]);
        } else {
            low = dot::<I, C>(isa, low, weights[group][1], second);
            let scale = C::scale(isa, header, record, 0);
            sums[group] = isa.fma(isa.to_f32(low), isa.mul(scale, step), sums[group]);
        }
        if C::MINIMUM {
            for half in 0..halves::<C>() {
                let scaled_sum = isa.splat(if C::HALVES { codes.scaled_sum_of(half) } else { codes.scaled_sum });
                sums[group] = isa.fma(C::minimum(isa, header, record, half), scaled_sum, sums[group]);
            }
        }
    }
}
