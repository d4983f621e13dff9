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

/// Most query rows in a tile.
pub(crate) const QUERY_ROWS: usize = 12;

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
    /// The queries, element by element: (head width, [`QUERY_ROWS`]).
    pub(crate) queries: *const f32,
    /// Rows that count.
    pub(crate) row_count: usize,
    /// Elements of a head.
    pub(crate) head_width: usize,
    /// The head's keys in the page, and its values behind them.
    pub(crate) head: *const u16,
    /// As `head`, in the page that comes next; any address where none does.
    pub(crate) next: *const u16,
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
    /// Running outputs: (rows, value stride).
    pub(crate) outputs: *mut f32,
}

impl PageArgs<'_> {
    /// Where a row's outputs begin.
    #[inline(always)]
    fn output(&self, row: usize) -> *mut f32 {
        self.outputs.wrapping_add(row * value_stride(self.head_width))
    }

    /// The positions of the page that one of `ROWS` rows sees.
    #[inline(always)]
    fn seen<const ROWS: usize>(&self, first: usize) -> (usize, usize) {
        let mut seen = (PAGE, 0);
        for row in first..first + ROWS {
            seen = (seen.0.min(self.from[row]), seen.1.max(self.to[row]));
        }
        seen
    }
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
    if const { I::TILE_GROUPS == 2 } { left.min(4) } else { 1 }
}

/// A page of halves: keys are (head width, [`PAGE`]), values ([`PAGE`], value stride).
#[inline(always)]
pub(crate) unsafe fn page<I: Isa>(isa: I, args: &mut PageArgs<'_>) {
    let mut weights = [[0.0f32; PAGE]; QUERY_ROWS];
    // Conversions to f32 are shared by all rows of a whole tile.
    let whole = const { I::TILE_GROUPS == 2 } && args.row_count == QUERY_ROWS;
    if whole {
        scores::<I, QUERY_ROWS, 2>(isa, args, 0, &mut weights);
    } else {
        let mut row = 0;
        while row < args.row_count {
            let rows = group::<I>(args.row_count - row);
            match rows {
                4 => scores::<I, 4, 4>(isa, args, row, &mut weights),
                3 => scores::<I, 3, 4>(isa, args, row, &mut weights),
                2 => scores::<I, 2, 4>(isa, args, row, &mut weights),
                _ => scores::<I, 1, 4>(isa, args, row, &mut weights),
            }
            row += rows;
        }
    }
    to_weights(isa, args, &mut weights);
    if whole {
        add_values::<I, QUERY_ROWS, 2>(isa, args, 0, &weights);
    } else {
        let mut row = 0;
        while row < args.row_count {
            let rows = group::<I>(args.row_count - row);
            match rows {
                4 => add_values::<I, 4, 4>(isa, args, row, &weights),
                3 => add_values::<I, 3, 4>(isa, args, row, &weights),
                2 => add_values::<I, 2, 4>(isa, args, row, &weights),
                _ => add_values::<I, 1, 4>(isa, args, row, &weights),
            }
            row += rows;
        }
    }
}

/// Turns the scores of all rows into weights, and scales what the rows have summed up so far.
#[inline(always)]
unsafe fn to_weights<I: Isa>(isa: I, args: &mut PageArgs<'_>, weights: &mut Weights) {
    for (row, weights) in weights.iter_mut().enumerate().take(args.row_count) {
        let correction = softmax(isa, args, row, weights);
        if correction != 1.0 {
            let outputs = args.output(row);
            for at in (0..args.head_width).step_by(16) {
                isa.store(outputs.add(at), isa.mul(isa.load(outputs.add(at)), isa.splat(correction)));
            }
        }
    }
}

/// Scores of `ROWS` queries with the positions that one of them sees, `PARTS` × 16 at a time.
#[inline(always)]
unsafe fn scores<I: Isa, const ROWS: usize, const PARTS: usize>(
    isa: I,
    args: &PageArgs<'_>,
    first: usize,
    weights: &mut Weights,
) {
    let (from, to) = args.seen::<ROWS>(first);
    let values = PAGE * args.head_width;
    for lanes in (from / (16 * PARTS) * (16 * PARTS)..to).step_by(16 * PARTS) {
        let mut sums = [[isa.splat(0.0); PARTS]; ROWS];
        for element in 0..args.head_width {
            let column = args.head.add(element * PAGE + lanes);
            let queries = args.queries.add(element * QUERY_ROWS + first);
            let mut keys = [isa.splat(0.0); PARTS];
            for part in 0..PARTS {
                keys[part] = isa.load_f16(column.add(16 * part));
            }
            for line in 0..PARTS / 2 {
                let at = element * PAGE + lanes + 32 * line;
                prefetch_ahead(isa, args.head.wrapping_add(values + at), args.next.wrapping_add(at));
            }
            for row in 0..ROWS {
                let query = isa.splat(*queries.add(row));
                for part in 0..PARTS {
                    sums[row][part] = isa.fma(keys[part], query, sums[row][part]);
                }
            }
        }
        let weights = weights.as_mut_ptr().cast::<f32>().add(first * PAGE + lanes);
        // Nothing else here: a loop that is not unrolled would keep the sums in memory all along.
        for row in 0..ROWS {
            for part in 0..PARTS {
                isa.store(weights.add(row * PAGE + 16 * part), sums[row][part]);
            }
        }
        for row in 0..ROWS {
            for part in 0..PARTS {
                let score = weights.add(row * PAGE + 16 * part);
                isa.store(score, capped(isa, isa.mul(isa.load(score), isa.splat(args.scale)), args.soft_cap));
            }
        }
    }
}

/// Keys are read, then values, then the next page's: asks for what comes one of these later, and two.
#[inline(always)]
unsafe fn prefetch_ahead<I: Isa>(isa: I, next: *const u16, after: *const u16) {
    isa.prefetch(next.cast());
    isa.prefetch_far(after.cast());
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
    let (from, to, state) = (args.from[row], args.to[row], &mut args.states[row]);
    if from >= to {
        weights.fill(0.0);
        return 1.0;
    }
    if (from, to) == (0, PAGE) {
        // The bounds are constants here, so that scores stay in registers.
        let correction = exponentials(isa, state, weights, [0, PAGE]);
        state.sum = state.sum * correction + sum_of(isa, weights, [0, PAGE]);
        return correction;
    }
    let (begin, end) = (from / 16 * 16, to.next_multiple_of(16));
    weights[begin..from].fill(f32::NEG_INFINITY);
    weights[to..end].fill(f32::NEG_INFINITY);
    let correction = exponentials(isa, state, weights, [begin, end]);
    weights[..from].fill(0.0);
    weights[to..].fill(0.0);
    state.sum = state.sum * correction + sum_of(isa, weights, [begin, end]);
    correction
}

/// `e^(score - largest)` of the scores from `begin` to `end`, whole vectors. Returns what earlier sums must be multiplied with.
#[inline(always)]
unsafe fn exponentials<I: Isa>(
    isa: I,
    state: &mut SoftmaxState,
    weights: &mut [f32; PAGE],
    [begin, end]: [usize; 2],
) -> f32 {
    let at = weights.as_mut_ptr();
    let mut largest = isa.load(at.add(begin));
    for part in (begin + 16..end).step_by(16) {
        largest = isa.max(largest, isa.load(at.add(part)));
    }
    let (before, largest) = (state.largest, isa.largest(largest).max(state.largest));
    state.largest = largest;
    for part in (begin..end).step_by(16) {
        let shifted = isa.sub(isa.load(at.add(part)), isa.splat(largest));
        isa.store(at.add(part), exp(isa, shifted));
    }
    // Few pages have a larger score than all before them.
    if state.sum == 0.0 || largest == before { 1.0 } else { (before - largest).exp() }
}

#[inline(always)]
unsafe fn sum_of<I: Isa>(isa: I, weights: &[f32; PAGE], [begin, end]: [usize; 2]) -> f32 {
    let at = weights.as_ptr();
    let mut sum = isa.load(at.add(begin));
    for part in (begin + 16..end).step_by(16) {
        sum = isa.add(sum, isa.load(at.add(part)));
    }
    isa.sum(sum)
}

/// Adds the weighted values of the page to `ROWS` outputs, `PARTS` × 16 elements at a time.
#[inline(always)]
unsafe fn add_values<I: Isa, const ROWS: usize, const PARTS: usize>(
    isa: I,
    args: &PageArgs<'_>,
    first: usize,
    weights: &Weights,
) {
    let stride = value_stride(args.head_width);
    let mut at = 0;
    while at < stride {
        if stride - at >= 16 * PARTS {
            add_part::<I, ROWS, PARTS>(isa, args, first, weights, at);
            at += 16 * PARTS;
        } else {
            add_part::<I, ROWS, 1>(isa, args, first, weights, at);
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
    at: usize,
) {
    let (from, to) = args.seen::<ROWS>(first);
    let mut sums = [[isa.splat(0.0); PARTS]; ROWS];
    for row in 0..ROWS {
        for part in 0..PARTS {
            sums[row][part] = isa.load(args.output(first + row).add(at + 16 * part));
        }
    }
    let (values, next_values) = (args.head.add(PAGE * args.head_width), args.next.wrapping_add(PAGE * args.head_width));
    let stride = value_stride(args.head_width);
    let weights = weights.as_ptr().cast::<f32>().add(first * PAGE);
    for position in from..to {
        let value = values.add(position * stride + at);
        let mut parts = [isa.splat(0.0); PARTS];
        for part in 0..PARTS {
            parts[part] = isa.load_f16(value.add(16 * part));
        }
        for line in 0..PARTS / 2 {
            let at = position * stride + at + 32 * line;
            prefetch_ahead(isa, args.next.wrapping_add(at), next_values.wrapping_add(at));
        }
        for row in 0..ROWS {
            let weight = isa.splat(*weights.add(row * PAGE + position));
            for part in 0..PARTS {
                sums[row][part] = isa.fma(parts[part], weight, sums[row][part]);
            }
        }
    }
    for row in 0..ROWS {
        for part in 0..PARTS {
            isa.store(args.output(first + row).add(at + 16 * part), sums[row][part]);
        }
    }
}
