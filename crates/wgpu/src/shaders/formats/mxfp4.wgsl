// 16 bytes of two codes each, a byte of exponent: the scale is 2^(exponent − 128). Levels are those of E2M1 times two:
// 0 1 2 3, 4 6 8 12, and with the sign bit 0 −1 −2 −3, −4 −6 −8 −12.
const E2M1_LEVELS = vec4<u32>(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);

fn unit_mxfp4(m: Matrix, i: u32) -> Unit {
    let bytes = weights[(m.codes >> 2u) + i];
    let exponent = (word_at(m.scales + (i >> 2u)) >> (8u * (i & 3u))) & 255u;
    // Of the numbers below the normal ones there are two: half and all of 2^−127.
    let bits = select((exponent - 1u) << 23u, 0x00200000u << exponent, exponent < 2u);
    let low = levels_of(low_nibbles(bytes), E2M1_LEVELS);
    let high = levels_of(high_nibbles(bytes), E2M1_LEVELS);
    return Unit(low, high, vec2<f32>(bitcast<f32>(bits)), vec2<f32>(0.0));
}
