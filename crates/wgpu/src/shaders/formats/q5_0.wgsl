// 16 bytes of the low four bits, a word of fifth bits, a half-precision scale; code 16 is zero.
fn unit_q5_0(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let bits = word_at(m.high + i);
    let scale = half_at(m.scales, i);
    let low = low_nibbles(bytes) | spread_bits_low(bits, 4u);
    let high = high_nibbles(bytes) | spread_bits_high(bits, 4u);
    return Unit(low, high, vec2<f32>(scale), vec2<f32>(16.0 * scale));
}
