// Attention of single rows over the pages of their sequences: one workgroup for each head of each row and each split of
// its positions. Lanes form teams: the lanes of a team hold eight elements each of the head, and a team takes every
// TEAMS-th position. Softmax runs along within a team: whenever a larger score appears, what was summed is scaled down
// (Milakov and Gimelshein 2018, arXiv 1805.02867); teams are joined at the end.
//
// Constants beyond those of heads.wgsl: STORES (the workgroup also rotates and stores the row's own key and value, so
// that no step before it has to; then no two rows may be of one sequence), SPLIT (the positions are cut), SHUFFLES (a
// team's lanes are of one subgroup), JOINED (so many teams of a subgroup are joined into a party by shuffles). `finish`
// comes from finish_head.wgsl or finish_split.wgsl, `packed`,
// `settle` and `store` from own_halves.wgsl or own_codes.wgsl.

@group(0) @binding(3) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> pages: array<Words>;

const THREADS: u32 = 256u;
const OCTETS: u32 = WIDTH / 8u;
const TEAMS: u32 = THREADS / OCTETS;
const PARTIES: u32 = (TEAMS + JOINED - 1u) / JOINED;
// Positions of a team at a time, so that their loads are under way together.
const AHEAD: u32 = 4u;
const LEAST: f32 = -3.0e38;

var<workgroup> parts: array<f32, THREADS>;
var<workgroup> peaks: array<f32, PARTIES>;
var<workgroup> totals: array<f32, PARTIES>;
var<workgroup> sums: array<f32, PARTIES * WIDTH>;

struct Place {
    thread: u32,
    team: u32,
    octet: u32,
}

// The sum over a team's lanes. Every thread of the workgroup must come here.
fn team_sum(place: Place, value: f32) -> f32 {
    if (SHUFFLES) {
        var sum = value;
        for (var distance = 1u; distance < OCTETS; distance <<= 1u) {
            sum += subgroupShuffleXor(sum, distance);
        }
        return sum;
    }
    workgroupBarrier();
    parts[place.thread] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < OCTETS; i++) {
        sum += parts[place.team * OCTETS + i];
    }
    return sum;
}

fn dot8(a: Octet, b: Octet) -> f32 {
    let products = fma(a.low, b.low, a.high * b.high);
    return (products.x + products.y) + (products.z + products.w);
}

fn octet_of(start: u32, octet: u32) -> Octet {
    let at = start / 4u + 2u * octet;
    return Octet(qkv[at], qkv[at + 1u]);
}

fn norm_of(norm: u32, octet: u32) -> Octet {
    let at = norm + 8u * octet;
    return Octet(
        vec4<f32>(vectors[at], vectors[at + 1u], vectors[at + 2u], vectors[at + 3u]),
        vec4<f32>(vectors[at + 4u], vectors[at + 5u], vectors[at + 6u], vectors[at + 7u]),
    );
}

// The octet that a query's or key's octet is rotated with, where pairs are whole octets apart.
fn partner_octet(octet: u32) -> u32 {
    return select(octet - PAIRS / 8u, octet + PAIRS / 8u, octet < PAIRS / 8u);
}

// An octet of the head that starts at `start`, normed and rotated.
fn turned(place: Place, start: u32, norm: u32, epsilon: f32, position: u32) -> Octet {
    let own = octet_of(start, place.octet);
    var factor = 1.0;
    if (norm != NONE) {
        factor = inverseSqrt(team_sum(place, dot8(own, own)) / f32(WIDTH) + epsilon);
    }
    var values = own;
    if (norm != NONE) {
        let weights = norm_of(norm, place.octet);
        values = Octet(own.low * factor * weights.low, own.high * factor * weights.high);
    }
    if (8u * place.octet >= 2u * PAIRS) {
        return values;
    }
    if (!INTERLEAVED && PAIRS % 8u == 0u) {
        let octet = partner_octet(place.octet);
        var other = octet_of(start, octet);
        if (norm != NONE) {
            let weights = norm_of(norm, octet);
            other = Octet(other.low * factor * weights.low, other.high * factor * weights.high);
        }
        let sign = select(1.0, -1.0, place.octet < PAIRS / 8u);
        let at = position * PAIRS + 8u * min(place.octet, octet);
        var turns: array<vec2<f32>, 8>;
        for (var k = 0u; k < 8u; k++) {
            turns[k] = rope[at + k];
        }
        let low_cosines = vec4<f32>(turns[0].x, turns[1].x, turns[2].x, turns[3].x);
        let high_cosines = vec4<f32>(turns[4].x, turns[5].x, turns[6].x, turns[7].x);
        let low_sines = vec4<f32>(turns[0].y, turns[1].y, turns[2].y, turns[3].y);
        let high_sines = vec4<f32>(turns[4].y, turns[5].y, turns[6].y, turns[7].y);
        return Octet(
            fma(values.low, low_cosines, sign * other.low * low_sines),
            fma(values.high, high_cosines, sign * other.high * high_sines),
        );
    }
    var result = values;
    for (var k = 0u; k < 4u; k++) {
        result.low[k] = element_turned(start, 8u * place.octet + k, values.low[k], norm, factor, position);
        result.high[k] = element_turned(start, 8u * place.octet + 4u + k, values.high[k], norm, factor, position);
    }
    return result;
}

fn element_turned(start: u32, i: u32, value: f32, norm: u32, factor: f32, position: u32) -> f32 {
    if (i >= 2u * PAIRS) {
        return value;
    }
    let at = start + partner(i);
    var other = qkv[at >> 2u][at & 3u];
    if (norm != NONE) {
        other *= factor * vectors[norm + partner(i)];
    }
    return rotated(i, value, other, position);
}

// What a team has summed.
struct Run {
    peak: f32,
    total: f32,
    sums: Octet,
}

// Keys and values of AHEAD positions, as far as this lane holds them.
struct Batch {
    keys: array<vec4<u32>, 4>,
    values: array<vec4<u32>, 4>,
}

// What lies beyond the row's own position does not count, and may be of any page: so loads need not wait for the position.
fn batch_of(row: u32, kv_head: u32, first: u32, octet: u32) -> Batch {
    var batch: Batch;
    for (var k = 0u; k < AHEAD; k++) {
        let slot = page_start(row, first + k * TEAMS, kv_head);
        batch.keys[k] = stored_at(slot, KEYS, octet);
        batch.values[k] = stored_at(slot, VALUES, octet);
    }
    return batch;
}

fn capped(score: f32) -> f32 {
    if (SOFT_CAP != 0.0) {
        return SOFT_CAP * tanh(score / SOFT_CAP);
    }
    return score;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) lanes: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let head = workgroup.x;
    let row = workgroup.y;
    let kv_head = head / (HEADS / KV_HEADS);
    var thread = index;
    if (SHUFFLES || ACROSS) {
        thread = subgroup * lanes + lane;
    }
    let place = Place(thread, min(thread / OCTETS, TEAMS - 1u), thread % OCTETS);
    // Threads left over beyond the last whole team only help to wait.
    let plays = thread < TEAMS * OCTETS;
    let position = position_of(row);
    let end = position + 1u;
    var first = 0u;
    if (WINDOW != 0u && end > WINDOW) {
        first = end - WINDOW;
    }
    var last = end;
    if (SPLIT) {
        let step = AHEAD * TEAMS;
        let share = (((end - first) + workgroups.z - 1u) / workgroups.z + step - 1u) / step * step;
        last = min(end, first + share * (workgroup.z + 1u));
        first = min(end, first + share * workgroup.z);
    }
    var batch = batch_of(row, kv_head, first + place.team, place.octet);
    let start = row * STRIDE;
    var query = octet_of(start + head * WIDTH, place.octet);
    var own_key: vec4<u32>;
    var own_value: vec4<u32>;
    if (STORES) {
        query = turned(place, start + head * WIDTH, QUERY_NORM, QUERY_EPSILON, position);
        own_key = packed(place, KEYS, turned(place, start + (HEADS + kv_head) * WIDTH, KEY_NORM, KEY_EPSILON, position));
        own_value = packed(place, VALUES, octet_of(start + (HEADS + KV_HEADS + kv_head) * WIDTH, place.octet));
        settle();
        if (last == end && first < last && head % (HEADS / KV_HEADS) == 0u && thread < OCTETS) {
            let slot = page_start(row, position, kv_head);
            store(slot, KEYS, place.octet, own_key);
            store(slot, VALUES, place.octet, own_value);
        }
    }
    query = Octet(query.low * SCALE, query.high * SCALE);

    var run = Run(LEAST, 0.0, Octet(vec4<f32>(0.0), vec4<f32>(0.0)));
    for (var base = first; base < last; base += AHEAD * TEAMS) {
        let now = batch;
        if (base + AHEAD * TEAMS < last) {
            batch = batch_of(row, kv_head, base + AHEAD * TEAMS + place.team, place.octet);
        }
        var scores: array<f32, 4>;
        var peak = run.peak;
        for (var k = 0u; k < AHEAD; k++) {
            let seen = base + k * TEAMS + place.team;
            // The row's own slot may not be written yet; what was read there does not count.
            let words = select(now.keys[k], own_key, STORES && seen == position);
            let score = capped(team_sum(place, dot8(query, unpacked(words))));
            scores[k] = select(LEAST, score, plays && seen < last);
            peak = max(peak, scores[k]);
        }
        let fade = exp(run.peak - peak);
        run = Run(peak, run.total * fade, Octet(run.sums.low * fade, run.sums.high * fade));
        for (var k = 0u; k < AHEAD; k++) {
            let seen = base + k * TEAMS + place.team;
            let counts = plays && seen < last;
            let share = select(0.0, exp(scores[k] - peak), counts);
            let words = select(now.values[k], own_value, STORES && seen == position);
            // What was read beyond the last position may be no number.
            let values = unpacked(select(vec4<u32>(0u), words, counts));
            run.total += share;
            run.sums.low = fma(vec4<f32>(share), values.low, run.sums.low);
            run.sums.high = fma(vec4<f32>(share), values.high, run.sums.high);
        }
    }
    join(place, plays, run);
    workgroupBarrier();
    finish(row, head, (row * HEADS + head) * workgroups.z + workgroup.z, thread);
}

// Leaves what the parties have summed in `peaks`, `totals` and `sums`.
fn join(place: Place, plays: bool, run: Run) {
    var peak = run.peak;
    for (var distance = OCTETS; distance < JOINED * OCTETS; distance <<= 1u) {
        peak = max(peak, subgroupShuffleXor(peak, distance));
    }
    let fade = exp(run.peak - peak);
    var total = run.total * fade;
    var low = run.sums.low * fade;
    var high = run.sums.high * fade;
    for (var distance = OCTETS; distance < JOINED * OCTETS; distance <<= 1u) {
        total += subgroupShuffleXor(total, distance);
        low += subgroupShuffleXor(low, distance);
        high += subgroupShuffleXor(high, distance);
    }
    if (!plays || place.team % JOINED != 0u) {
        return;
    }
    let party = place.team / JOINED;
    let at = party * WIDTH + 8u * place.octet;
    for (var k = 0u; k < 4u; k++) {
        sums[at + k] = low[k];
        sums[at + 4u + k] = high[k];
    }
    if (place.octet == 0u) {
        peaks[party] = peak;
        totals[party] = total;
    }
}

fn peak_of_all() -> f32 {
    var peak = peaks[0];
    for (var p = 1u; p < PARTIES; p++) {
        peak = max(peak, peaks[p]);
    }
    return peak;
}

// Element `i` of the output.
fn share_of_all(i: u32, peak: f32) -> f32 {
    var total = 0.0;
    var sum = 0.0;
    for (var p = 0u; p < PARTIES; p++) {
        let fade = exp(peaks[p] - peak);
        total = fma(totals[p], fade, total);
        sum = fma(sums[p * WIDTH + i], fade, sum);
    }
    return sum / total;
}

// The largest score of any party, and the sum of all shares relative to it.
fn total_of_all() -> vec2<f32> {
    let peak = peak_of_all();
    var total = 0.0;
    for (var p = 0u; p < PARTIES; p++) {
        total = fma(totals[p], exp(peaks[p] - peak), total);
    }
    return vec2<f32>(peak, total);
}

// The sum of element `i`, relative to the largest score of any party.
fn sum_of_all(i: u32, peak: f32) -> f32 {
    var sum = 0.0;
    for (var p = 0u; p < PARTIES; p++) {
        sum = fma(sums[p * WIDTH + i], exp(peaks[p] - peak), sum);
    }
    return sum;
}
