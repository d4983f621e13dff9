// 8 bytes of two-bit codes and two bytes of scale (low) and min (high) to a unit; d and dmin to eight units.
fn unit_q2_k(m: Matrix, i: u32) -> Unit {
    let at = m.codes + 2u * i;
    let both = (word_at(m.scales + (i >> 1u)) >> ((i & 1u) * 16u)) & 0xffffu;
    let d = unpack2x16float(word_at(m.supers + (i >> 3u)));
    let scale = vec2<f32>(f32(both & 15u), f32((both >> 8u) & 15u)) * d.x;
    let min = vec2<f32>(f32((both >> 4u) & 15u), f32(both >> 12u)) * d.y;
    return Unit(spread_pairs(word_at(at)), spread_pairs(word_at(at + 1u)), scale, min);
}
