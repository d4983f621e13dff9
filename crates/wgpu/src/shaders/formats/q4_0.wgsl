// 16 bytes of two codes each, a half-precision scale; code 8 is zero.
fn unit_q4_0(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let scale = half_at(m.scales, i);
    return Unit(low_nibbles(bytes), high_nibbles(bytes), vec2<f32>(scale), vec2<f32>(8.0 * scale));
}
