//! Attention over one page at a time with a running softmax (Dao et al. 2022, arXiv 2205.14135).
//!
//! Scores fill lanes by position and outputs by element: no sum across lanes, and a row's arithmetic is the same
//! whatever rows it is computed with. Here are the softmax and pages of halves; pages of codes are in `coded`. Bytes of
//! halves: 2 × 128 × head width for each page and key head, read once for all query rows of a tile.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of PageArgs")]

pub(crate) mod coded;

use crate::arch::Isa;
use crate::kernels::vector::exp;
use crate::pages::value_stride;
use coded::CodedQuery;

/// Positions of a page.
pub(crate) const PAGE: usize = program::PAGE_ROWS;

/// Query rows in a tile.
pub(crate) const QUERY_ROWS: usize = 4;

/// The running softmax of one query row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoftmaxState {
    /// Largest score so far.
    pub(crate) largest: f32,
    /// Sum of `e^(score - largest)`.
    pub(crate) sum: f32,
}

impl SoftmaxState {
    pub(crate) const EMPTY: SoftmaxState = SoftmaxState { largest: f32::NEG_INFINITY, sum: 0.0 };
}

/// One page against up to [`QUERY_ROWS`] query rows.
pub(crate) struct PageArgs<'a> {
    /// Query vectors of `head_width` f32.
    pub(crate) queries: [*const f32; QUERY_ROWS],
    /// Rows that count.
    pub(crate) row_count: usize,
    /// Elements of a head.
    pub(crate) head_width: usize,
    /// The head's keys in the page, and its values behind them.
    pub(crate) head: *const u16,
    /// The queries as codes, for pages of codes.
    pub(crate) coded: &'a [CodedQuery; QUERY_ROWS],
    /// First visible position of each row in the page.
    pub(crate) from: [usize; QUERY_ROWS],
    /// Past the last visible position of each row in the page.
    pub(crate) to: [usize; QUERY_ROWS],
    /// Multiplies the scores.
    pub(crate) scale: f32,
    /// Caps the scores.
    pub(crate) soft_cap: Option<f32>,
    /// Running softmax of each row.
    pub(crate) states: &'a mut [SoftmaxState; QUERY_ROWS],
    /// Running outputs: the head width rounded up to sixteen f32 for each row.
    pub(crate) outputs: [*mut f32; QUERY_ROWS],
}

/// A page kernel.
///
/// # Safety
/// The instruction set is the processor's; the pointers cover what the widths say.
pub(crate) type PageFn = unsafe fn(&mut PageArgs<'_>);

/// Weights of the positions of a page, for each row of a tile.
pub(crate) type Weights = [[f32; PAGE]; QUERY_ROWS];

/// How many of the `left` rows are computed together: rows that share loads, as far as registers go.
#[inline(always)]
fn group<I: Isa>(left: usize) -> usize {
    if const { I::TILE_ROWS == 4 } { left.min(4) } else { 1 }
}

/// A page of halves: keys are (head width, [`PAGE`]), values ([`PAGE`], value stride).
#[inline(always)]
pub(crate) unsafe fn page<I: Isa>(isa: I, args: &mut PageArgs<'_>) {
    let mut weights = [[0.0f32; PAGE]; QUERY_ROWS];
    let mut row = 0;
    while row < args.row_count {
        let rows = group::<I>(args.row_count - row);
        match rows {
            4 => scores::<I, 4>(isa, args, row, &mut weights),
            3 => scores::<I, 3>(isa, args, row, &mut weights),
            2 => scores::<I, 2>(isa, args, row, &mut weights),
            _ => scores::<I, 1>(isa, args, row, &mut weights),
        }
        row += rows;
    }
    to_weights(isa, args, &mut weights);
    let mut row = 0;
    while row < args.row_count {
        let rows = group::<I>(args.row_count - row);
        match rows {
            4 => add_values::<I, 4>(isa, args, row, &weights),
            3 => add_values::<I, 3>(isa, args, row, &weights),
            2 => add_values::<I, 2>(isa, args, row, &weights),
            _ => add_values::<I, 1>(isa, args, row, &weights),
        }
        row += rows;
    }
}

/// Turns the scores of all rows into weights, and scales what the rows have summed up so far.
#[inline(always)]
unsafe fn to_weights<I: Isa>(isa: I, args: &mut PageArgs<'_>, weights: &mut Weights) {
    for (row, weights) in weights.iter_mut().enumerate().take(args.row_count) {
        let correction = softmax(isa, args, row, weights);
        if correction != 1.0 {
            for at in (0..args.head_width).step_by(16) {
                let out = args.outputs[row].add(at);
                isa.store(out, isa.mul(isa.load(out), isa.splat(correction)));
            }
        }
    }
}

/// Scores of `ROWS` queries with all positions of the page.
#[inline(always)]
unsafe fn scores<I: Isa, const ROWS: usize>(isa: I, args: &PageArgs<'_>, first: usize, weights: &mut Weights) {
    let mut sums = [[isa.splat(0.0); 4]; ROWS];
    for element in 0..args.head_width {
        let column = args.head.add(element * PAGE);
        let keys: [I::F32; 4] = [
            isa.load_f16(column),
            isa.load_f16(column.add(16)),
            isa.load_f16(column.add(32)),
            isa.load_f16(column.add(48)),
        ];
        for row in 0..ROWS {
            let query = isa.splat(*args.queries[first + row].add(element));
            for part in 0..4 {
                sums[row][part] = isa.fma(keys[part], query, sums[row][part]);
            }
        }
    }
    for row in 0..ROWS {
        for part in 0..4 {
            let score = capped(isa, isa.mul(sums[row][part], isa.splat(args.scale)), args.soft_cap);
            isa.store(weights[first + row].as_mut_ptr().add(16 * part), score);
        }
    }
}

#[inline(always)]
unsafe fn capped<I: Isa>(isa: I, score: I::F32, cap: Option<f32>) -> I::F32 {
    match cap {
        Some(cap) => soft_cap(isa, score, cap),
        None => score,
    }
}

/// `cap · tanh(score / cap)`, with `tanh u = 1 - 2 / (1 + e^(2u))`.
#[inline(always)]
unsafe fn soft_cap<I: Isa>(isa: I, score: I::F32, cap: f32) -> I::F32 {
    let one = isa.splat(1.0);
    let e = exp(isa, isa.mul(score, isa.splat(2.0 / cap)));
    let tanh = isa.sub(one, isa.div(isa.splat(2.0), isa.add(one, e)));
    isa.mul(tanh, isa.splat(cap))
}

/// Turns a row's scores into weights; returns what earlier outputs must be multiplied with.
#[inline(always)]
unsafe fn softmax<I: Isa>(isa: I, args: &mut PageArgs<'_>, row: usize, weights: &mut [f32; PAGE]) -> f32 {
    let (from, to) = (args.from[row], args.to[row]);
    if from >= to {
        weights.fill(0.0);
        return 1.0;
    }
    weights[..from].fill(f32::NEG_INFINITY);
    weights[to..].fill(f32::NEG_INFINITY);
    let at = weights.as_mut_ptr();
    let mut largest = isa.load(at);
    for part in 1..4 {
        largest = isa.max(largest, isa.load(at.add(16 * part)));
    }
    let state = &mut args.states[row];
    let largest = isa.largest(largest).max(state.largest);
    let correction = if state.sum == 0.0 { 1.0 } else { (state.largest - largest).exp() };
    for part in 0..4 {
        let shifted = isa.sub(isa.load(at.add(16 * part)), isa.splat(largest));
        isa.store(at.add(16 * part), exp(isa, shifted));
    }
    weights[..from].fill(0.0);
    weights[to..].fill(0.0);
    let at = weights.as_ptr();
    let mut sum = isa.load(at);
    for part in 1..4 {
        sum = isa.add(sum, isa.load(at.add(16 * part)));
    }
    state.sum = state.sum * correction + isa.sum(sum);
    state.largest = largest;
    correction
}

/// Adds the weighted values of the page to `ROWS` outputs, sixty-four elements at a time.
#[inline(always)]
unsafe fn add_values<I: Isa, const ROWS: usize>(isa: I, args: &PageArgs<'_>, first: usize, weights: &Weights) {
    let rows = first..first + ROWS;
    let from = rows.clone().map(|row| args.from[row]).min().unwrap_or(0);
    let to = rows.map(|row| args.to[row]).max().unwrap_or(0);
    let stride = value_stride(args.head_width);
    let mut at = 0;
    while at < stride {
        if stride - at >= 64 {
            add_part::<I, ROWS, 4>(isa, args, first, weights, (from, to), at);
            at += 64;
        } else {
            add_part::<I, ROWS, 1>(isa, args, first, weights, (from, to), at);
            at += 16;
        }
    }
}

#[inline(always)]
unsafe fn add_part<I: Isa, const ROWS: usize, const PARTS: usize>(
    isa: I,
    args: &PageArgs<'_>,
    first: usize,
    weights: &Weights,
    (from, to): (usize, usize),
    at: usize,
) {
    let mut sums = [[isa.splat(0.0); PARTS]; ROWS];
    for row in 0..ROWS {
        for part in 0..PARTS {
            sums[row][part] = isa.load(args.outputs[first + row].add(at + 16 * part));
        }
    }
    let values = args.head.add(PAGE * args.head_width);
    let stride = value_stride(args.head_width);
    for position in from..to {
        let value = values.add(position * stride + at);
        let mut parts = [isa.splat(0.0); PARTS];
        for part in 0..PARTS {
            parts[part] = isa.load_f16(value.add(16 * part));
        }
        for row in 0..ROWS {
            let weight = isa.splat(weights[first + row][position]);
            for part in 0..PARTS {
                sums[row][part] = isa.fma(parts[part], weight, sums[row][part]);
            }
        }
    }
    for row in 0..ROWS {
        for part in 0..PARTS {
            isa.store(args.outputs[first + row].add(at + 16 * part), sums[row][part]);
        }
    }
}
