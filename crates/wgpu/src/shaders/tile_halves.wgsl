@group(0) @binding(4) var<storage, read> pages: array<vec4<f16>>;

// Fills `tile` with the keys (`start` 0) or values (VALUES) of a page, which begins at `slot`.
fn load_tile(slot: u32, start: u32, thread: u32) {
    for (var i = thread; i < 64u * QUADS; i += 128u) {
        tile[i / QUADS * PITCH + i % QUADS] = pages[2u * (slot + start) + i];
    }
}
