// 8 bytes of the low two bits and a word of third bits to a unit; to eight units sixteen scales of six bits, low halves
// in two words and high bits in a third, and d. Code 4 and scale 32 are zero.
fn unit_q3_k(m: Matrix, i: u32) -> Unit {
    let at = m.codes + 2u * i;
    let bits = word_at(m.high + i);
    let block = i >> 3u;
    let first = 2u * (i & 7u);
    let scales = m.scales + 3u * block;
    let low = (word_at(scales + (first >> 3u)) >> (4u * (first & 7u))) & 0xffu;
    let upper = (word_at(scales + 2u) >> (2u * first)) & 15u;
    let first_scale = f32((low & 15u) | ((upper & 3u) << 4u)) - 32.0;
    let second_scale = f32((low >> 4u) | ((upper >> 2u) << 4u)) - 32.0;
    let scale = vec2<f32>(first_scale, second_scale) * half_at(m.supers, block);
    let a = spread_pairs(word_at(at)) | spread_bits_low(bits, 2u);
    let b = spread_pairs(word_at(at + 1u)) | spread_bits_high(bits, 2u);
    return Unit(a, b, scale, 4.0 * scale);
}
