// The row's own octets as halves.

fn packed(place: Place, start: u32, octet: Octet) -> vec4<u32> {
    return vec4<u32>(
        pack2x16float(octet.low.xy),
        pack2x16float(octet.low.zw),
        pack2x16float(octet.high.xy),
        pack2x16float(octet.high.zw),
    );
}

// Each thread stores what it holds.
fn settle() {
}

fn store(slot: u32, start: u32, octet: u32, words: vec4<u32>) {
    pages[slot + start + octet] = words;
}
