@group(0) @binding(4) var<storage, read> pages: array<Words>;

// Fills `tile` with the keys (`start` 0) or values (VALUES) of a page, which begins at `slot`.
fn load_tile(slot: u32, start: u32, thread: u32) {
    for (var i = thread; i < 32u * QUADS; i += 128u) {
        let row = i / OCTETS;
        let octet = unpacked(stored_at(slot + row * OCTETS, start, i % OCTETS));
        let at = row * PITCH + 2u * (i % OCTETS);
        tile[at] = vec4<f16>(octet.low);
        tile[at + 1u] = vec4<f16>(octet.high);
    }
}

const OCTETS: u32 = WIDTH / 8u;
