// 16 bytes of codes in each of two planes, a half-precision scale.
fn unit_q8_0(m: Matrix, i: u32) -> Unit {
    let low = weights[(m.codes >> 2u) + i];
    let high = weights[(m.high >> 2u) + i];
    return Unit(low, high, vec2<f32>(half_at(m.scales, i)), vec2<f32>(0.0));
}
