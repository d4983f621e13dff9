// The row's own octets as codes, four octets to a scale.

// Scales of the row's own blocks as bits of halves, of the key and of the value.
var<workgroup> own_scales: array<u32, 2u * BLOCKS>;

// The largest over the lanes that hold a block. Every thread of the workgroup must come here.
fn own_peak(place: Place, value: f32) -> f32 {
    if (SHUFFLES) {
        let pair = max(value, subgroupShuffleXor(value, 1u));
        return max(pair, subgroupShuffleXor(pair, 2u));
    }
    workgroupBarrier();
    parts[place.thread] = value;
    workgroupBarrier();
    let first = place.team * OCTETS + (place.octet & ~3u);
    return max(max(parts[first], parts[first + 1u]), max(parts[first + 2u], parts[first + 3u]));
}

fn packed(place: Place, start: u32, octet: Octet) -> vec4<u32> {
    let largest = max(abs(octet.low), abs(octet.high));
    let peak = own_peak(place, max(max(largest.x, largest.y), max(largest.z, largest.w)));
    let half = pack2x16float(vec2<f32>(step_of(peak), 0.0));
    if (place.thread < OCTETS && place.octet % 4u == 0u) {
        own_scales[select(BLOCKS, 0u, start == KEYS) + place.octet / 4u] = half;
    }
    return vec4<u32>(codes_of(octet.low, peak), codes_of(octet.high, peak), bitcast<u32>(unpack2x16float(half).x), 0u);
}

// Waits for what one thread stores of all.
fn settle() {
    workgroupBarrier();
}

fn store(slot: u32, start: u32, octet: u32, words: vec4<u32>) {
    pages[slot + start + octet] = words.xy;
    if (octet != 0u) {
        return;
    }
    // One thread writes all scales, as two share a word. The other half of a word may be of the next position, which no row
    // of this pass is at.
    for (var block = 0u; block < BLOCKS; block++) {
        let index = scale_index(slot, start, block);
        let shift = 16u * (index & 1u);
        let kept = pages[index >> 2u][(index >> 1u) & 1u] & ~(0xffffu << shift);
        let half = own_scales[select(BLOCKS, 0u, start == KEYS) + block];
        pages[index >> 2u][(index >> 1u) & 1u] = kept | (half << shift);
    }
}
