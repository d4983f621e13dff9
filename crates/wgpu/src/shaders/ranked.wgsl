// Tokens in the order of their logits, highest first, of equals the lower token first. Logits are compared as integers
// that are in the same order; one that is no number counts as the highest, so that the host gets to see it.
//
// Constants: VOCABULARY, SHARES (of it, at most as many as THREADS).

// Also what a draw needs; see program::Draw.
struct Params {
    top_k: u32,
    // Above 1 for all.
    top_p: f32,
    // The logarithm of min_p, or the least number.
    floor: f32,
    // 1 ÷ temperature.
    sharpness: f32,
}

var<immediate> params: Params;

@group(0) @binding(1) var<storage, read> logits: array<f32>;

const NONE: u32 = 0xffffffffu;
const THREADS: u32 = 256u;
// As many as the host allows for `top_k`.
const TOP_MAX: u32 = 64u;

// Above every key; of no token the key is 0, which no logit has.
const FIRST_OF_ALL: u32 = 0xffffffffu;

struct Find {
    key: u32,
    token: u32,
}

var<workgroup> keys: array<u32, THREADS>;
var<workgroup> tokens: array<u32, THREADS>;

fn key_of(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return FIRST_OF_ALL - 1u;
    }
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn is_before(a: Find, b: Find) -> bool {
    return a.key > b.key || (a.key == b.key && a.token < b.token);
}

// The first of what all threads have found. Every thread of the workgroup must come here.
fn first_of(find: Find, subgroup: u32, subgroups: u32, lane: u32) -> Find {
    let key = subgroupMax(find.key);
    let token = subgroupMin(select(NONE, find.token, find.key == key));
    if (lane == 0u) {
        keys[subgroup] = key;
        tokens[subgroup] = token;
    }
    workgroupBarrier();
    var first = Find(keys[0], tokens[0]);
    for (var i = 1u; i < subgroups; i++) {
        let other = Find(keys[i], tokens[i]);
        if (is_before(other, first)) {
            first = other;
        }
    }
    workgroupBarrier();
    return first;
}
