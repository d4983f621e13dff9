// 16 bytes of two codes each to a unit; to eight units d and the upper two bits of their scales in one word, the low four
// bits in another. Scale 32 is zero.
fn unit_iq4_xs(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let header = word_at(m.supers + 2u * (i >> 3u));
    let lows = word_at(m.supers + 2u * (i >> 3u) + 1u);
    let unit = i & 7u;
    let scale = ((lows >> (4u * unit)) & 15u) | (((header >> (16u + 2u * unit)) & 3u) << 4u);
    let value = unpack2x16float(header).x * (f32(scale) - 32.0);
    let low = levels_of(low_nibbles(bytes), IQ4_LEVELS);
    let high = levels_of(high_nibbles(bytes), IQ4_LEVELS);
    return Unit(low, high, vec2<f32>(value), vec2<f32>(0.0));
}
