// Writes a head's output from what parties have summed. Constant: OUTPUT (codes, floats or nothing for the next step).

const NOTHING: u32 = 0u;
const CODES: u32 = 1u;
const FLOATS: u32 = 2u;

@group(0) @binding(5) var<storage, read_write> output: array<f32>;
@group(0) @binding(6) var<storage, read_write> coded: array<u32>;

fn finish(row: u32, head: u32, split: u32, thread: u32) {
    let peak = peak_of_all();
    for (var first = 0u; first < WIDTH; first += THREADS) {
        let i = first + thread;
        var value = 0.0;
        if (i < WIDTH) {
            value = share_of_all(i, peak);
            output[row * OUTPUT_STRIDE + head * WIDTH + i] = value;
        }
        hand_on(row, head, thread, i, value);
    }
}
