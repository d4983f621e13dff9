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
use crate::pass::HEAD_WIDTH_MAX;
use coded::CodedQuery;

/// Positions of a page.
pub(crate) const PAGE: usize = program::PAGE_ROWS;

/// Most query rows in a tile.
pub(crate) const QUERY_ROWS: usize = 12;

/// Floats from one query of a tile to the next: odd lines, or they would all be in the same few places of the first cache.
pub(crate) const QUERY_STRIDE: usize = HEAD_WIDTH_MAX + 16;

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
    /// The queries, times the scale of the scores: ([`QUERY_ROWS`], [`QUERY_STRIDE`]).
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

    /// The positions of the page that a row sees, as bits.
    #[inline(always)]
    fn visible(&self, row: usize) -> u64 {
        let (from, to) = (self.from[row], self.to[row]);
        if from < to { u64::MAX << from & u64::MAX >> (PAGE - to) } else { 0 }
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

// What a row sees of a page is 64 bits, and what rows have of a kind is one vector.
const _: () = assert!(PAGE == 64 && QUERY_ROWS <= 16);

/// What each row has summed up before a page must be multiplied with, as the page has a larger score.
pub(crate) type Corrections = [f32; 16];

/// How many of the `left` rows are computed together: rows that share loads, as far as registers go.
#[inline(always)]
fn group<I: Isa>(left: usize) -> usize {
    if const { I::TILE_GROUPS == 2 } { left.min(4) } else { 1 }
}

/// Calls a part of a kernel for all rows, a [`group`] at a time: how many vectors of each, and how many of a single one.
macro_rules! by_groups {
    ($function:ident, [$several:literal, $one:literal], $isa:ident, $args:ident, $with:expr) => {
        let mut row = 0;
        while row < $args.row_count {
            let rows = $crate::kernels::attention::group::<I>($args.row_count - row);
            match rows {
                4 => $function::<I, 4, $several>($isa, $args, row, $with),
                3 => $function::<I, 3, $several>($isa, $args, row, $with),
                2 => $function::<I, 2, $several>($isa, $args, row, $with),
                _ => $function::<I, 1, $one>($isa, $args, row, $with),
            }
            row += rows;
        }
    };
}
use by_groups;

/// A page of halves: keys are (head width, [`PAGE`]), values ([`PAGE`], value stride).
#[inline(always)]
pub(crate) unsafe fn page<I: Isa>(isa: I, args: &mut PageArgs<'_>) {
    let mut weights = [[0.0f32; PAGE]; QUERY_ROWS];
    // Conversions to f32 are shared by all rows of a whole tile.
    let whole = const { I::TILE_GROUPS == 2 } && args.row_count == QUERY_ROWS;
    if whole {
        scores::<I, QUERY_ROWS, 2>(isa, args, 0, &mut weights);
    } else {
        by_groups!(scores, [4, 4], isa, args, &mut weights);
    }
    let corrections = to_weights(isa, args, &mut weights);
    if whole {
        add_values::<I, QUERY_ROWS, 2>(isa, args, 0, (&weights, &corrections));
    } else {
        by_groups!(add_values, [4, 4], isa, args, (&weights, &corrections));
    }
}

/// Turns the scores of all rows into weights, stage by stage: each row waits long for its largest score and its sum.
#[inline(always)]
unsafe fn to_weights<I: Isa>(isa: I, args: &mut PageArgs<'_>, weights: &mut Weights) -> Corrections {
    let mut largest = [0.0; QUERY_ROWS];
    let mut corrections = [0.0; 16];
    for row in 0..args.row_count {
        let visible = args.visible(row);
        // A row that sees nothing of the page stays as it is.
        if visible != 0 {
            let before = args.states[row].largest;
            largest[row] = largest_of(isa, &weights[row], visible).max(before);
            corrections[row] = before - largest[row];
            args.states[row].largest = largest[row];
        }
    }
    let grown = isa.load(corrections.as_ptr());
    isa.store(corrections.as_mut_ptr(), exp(isa, grown));
    for row in 0..args.row_count {
        let visible = args.visible(row);
        let sum = exponentials(isa, &mut weights[row], largest[row], visible);
        let state = &mut args.states[row];
        state.sum = state.sum * corrections[row] + sum;
    }
    corrections
}

#[inline(always)]
unsafe fn largest_of<I: Isa>(isa: I, scores: &[f32; PAGE], visible: u64) -> f32 {
    let mut parts = [isa.splat(0.0); PAGE / 16];
    for part in 0..PAGE / 16 {
        parts[part] = isa.load(scores.as_ptr().add(16 * part));
    }
    // Most rows see whole pages.
    if visible != u64::MAX {
        for part in 0..PAGE / 16 {
            parts[part] = isa.choose((visible >> (16 * part)) as u16, parts[part], isa.splat(f32::NEG_INFINITY));
        }
    }
    isa.largest(isa.max(isa.max(parts[0], parts[1]), isa.max(parts[2], parts[3])))
}

/// `e^(score - largest)` of the scores that are visible, zero of the others. Returns their sum.
#[inline(always)]
unsafe fn exponentials<I: Isa>(isa: I, scores: &mut [f32; PAGE], largest: f32, visible: u64) -> f32 {
    let (at, largest) = (scores.as_mut_ptr(), isa.splat(largest));
    let mut parts = [isa.splat(0.0); PAGE / 16];
    for part in 0..PAGE / 16 {
        parts[part] = exp(isa, isa.sub(isa.load(at.add(16 * part)), largest));
    }
    if visible != u64::MAX {
        for part in 0..PAGE / 16 {
            parts[part] = isa.choose((visible >> (16 * part)) as u16, parts[part], isa.splat(0.0));
        }
    }
    for part in 0..PAGE / 16 {
        isa.store(at.add(16 * part), parts[part]);
    }
    isa.sum(isa.add(isa.add(parts[0], parts[1]), isa.add(parts[2], parts[3])))
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
            let queries = args.queries.add(first * QUERY_STRIDE + element);
            let mut keys = [isa.splat(0.0); PARTS];
            for part in 0..PARTS {
                keys[part] = isa.load_f16(column.add(16 * part));
            }
            for line in 0..PARTS / 2 {
                let at = element * PAGE + lanes + 32 * line;
                prefetch_ahead(isa, args.head.wrapping_add(values + at), args.next.wrapping_add(at));
            }
            for row in 0..ROWS {
                let query = isa.splat(*queries.add(row * QUERY_STRIDE));
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
        if let Some(cap) = args.soft_cap {
            for row in 0..ROWS {
                for part in 0..PARTS {
                    let score = weights.add(row * PAGE + 16 * part);
                    isa.store(score, soft_cap(isa, isa.load(score), cap));
                }
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

/// `cap · tanh(score / cap)`, with `tanh u = 1 - 2 / (1 + e^(2u))`.
#[inline(always)]
unsafe fn soft_cap<I: Isa>(isa: I, score: I::F32, cap: f32) -> I::F32 {
    let one = isa.splat(1.0);
    let e = exp(isa, isa.mul(score, isa.splat(2.0 / cap)));
    let tanh = isa.sub(one, isa.div(isa.splat(2.0), isa.add(one, e)));
    isa.mul(tanh, isa.splat(cap))
}

/// Adds the weighted values of the page to `ROWS` outputs, `PARTS` × 16 elements at a time.
#[inline(always)]
unsafe fn add_values<I: Isa, const ROWS: usize, const PARTS: usize>(
    isa: I,
    args: &PageArgs<'_>,
    first: usize,
    weighted: (&Weights, &Corrections),
) {
    let stride = value_stride(args.head_width);
    let mut at = 0;
    while at < stride {
        if stride - at >= 16 * PARTS {
            add_part::<I, ROWS, PARTS>(isa, args, first, weighted, at);
            at += 16 * PARTS;
        } else {
            add_part::<I, ROWS, 1>(isa, args, first, weighted, at);
            at += 16;
        }
    }
}

#[inline(always)]
unsafe fn add_part<I: Isa, const ROWS: usize, const PARTS: usize>(
    isa: I,
    args: &PageArgs<'_>,
    first: usize,
    (weights, corrections): (&Weights, &Corrections),
    at: usize,
) {
    let (from, to) = args.seen::<ROWS>(first);
    let mut sums = [[isa.splat(0.0); PARTS]; ROWS];
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
            let out = args.output(first + row).add(at + 16 * part);
            isa.store(out, isa.fma(isa.load(out), isa.splat(corrections[first + row]), sums[row][part]));
        }
    }
}
