// 16 bytes of two codes each, scale and min in half precision; the min is added.
fn unit_q4_1(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let pair = unpack2x16float(word_at(m.scales + i));
    return Unit(low_nibbles(bytes), high_nibbles(bytes), vec2<f32>(pair.x), vec2<f32>(-pair.y));
}
