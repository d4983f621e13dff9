// Leaves what parties have summed for attention_merge.wgsl.

// For each row, head and split: largest score, sum of shares, WIDTH sums.
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

fn finish(row: u32, head: u32, split: u32, thread: u32) {
    let at = split * (WIDTH + 2u);
    let all = total_of_all();
    for (var i = thread; i < WIDTH; i += THREADS) {
        partials[at + 2u + i] = sum_of_all(i, all.x);
    }
    if (thread == 0u) {
        partials[at] = all.x;
        partials[at + 1u] = all.y;
    }
}
