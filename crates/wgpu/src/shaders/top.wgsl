// The first tokens of each share of the vocabulary, as many as a draw needs: one workgroup for each share. Order and
// parameters are those of ranked.wgsl.

// (share, rank): key and token.
@group(0) @binding(2) var<storage, read_write> best: array<vec2<u32>>;

const OWN: u32 = (VOCABULARY + SHARES * THREADS - 1u) / (SHARES * THREADS);

// The first of a thread's tokens that comes after `last`.
fn next_own(share: u32, thread: u32, last: Find) -> Find {
    var next = Find(0u, NONE);
    for (var i = 0u; i < OWN; i++) {
        let token = (i * SHARES + share) * THREADS + thread;
        if (token < VOCABULARY) {
            let find = Find(key_of(logits[token]), token);
            if (is_before(last, find) && is_before(find, next)) {
                next = find;
            }
        }
    }
    return next;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let share = workgroup.x;
    var own = next_own(share, thread, Find(FIRST_OF_ALL, 0u));
    for (var rank = 0u; rank < params.top_k; rank++) {
        let first = first_of(own, subgroup, subgroups, lane);
        if (thread == 0u) {
            best[share * TOP_MAX + rank] = vec2<u32>(first.key, first.token);
        }
        if (own.token == first.token && first.token != NONE) {
            own = next_own(share, thread, first);
        }
    }
}
