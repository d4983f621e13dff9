// Query, key and value heads of a row, and the pages that keys and values go to.
//
// Constants: HEADS, KV_HEADS, WIDTH (of a head), PAIRS (that rotate), INTERLEAVED; STRIDE (elements of a row of `qkv`),
// QUERY_NORM and KEY_NORM (weights of the heads' norms in `vectors`, or NONE), QUERY_EPSILON, KEY_EPSILON; VALUES (octets
// of elements before the values in `pages`), WINDOW (a row sees so many positions at most; 0 for all), SCALE, SOFT_CAP
// (of scores; 0 for none); PASS_WORDS (words of `pass_input`) and PAGES (of the pool); UNITS of a row of coded outputs,
// OUTPUT_STRIDE (elements of a row of the output). Keys and values lie as (page, kv head, position in the page, element),
// keys first.

const NONE: u32 = 0xffffffffu;

@group(0) @binding(1) var<storage, read> vectors: array<f32>;
@group(0) @binding(2) var<storage, read> rope: array<vec2<f32>>;

// The page of a row's position; some page where the row has none for it.
fn page_of(row: u32, position: u32) -> u32 {
    return min(pass_input[min(page_word_of(row, position), PASS_WORDS - 1u)], PAGES - 1u);
}

// The slot of a head at a position: octets of elements before it among the keys, or among the values.
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
