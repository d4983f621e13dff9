// Keys and values as halves: an octet of a head's elements is four words.

alias Words = vec4<u32>;

// Eight elements of a head.
struct Octet {
    low: vec4<f32>,
    high: vec4<f32>,
}

const KEYS: u32 = 0u;

// An octet of the head at `slot` of `pages`, as it is stored; `start` is KEYS or VALUES.
fn stored_at(slot: u32, start: u32, octet: u32) -> vec4<u32> {
    return pages[slot + start + octet];
}

fn unpacked(words: vec4<u32>) -> Octet {
    return Octet(
        vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)),
        vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w)),
    );
}

fn element_at(slot: u32, start: u32, element: u32) -> f32 {
    let words = pages[slot + start + (element >> 3u)];
    let pair = unpack2x16float(words[(element >> 1u) & 3u]);
    return select(pair.x, pair.y, (element & 1u) == 1u);
}
