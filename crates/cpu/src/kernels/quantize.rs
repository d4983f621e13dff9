//! Quantisation of activation rows: codes by row, and the high digits of outliers by panel.

#![expect(unsafe_op_in_unsafe_fn, reason = "pointers cover the lengths given, as each function says")]

use crate::activations::{ActivationBlock, CodeSums, Outliers, PANEL_ROWS};
use crate::arch::Isa;

/// How far above the row's mean square a block's largest square lies for it to have outliers.
const OUTLIER: f64 = 4.0;

// `Outliers::room` counts on it.
const _: () = assert!(OUTLIER >= 4.0);

/// What a high digit counts, in codes: low digits go from -127 to 127.
const HIGH: f32 = 254.0;

/// Quantises `blocks × 32` values into `out`, but for the high digits, which [`list_outliers`] finds.
///
/// A block's rounding error grows with its scale. So where the square of a block's largest magnitude is over [`OUTLIER`]
/// times the mean of the row's blocks, values beyond what is usual in the other blocks get two digits, and the rest the scale
/// that it would have without them. The choice depends on the row alone.
#[inline(always)]
pub(crate) unsafe fn quantize<I: Isa>(isa: I, x: *const f32, blocks: usize, out: *mut ActivationBlock) {
    // In f32 the squares of small numbers would be zero, and every block would count as an outlier.
    let mut squares = 0.0_f64;
    for first in (0..blocks).step_by(SIDE_BY_SIDE) {
        quantize_side_by_side(isa, x.add(32 * first), SIDE_BY_SIDE.min(blocks - first), out.add(first), &mut squares);
    }
    let limit = (squares / blocks as f64 * OUTLIER).sqrt() as f32 / 127.0;
    let (mut ordinary, mut count) = (0.0, 0);
    for block in 0..blocks {
        let scale = (*out.add(block)).sums.scale;
        if scale <= limit {
            ordinary += f64::from(scale) * f64::from(scale);
            count += 1;
        }
    }
    if count < blocks {
        // As large as the other blocks are: what is lost in a row is what they lose, whatever the outliers are.
        let usual = (ordinary / f64::from(count.max(1) as u32)).sqrt() as f32 * 127.0;
        for block in 0..blocks {
            let to = &mut *out.add(block);
            if to.sums.scale > limit {
                split(isa, x.add(32 * block), usual, to);
            }
        }
    }
}

/// Blocks that are quantised side by side, stage by stage: each waits long for its largest value, its reciprocal and its sums.
const SIDE_BY_SIDE: usize = 16;

/// Quantises at most [`SIDE_BY_SIDE`] blocks, each with the scale of its largest magnitude, and adds the squares of these to
/// `squares`.
#[inline(always)]
unsafe fn quantize_side_by_side<I: Isa>(
    isa: I,
    x: *const f32,
    blocks: usize,
    out: *mut ActivationBlock,
    squares: &mut f64,
) {
    let mut largest = [0.0_f32; SIDE_BY_SIDE];
    for block in 0..blocks {
        let at = x.add(32 * block);
        largest[block] = isa.largest(isa.max(isa.abs(isa.load(at)), isa.abs(isa.load(at.add(16)))));
        *squares += f64::from(largest[block]) * f64::from(largest[block]);
    }
    let (mut scales, mut inverses) = ([0.0; SIDE_BY_SIDE], [0.0; SIDE_BY_SIDE]);
    for block in 0..SIDE_BY_SIDE {
        // A block of denormals would overflow the reciprocal; it is as good as zero.
        if largest[block] > 1e-30 {
            (scales[block], inverses[block]) = (largest[block] / 127.0, 127.0 / largest[block]);
        }
    }
    for block in 0..blocks {
        let (at, inverse) = (x.add(32 * block), isa.splat(inverses[block]));
        let values = [isa.mul(isa.load(at), inverse), isa.mul(isa.load(at.add(16)), inverse)];
        store_codes(isa, values, &mut *out.add(block));
    }
    for block in 0..blocks {
        finish_block(isa, scales[block], &mut *out.add(block));
    }
}

/// Quantises a block anew, so that what is within `usual` has one digit and the best scale for that.
#[inline(always)]
unsafe fn split<I: Isa>(isa: I, x: *const f32, usual: f32, to: &mut ActivationBlock) {
    let mut usual_ones = [0.0_f32; 32];
    for at in 0..32 {
        let magnitude = (*x.add(at)).abs();
        usual_ones[at] = if magnitude <= usual { magnitude } else { 0.0 };
    }
    let within = isa.largest(isa.max(isa.load(usual_ones.as_ptr()), isa.load(usual_ones[16..].as_ptr())));
    let largest = isa.largest(isa.max(isa.abs(isa.load(x)), isa.abs(isa.load(x.add(16)))));
    // Two digits reach so far and no further.
    let within = within.max(largest / HIGH);
    let inverse = isa.splat(127.0 / within);
    let values = [isa.mul(isa.load(x), inverse), isa.mul(isa.load(x.add(16)), inverse)];
    let high = high_digits(isa, values);
    let unit = isa.splat(-HIGH);
    let low = [isa.fma(isa.to_f32(high[0]), unit, values[0]), isa.fma(isa.to_f32(high[1]), unit, values[1])];
    store_codes(isa, low, to);
    finish_block(isa, within / 127.0, to);
    let quads = bytes_of(isa, high);
    for pair in 0..4 {
        let any = quads[pair] != [0; 4] || quads[pair + 4] != [0; 4];
        to.outlier_pairs |= u8::from(any) << pair;
    }
}

/// The high digits of values in units of their block's scale, or of what their low digits leave.
#[inline(always)]
unsafe fn high_digits<I: Isa>(isa: I, values: [I::F32; 2]) -> [I::I32; 2] {
    let unit = isa.splat(1.0 / HIGH);
    [isa.round(isa.mul(values[0], unit)), isa.round(isa.mul(values[1], unit))]
}

/// Quads of codes.
#[inline(always)]
unsafe fn bytes_of<I: Isa>(isa: I, codes: [I::I32; 2]) -> [[i8; 4]; 8] {
    let mut quads = [[0; 4]; 8];
    isa.store_i8(quads.as_mut_ptr().cast(), codes[0]);
    isa.store_i8(quads[4..].as_mut_ptr().cast(), codes[1]);
    quads
}

/// Rounds values to codes.
#[inline(always)]
unsafe fn store_codes<I: Isa>(isa: I, values: [I::F32; 2], to: &mut ActivationBlock) {
    isa.store_i8(to.codes.as_mut_ptr(), isa.round(values[0]));
    isa.store_i8(to.codes.as_mut_ptr().add(16), isa.round(values[1]));
}

/// What goes with the codes of a block, which has no outliers so far.
#[inline(always)]
unsafe fn finish_block<I: Isa>(isa: I, scale: f32, to: &mut ActivationBlock) {
    let [low, high] = isa.sum_codes(to.codes.as_ptr());
    to.sums = CodeSums::new(scale, low, high);
    to.outlier_pairs = 0;
}

/// A panel of quantised rows, for their outliers.
pub(crate) struct PanelArgs {
    /// The first row's values.
    pub(crate) values: *const f32,
    /// From one row's values to the next.
    pub(crate) values_stride: usize,
    /// The first row's blocks.
    pub(crate) codes: *const ActivationBlock,
    /// From one row's blocks to the next.
    pub(crate) codes_stride: usize,
    /// Blocks of a row.
    pub(crate) blocks: usize,
    pub(crate) rows: usize,
    /// Where the list is written.
    pub(crate) to: *mut Outliers,
    /// How many entries there is room for: [`Outliers::room`] of each row, which is enough.
    pub(crate) room: usize,
}

/// Lists the outliers of a panel by blocks and pairs of quads: rows that share a channel take its weights from the first
/// cache, and a row's own lie in order.
#[inline(always)]
pub(crate) unsafe fn list_outliers<I: Isa>(isa: I, args: &PanelArgs) {
    let mut to = args.to;
    let last = args.to.add(args.room - 1);
    let mut begun = 0_u32;
    let mut digits = [[[0_i8; 4]; 8]; PANEL_ROWS];
    for block in 0..args.blocks {
        let mut pairs = 0;
        for row in 0..args.rows {
            let low = &*args.codes.add(row * args.codes_stride + block);
            if low.outlier_pairs != 0 {
                pairs |= low.outlier_pairs;
                digits[row] = high_digits_of(isa, args.values.add(row * args.values_stride + 32 * block), low);
            }
        }
        while pairs != 0 {
            let pair = pairs.trailing_zeros() as usize;
            pairs &= pairs - 1;
            for row in 0..args.rows {
                let low = &*args.codes.add(row * args.codes_stride + block);
                if low.outlier_pairs >> pair & 1 == 1 && to < last {
                    let codes = [digits[row][pair], digits[row][pair + 4]];
                    let [first, second] = codes.map(|quad| quad.into_iter().map(i32::from).sum());
                    *to = Outliers {
                        codes,
                        sums: CodeSums::new(HIGH * low.sums.scale, first, second),
                        block: block as u32,
                        row: row as u8,
                        pair: pair as u8,
                        begins: u8::from(begun & (1 << row) == 0),
                        padding: 0,
                    };
                    begun |= 1 << row;
                    to = to.add(1);
                }
            }
        }
    }
    (*to).block = Outliers::END;
}

/// The high digits of a block whose low ones are known: what those leave is a multiple of [`HIGH`], but for less than a code.
#[inline(always)]
unsafe fn high_digits_of<I: Isa>(isa: I, x: *const f32, low: &ActivationBlock) -> [[i8; 4]; 8] {
    let inverse = isa.splat(1.0 / low.sums.scale);
    let codes = low.codes.as_ptr();
    let first = isa.sub(isa.mul(isa.load(x), inverse), isa.load_i8(codes));
    let second = isa.sub(isa.mul(isa.load(x.add(16)), inverse), isa.load_i8(codes.add(16)));
    bytes_of(isa, high_digits(isa, [first, second]))
}

#[cfg(test)]
mod tests {
    use super::PanelArgs;
    use crate::activations::{ActivationBlock, Outliers, PANEL_ROWS};
    use crate::arch::Level;
    use crate::kernels::Kernels;
    use testkit::Random;

    /// Rows of `blocks` blocks, the first `outliers` of them large in some channels, and what the codes say.
    struct Case {
        blocks: usize,
        values: Vec<f32>,
        codes: Vec<ActivationBlock>,
        /// With one entry more than there is room for.
        list: Vec<Outliers>,
    }

    impl Case {
        fn new(kernels: &Kernels, blocks: usize, outliers: usize, magnitude: f32, channels: usize) -> Case {
            let mut random = Random::new(1);
            let mut values = vec![0.0; PANEL_ROWS * blocks * 32];
            for (at, value) in values.iter_mut().enumerate() {
                let large = at / 32 % blocks < outliers && at % 32 < channels;
                *value = magnitude * if large { 1.0 } else { 1e-2 * random.signed_unit() };
            }
            let mut codes = vec![ActivationBlock::default(); PANEL_ROWS * blocks];
            for (row, codes) in values.chunks_exact(32 * blocks).zip(codes.chunks_exact_mut(blocks)) {
                // SAFETY: the instruction set was detected, and each row has so many blocks.
                unsafe { (kernels.quantize)(row.as_ptr(), blocks, codes.as_mut_ptr()) };
            }
            let room = PANEL_ROWS * Outliers::room(blocks);
            let mut list = vec![Outliers { row: 77, ..Outliers::default() }; room + 1];
            let args = PanelArgs {
                values: values.as_ptr(),
                values_stride: 32 * blocks,
                codes: codes.as_ptr(),
                codes_stride: blocks,
                blocks,
                rows: PANEL_ROWS,
                to: list.as_mut_ptr(),
                room,
            };
            // SAFETY: as above, and the list has the room it says.
            unsafe { (kernels.list_outliers)(&args) };
            Case { blocks, values, codes, list }
        }

        /// What codes and outliers stand for together.
        fn decoded(&self) -> Vec<f32> {
            let of_block = |block: &ActivationBlock| block.codes.map(|code| f32::from(code) * block.sums.scale);
            let mut values: Vec<f32> = self.codes.iter().flat_map(of_block).collect();
            for outliers in self.list.iter().take_while(|outliers| outliers.block != Outliers::END) {
                let at =
                    (outliers.row as usize * self.blocks + outliers.block as usize) * 32 + 4 * outliers.pair as usize;
                for (quad, codes) in outliers.codes.iter().enumerate() {
                    for (value, code) in values[at + 16 * quad..].iter_mut().zip(codes) {
                        *value += f32::from(*code) * outliers.sums.scale;
                    }
                }
            }
            values
        }
    }

    /// Rows of any magnitude, with as many outliers as can be, leave no more of them than there is room for, and none out.
    #[test]
    fn outliers_have_room() {
        for level in Level::all() {
            let kernels = Kernels::of(level);
            for (blocks, outliers) in [(4, 1), (7, 1), (28, 6), (28, 7), (28, 28), (152, 37), (152, 0)] {
                for magnitude in [1e-37, 1e-29, 1e-25, 1e-20, 1.0, 1e18, 1e25, f32::INFINITY] {
                    let case = Case::new(&kernels, blocks, outliers, magnitude, 32);
                    let expected: u32 = case.codes.iter().map(|block| block.outlier_pairs.count_ones()).sum();
                    let name = format!("{level:?}, {blocks} blocks, {outliers} of {magnitude:e}");
                    let (list, beyond) = case.list.split_at(case.list.len() - 1);
                    assert_eq!(beyond[0].row, 77, "{name}: written beyond the room");
                    assert_eq!(list[expected as usize].block, Outliers::END, "{name}");
                    let within = |outliers: &Outliers| (outliers.block as usize) < blocks;
                    assert!(list[..expected as usize].iter().all(within), "{name}");
                }
            }
        }
    }

    /// A model that has gone astray is told of by its logits, not by an overflow here.
    #[test]
    fn what_is_no_number_gives_some_codes() {
        for level in Level::all() {
            let kernels = Kernels::of(level);
            for stray in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                let mut values = [0.25_f32; 8 * 32];
                values[40] = stray;
                let mut codes = [ActivationBlock::default(); 8];
                // SAFETY: the instruction set was detected, and the row has so many blocks.
                unsafe { (kernels.quantize)(values.as_ptr(), codes.len(), codes.as_mut_ptr()) };
                let name = level.name();
                assert!(codes[0].codes.iter().all(|code| *code == codes[0].codes[0]), "{name}, {stray}");
                assert!(codes.iter().all(|block| block.outlier_pairs == 0), "{name}, {stray}");
            }
        }
    }

    /// An outlier costs its neighbours nothing: all are within half a code of the largest of those that are none.
    #[test]
    fn outliers_leave_the_others_their_precision() {
        for level in Level::all() {
            let kernels = Kernels::of(level);
            for channels in [1, 2, 17] {
                let case = Case::new(&kernels, 28, 3, 25.0, channels);
                let listed = case.list.iter().position(|outliers| outliers.block == Outliers::END);
                let least = 3 * PANEL_ROWS * if channels > 16 { 4 } else { 1 };
                assert!(listed >= Some(least), "{level:?}: {listed:?} of {least} outliers");
                for (at, (value, decoded)) in case.values.iter().zip(case.decoded()).enumerate() {
                    let error = (value - decoded).abs();
                    assert!(error <= 0.25 / 254.0 * 1.001, "{level:?}: {value} became {decoded} at {at}");
                }
            }
        }
    }
}
