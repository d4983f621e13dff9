// 16 bytes of the low four bits, a word of fifth bits, scale and min in half precision; the min is added.
fn unit_q5_1(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let bits = word_at(m.high + i);
    let pair = unpack2x16float(word_at(m.scales + i));
    let low = low_nibbles(bytes) | spread_bits_low(bits, 4u);
    let high = high_nibbles(bytes) | spread_bits_high(bits, 4u);
    return Unit(low, high, vec2<f32>(pair.x), vec2<f32>(-pair.y));
}
