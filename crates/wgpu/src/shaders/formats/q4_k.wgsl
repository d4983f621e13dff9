// 16 bytes of two codes each to a unit, a header to eight units.
fn unit_q4_k(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let both = scale_and_min(weights[(m.supers >> 2u) + (i >> 3u)], i & 7u);
    return Unit(low_nibbles(bytes), high_nibbles(bytes), both.xx, both.yy);
}
