// Makes the token with the largest logit of all shares of argmax.wgsl the next pass's, and moves the pass on by one position.

@group(0) @binding(6) var<storage, read> best: array<vec2<u32>>;

const SHARES: u32 = 64u;

// The token. Every thread of the workgroup must come here.
fn choose(thread: u32) -> u32 {
    var value = -3.4e38;
    var token = 0xffffffffu;
    if (thread < SHARES) {
        value = bitcast<f32>(best[thread].x);
        token = best[thread].y;
    }
    find_largest(thread, value, token);
    if (thread == 0u) {
        let count = go_on_with(tokens[0]);
        chosen[1u + count] = tokens[0];
    }
    return tokens[0];
}
