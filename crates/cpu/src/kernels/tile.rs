//! The product of activation rows with groups of sixteen weight rows: a panel of rows with one or two groups, or a single row
//! with a strip of them.
//!
//! Sketch (one activation row, Q8_0): 544 bytes of weights feed 8 dot instructions and one multiply-add, so a core that
//! streams 38 GB/s has 56 cycles for about 25 instructions: memory-bound. Many rows: bound by the vector pipes, see `bytes`.
//!
//! Each output is summed over the records in order, and so are its outliers by themselves, which are added last, with the same
//! operations whatever the tile's shape: a row gives the same bits alone, in a prefill chunk and in a batch.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of TileArgs")]

#[cfg(target_arch = "aarch64")]
mod by_matrix;
mod bytes;
mod narrow;
mod outliers;
mod plain;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "aarch64")]
pub(crate) use by_matrix::codes_by_matrix;
use narrow::quads_before_widening;
use outliers::{add_outliers, add_panel};
pub(crate) use plain::{Bf16, F16, F32};

use std::marker::PhantomData;
use std::sync::atomic::{Ordering, compiler_fence};

use crate::activations::{ActivationBlock, Outliers, PANEL_ROWS};
use crate::arch::{Isa, ManyRows};
use crate::kernels::codes::Codes;
use crate::layout::GROUP_ROWS;

/// Most activation rows that are taken together against weights that come from memory.
pub(crate) const STREAM_ROWS: usize = 8;

/// One call of a tile kernel.
pub(crate) struct TileArgs {
    /// The first two groups in the kernel's layout.
    pub(crate) groups: [*const u8; 2],
    /// Bytes from each of them to the next but one.
    pub(crate) step: usize,
    /// How many groups: one or two, or with a single row of a stream up to [`STRIP_GROUPS`].
    pub(crate) group_count: usize,
    /// The first activation row: [`ActivationBlock`]s for code layouts, f32 for plain ones.
    pub(crate) activations: *const u8,
    /// Bytes from one activation row to the next.
    pub(crate) activation_stride: usize,
    /// Outliers of all rows, for code layouts, as `quantize::list_outliers` leaves them.
    pub(crate) outliers: *const Outliers,
    /// Activation rows: a panel, at most [`PANEL_ROWS`].
    pub(crate) row_count: usize,
    /// Inputs of a weight row.
    pub(crate) columns: usize,
    /// Where what becomes of the first row will be written, and the bytes from there to the next row's: for prefetches only.
    pub(crate) target: (*const u8, usize),
    /// The weights come from memory and serve no other rows, at most [`STREAM_ROWS`]: take them as one stream.
    pub(crate) streams: bool,
}

impl TileArgs {
    /// The inputs of a row, or of the last one where a tile has more rows than there are.
    fn row<T>(&self, index: usize) -> *const T {
        self.activations.wrapping_add(index.min(self.row_count - 1) * self.activation_stride).cast()
    }

    fn group(&self, index: usize) -> *const u8 {
        self.groups[index % 2].wrapping_add(index / 2 * self.step)
    }
}

/// Most groups that a single row is multiplied with in one call.
pub(crate) const STRIP_GROUPS: usize = 2 * PANEL_ROWS;

// Tiles of twelve, eight, six and four rows make a panel; its rows are bits of a mask; eight rows are the highest tile of a
// stream.
const _: () = assert!(PANEL_ROWS == 24 && PANEL_ROWS <= u32::BITS as usize && STREAM_ROWS == 8);

/// Results of a tile: (activation row, group, weight row of the group), or of a single row (pair, group of the pair, weight
/// row).
pub(crate) type TileOutput = [[[f32; GROUP_ROWS]; 2]; PANEL_ROWS];

/// A tile kernel for one layout and instruction set.
///
/// # Safety
/// The instruction set is the processor's, and the pointers of [`TileArgs`] cover what its counts say.
pub(crate) type TileFn = unsafe fn(&TileArgs, &mut TileOutput);

/// What is multiplied with what.
pub(crate) trait Product {
    /// Most rows of a tile whose weights serve many rows, for instruction sets with tiles of two groups: 4, 6 where quads are
    /// only loaded, or 12 where nothing but sums takes registers.
    const HEIGHT: usize;
    /// Whether these are codes as they are packed: where [`Isa::MANY_ROWS`] has them written out for many rows, they serve few.
    const PACKED_CODES: bool = false;
    /// Whether these are codes written out for many rows: they are no stream, and the last few rows are not worth tiles of
    /// their own.
    const WRITTEN_CODES: bool = false;

    /// `ROWS` rows with `GROUPS` groups. A tile with more rows than there are computes the last one several times over.
    ///
    /// # Safety
    /// As for [`TileFn`].
    unsafe fn tile<I: Isa, const ROWS: usize, const GROUPS: usize, const STREAMS: bool>(
        isa: I,
        args: &TileArgs,
        first_row: usize,
        first_group: usize,
        out: &mut TileOutput,
    );

    /// What is added when the tiles are through.
    ///
    /// # Safety
    /// As for [`TileFn`].
    unsafe fn finish<I: Isa>(isa: I, args: &TileArgs, out: &mut TileOutput);
}

/// Cuts the rows into tiles that the instruction set has registers for.
#[inline(always)]
pub(crate) unsafe fn tile<I: Isa, P: Product>(isa: I, args: &TileArgs, out: &mut TileOutput) {
    debug_assert!(args.group_count <= 2 || (args.streams && args.row_count == 1), "only a single row takes a strip");
    debug_assert!(!(P::WRITTEN_CODES && args.streams), "what is written out is in a cache");
    prefetch_results(isa, args);
    let streams = const { !P::WRITTEN_CODES } && args.streams;
    // One stream of memory at a time: the core's prefetchers follow it best. Conditions in `const` blocks keep tiles
    // that an instruction set never uses from being compiled for it.
    if streams && args.row_count == 1 {
        for group in 0..args.group_count {
            P::tile::<I, 1, 1, true>(isa, args, 0, group, out);
        }
    } else if const { I::TILE_GROUPS == 2 }
        && (const { P::PACKED_CODES && !matches!(I::MANY_ROWS, ManyRows::Packed) } || streams)
    {
        for group in 0..args.group_count {
            for row in (0..args.row_count).step_by(STREAM_ROWS) {
                match args.row_count - row {
                    1 | 2 => P::tile::<I, 2, 1, true>(isa, args, row, group, out),
                    3 | 4 => P::tile::<I, 4, 1, true>(isa, args, row, group, out),
                    _ => P::tile::<I, 8, 1, true>(isa, args, row, group, out),
                }
            }
        }
    } else if const { I::TILE_GROUPS == 2 } && args.group_count == 2 {
        let mut row = 0;
        while row < args.row_count {
            row += match args.row_count - row {
                1 if const { !P::WRITTEN_CODES } => together::<I, P, 1, 2>(isa, args, (row, 0), out),
                2 | 3 if const { !P::WRITTEN_CODES } => together::<I, P, 2, 2>(isa, args, (row, 0), out),
                8.. if const { P::HEIGHT == 12 } => together::<I, P, 12, 2>(isa, args, (row, 0), out),
                5.. if const { P::HEIGHT == 6 } => together::<I, P, 6, 2>(isa, args, (row, 0), out),
                _ => together::<I, P, 4, 2>(isa, args, (row, 0), out),
            };
        }
    } else {
        for group in 0..args.group_count {
            let mut row = 0;
            while row < args.row_count {
                row += match args.row_count - row {
                    1 if const { !P::WRITTEN_CODES } => together::<I, P, 1, 1>(isa, args, (row, group), out),
                    rows if const { I::TILE_ROWS == 4 } && (const { P::WRITTEN_CODES } || rows > 2) => {
                        together::<I, P, 4, 1>(isa, args, (row, group), out)
                    }
                    _ => together::<I, P, 2, 1>(isa, args, (row, group), out),
                };
            }
        }
    }
    P::finish(isa, args, out);
}

/// Results of many rows lie far apart. Their lines are asked for while there is something else to do: a burst of stores to
/// memory that no cache has would hold up all that follows.
#[inline(always)]
unsafe fn prefetch_results<I: Isa>(isa: I, args: &TileArgs) {
    if args.streams {
        return;
    }
    for row in 0..args.row_count {
        for group in 0..args.group_count {
            isa.prefetch_to_write(
                args.target.0.wrapping_add(row * args.target.1 + group * size_of::<[f32; GROUP_ROWS]>()),
            );
        }
    }
}

/// Integer codes, each row by itself.
///
/// # Safety
/// As for [`TileFn`].
#[inline(always)]
pub(crate) unsafe fn codes_by_row<I: Isa, C: Codes>(isa: I, args: &TileArgs, out: &mut TileOutput) {
    tile::<I, OfCodes<C>>(isa, args, out);
}

/// Returns how many rows are done.
#[inline(always)]
unsafe fn together<I: Isa, P: Product, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    args: &TileArgs,
    (row, group): (usize, usize),
    out: &mut TileOutput,
) -> usize {
    P::tile::<I, ROWS, GROUPS, false>(isa, args, row, group, out);
    ROWS.min(args.row_count - row)
}

#[inline(always)]
unsafe fn store<I: Isa, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    sums: &[[I::F32; GROUPS]; ROWS],
    (first_row, first_group): (usize, usize),
    out: &mut TileOutput,
) {
    for (row, sums) in sums.iter().enumerate() {
        for (group, sum) in sums.iter().enumerate() {
            let group = first_group + group;
            isa.store(out[first_row + row + group / 2][group % 2].as_mut_ptr(), *sum);
        }
    }
}

/// Integer codes of a layout.
pub(crate) struct OfCodes<C>(PhantomData<C>);

impl<C: Codes> Product for OfCodes<C> {
    const HEIGHT: usize = if C::ONE_BY_ONE { 6 } else { 4 };
    const PACKED_CODES: bool = !C::WRITTEN;
    const WRITTEN_CODES: bool = C::WRITTEN;

    #[inline(always)]
    unsafe fn tile<I: Isa, const ROWS: usize, const GROUPS: usize, const STREAMS: bool>(
        isa: I,
        args: &TileArgs,
        first_row: usize,
        first_group: usize,
        out: &mut TileOutput,
    ) {
        let mut rows: [*const ActivationBlock; ROWS] = std::array::from_fn(|row| args.row(first_row + row));
        let mut groups: [*const u8; GROUPS] = std::array::from_fn(|group| args.group(first_group + group));
        let mut sums = [[isa.splat(0.0); GROUPS]; ROWS];
        // A single row waits for memory, and its outliers cost nothing meanwhile.
        let meanwhile = const { STREAMS && ROWS == 1 };
        let mut apart = [isa.splat(0.0); GROUPS];
        let mut outliers = args.outliers;
        let mut block = 0;
        for _ in 0..args.columns / (32 * C::RECORDS) {
            let headers = groups;
            for group in &mut groups {
                *group = group.add(C::HEADER);
            }
            for _ in 0..C::RECORDS {
                if STREAMS {
                    prefetch_record::<I, C>(isa, groups[0]);
                }
                record::<I, C, ROWS, GROUPS>(isa, &headers, &groups, &rows, &mut sums);
                if meanwhile {
                    while (*outliers).block == block {
                        add_outliers::<I, C, GROUPS>(isa, &headers, &groups, &*outliers, &mut apart);
                        outliers = outliers.add(1);
                    }
                    block += 1;
                }
                for group in &mut groups {
                    *group = group.add(C::RECORD);
                }
                for row in &mut rows {
                    *row = row.add(1);
                }
            }
        }
        if meanwhile && outliers != args.outliers {
            for group in 0..GROUPS {
                sums[0][group] = isa.add(sums[0][group], apart[group]);
            }
        }
        store(isa, &sums, (first_row, first_group), out);
    }

    #[inline(always)]
    unsafe fn finish<I: Isa>(isa: I, args: &TileArgs, out: &mut TileOutput) {
        if const { !C::WRITTEN } && args.streams && args.row_count == 1 {
            return;
        }
        match args.group_count {
            1 => add_panel::<I, C, 1>(isa, args, out),
            _ => add_panel::<I, C, 2>(isa, args, out),
        }
    }
}

/// How far ahead of use weights that come from memory are asked for in the first cache, and in the second.
const PREFETCH_BYTES: [usize; 2] = [4096, 8192];

/// Asks for what a stream of weights reads some time after the line at `at`.
///
/// A core waits for 16 lines of the first cache at most (10 or 12 on some), which is less than memory's latency asks for; lines
/// of the second cache are waited for elsewhere.
#[inline(always)]
unsafe fn prefetch_stream<I: Isa>(isa: I, at: *const u8) {
    isa.prefetch(at.wrapping_add(PREFETCH_BYTES[0]));
    isa.prefetch_far(at.wrapping_add(PREFETCH_BYTES[1]));
}

#[inline(always)]
unsafe fn prefetch_record<I: Isa, C: Codes>(isa: I, record: *const u8) {
    let mut line = 0;
    while line < C::RECORD {
        prefetch_stream(isa, record.wrapping_add(line));
        line += 64;
    }
}

/// Adds one record's product to every sum.
#[inline(always)]
unsafe fn record<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    headers: &[*const u8; GROUPS],
    records: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    sums: &mut [[I::F32; GROUPS]; ROWS],
) {
    if C::ONE_BY_ONE {
        bytes::one_by_one::<I, C, ROWS, GROUPS>(isa, records, rows, sums);
    } else {
        in_pairs::<I, C, ROWS, GROUPS>(isa, headers, records, rows, sums);
    }
    if C::MINIMUM {
        add_minimums::<I, C, ROWS, GROUPS>(isa, headers, records, rows, sums);
    }
}

/// Adds one record's product but for its minimums, quads in pairs.
#[inline(always)]
unsafe fn in_pairs<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize>(
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
        let codes = &(*rows[row]).sums;
        let (first, second) =
            if split { (codes.lowered_low(bias), codes.lowered_high(bias)) } else { (codes.lowered(bias), 0) };
        low[row] = [isa.splat_i32(first); GROUPS];
        high[row] = [isa.splat_i32(second); GROUPS];
    }
    if const { I::NARROW && quads_before_widening(C::LARGEST) > 1 && !C::BYTES } {
        narrow::add_quads::<I, C, ROWS, GROUPS>(isa, records, rows, split, &mut low, &mut high);
    } else {
        add_quads::<I, C, ROWS, GROUPS>(isa, records, rows, split, &mut low, &mut high);
    }
    // Rows outside, groups inside: an activation is broadcast once and used at once, so that nothing spills.
    let mut scales = [isa.splat(0.0); GROUPS];
    for group in 0..GROUPS {
        scales[group] = C::scale(isa, headers[group], records[group], 0);
    }
    for row in 0..ROWS {
        let step = isa.splat((*rows[row]).sums.scale);
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
            let step = isa.splat((*rows[row]).sums.scale);
            for group in 0..GROUPS {
                let dot = isa.to_f32(high[row][group]);
                sums[row][group] = isa.fma(dot, isa.mul(scales[group], step), sums[row][group]);
            }
        }
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
    for half in 0..halves::<C>() {
        let mut minimums = [isa.splat(0.0); GROUPS];
        for group in 0..GROUPS {
            minimums[group] = C::minimum(isa, headers[group], records[group], half);
        }
        for row in 0..ROWS {
            let codes = &(*rows[row]).sums;
            let scaled_sum = isa.splat(if C::HALVES { codes.scaled_sum_of(half) } else { codes.scaled_sum });
            for group in 0..GROUPS {
                sums[row][group] = isa.fma(minimums[group], scaled_sum, sums[row][group]);
            }
        }
    }
}

/// Adds the products of all quads to `low`, or with `split` those of the second half to `high`.
#[inline(always)]
unsafe fn add_quads<I: Isa, C: Codes, const ROWS: usize, const GROUPS: usize>(
    isa: I,
    records: &[*const u8; GROUPS],
    rows: &[*const ActivationBlock; ROWS],
    split: bool,
    low: &mut [[I::I32; GROUPS]; ROWS],
    high: &mut [[I::I32; GROUPS]; ROWS],
) {
    // Fences keep the compiler from loading all quads at once, which would spill the sums. They cost no instruction.
    quad_pair::<I, C, ROWS, GROUPS, 0>(isa, records, rows, split, low, high);
    compiler_fence(Ordering::SeqCst);
    quad_pair::<I, C, ROWS, GROUPS, 1>(isa, records, rows, split, low, high);
    compiler_fence(Ordering::SeqCst);
    quad_pair::<I, C, ROWS, GROUPS, 2>(isa, records, rows, split, low, high);
    compiler_fence(Ordering::SeqCst);
    quad_pair::<I, C, ROWS, GROUPS, 3>(isa, records, rows, split, low, high);
    compiler_fence(Ordering::SeqCst);
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
    let weights = quads_of::<I, C, GROUPS, PAIR>(isa, records);
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
            // Few rows wait for memory, and the more is asked for at once the better.
            if const { ROWS > 2 } {
                *sum = isa.settled(*sum);
            }
        }
    }
}

/// Quads `PAIR` and `PAIR + 4` of every group.
#[inline(always)]
unsafe fn quads_of<I: Isa, C: Codes, const GROUPS: usize, const PAIR: usize>(
    isa: I,
    records: &[*const u8; GROUPS],
) -> [[I::U8; 2]; GROUPS] {
    let mut weights = [C::quads::<I, PAIR>(isa, records[0]); GROUPS];
    for group in 1..GROUPS {
        weights[group] = C::quads::<I, PAIR>(isa, records[group]);
    }
    weights
}

/// Where the header and the record of a block of a group are.
#[inline(always)]
fn place<C: Codes>(group: *const u8, block: usize) -> (*const u8, *const u8) {
    let header = group.wrapping_add(block / C::RECORDS * (C::HEADER + C::RECORDS * C::RECORD));
    (header, header.wrapping_add(C::HEADER + block % C::RECORDS * C::RECORD))
}

/// Parts of a record that have a scale of their own.
const fn halves<C: Codes>() -> usize {
    if C::HALVES { 2 } else { 1 }
}

#[inline(always)]
unsafe fn dot<I: Isa, C: Codes>(isa: I, sum: I::I32, weights: I::U8, quad: i32) -> I::I32 {
    if C::BYTES { isa.dot_biased(sum, weights, quad) } else { isa.dot(sum, weights, quad) }
}
