// Norms rows of a projection and adds them to the residual stream, one workgroup for each row.
//
// Constants: WIDTH, NORM_START of the norm's weights in `vectors`, EPSILON.

@group(0) @binding(0) var<storage, read> vectors: array<f32>;
@group(0) @binding(1) var<storage, read> projected: array<f32>;
@group(0) @binding(2) var<storage, read_write> hidden: array<f32>;

const THREADS: u32 = 256u;

var<workgroup> parts: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let start = workgroup.x * WIDTH;
    var sum = 0.0;
    for (var i = thread; i < WIDTH; i += THREADS) {
        sum = fma(projected[start + i], projected[start + i], sum);
    }
    let part = subgroupAdd(sum);
    if (lane == 0u) {
        parts[subgroup] = part;
    }
    workgroupBarrier();
    var square = 0.0;
    for (var i = 0u; i < subgroups; i++) {
        square += parts[i];
    }
    let factor = inverseSqrt(square / f32(WIDTH) + EPSILON);
    for (var i = thread; i < WIDTH; i += THREADS) {
        hidden[start + i] += projected[start + i] * factor * vectors[NORM_START + i];
    }
}
