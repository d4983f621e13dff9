@group(0) @binding(4) var<storage, read_write> pages: array<u32>;

fn store(slot: u32, is_value: bool, thread: u32) {
    let start = 4u * (slot + select(0u, VALUES, is_value));
    for (var half = thread; half < WIDTH / 2u; half += THREADS) {
        pages[start + half] = pack2x16float(vec2<f32>(turned[2u * half], turned[2u * half + 1u]));
    }
}
