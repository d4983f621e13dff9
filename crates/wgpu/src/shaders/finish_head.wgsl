// Writes a head's output from what teams have summed. Constant: OUTPUT (codes, floats or nothing for the next step).

const NOTHING: u32 = 0u;
const CODES: u32 = 1u;
const FLOATS: u32 = 2u;

@group(0) @binding(5) var<storage, read_write> output: array<f32>;
@group(0) @binding(6) var<storage, read_write> coded: array<u32>;

var<workgroup> tile: array<f32, WIDTH>;

fn finish(row: u32, head: u32, split: u32, thread: u32) {
    for (var i = thread; i < WIDTH; i += THREADS) {
        var sum = 0.0;
        var total = 0.0;
        for (var t = 0u; t < TEAMS; t++) {
            sum += sums[t * WIDTH + i];
            total += totals[t];
        }
        output[row * OUTPUT_STRIDE + head * WIDTH + i] = sum / total;
        tile[i] = sum / total;
    }
    if (OUTPUT != NOTHING) {
        workgroupBarrier();
        hand_on(row, head, thread, THREADS);
    }
}
