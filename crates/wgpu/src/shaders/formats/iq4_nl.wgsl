// 16 bytes of two codes each, a half-precision scale.
fn unit_iq4_nl(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let low = levels_of(low_nibbles(bytes), IQ4_LEVELS);
    let high = levels_of(high_nibbles(bytes), IQ4_LEVELS);
    return Unit(low, high, vec2<f32>(half_at(m.scales, i)), vec2<f32>(0.0));
}
