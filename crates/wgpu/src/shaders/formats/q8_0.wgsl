// 32 bytes of codes, a half-precision scale.
fn unit_q8_0(m: Matrix, i: u32) -> Unit {
    let at = (m.codes >> 2u) + 2u * i;
    return Unit(weights4[at], weights4[at + 1u], vec2<f32>(half_at(m.scales, i)), vec2<f32>(0.0));
}
