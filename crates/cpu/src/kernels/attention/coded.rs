//! Attention over pages of codes, by integer dot products.
//!
//! A query is cut into two planes of codes for each block of 32, coarse ones and what they leave over, so that scores are
//! as exact as with f32: what is lost is below 2⁻¹⁶ of the block's largest. The weights of a page, each times the scale of
//! its value, are cut likewise for each block of elements. A dot instruction sums four products, so a page and a row of
//! width 64 take 256 of them where halves take 512 multiply-adds, and read 8.5 bits for each element rather than 16.
//!
//! What a row's planes hold depends on nothing but the row and the positions that it sees.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of PageArgs")]

use super::{Corrections, PAGE, PageArgs, QUERY_ROWS, Weights, by_groups, soft_cap, to_weights};
use crate::arch::Isa;
use crate::pages::{BLOCK, LINE_BYTES, code_bytes, values_start};
use crate::pass::HEAD_WIDTH_MAX;

/// A query of at most [`HEAD_WIDTH_MAX`] elements as codes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodedQuery {
    /// Value ÷ scale, rounded.
    coarse: [i8; HEAD_WIDTH_MAX],
    /// What is left over × [`FINER`] ÷ scale, rounded.
    fine: [i8; HEAD_WIDTH_MAX],
    /// What codes are multiplied with, the scale of the scores included, for each block.
    scales: [f32; HEAD_WIDTH_MAX / BLOCK],
    /// What sums over stored bytes start at, because keys are stored + 128; coarse and fine, for each block.
    starts: [[i32; 2]; HEAD_WIDTH_MAX / BLOCK],
}

/// Fine steps in a coarse one: half a coarse step is 127 of them.
const FINER: f32 = 254.0;
/// Fine steps of a weight in a coarse one; weights are rounded down, so that both planes are without sign.
const WEIGHT_FINER: f32 = 127.0;
/// What is smaller than this is as good as zero, and its reciprocal may overflow.
const TINY: f32 = 1e-30;

impl CodedQuery {
    /// No query yet.
    pub(crate) const EMPTY: CodedQuery = CodedQuery {
        coarse: [0; HEAD_WIDTH_MAX],
        fine: [0; HEAD_WIDTH_MAX],
        scales: [0.0; HEAD_WIDTH_MAX / BLOCK],
        starts: [[0; 2]; HEAD_WIDTH_MAX / BLOCK],
    };
}

/// Cuts a query of `head_width` f32, whose scores are multiplied with `scale`, into planes.
#[inline(always)]
pub(crate) unsafe fn code_query<I: Isa>(
    isa: I,
    query: *const f32,
    head_width: usize,
    scale: f32,
    coded: &mut CodedQuery,
) {
    for block in 0..head_width / BLOCK {
        let at = block * BLOCK;
        let values = [isa.load(query.add(at)), isa.load(query.add(at + 16))];
        let largest = isa.largest(isa.max(isa.abs(values[0]), isa.abs(values[1])));
        let (step, inverse) = if largest > TINY { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
        let mut sums = [isa.splat_i32(0); 2];
        for part in 0..2 {
            let coarse = isa.round(isa.mul(values[part], isa.splat(inverse)));
            let left = isa.fma(isa.to_f32(coarse), isa.splat(-step), values[part]);
            let fine = isa.round(isa.mul(left, isa.splat(inverse * FINER)));
            isa.store_i8(coded.coarse.as_mut_ptr().add(at + 16 * part), coarse);
            isa.store_i8(coded.fine.as_mut_ptr().add(at + 16 * part), fine);
            sums = [isa.add_i32(sums[0], coarse), isa.add_i32(sums[1], fine)];
        }
        coded.scales[block] = step * scale;
        coded.starts[block] = [-I::BYTE_BIAS * isa.sum_i32(sums[0]), -I::BYTE_BIAS * isa.sum_i32(sums[1])];
    }
}

/// A page of codes, laid out as `pages` says.
#[inline(always)]
pub(crate) unsafe fn page<I: Isa>(isa: I, args: &mut PageArgs<'_>) {
    let mut weights = [[0.0f32; PAGE]; QUERY_ROWS];
    by_groups!(scores, [2, 1], isa, args, &mut weights);
    let corrections = to_weights(isa, args, &mut weights);
    by_groups!(add_values, [2, 1], isa, args, (&weights, &corrections));
}

/// Scores of `ROWS` queries with all positions of the page, `PARTS` × 16 positions at a time.
#[inline(always)]
unsafe fn scores<I: Isa, const ROWS: usize, const PARTS: usize>(
    isa: I,
    args: &PageArgs<'_>,
    first: usize,
    weights: &mut Weights,
) {
    let keys = args.head.cast::<u8>();
    let scales = keys.add(code_bytes(args.head_width)).cast::<u16>();
    for lanes in (0..PAGE).step_by(16 * PARTS) {
        let codes = keys.add(lanes / 32 * (args.head_width / 4) * LINE_BYTES + 4 * (lanes % 32));
        let mut sums = [[isa.splat(0.0); PARTS]; ROWS];
        for block in 0..args.head_width / BLOCK {
            let mut coarse = [[isa.splat_i32(0); PARTS]; ROWS];
            let mut fine = [[isa.splat_i32(0); PARTS]; ROWS];
            for row in 0..ROWS {
                let [start, fine_start] = args.coded[first + row].starts[block];
                coarse[row] = [isa.splat_i32(start); PARTS];
                fine[row] = [isa.splat_i32(fine_start); PARTS];
            }
            for quad in block * (BLOCK / 4)..(block + 1) * (BLOCK / 4) {
                let mut bytes = [isa.splat_bytes(0); PARTS];
                for part in 0..PARTS {
                    bytes[part] = isa.load_bytes(codes.add(quad * LINE_BYTES + 64 * part));
                }
                for row in 0..ROWS {
                    let query = &args.coded[first + row];
                    let four = query.coarse.as_ptr().add(4 * quad).cast::<i32>().read();
                    let fine_four = query.fine.as_ptr().add(4 * quad).cast::<i32>().read();
                    for part in 0..PARTS {
                        coarse[row][part] = isa.dot_biased(coarse[row][part], bytes[part], four);
                        fine[row][part] = isa.dot_biased(fine[row][part], bytes[part], fine_four);
                    }
                }
            }
            for part in 0..PARTS {
                let scale = isa.load_f16(scales.add(block * PAGE + lanes + 16 * part));
                for row in 0..ROWS {
                    let fine = isa.to_f32(fine[row][part]);
                    let whole = isa.fma(fine, isa.splat(1.0 / FINER), isa.to_f32(coarse[row][part]));
                    let product = isa.mul(whole, isa.splat(args.coded[first + row].scales[block]));
                    sums[row][part] = isa.fma(product, scale, sums[row][part]);
                }
            }
        }
        for row in 0..ROWS {
            for part in 0..PARTS {
                let sum = sums[row][part];
                let score = if let Some(cap) = args.soft_cap { soft_cap(isa, sum, cap) } else { sum };
                isa.store(weights[first + row].as_mut_ptr().add(lanes + 16 * part), score);
            }
        }
    }
}

/// One row's weights of a page for a block of elements, as codes without sign.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Shares {
    coarse: [i8; PAGE],
    fine: [i8; PAGE],
    scale: f32,
}

/// Multiplies weights with the scales of the values and cuts the products into planes.
#[inline(always)]
unsafe fn shares<I: Isa>(
    isa: I,
    weights: &[f32; PAGE],
    scales: *const u16,
    (from, to): (usize, usize),
    out: &mut Shares,
) {
    let mut products = [0.0f32; PAGE];
    for at in (0..PAGE).step_by(16) {
        let scale = isa.load_f16(scales.add(at));
        isa.store(products.as_mut_ptr().add(at), isa.mul(isa.load(weights.as_ptr().add(at)), scale));
    }
    // A scale outside of what the row sees may be anything, and anything times zero need not be zero.
    products[..from].fill(0.0);
    products[to.max(from)..].fill(0.0);
    let mut parts = [isa.splat(0.0); 4];
    for part in 0..4 {
        parts[part] = isa.load(products.as_ptr().add(16 * part));
    }
    let largest = isa.largest(isa.max(isa.max(parts[0], parts[1]), isa.max(parts[2], parts[3])));
    let (step, inverse) = if largest > TINY { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
    for part in 0..4 {
        let down = isa.sub(isa.mul(parts[part], isa.splat(inverse)), isa.splat(0.5));
        let coarse = isa.round(isa.max(down, isa.splat(0.0)));
        let left = isa.fma(isa.to_f32(coarse), isa.splat(-step), parts[part]);
        let fine = isa.round(isa.max(isa.mul(left, isa.splat(inverse * WEIGHT_FINER)), isa.splat(0.0)));
        isa.store_i8(out.coarse.as_mut_ptr().add(16 * part), coarse);
        isa.store_i8(out.fine.as_mut_ptr().add(16 * part), fine);
    }
    out.scale = step;
}

/// Adds the weighted values of the page to `ROWS` outputs, `PARTS` × 16 elements at a time.
#[inline(always)]
unsafe fn add_values<I: Isa, const ROWS: usize, const PARTS: usize>(
    isa: I,
    args: &PageArgs<'_>,
    first: usize,
    (weights, corrections): (&Weights, &Corrections),
) {
    let values = args.head.cast::<u8>().add(values_start(args.head_width));
    let scales = values.add(code_bytes(args.head_width)).cast::<u16>();
    for block in 0..args.head_width / BLOCK {
        let mut shared = [Shares { coarse: [0; PAGE], fine: [0; PAGE], scale: 0.0 }; ROWS];
        for row in 0..ROWS {
            let range = (args.from[first + row], args.to[first + row]);
            shares(isa, &weights[first + row], scales.add(block * PAGE), range, &mut shared[row]);
        }
        let codes = values.add(block * (PAGE / 4) * LINE_BYTES);
        for at in (0..BLOCK).step_by(16 * PARTS) {
            let mut coarse = [[isa.splat_i32(0); PARTS]; ROWS];
            let mut fine = [[isa.splat_i32(0); PARTS]; ROWS];
            for quad in 0..PAGE / 4 {
                let mut bytes = [isa.splat_bytes(0); PARTS];
                for part in 0..PARTS {
                    bytes[part] = isa.load_bytes(codes.add(quad * LINE_BYTES + 4 * at + 64 * part));
                }
                for row in 0..ROWS {
                    let four = shared[row].coarse.as_ptr().add(4 * quad).cast::<i32>().read();
                    let fine_four = shared[row].fine.as_ptr().add(4 * quad).cast::<i32>().read();
                    for part in 0..PARTS {
                        coarse[row][part] = isa.dot_signed(coarse[row][part], bytes[part], four);
                        fine[row][part] = isa.dot_signed(fine[row][part], bytes[part], fine_four);
                    }
                }
            }
            for row in 0..ROWS {
                for part in 0..PARTS {
                    let out = args.output(first + row).add(block * BLOCK + at + 16 * part);
                    let fine = isa.to_f32(fine[row][part]);
                    let whole = isa.fma(fine, isa.splat(1.0 / WEIGHT_FINER), isa.to_f32(coarse[row][part]));
                    let so_far = isa.mul(isa.load(out), isa.splat(corrections[first + row]));
                    isa.store(out, isa.fma(whole, isa.splat(shared[row].scale), so_far));
                }
            }
        }
    }
}
