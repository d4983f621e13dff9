// Leaves what teams have summed for attention_merge.wgsl.

// For each row, head and split: largest score, sum of shares, WIDTH sums.
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

fn finish(row: u32, head: u32, split: u32, thread: u32) {
    let at = split * (WIDTH + 2u);
    for (var i = thread; i < WIDTH; i += THREADS) {
        var sum = 0.0;
        for (var t = 0u; t < TEAMS; t++) {
            sum += sums[t * WIDTH + i];
        }
        partials[at + 2u + i] = sum;
    }
    if (thread == 0u) {
        var total = 0.0;
        for (var t = 0u; t < TEAMS; t++) {
            total += totals[t];
        }
        partials[at] = peak_of_all();
        partials[at + 1u] = total;
    }
}
