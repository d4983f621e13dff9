// Query, key and value heads of a row, and the pages that keys and values go to.
//
// Constants: HEADS, KV_HEADS, WIDTH (of a head), PAIRS (that rotate), INTERLEAVED, MAGNITUDE. Keys and values are halves,
// (page, kv head, position in the page, element), keys first.

const NONE: u32 = 0xffffffffu;

struct Params {
    // Elements of a row of `qkv`.
    stride: u32,
    // Norm weights of query and key heads in `vectors`, or NONE.
    query_norm: u32,
    key_norm: u32,
    query_epsilon: f32,
    key_epsilon: f32,
    // Where values start in `pages`, in vectors of four words.
    values: u32,
    // A row sees so many positions at most; 0 for all.
    window: u32,
    scale: f32,
    soft_cap: f32,
    // Units of a row of coded outputs.
    units: u32,
    // Elements of a row of the output.
    output_stride: u32,
    spare: u32,
}

@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> vectors: array<f32>;
@group(0) @binding(3) var<storage, read> rope: array<vec2<f32>>;

// Vector of four words that a head's keys at a position start with.
fn page_start(row: u32, position: u32, kv_head: u32) -> u32 {
    return ((page_of(row, position) * KV_HEADS + kv_head) * 64u + (position & 63u)) * (WIDTH / 8u);
}

// The pair's other element, and the sign of its share: −1 for the first of a pair.
fn partner(element: u32) -> u32 {
    if (INTERLEAVED) {
        return element ^ 1u;
    }
    return select(element - PAIRS, element + PAIRS, element < PAIRS);
}

fn pair_of(element: u32) -> u32 {
    if (INTERLEAVED) {
        return element >> 1u;
    }
    return select(element - PAIRS, element, element < PAIRS);
}

fn is_first(element: u32) -> bool {
    if (INTERLEAVED) {
        return (element & 1u) == 0u;
    }
    return element < PAIRS;
}

fn rotated(element: u32, value: f32, other: f32, position: u32) -> f32 {
    let turn = rope[position * PAIRS + pair_of(element)];
    return fma(value, turn.x, select(other, -other, is_first(element)) * turn.y);
}
