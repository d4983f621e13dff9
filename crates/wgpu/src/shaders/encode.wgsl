// Inputs of products as codes, for integer dot products: each block of 32 has a step d and two planes of 8-bit codes,
// value = d · (first + second ÷ 254), so that an outlier leaves its block sixteen bits. A row is its first plane, its
// second plane and for each block (d, sum of the first 16 values, sum of the others, 0).

// Writes quad `quad` of the block that lies in `tile` from `first` on.
fn encode(first: u32, quad: u32, row: u32, block: u32, blocks: u32) {
    var largest = vec4<f32>(0.0);
    var low = vec4<f32>(0.0);
    var high = vec4<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
        let a = tile[first + i];
        let b = tile[first + 4u + i];
        largest = max(largest, max(abs(a), abs(b)));
        low += a;
        high += b;
    }
    let peak = max(max(largest.x, largest.y), max(largest.z, largest.w));
    let inverse = select(0.0, 127.0 / peak, peak > 0.0);
    let scaled = tile[first + quad] * inverse;
    let first_codes = round(scaled);
    let second_codes = round((scaled - first_codes) * 254.0);
    let start = row * 5u * blocks;
    coded[4u * (start + 2u * block) + quad] = pack4xI8(vec4<i32>(first_codes));
    coded[4u * (start + 2u * blocks + 2u * block) + quad] = pack4xI8(vec4<i32>(second_codes));
    if (quad == 0u) {
        let at = 4u * (start + 4u * blocks + block);
        coded[at] = bitcast<u32>(peak / 127.0);
        coded[at + 1u] = bitcast<u32>(low.x + low.y + low.z + low.w);
        coded[at + 2u] = bitcast<u32>(high.x + high.y + high.z + high.w);
    }
}
