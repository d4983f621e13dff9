// What becomes of a sum: MODE is one of these.

const STORE: u32 = 0u;
const ADD: u32 = 1u;
// With few rows, sums of the gate and of what it gates become one output. With many, the output holds the gate's sum and
// becomes activation(gate) · this sum.
const GATE_SILU: u32 = 2u;
const GATE_GELU: u32 = 3u;

fn activated(gate: f32) -> f32 {
    if (MODE == GATE_SILU) {
        return gate / (1.0 + exp(-gate));
    }
    // tanh(y) = 1 − 2 ÷ (1 + e^2y), which has no overflow on either side.
    let y = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate);
    return gate * (1.0 - 1.0 / (1.0 + exp(2.0 * y)));
}
