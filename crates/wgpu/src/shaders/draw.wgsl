// Joins the shares' first tokens, draws one of them and goes on with it: one workgroup. The host draws again from what is
// recorded, in its own arithmetic, and has the last word.

@group(0) @binding(2) var<storage, read> best: array<vec2<u32>>;
// A record for each pass, in turn: the token, how many tokens follow, these, and their logits.
@group(0) @binding(4) var<storage, read_write> records: array<Record, RECORDS>;
// A number from 0 to 1 for each pass, in turn.
@group(0) @binding(3) var<storage, read> numbers: array<f32, RECORDS>;

struct Record {
    token: u32,
    count: u32,
    tokens: array<u32, TOP_MAX>,
    logits: array<f32, TOP_MAX>,
}

var<workgroup> top: array<u32, TOP_MAX>;
var<workgroup> top_logits: array<f32, TOP_MAX>;
// Likelihoods in proportion, before and after the temperature.
var<workgroup> plain: array<f32, TOP_MAX>;
var<workgroup> sharpened: array<f32, TOP_MAX>;

fn first_of_share(share: u32, rank: u32) -> Find {
    if (share >= SHARES || rank >= params.top_k) {
        return Find(0u, NONE);
    }
    let found = best[share * TOP_MAX + rank];
    return Find(found.x, found.y);
}

// The rank of the drawn token among `count`.
fn drawn(count: u32, number: f32) -> u32 {
    var total = 0.0;
    for (var i = 0u; i < count; i++) {
        total += plain[i];
    }
    var kept = 0u;
    var sum = 0.0;
    while (kept < count) {
        sum += plain[kept];
        kept++;
        if (sum >= params.top_p * total) {
            break;
        }
    }
    var weight = 0.0;
    for (var i = 0u; i < kept; i++) {
        if (top_logits[i] - top_logits[0] >= params.floor) {
            weight += sharpened[i];
        }
    }
    var last = 0u;
    var run = 0.0;
    for (var i = 0u; i < kept; i++) {
        if (top_logits[i] - top_logits[0] >= params.floor) {
            run += sharpened[i];
            last = i;
            if (run > number * weight) {
                break;
            }
        }
    }
    return last;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    var rank_of_own = 0u;
    var own = first_of_share(thread, 0u);
    for (var rank = 0u; rank < params.top_k; rank++) {
        let first = first_of(own, subgroup, subgroups, lane);
        if (thread == 0u) {
            top[rank] = first.token;
        }
        if (own.token == first.token && first.token != NONE) {
            rank_of_own++;
            own = first_of_share(thread, rank_of_own);
        }
    }
    workgroupBarrier();
    if (thread < params.top_k) {
        top_logits[thread] = logits[min(top[thread], VOCABULARY - 1u)];
    }
    workgroupBarrier();
    if (thread < params.top_k) {
        let distance = top_logits[thread] - top_logits[0];
        plain[thread] = exp(distance);
        sharpened[thread] = exp(distance * params.sharpness);
    }
    workgroupBarrier();
    if (thread != 0u) {
        return;
    }
    var count = 0u;
    while (count < params.top_k && top[count] != NONE) {
        count++;
    }
    let index = chosen[0] % RECORDS;
    let token = top[drawn(count, numbers[index])];
    go_on_with(token);
    records[index].token = token;
    records[index].count = count;
    for (var i = 0u; i < count; i++) {
        records[index].tokens[i] = top[i];
        records[index].logits[i] = top_logits[i];
    }
}
