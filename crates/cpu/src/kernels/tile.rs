//! The product of a few activation rows with one or two groups of sixteen weight rows.
//!
//! Sketch (one activation row, Q8_0): 544 bytes of weights feed 8 dot instructions and one multiply-add, so a core that
//! streams 38 GB/s has 56 cycles for about 25 instructions: memory-bound. Four rows by two groups: 64 dot instructions
//! for 2 × 544 bytes from cache, 24 multiply-adds: bound by the two vector pipes at about 80 % of the dot peak.
//!
//! Each output is summed over the records in order, with the same operations whatever the tile's shape: a row gives the
//! same bits alone, in a prefill chunk and in a batch.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of TileArgs")]

use std::sync::atomic::{Ordering, compiler_fence};

use crate::activations::ActivationBlock;
use crate::arch::Isa;
use crate::kernels::codes::Codes;
use crate::layout::GROUP_ROWS;

/// Most activation rows that one tile call takes.
pub(crate) const TILE_ROWS_MAX: usize = 8;

/// One call of a tile kernel.
pub(crate) struct TileArgs {
    /// One or two groups in the kernel's layout.
    pub(crate) groups: [*const u8; 2],
    /// How many of them count.
    pub(crate) group_count: usize,
    /// The first activation row: [`ActivationBlock`]s for code layouts, f32 for plain ones.
    pub(crate) activations: *const u8,
    /// Bytes from one activation row to the next.
    pub(crate) activation_stride: usize,
    /// Second planes of the first activation row, for code layouts.
    pub(crate) fine: *const ActivationBlock,
    /// Second planes that a row may have.
    pub(crate) fine_stride: usize,
    /// Activation rows, at most [`TILE_ROWS_MAX`].
    pub(crate) row_count: usize,
    /// Inputs of a weight row.
    pub(crate) columns: usize,
    /// The weights come from memory and serve no other rows: take them as one stream, all rows at once.
    pub(crate) streams: bool,
}

/// Results of a tile: (activation row, group, weight row of the group).
pub(crate) type TileOutput = [[[f32; GROUP_ROWS]; 2]; TILE_ROWS_MAX];

/// A tile kernel for one layout and instruction set.
///
/// # Safety
/// The instruction set is the processor's, and the pointers of [`TileArgs`] cover what its counts say.
pub(crate) type TileFn = unsafe fn(&TileArgs, &mut TileOutput);

/// Cuts the rows into tiles that the instruction set has registers for.
macro_rules! dispatch {
    ($isa:ident, $args:ident, $out:ident, $tile:ident, $($codes:ident)?) => {
        // One stream of memory at a time: the core's prefetchers follow it best. Conditions in `const` blocks keep
        // tiles that an instruction set never uses from being compiled for it.
        if $args.streams && $args.row_count == 1 {
            for group in 0..$args.group_count {
                $tile::<I, $($codes,)? 1, 1, true>($isa, $args, 0, group, $out);
            }
        } else if const { I::TILE_ROWS == 4 } && $args.streams {
            for group in 0..$args.group_count {
                match $args.row_count {
                    2 => $tile::<I, $($codes,)? 2, 1, true>($isa, $args, 0, group, $out),
                    3 | 4 => $tile::<I, $($codes,)? 4, 1, true>($isa, $args, 0, group, $out),
                    _ => $tile::<I, $($codes,)? 8, 1, true>($isa, $args, 0, group, $out),
                }
            }
        } else {
            let mut row = 0;
            while row < $args.row_count {
                let left = $args.row_count - row;
                if const { I::TILE_GROUPS == 2 } && $args.group_count == 2 {
                    match left {
                        1 => $tile::<I, $($codes,)? 1, 2, false>($isa, $args, row, 0, $out),
                        2 | 3 => $tile::<I, $($codes,)? 2, 2, false>($isa, $args, row, 0, $out),
                        _ => $tile::<I, $($codes,)? 4, 2, false>($isa, $args, row, 0, $out),
                    }
                    row += if left >= 4 { 4 } else { left.min(2) };
                } else {
                    for group in 0..$args.group_count {
                        match left {
                            1 => $tile::<I, $($codes,)? 1, 1, false>($isa, $args, row, group, $out),
                            _ => $tile::<I, $($codes,)? 2, 1, false>($isa, $args, row, group, $out),
                        }
                    }
                    row += left.min(2);
                }
            }
        }
    };
}

/// A tile over integer codes.
#[inline(always)]
pub(crate) unsafe fn tile_codes<I: Isa, C: Codes>(isa: I, args: &TileArgs, out: &mut TileOutput) {
    dispatch!(isa, args, out, codes, C);
}

/// A tile over f32 columns.
#[inline(always)]
pub(crate) unsafe fn tile_f32<I: Isa>(isa: I, args: &TileArgs, out: &mut TileOutput) {
    dispatch!(isa, args, out, plain_f32,);
}

/// A tile over f16 columns.
#[inline(always)]
pub(crate) unsafe fn tile_f16<I: Isa>(isa: I, args: &TileArgs, out: &mut TileOutput) {
    dispatch!(isa, args, out, plain_f16,);
}

/// A tile over bf16 columns.
#[inline(always)]
pub(crate) unsafe fn tile_bf16<I: Isa>(isa: I, args: &TileArgs, out: &mut TileOutput) {
    dispatch!(isa, args, out, plain_bf16,);
}

#[inline(always)]
unsafe fn codes<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize, const STREAMS: bool>(
    isa: I,
    args: &TileArgs,
    first_row: usize,
    first_group: usize,
    out: &mut TileOutput,
) {
    // A tile with more rows than there are computes the last one several times over.
    let last = args.row_count - 1;
    let mut rows: [*const ActivationBlock; ROWS] = std::array::from_fn(|row| {
        args.activations.wrapping_add((first_row + row).min(last) * args.activation_stride).cast()
    });
    let mut groups: [*const u8; GROUPS] = std::array::from_fn(|group| args.groups[first_group + group]);
    let mut sums = [[isa.splat(0.0); GROUPS]; ROWS];
    let fine: [*const ActivationBlock; ROWS] =
        std::array::from_fn(|row| args.fine.wrapping_add((first_row + row).min(last) * args.fine_stride));
    let blocks = args.columns / (32 * C::RECORDS);
    for _ in 0..blocks {
        let headers = groups;
        for group in &mut groups {
            *group = group.add(C::HEADER);
        }
        for _ in 0..C::RECORDS {
            if STREAMS {
                prefetch_record::<I, C>(isa, groups[0]);
            }
            let mut places = [0; ROWS];
            let mut any = 0;
            for row in 0..ROWS {
                places[row] = (*rows[row]).fine;
                any |= places[row];
            }
            let mut planes = rows;
            loop {
                record::<I, C, ROWS, GROUPS>(isa, &headers, &groups, &planes, &mut sums);
                if any == 0 {
                    break;
                }
                any = 0;
                for row in 0..ROWS {
                    planes[row] = match places[row] {
                        0 => &raw const NOTHING,
                        place => fine[row].wrapping_add(place as usize - 1),
                    };
                }
            }
            for group in &mut groups {
                *group = group.add(C::RECORD);
            }
            for row in &mut rows {
                *row = row.add(1);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (group, sum) in sums.iter().enumerate() {
            isa.store(out[first_row + row][first_group + group].as_mut_ptr(), *sum);
        }
    }
}

/// How far ahead of use weights are asked for when one row streams through them.
const PREFETCH_BYTES: usize = 4096;

#[inline(always)]
unsafe fn prefetch_record<I: Isa, C: Codes>(isa: I, record: *const u8) {
    let mut line = 0;
    while line < C::RECORD {
        isa.prefetch(record.wrapping_add(PREFETCH_BYTES + line));
        line += 64;
    }
}

/// The second plane of a block that has none: adds zero, whatever the weights.
static NOTHING: ActivationBlock = ActivationBlock {
    codes: [0; 32],
    scale: 0.0,
    scaled_sum: 0.0,
    lowered: 0,
    lowered_low: 0,
    fine: 0,
    padding: [0; 3],
};

/// Adds one record's product to every sum.
#[inline(always)]
unsafe fn record<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    headers: &[*const u8; GROUPS],
    records: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    sums: &mut [[I::F32; GROUPS]; ROWS],
) {
    // With few sums in flight the two halves also keep the dot chain short.
    let split = C::HALVES || ROWS * GROUPS <= 2;
    let bias = if C::BYTES { I::BYTE_BIAS } else { C::BIAS };
    let mut low = [[isa.splat_i32(0); GROUPS]; ROWS];
    let mut high = low;
    for row in 0..ROWS {
        let block = &*rows[row];
        let (first, second) =
            if split { (block.lowered_low(bias), block.lowered_high(bias)) } else { (block.lowered(bias), 0) };
        low[row] = [isa.splat_i32(first); GROUPS];
        high[row] = [isa.splat_i32(second); GROUPS];
    }
    // Fences keep the compiler from loading all quads at once, which would spill the sums. They cost no instruction.
    quad_pair::<I, C, ROWS, GROUPS, 0>(isa, records, rows, split, &mut low, &mut high);
    compiler_fence(Ordering::SeqCst);
    quad_pair::<I, C, ROWS, GROUPS, 1>(isa, records, rows, split, &mut low, &mut high);
    compiler_fence(Ordering::SeqCst);
    quad_pair::<I, C, ROWS, GROUPS, 2>(isa, records, rows, split, &mut low, &mut high);
    compiler_fence(Ordering::SeqCst);
    quad_pair::<I, C, ROWS, GROUPS, 3>(isa, records, rows, split, &mut low, &mut high);
    compiler_fence(Ordering::SeqCst);
    // Rows outside, groups inside: an activation is broadcast once and used at once, so that nothing spills.
    let mut scales = [isa.splat(0.0); GROUPS];
    for group in 0..GROUPS {
        scales[group] = C::scale(isa, headers[group], records[group], 0);
    }
    for row in 0..ROWS {
        let step = isa.splat((*rows[row]).scale);
        for group in 0..GROUPS {
            let dot =
                if C::HALVES || !split { low[row][group] } else { isa.add_i32(low[row][group], high[row][group]) };
            sums[row][group] = isa.fma(isa.to_f32(dot), isa.mul(scales[group], step), sums[row][group]);
        }
    }
    if C::HALVES {
        for group in 0..GROUPS {
            scales[group] = C::scale(isa, headers[group], records[group], 1);
        }
        for row in 0..ROWS {
            let step = isa.splat((*rows[row]).scale);
            for group in 0..GROUPS {
                let dot = isa.to_f32(high[row][group]);
                sums[row][group] = isa.fma(dot, isa.mul(scales[group], step), sums[row][group]);
            }
        }
    }
    if C::MINIMUM {
        add_minimums::<I, C, ROWS, GROUPS>(isa, headers, records, rows, sums);
    }
}

/// Adds what the minimums of one record contribute to every sum.
#[inline(always)]
unsafe fn add_minimums<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    headers: &[*const u8; GROUPS],
    records: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    sums: &mut [[I::F32; GROUPS]; ROWS],
) {
    for half in 0..if C::HALVES { 2 } else { 1 } {
        let mut minimums = [isa.splat(0.0); GROUPS];
        for group in 0..GROUPS {
            minimums[group] = C::minimum(isa, headers[group], records[group], half);
        }
        for row in 0..ROWS {
            let block = &*rows[row];
            let scaled_sum = isa.splat(if C::HALVES { block.scaled_sum_of(half) } else { block.scaled_sum });
            for group in 0..GROUPS {
                sums[row][group] = isa.fma(minimums[group], scaled_sum, sums[row][group]);
            }
        }
    }
}

/// Quads `PAIR` and `PAIR + 4` of every group against every row.
#[inline(always)]
unsafe fn quad_pair<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize, const PAIR: usize>(
    isa: I,
    records: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    split: bool,
    low: &mut [[I::I32; GROUPS]; ROWS],
    high: &mut [[I::I32; GROUPS]; ROWS],
) {
    let mut weights = [C::quads::<I, PAIR>(isa, records[0]); GROUPS];
    for group in 1..GROUPS {
        weights[group] = C::quads::<I, PAIR>(isa, records[group]);
    }
    for row in 0..ROWS {
        let quads = (*rows[row]).codes.as_ptr().cast::<i32>();
        let a = quads.add(PAIR).read_unaligned();
        for group in 0..GROUPS {
            low[row][group] = dot::<I, C>(isa, low[row][group], weights[group][0], a);
        }
        let b = quads.add(PAIR + 4).read_unaligned();
        for group in 0..GROUPS {
            let sum = if split { &mut high[row][group] } else { &mut low[row][group] };
            *sum = dot::<I, C>(isa, *sum, weights[group][1], b);
        }
    }
}

#[inline(always)]
unsafe fn dot<I: Isa, C: Codes>(isa: I, sum: I::I32, weights: I::U8, quad: i32) -> I::I32 {
    if C::BYTES { isa.dot_biased(sum, weights, quad) } else { isa.dot(sum, weights, quad) }
}

macro_rules! plain {
    ($name:ident, $load:ident, $number:ty) => {
        #[inline(always)]
        unsafe fn $name<I: Isa, const ROWS: usize, const GROUPS: usize, const STREAMS: bool>(
            isa: I,
            args: &TileArgs,
            first_row: usize,
            first_group: usize,
            out: &mut TileOutput,
        ) {
            let last = args.row_count - 1;
            let rows: [*const f32; ROWS] = std::array::from_fn(|row| {
                args.activations.wrapping_add((first_row + row).min(last) * args.activation_stride).cast()
            });
            let groups: [*const $number; GROUPS] = std::array::from_fn(|group| args.groups[first_group + group].cast());
            let mut sums = [[isa.splat(0.0); GROUPS]; ROWS];
            for column in 0..args.columns {
                for group in 0..GROUPS {
                    let at = groups[group].add(column * GROUP_ROWS);
                    if STREAMS {
                        isa.prefetch(at.cast::<u8>().wrapping_add(PREFETCH_BYTES));
                    }
                    let weights = isa.$load(at);
                    for row in 0..ROWS {
                        sums[row][group] = isa.fma(weights, isa.splat(*rows[row].add(column)), sums[row][group]);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (group, sum) in sums.iter().enumerate() {
                    isa.store(out[first_row + row][first_group + group].as_mut_ptr(), *sum);
                }
            }
        }
    };
}

plain!(plain_f32, load, f32);
plain!(plain_f16, load_f16, u16);
plain!(plain_bf16, load_bf16, u16);
