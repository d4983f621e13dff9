// Keys and values as codes of eight bits, with a scale in half precision for 32 elements: an octet of a head's elements is
// two words. Scales follow the codes, (page, kv head, position in the page, block), those of keys first.
//
// Constants: SCALES (halves before the keys' scales), VALUE_SCALES (before those of the values).

alias Words = vec2<u32>;

// Eight elements of a head.
struct Octet {
    low: vec4<f32>,
    high: vec4<f32>,
}

const KEYS: u32 = 0u;
const BLOCKS: u32 = WIDTH / 32u;

// Where the scale of a block is, in halves.
fn scale_index(slot: u32, start: u32, block: u32) -> u32 {
    return select(VALUE_SCALES, SCALES, start == KEYS) + slot / (WIDTH / 8u) * BLOCKS + block;
}

fn scale_at(slot: u32, start: u32, block: u32) -> f32 {
    let index = scale_index(slot, start, block);
    let pair = unpack2x16float(pages[index >> 2u][(index >> 1u) & 1u]);
    return select(pair.x, pair.y, (index & 1u) == 1u);
}

// An octet of the head at `slot` of `pages`, as codes and the bits of their scale; `start` is KEYS or VALUES.
fn stored_at(slot: u32, start: u32, octet: u32) -> vec4<u32> {
    let codes = pages[slot + start + octet];
    return vec4<u32>(codes, bitcast<u32>(scale_at(slot, start, octet >> 2u)), 0u);
}

fn unpacked(words: vec4<u32>) -> Octet {
    let scale = bitcast<f32>(words.z);
    return Octet(vec4<f32>(unpack4xI8(words.x)) * scale, vec4<f32>(unpack4xI8(words.y)) * scale);
}

fn element_at(slot: u32, start: u32, element: u32) -> f32 {
    let word = pages[slot + start + (element >> 3u)][(element >> 2u) & 1u];
    return f32(unpack4xI8(word)[element & 3u]) * scale_at(slot, start, element >> 5u);
}
