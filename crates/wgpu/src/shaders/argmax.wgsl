// The largest logit of the first row, in two dispatches: here each workgroup finds the largest of its share; choose.wgsl
// finds the largest of these.
//
// Constant: VOCABULARY.

@group(0) @binding(1) var<storage, read> logits: array<f32>;
// For each share its largest logit, as bits, and the token.
@group(0) @binding(2) var<storage, read_write> best: array<vec2<u32>>;

const THREADS: u32 = 256u;
const SHARES: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var value = -3.4e38;
    var token = 0xffffffffu;
    for (var i = workgroup.x * THREADS + thread; i < VOCABULARY; i += SHARES * THREADS) {
        let logit = logits[i];
        // Of logits that are no numbers none is chosen; the host sees that from the token.
        if (logit > value) {
            value = logit;
            token = i;
        }
    }
    find_largest(thread, value, token);
    if (thread == 0u) {
        best[workgroup.x] = vec2<u32>(bitcast<u32>(values[0]), tokens[0]);
    }
}
