// Attention of single rows over the pages of their sequences: one workgroup for each head of each row and each split of
// its positions. Softmax runs along: whenever a larger score appears, what was summed is scaled down (Milakov and
// Gimelshein 2018, arXiv 1805.02867).
//
// Constants beyond those of heads.wgsl: STORES (the workgroup also rotates and stores the row's own key and value, so
// that no step before it has to; then no two rows may be of one sequence), SPLIT (the positions are cut, results go to
// `partials`), OUTPUT (codes, floats or nothing for the next step).

const NOTHING: u32 = 0u;
const CODES: u32 = 1u;
const FLOATS: u32 = 2u;

@group(0) @binding(4) var<storage, read> qkv: array<f32>;
@group(0) @binding(5) var<storage, read_write> pages: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;
@group(0) @binding(7) var<storage, read_write> coded: array<u32>;
// For each row, head and split: largest score, sum of shares, WIDTH sums.
@group(0) @binding(8) var<storage, read_write> partials: array<f32>;

const THREADS: u32 = 128u;
const OCTETS: u32 = WIDTH / 8u;
// Threads that sum values: each takes eight elements of every TEAMS-th position.
const TEAMS: u32 = THREADS / OCTETS;

var<workgroup> query: array<f32, WIDTH>;
// The row's own key and value as the page will hold them.
var<workgroup> own_key: array<vec4<u32>, OCTETS>;
var<workgroup> own_value: array<vec4<u32>, OCTETS>;
var<workgroup> shares: array<f32, THREADS>;
var<workgroup> parts: array<f32, THREADS>;
var<workgroup> sums: array<f32, TEAMS * WIDTH>;
var<workgroup> tile: array<vec4<f32>, WIDTH / 4u>;

struct Place {
    thread: u32,
    subgroup: u32,
    subgroups: u32,
    lane: u32,
}

fn sum_over_workgroup(place: Place, value: f32) -> f32 {
    let part = subgroupAdd(value);
    workgroupBarrier();
    if (place.lane == 0u) {
        parts[place.subgroup] = part;
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < place.subgroups; i++) {
        sum += parts[i];
    }
    return sum;
}

fn max_over_workgroup(place: Place, value: f32) -> f32 {
    let part = subgroupMax(value);
    workgroupBarrier();
    if (place.lane == 0u) {
        parts[place.subgroup] = part;
    }
    workgroupBarrier();
    var largest = parts[0];
    for (var i = 1u; i < place.subgroups; i++) {
        largest = max(largest, parts[i]);
    }
    return largest;
}

// Element `i` of the row's head that starts at `start`, normed and rotated.
fn turned(start: u32, i: u32, norm: u32, factor: f32, position: u32) -> f32 {
    var v = qkv[start + i];
    if (norm != NONE) {
        v *= factor * vectors[norm + i];
    }
    if (i >= 2u * PAIRS) {
        return v;
    }
    let j = partner(i);
    var other = qkv[start + j];
    if (norm != NONE) {
        other *= factor * vectors[norm + j];
    }
    return rotated(i, v, other, position);
}

fn head_factor(place: Place, start: u32, epsilon: f32) -> f32 {
    var square = 0.0;
    for (var i = place.thread; i < WIDTH; i += THREADS) {
        square = fma(qkv[start + i], qkv[start + i], square);
    }
    return inverseSqrt(sum_over_workgroup(place, square) / f32(WIDTH) + epsilon);
}

fn load_own(place: Place, row: u32, head: u32, kv_head: u32, position: u32) {
    let start = row * params.stride;
    let query_start = start + head * WIDTH;
    let key_start = start + (HEADS + kv_head) * WIDTH;
    let value_start = start + (HEADS + KV_HEADS + kv_head) * WIDTH;
    if (!STORES) {
        for (var i = place.thread; i < WIDTH; i += THREADS) {
            query[i] = qkv[query_start + i] * params.scale;
        }
        return;
    }
    var query_factor = 1.0;
    var key_factor = 1.0;
    if (params.query_norm != NONE) {
        query_factor = head_factor(place, query_start, params.query_epsilon);
    }
    if (params.key_norm != NONE) {
        key_factor = head_factor(place, key_start, params.key_epsilon);
    }
    for (var i = place.thread; i < WIDTH; i += THREADS) {
        query[i] = turned(query_start, i, params.query_norm, query_factor, position) * params.scale;
    }
    for (var i = place.thread; i < WIDTH / 2u; i += THREADS) {
        let first = turned(key_start, 2u * i, params.key_norm, key_factor, position);
        let second = turned(key_start, 2u * i + 1u, params.key_norm, key_factor, position);
        own_key[i >> 2u][i & 3u] = pack2x16float(vec2<f32>(first, second));
        let value = vec2<f32>(qkv[value_start + 2u * i], qkv[value_start + 2u * i + 1u]);
        own_value[i >> 2u][i & 3u] = pack2x16float(value);
    }
}

fn eight(values: vec4<u32>, first: u32) -> f32 {
    let a = unpack2x16float(values.x);
    let b = unpack2x16float(values.y);
    let c = unpack2x16float(values.z);
    let d = unpack2x16float(values.w);
    var sum = fma(a.x, query[first], a.y * query[first + 1u]);
    sum = fma(b.x, query[first + 2u], fma(b.y, query[first + 3u], sum));
    sum = fma(c.x, query[first + 4u], fma(c.y, query[first + 5u], sum));
    return fma(d.x, query[first + 6u], fma(d.y, query[first + 7u], sum));
}

fn score_of(row: u32, seen: u32, position: u32, kv_head: u32) -> f32 {
    let own = STORES && seen == position;
    let at = page_start(row, seen, kv_head);
    var sums = vec4<f32>(0.0);
    for (var i = 0u; i < OCTETS; i++) {
        // The row's own slot may not be written yet: it is read all the same, so that loads do not wait for a branch.
        sums[i & 3u] += eight(select(pages[at + i], own_key[i], own), 8u * i);
    }
    let score = (sums.x + sums.y) + (sums.z + sums.w);
    if (params.soft_cap != 0.0) {
        return params.soft_cap * tanh(score / params.soft_cap);
    }
    return score;
}

fn octet_of(row: u32, seen: u32, position: u32, kv_head: u32, octet: u32) -> vec4<u32> {
    let words = pages[page_start(row, seen, kv_head) + params.values + octet];
    return select(words, own_value[octet], STORES && seen == position);
}

fn store_own(place: Place, row: u32, position: u32, kv_head: u32) {
    let at = page_start(row, position, kv_head);
    for (var octet = place.thread; octet < OCTETS; octet += THREADS) {
        pages[at + octet] = own_key[octet];
        pages[at + params.values + octet] = own_value[octet];
    }
}

// Sums of a thread's eight elements.
struct Sums {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn with_share(sums: Sums, share: f32, words: vec4<u32>) -> Sums {
    let low = vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
    let high = vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w));
    return Sums(fma(vec4<f32>(share), low, sums.low), fma(vec4<f32>(share), high, sums.high));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let place = Place(thread, subgroup, subgroups, lane);
    let head = workgroup.x;
    let row = workgroup.y;
    let kv_head = head / (HEADS / KV_HEADS);
    let position = position_of(row);
    let end = position + 1u;
    var first = 0u;
    if (params.window != 0u && end > params.window) {
        first = end - params.window;
    }
    var last = end;
    if (SPLIT) {
        let share = (((end - first) + workgroups.z - 1u) / workgroups.z + THREADS - 1u) / THREADS * THREADS;
        last = min(end, first + share * (workgroup.z + 1u));
        first = min(end, first + share * workgroup.z);
    }
    load_own(place, row, head, kv_head, position);
    workgroupBarrier();
    if (STORES && last == end && first < last && head % (HEADS / KV_HEADS) == 0u) {
        store_own(place, row, position, kv_head);
    }
    var largest = -3.0e38;
    var total = 0.0;
    var acc: Sums;
    let team = thread / OCTETS;
    let octet = thread % OCTETS;
    for (var base = first; base < last; base += THREADS) {
        let count = min(THREADS, last - base);
        var score = -3.0e38;
        if (thread < count) {
            score = score_of(row, base + thread, position, kv_head);
        }
        let next = max(largest, max_over_workgroup(place, score));
        let fade = exp(largest - next);
        let share = select(0.0, exp(score - next), thread < count);
        shares[thread] = share;
        total = fma(total, fade, sum_over_workgroup(place, share));
        largest = next;
        acc = Sums(acc.low * fade, acc.high * fade);
        if (team < TEAMS) {
            // Four positions at a time, so that their loads are under way together; shares beyond the last are 0.
            for (var i = team; i < count; i += 4u * TEAMS) {
                let j = vec4<u32>(i, i + TEAMS, i + 2u * TEAMS, i + 3u * TEAMS);
                let near = min(j, vec4<u32>(count - 1u));
                let a = octet_of(row, base + near.x, position, kv_head, octet);
                let b = octet_of(row, base + near.y, position, kv_head, octet);
                let c = octet_of(row, base + near.z, position, kv_head, octet);
                let d = octet_of(row, base + near.w, position, kv_head, octet);
                acc = with_share(acc, shares[near.x], a);
                acc = with_share(acc, select(0.0, shares[near.y], j.y < count), b);
                acc = with_share(acc, select(0.0, shares[near.z], j.z < count), c);
                acc = with_share(acc, select(0.0, shares[near.w], j.w < count), d);
            }
        }
        workgroupBarrier();
    }
    if (team < TEAMS) {
        for (var k = 0u; k < 4u; k++) {
            sums[team * WIDTH + 8u * octet + k] = acc.low[k];
            sums[team * WIDTH + 8u * octet + 4u + k] = acc.high[k];
        }
    }
    workgroupBarrier();
    let at = ((row * HEADS + head) * workgroups.z + workgroup.z) * (WIDTH + 2u);
    for (var i = thread; i < WIDTH; i += THREADS) {
        var sum = 0.0;
        for (var t = 0u; t < TEAMS; t++) {
            sum += sums[t * WIDTH + i];
        }
        if (SPLIT) {
            partials[at + 2u + i] = sum;
        } else {
            let value = sum / total;
            output[row * params.output_stride + head * WIDTH + i] = value;
            tile[i >> 2u][i & 3u] = value;
        }
    }
    if (SPLIT && thread == 0u) {
        partials[at] = largest;
        partials[at + 1u] = total;
    }
    if (!SPLIT && OUTPUT != NOTHING) {
        workgroupBarrier();
        hand_on(row, head, thread);
    }
}

// Writes a head's output as the next product's inputs.
fn hand_on(row: u32, head: u32, thread: u32) {
    for (var quad = thread; quad < WIDTH / 4u; quad += THREADS) {
        if (OUTPUT == CODES) {
            encode(quad & ~7u, quad & 7u, row, (head * WIDTH >> 5u) + (quad >> 3u), params.units);
        } else {
            let at = row * params.units * 32u + head * WIDTH + 4u * quad;
            let words = bitcast<vec4<u32>>(tile[quad]);
            coded[at] = words.x;
            coded[at + 1u] = words.y;
            coded[at + 2u] = words.z;
            coded[at + 3u] = words.w;
        }
    }
}
