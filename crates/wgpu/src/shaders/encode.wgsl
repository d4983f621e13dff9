// Inputs of products as codes, for integer dot products: each block of eight has a step d and two planes of 8-bit codes,
// value = d · (first + second ÷ 254), so that an outlier leaves its block sixteen bits. A row is six planes of one vector
// for each unit of four blocks: first codes of the unit's first and second half, second codes of both, the steps, and the
// sums of the blocks' values. Lanes that take one unit each read every plane in one run.

const BLOCK: u32 = 8u;

// Vectors of a unit in all planes together.
const CODED_PLANES: u32 = 6u;

// Writes half `half` of block `block` of a row that has `units`; the block's values are at `first` of `tile`.
fn encode(first: u32, half: u32, row: u32, block: u32, units: u32) {
    let a = vec4<f32>(tile[first], tile[first + 1u], tile[first + 2u], tile[first + 3u]);
    let b = vec4<f32>(tile[first + 4u], tile[first + 5u], tile[first + 6u], tile[first + 7u]);
    let largest = max(abs(a), abs(b));
    let peak = max(max(largest.x, largest.y), max(largest.z, largest.w));
    let inverse = select(0.0, 127.0 / peak, peak > 0.0);
    let scaled = select(a, b, half == 1u) * inverse;
    let first_codes = round(scaled);
    let second_codes = round((scaled - first_codes) * 254.0);
    let unit = block / 4u;
    let start = row * CODED_PLANES * units + unit;
    let plane = (block / 2u) % 2u;
    let word = 2u * (block % 2u) + half;
    coded[4u * (start + plane * units) + word] = pack4xI8(vec4<i32>(first_codes));
    coded[4u * (start + (2u + plane) * units) + word] = pack4xI8(vec4<i32>(second_codes));
    if (half == 0u) {
        let sums = a + b;
        coded[4u * (start + 4u * units) + block % 4u] = bitcast<u32>(peak / 127.0);
        coded[4u * (start + 5u * units) + block % 4u] = bitcast<u32>((sums.x + sums.y) + (sums.z + sums.w));
    }
}
