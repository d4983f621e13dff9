//! Row-wise work around the products: norms, gates, conversions.

#![expect(unsafe_op_in_unsafe_fn, reason = "pointers cover the lengths given, as each function says")]

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

/// Little-endian f16, or bf16, to f32, at any address.
#[inline(always)]
pub(crate) unsafe fn widen<I: Isa, const BF16: bool>(isa: I, from: *const u16, count: usize, to: *mut f32) {
    let whole = count / 16 * 16;
    for at in (0..whole).step_by(16) {
        let from = from.add(at);
        isa.store(to.add(at), if BF16 { isa.load_bf16(from) } else { isa.load_f16(from) });
    }
    for at in whole..count {
        let bits = from.add(at).read_unaligned();
        *to.add(at) = if BF16 { half::bf16::from_bits(bits).to_f32() } else { half::f16::from_bits(bits).to_f32() };
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
