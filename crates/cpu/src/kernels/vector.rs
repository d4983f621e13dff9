//! Row-wise work around the products: norms, quantisation, gates, soft caps.

#![expect(unsafe_op_in_unsafe_fn, reason = "pointers cover the lengths given, as each function says")]

use crate::activations::ActivationBlock;
use crate::arch::Isa;

/// `e^x` to about 1e-7 relative, for `x` clamped to -87..=88.
///
/// Splits `x = n·ln 2 + r` (Cody and Waite) and evaluates a degree-6 Taylor polynomial in `r`, |r| ≤ ½ ln 2.
#[inline(always)]
pub(crate) unsafe fn exp<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let x = isa.max(isa.min(x, isa.splat(88.0)), isa.splat(-87.0));
    let n = isa.round(isa.mul(x, isa.splat(std::f32::consts::LOG2_E)));
    let whole = isa.to_f32(n);
    let r = isa.fma(whole, isa.splat(-0.693_359_4), x);
    let r = isa.fma(whole, isa.splat(2.121_944_4e-4), r);
    let mut p = isa.splat(1.0 / 720.0);
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = isa.fma(p, r, isa.splat(coefficient));
    }
    isa.mul(p, isa.exp2_int(n))
}

/// RMSNorm of one row of `width` values into `out`; `x` may be `out`.
#[inline(always)]
pub(crate) unsafe fn norm<I: Isa>(
    isa: I,
    x: *const f32,
    weight: *const f32,
    epsilon: f32,
    width: usize,
    out: *mut f32,
) {
    let whole = width / 16 * 16;
    let mut squares = isa.splat(0.0);
    for at in (0..whole).step_by(16) {
        let v = isa.load(x.add(at));
        squares = isa.fma(v, v, squares);
    }
    let mut sum = isa.sum(squares);
    for at in whole..width {
        sum += *x.add(at) * *x.add(at);
    }
    let factor = 1.0 / (sum / width as f32 + epsilon).sqrt();
    for at in (0..whole).step_by(16) {
        let v = isa.mul(isa.load(x.add(at)), isa.splat(factor));
        isa.store(out.add(at), isa.mul(v, isa.load(weight.add(at))));
    }
    for at in whole..width {
        *out.add(at) = *x.add(at) * factor * *weight.add(at);
    }
}

/// Quantises `blocks × 32` values into `out`, and marks blocks that get a second plane from [`second_planes`].
///
/// A block's rounding error grows with its largest magnitude. Blocks whose square is over [`OUTLIER`] times the row's
/// mean square of largest magnitudes get a second plane of codes for what the first left over, which makes their error
/// 254 times smaller. The choice depends on the row alone.
#[inline(always)]
pub(crate) unsafe fn quantize<I: Isa>(isa: I, x: *const f32, blocks: usize, out: *mut ActivationBlock) {
    // In f32 the squares of small numbers would be zero, and every block would count as an outlier.
    let mut squares = 0.0_f64;
    for block in 0..blocks {
        let (low, high) = (isa.load(x.add(32 * block)), isa.load(x.add(32 * block + 16)));
        let largest = isa.largest(isa.max(isa.abs(low), isa.abs(high)));
        quantize_block(isa, low, high, largest, &mut *out.add(block));
        squares += f64::from(largest) * f64::from(largest);
    }
    let limit = ((squares / blocks as f64 * OUTLIER).sqrt() / 127.0) as f32;
    for block in 0..blocks {
        let coarse = &mut *out.add(block);
        coarse.outlier = u8::from(coarse.scale > limit);
    }
}

/// A panel of quantised rows, for their second planes.
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
    /// Where second planes are written.
    pub(crate) fine: *mut ActivationBlock,
    /// How many there is room for, with the end of the list: [`ActivationBlock::second_planes`] of each row, which is enough.
    pub(crate) room: usize,
}

/// Writes the second planes of a panel, block by block: rows that share a block take its weights from the first cache.
#[inline(always)]
pub(crate) unsafe fn second_planes<I: Isa>(isa: I, args: &PanelArgs) {
    let mut to = args.fine;
    let last = args.fine.add(args.room - 1);
    let mut begun = 0_u32;
    for block in 0..args.blocks {
        for row in 0..args.rows {
            let coarse = &*args.codes.add(row * args.codes_stride + block);
            if coarse.outlier == 1 && to < last {
                let at = args.values.add(row * args.values_stride + 32 * block);
                let step = isa.splat(-coarse.scale);
                let low = isa.fma(isa.load_i8(coarse.codes.as_ptr()), step, isa.load(at));
                let high = isa.fma(isa.load_i8(coarse.codes.as_ptr().add(16)), step, isa.load(at.add(16)));
                let largest = isa.largest(isa.max(isa.abs(low), isa.abs(high)));
                quantize_block(isa, low, high, largest, &mut *to);
                ((*to).block, (*to).row) = (block as u32, row as u32);
                (*to).begins = u8::from(begun & (1 << row) == 0);
                begun |= 1 << row;
                to = to.add(1);
            }
        }
    }
    (*to).block = ActivationBlock::END;
}

/// How far above the row's mean square a block's largest square lies for it to get a second plane.
const OUTLIER: f64 = 4.0;

#[inline(always)]
unsafe fn quantize_block<I: Isa>(isa: I, low: I::F32, high: I::F32, largest: f32, to: &mut ActivationBlock) {
    // A block of denormals would overflow the reciprocal; it is as good as zero.
    let inverse = isa.splat(if largest > 1e-30 { 127.0 / largest } else { 0.0 });
    let (low, high) = (isa.round(isa.mul(low, inverse)), isa.round(isa.mul(high, inverse)));
    let (sum_low, sum_high) = (isa.sum_i32(low), isa.sum_i32(high));
    isa.store_i8(to.codes.as_mut_ptr(), low);
    isa.store_i8(to.codes.as_mut_ptr().add(16), high);
    to.scale = if largest > 1e-30 { largest / 127.0 } else { 0.0 };
    to.scaled_sum = to.scale * (sum_low + sum_high) as f32;
    to.lowered = -128 * (sum_low + sum_high);
    to.lowered_low = -128 * sum_low;
}

/// `gate = silu(gate) · up` for sixteen values.
#[inline(always)]
pub(crate) unsafe fn gate_silu<I: Isa>(isa: I, gate: *mut f32, up: *const f32) {
    let x = isa.load(gate);
    let one = isa.splat(1.0);
    let sigmoid = isa.div(one, isa.add(one, exp(isa, isa.sub(isa.splat(0.0), x))));
    isa.store(gate, isa.mul(isa.mul(x, sigmoid), isa.load(up)));
}

/// `gate = gelu(gate) · up` for sixteen values, in the tanh form.
#[inline(always)]
pub(crate) unsafe fn gate_gelu<I: Isa>(isa: I, gate: *mut f32, up: *const f32) {
    let x = isa.load(gate);
    let cube = isa.mul(isa.mul(x, x), x);
    let inner = isa.mul(isa.fma(cube, isa.splat(0.044_715), x), isa.splat(0.797_884_6));
    // ½(1 + tanh u) = 1 / (1 + e^(-2u))
    let one = isa.splat(1.0);
    let half_tanh = isa.div(one, isa.add(one, exp(isa, isa.mul(inner, isa.splat(-2.0)))));
    isa.store(gate, isa.mul(isa.mul(x, half_tanh), isa.load(up)));
}

/// Makes f32 of so many halves: a multiple of sixteen.
///
/// # Safety
/// The instruction set is the processor's; the pointers cover the count.
pub(crate) type WidenFn = unsafe fn(*const u16, usize, *mut f32);

/// f16 to f32.
#[inline(always)]
pub(crate) unsafe fn widen_f16<I: Isa>(isa: I, from: *const u16, count: usize, to: *mut f32) {
    for at in (0..count).step_by(16) {
        isa.store(to.add(at), isa.load_f16(from.add(at)));
    }
}

/// bf16 to f32.
#[inline(always)]
pub(crate) unsafe fn widen_bf16<I: Isa>(isa: I, from: *const u16, count: usize, to: *mut f32) {
    for at in (0..count).step_by(16) {
        isa.store(to.add(at), isa.load_bf16(from.add(at)));
    }
}

/// Rounds `count` values to f16.
#[inline(always)]
pub(crate) unsafe fn to_f16<I: Isa>(isa: I, from: *const f32, count: usize, to: *mut u16) {
    let whole = count / 16 * 16;
    for at in (0..whole).step_by(16) {
        isa.store_f16(to.add(at), isa.load(from.add(at)));
    }
    for at in whole..count {
        *to.add(at) = half::f16::from_f32(*from.add(at)).to_bits();
    }
}

#[cfg(test)]
mod tests {
    use super::PanelArgs;
    use crate::IsaChoice;
    use crate::activations::{ActivationBlock, PANEL_ROWS};
    use crate::arch::Level;
    use crate::kernels::Kernels;
    use testkit::Random;

    /// Rows of any magnitude, with as many outliers as can be, leave no more second planes than there is room for, each where
    /// its block is an outlier.
    #[test]
    fn second_planes_have_room() {
        let mut random = Random::new(1);
        for choice in [IsaChoice::Best, IsaChoice::AtMostAvx2, IsaChoice::Portable] {
            let kernels = Kernels::of(Level::detect(choice));
            for (blocks, outliers) in [(4, 1), (7, 1), (28, 6), (28, 7), (28, 28), (152, 37), (152, 0)] {
                for magnitude in [1e-37, 1e-29, 1e-25, 1e-20, 1.0, 1e18, 1e25, f32::INFINITY] {
                    let mut values = vec![0.0; PANEL_ROWS * blocks * 32];
                    for (at, value) in values.iter_mut().enumerate() {
                        let block = at / 32 % blocks;
                        let share = if block < outliers { 1.0 } else { 1e-3 };
                        *value = magnitude * share * if at % 32 == 0 { 1.0 } else { random.signed_unit() };
                    }
                    let mut codes = vec![ActivationBlock::default(); PANEL_ROWS * blocks];
                    let rows = values.chunks_exact(32 * blocks).zip(codes.chunks_exact_mut(blocks));
                    for (row, codes) in rows {
                        // SAFETY: the instruction set was detected, and each row has so many blocks.
                        unsafe { (kernels.quantize)(row.as_ptr(), blocks, codes.as_mut_ptr()) };
                    }
                    let room = PANEL_ROWS * ActivationBlock::second_planes(blocks);
                    let mut fine = vec![ActivationBlock { row: 77, ..ActivationBlock::default() }; room + 1];
                    let args = PanelArgs {
                        values: values.as_ptr(),
                        values_stride: 32 * blocks,
                        codes: codes.as_ptr(),
                        codes_stride: blocks,
                        blocks,
                        rows: PANEL_ROWS,
                        fine: fine.as_mut_ptr(),
                        room,
                    };
                    // SAFETY: as above, and the list has the room it says.
                    unsafe { (kernels.second_planes)(&args) };
                    let expected = codes.iter().filter(|block| block.outlier == 1).count();
                    let case = format!("{choice:?}, {blocks} blocks, {outliers} of {magnitude:e}");
                    assert!(expected < room, "{case}: {expected} second planes");
                    assert_eq!(fine[expected].block, ActivationBlock::END, "{case}");
                    assert!(fine[..expected].iter().all(|plane| (plane.block as usize) < blocks), "{case}");
                    assert_eq!(fine[room].row, 77, "{case}: written beyond the room");
                }
            }
        }
    }
}
