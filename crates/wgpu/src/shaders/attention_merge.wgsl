// Joins the splits of attention_rows.wgsl: one workgroup for each head of each row.

const NOTHING: u32 = 0u;
const CODES: u32 = 1u;
const FLOATS: u32 = 2u;

@group(0) @binding(5) var<storage, read_write> output: array<f32>;
@group(0) @binding(6) var<storage, read_write> coded: array<u32>;
@group(0) @binding(7) var<storage, read_write> partials: array<f32>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) lanes: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    var thread = index;
    if (ACROSS) {
        thread = subgroup * lanes + lane;
    }
    let head = workgroup.x;
    let row = workgroup.y;
    // The host writes how many splits there are into the header of the pass.
    let splits = pass_input[2];
    let start = (row * HEADS + head) * splits * (WIDTH + 2u);
    var largest = -3.0e38;
    for (var s = 0u; s < splits; s++) {
        largest = max(largest, partials[start + s * (WIDTH + 2u)]);
    }
    var total = 0.0;
    for (var s = 0u; s < splits; s++) {
        let at = start + s * (WIDTH + 2u);
        total = fma(exp(partials[at] - largest), partials[at + 1u], total);
    }
    for (var first = 0u; first < WIDTH; first += THREADS) {
        let i = first + thread;
        var value = 0.0;
        if (i < WIDTH) {
            var sum = 0.0;
            for (var s = 0u; s < splits; s++) {
                let at = start + s * (WIDTH + 2u);
                sum = fma(exp(partials[at] - largest), partials[at + 2u + i], sum);
            }
            value = sum / total;
            output[row * OUTPUT_STRIDE + head * WIDTH + i] = value;
        }
        hand_on(row, head, thread, i, value);
    }
}
