// 16 bytes of the low four bits, 8 bytes of the upper two and two signed scales to a unit; d to eight units. Code 32 is
// zero.
fn unit_q6_k(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let at = m.high + 2u * i;
    let scales = unpack4xI8(word_at(m.scales + (i >> 1u)));
    let both = select(scales.xy, scales.zw, (i & 1u) == 1u);
    let scale = vec2<f32>(both) * half_at(m.supers, i >> 3u);
    let low = low_nibbles(bytes) | (spread_pairs(word_at(at)) << vec4<u32>(4u));
    let high = high_nibbles(bytes) | (spread_pairs(word_at(at + 1u)) << vec4<u32>(4u));
    return Unit(low, high, scale, 32.0 * scale);
}
