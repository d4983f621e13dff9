// The largest logit of the first row, in two dispatches: each workgroup of the first finds the largest of its share; the
// second finds the largest of these, makes it the next pass's token and moves the pass on by one position. Of equal
// logits the first wins.
//
// Constants: LAST (the second dispatch), VOCABULARY.

@group(0) @binding(1) var<storage, read> logits: array<f32>;
// For each share its largest logit and the token, as bits.
@group(0) @binding(2) var<storage, read_write> best: array<vec2<u32>>;

const THREADS: u32 = 256u;
const SHARES: u32 = 64u;

var<workgroup> values: array<f32, THREADS>;
var<workgroup> tokens: array<u32, THREADS>;

// Keeps the better of two of the workgroup's finds.
fn merge(into: u32, other: u32) {
    let a = values[into];
    let b = values[other];
    if (b > a || (b == a && tokens[other] < tokens[into])) {
        values[into] = b;
        tokens[into] = tokens[other];
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var value = -3.4e38;
    var token = 0xffffffffu;
    if (LAST) {
        if (thread < SHARES) {
            value = bitcast<f32>(best[thread].x);
            token = best[thread].y;
        }
    } else {
        for (var i = workgroup.x * THREADS + thread; i < VOCABULARY; i += SHARES * THREADS) {
            let logit = logits[i];
            // Of logits that are no numbers none is chosen; the host sees that from the token.
            if (logit > value) {
                value = logit;
                token = i;
            }
        }
    }
    values[thread] = value;
    tokens[thread] = token;
    workgroupBarrier();
    for (var width = THREADS / 2u; width > 0u; width >>= 1u) {
        if (thread < width) {
            merge(thread, thread + width);
        }
        workgroupBarrier();
    }
    if (thread != 0u) {
        return;
    }
    if (!LAST) {
        best[workgroup.x] = vec2<u32>(bitcast<u32>(values[0]), tokens[0]);
        return;
    }
    let count = go_on_with(tokens[0]);
    chosen[1u + count] = tokens[0];
}
