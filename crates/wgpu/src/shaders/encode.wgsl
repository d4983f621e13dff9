// Inputs of products as codes, for integer dot products: each block of eight has a step d and two planes of 8-bit codes,
// value = d · (first + second ÷ 254), so that an outlier leaves its block sixteen bits. A row is six planes of one vector
// for each unit of four blocks: first codes of the unit's first and second half, second codes of both, the steps, and the
// sums of the blocks' values. Lanes that take one unit each read every plane in one run.
//
// Eight neighbouring threads hold a block, an element each. Constant: ACROSS (they are of one subgroup; then `thread` must
// count along subgroups).

const BLOCK: u32 = 8u;

// Vectors of a unit in all planes together.
const CODED_PLANES: u32 = 6u;

var<workgroup> shown: array<u32, THREADS>;

// What the thread at `distance` within the block has. Every thread of the workgroup must come here.
fn neighbour(thread: u32, bits: u32, distance: u32) -> u32 {
    if (ACROSS) {
        return subgroupShuffleXor(bits, distance);
    }
    workgroupBarrier();
    shown[thread] = bits;
    workgroupBarrier();
    return shown[thread ^ distance];
}

fn block_sum(thread: u32, value: f32) -> f32 {
    var sum = value;
    for (var distance = 1u; distance < BLOCK; distance <<= 1u) {
        sum += bitcast<f32>(neighbour(thread, bitcast<u32>(sum), distance));
    }
    return sum;
}

fn block_peak(thread: u32, value: f32) -> f32 {
    var peak = abs(value);
    for (var distance = 1u; distance < BLOCK; distance <<= 1u) {
        peak = max(peak, bitcast<f32>(neighbour(thread, bitcast<u32>(peak), distance)));
    }
    return peak;
}

// Writes block `block` of a row that has `units`, of which each thread holds one value; only where it `exists`. Every
// thread of the workgroup must come here.
fn encode(thread: u32, value: f32, exists: bool, row: u32, block: u32, units: u32) {
    let sum = block_sum(thread, value);
    let peak = block_peak(thread, value);
    let scaled = value * select(0.0, 127.0 / peak, peak > 0.0);
    let first_code = round(scaled);
    let second_code = round((scaled - first_code) * 254.0);
    // Both codes side by side, sixteen bits apart, then those of two neighbours, then of four.
    let element = thread % BLOCK;
    var codes = (u32(i32(first_code)) & 0xffu) | ((u32(i32(second_code)) & 0xffu) << 16u);
    codes <<= 8u * (element & 1u);
    codes |= neighbour(thread, codes, 1u);
    let further = neighbour(thread, codes, 2u);
    if (!exists || element % 4u != 0u) {
        return;
    }
    let start = row * CODED_PLANES * units + block / 4u;
    let plane = (block / 2u) % 2u;
    let word = 2u * (block % 2u) + element / 4u;
    coded[4u * (start + plane * units) + word] = (codes & 0xffffu) | (further << 16u);
    coded[4u * (start + (2u + plane) * units) + word] = (codes >> 16u) | (further & 0xffff0000u);
    if (element == 0u) {
        coded[4u * (start + 4u * units) + block % 4u] = bitcast<u32>(peak / 127.0);
        coded[4u * (start + 5u * units) + block % 4u] = bitcast<u32>(sum);
    }
}
