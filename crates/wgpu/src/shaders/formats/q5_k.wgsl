// 16 bytes of the low four bits and a word of fifth bits to a unit, a header to eight units.
fn unit_q5_k(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let bits = word_at(m.high + i);
    let both = scale_and_min(weights[(m.supers >> 2u) + (i >> 3u)], i & 7u);
    let low = low_nibbles(bytes) | spread_bits_low(bits, 4u);
    let high = high_nibbles(bytes) | spread_bits_high(bits, 4u);
    return Unit(low, high, both.xx, both.yy);
}
