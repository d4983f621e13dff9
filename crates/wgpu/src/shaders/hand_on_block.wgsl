@group(0) @binding(5) var<storage, read_write> coded: array<u32>;

var<workgroup> tile: array<f32, FINISHED>;

// Writes the finished outputs as the next step's inputs, a block of each row.
fn hand_on(first: u32, thread: u32, kept: f32, norm: f32) {
    if (MODE == ADD) {
        if (thread < FINISHED) {
            sums[thread] = kept * kept;
        }
        workgroupBarrier();
        if (thread < BATCH) {
            var sum = 0.0;
            for (var i = 0u; i < GROUP_ROWS; i++) {
                sum += sums[thread * GROUP_ROWS + i];
            }
            coded[NEXT_SUMS + thread * NEXT_SUM_COUNT + first / GROUP_ROWS] = bitcast<u32>(sum);
        }
    }
    let value = select(kept, kept * norm, MODE == ADD);
    if (OUTPUT == FLOATS) {
        if (thread < FINISHED) {
            coded[thread / GROUP_ROWS * NEXT_UNITS * 32u + first + thread % GROUP_ROWS] = bitcast<u32>(value);
        }
        return;
    }
    if (thread < FINISHED) {
        tile[thread] = value;
    }
    workgroupBarrier();
    if (thread < 2u * BATCH) {
        let row = thread / 2u;
        encode(GROUP_ROWS * row, thread % 2u, row, first / BLOCK, NEXT_UNITS);
    }
}
