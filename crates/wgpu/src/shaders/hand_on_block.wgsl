@group(0) @binding(5) var<storage, read_write> coded: array<u32>;

// Writes the finished outputs as the next step's inputs, a block of each row.
fn hand_on(first: u32, thread: u32, kept: f32, norm: f32) {
    let row = thread / GROUP_ROWS;
    let element = thread % GROUP_ROWS;
    var value = kept;
    if (MODE == ADD) {
        let sum = block_sum(thread, kept * kept);
        if (thread < FINISHED && element == 0u) {
            coded[NEXT_SUMS + row * NEXT_SUM_COUNT + first / GROUP_ROWS] = bitcast<u32>(sum);
        }
        value *= norm;
    }
    if (OUTPUT == CODES) {
        encode(thread, value, thread < FINISHED, row, first / BLOCK, NEXT_UNITS);
    } else if (thread < FINISHED) {
        coded[row * NEXT_UNITS * 32u + first + element] = bitcast<u32>(value);
    }
}
