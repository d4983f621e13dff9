// Atomic, as two scales share a word, and the other may be of a row that is stored at the same time.
@group(0) @binding(4) var<storage, read_write> pages: array<atomic<u32>>;

fn block_peak(block: u32) -> f32 {
    var peak = 0.0;
    for (var i = 0u; i < 32u; i++) {
        peak = max(peak, abs(turned[32u * block + i]));
    }
    return peak;
}

fn store(slot: u32, is_value: bool, thread: u32) {
    let start = 2u * (slot + select(0u, VALUES, is_value));
    for (var quad = thread; quad < WIDTH / 4u; quad += THREADS) {
        let peak = block_peak(quad / 8u);
        let i = 4u * quad;
        let values = vec4<f32>(turned[i], turned[i + 1u], turned[i + 2u], turned[i + 3u]);
        atomicStore(&pages[start + quad], codes_of(values, peak));
        if (quad % 8u == 0u) {
            let index = select(SCALES, VALUE_SCALES, is_value) + slot / (WIDTH / 8u) * (WIDTH / 32u) + quad / 8u;
            let shift = 16u * (index & 1u);
            atomicAnd(&pages[index >> 1u], ~(0xffffu << shift));
            atomicOr(&pages[index >> 1u], pack2x16float(vec2<f32>(step_of(peak), 0.0)) << shift);
        }
    }
}
