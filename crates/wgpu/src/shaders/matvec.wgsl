// A few rows times one, two or three matrices: each subgroup makes ROWS outputs at a time, its lanes share the inputs.
//
// Constants from outside: THREADS, ROWS (outputs of a subgroup at a time), AHEAD (units at a time), BATCH (rows of the
// pass), GROUP_ROWS (outputs of a workgroup), MODE, OUTPUT (what the next step reads besides `output`), PARTS (2 for a
// gate and what it gates). `accumulate` comes from matvec_codes.wgsl or matvec_values.wgsl.

const STORE: u32 = 0u;
const ADD: u32 = 1u;
const GATED_SILU: u32 = 2u;
const GATED_GELU: u32 = 3u;

const NOTHING: u32 = 0u;
const CODES: u32 = 1u;
const FLOATS: u32 = 2u;

struct Pass {
    rows: u32,
    logit_rows: u32,
    spare0: u32,
    spare1: u32,
}

@group(0) @binding(4) var<storage, read> counts: Pass;
@group(0) @binding(5) var<storage, read> inputs: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;
@group(0) @binding(7) var<storage, read_write> coded: array<u32>;

var<workgroup> sums: array<f32, PARTS * GROUP_ROWS * BATCH>;
var<workgroup> tile: array<vec4<f32>, GROUP_ROWS / 4u * BATCH>;
var<workgroup> factors: array<f32, BATCH>;

fn pass_rows() -> u32 {
    return select(counts.rows, counts.logit_rows, HEAD);
}

fn part_of(group: u32) -> u32 {
    if (PARTS == 2u) {
        return 0u;
    }
    let second = select(0u, 1u, group >= params.matrices[1].group);
    return select(second, 2u, group >= params.matrices[2].group);
}

// What the inputs of a row must be multiplied with: they went through their norm's weights, not through its division.
fn norm_factor(row: u32, lane: u32, lanes: u32) -> f32 {
    if (params.norm_width == 0u) {
        return 1.0;
    }
    var sum = 0.0;
    for (var i = lane; i < params.sum_count; i += lanes) {
        let at = params.sums + row * params.sum_count + i;
        sum += bitcast<f32>(inputs[at >> 2u][at & 3u]);
    }
    return inverseSqrt(subgroupAdd(sum) / f32(params.norm_width) + params.norm_epsilon);
}

fn with_bias(part: u32, row: u32, value: f32) -> f32 {
    let bias = params.matrices[part].bias;
    if (bias == NONE) {
        return value;
    }
    return value + vectors[bias + row];
}

fn gelu(x: f32) -> f32 {
    // tanh(y) = 1 − 2 ÷ (1 + e^2y), which has no overflow on either side.
    let y = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    return x * (1.0 - 1.0 / (1.0 + exp(2.0 * y)));
}

// The output of one row of the matrix for one row of the pass.
fn finish(part: u32, row: u32, local_row: u32, batch: u32) -> f32 {
    let at = local_row * BATCH + batch;
    let value = with_bias(part, row, sums[at] * factors[batch]);
    if (MODE == GATED_SILU || MODE == GATED_GELU) {
        let up = with_bias(1u, row, sums[GROUP_ROWS * BATCH + at] * factors[batch]);
        if (MODE == GATED_SILU) {
            return value / (1.0 + exp(-value)) * up;
        }
        return gelu(value) * up;
    }
    if (params.soft_cap != 0.0) {
        return params.soft_cap * tanh(value / params.soft_cap);
    }
    return value;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let part = part_of(workgroup.x);
    let first = (workgroup.x - params.matrices[part].group) * GROUP_ROWS;
    // What the end needs is asked for at the beginning: a thread finishes one output of one row, where there are threads.
    let early = early_of(part, first, thread);
    for (var local = subgroup * ROWS; local < GROUP_ROWS; local += subgroups * ROWS) {
        for (var p = 0u; p < PARTS; p++) {
            let found = accumulate(part + p, first + local, lane, lanes);
            for (var i = 0u; i < ROWS * BATCH; i++) {
                let sum = subgroupAdd(found[i]);
                if (lane == 0u) {
                    sums[p * GROUP_ROWS * BATCH + local * BATCH + i] = sum;
                }
            }
        }
    }
    for (var b = subgroup; b < BATCH; b += subgroups) {
        let factor = norm_factor(b, lane, lanes);
        if (lane == 0u) {
            factors[b] = factor;
        }
    }
    workgroupBarrier();
    for (var i = thread; i < GROUP_ROWS * BATCH; i += THREADS) {
        let local = i % GROUP_ROWS;
        let batch = i / GROUP_ROWS;
        let row = first + local;
        var kept = 0.0;
        if (row < params.matrices[part].rows && batch < pass_rows()) {
            let at = batch * params.output_width + params.matrices[part].output + row;
            kept = finish(part, row, local, batch);
            if (MODE == ADD) {
                if (i < THREADS) {
                    kept += early.x;
                } else {
                    kept += output[at];
                }
            }
            output[at] = kept;
        }
        if (OUTPUT != NOTHING) {
            tile[i >> 2u][i & 3u] = kept;
        }
    }
    if (OUTPUT != NOTHING) {
        workgroupBarrier();
        hand_on(params.matrices[part].output + first, thread, early.y);
    }
}

// What output number `thread` is added to, and the weight of the next step's norm for it.
fn early_of(part: u32, first: u32, thread: u32) -> vec2<f32> {
    var early = vec2<f32>(0.0);
    if (MODE == ADD && thread < GROUP_ROWS * BATCH) {
        let row = first + thread % GROUP_ROWS;
        let batch = thread / GROUP_ROWS;
        if (row < params.matrices[part].rows && batch < pass_rows()) {
            early.x = output[batch * params.output_width + params.matrices[part].output + row];
        }
        if (OUTPUT != NOTHING) {
            early.y = vectors[params.next_norm + params.matrices[part].output + row];
        }
    }
    return early;
}

// Writes the finished outputs as the next step's inputs, GROUP_ROWS of each row.
fn hand_on(first: u32, thread: u32, norm: f32) {
    if (MODE == ADD && thread < BATCH) {
        var sum = 0.0;
        for (var i = 0u; i < GROUP_ROWS / 4u; i++) {
            let v = tile[thread * (GROUP_ROWS / 4u) + i];
            sum += dot(v, v);
        }
        coded[params.next_sums + thread * params.next_sum_count + first / GROUP_ROWS] = bitcast<u32>(sum);
    }
    if (MODE == ADD) {
        workgroupBarrier();
        for (var i = thread; i < GROUP_ROWS * BATCH; i += THREADS) {
            if (i < THREADS) {
                tile[i >> 2u][i & 3u] *= norm;
            } else {
                tile[i >> 2u][i & 3u] *= vectors[params.next_norm + first + i % GROUP_ROWS];
            }
        }
        workgroupBarrier();
    }
    for (var i = thread; i < GROUP_ROWS / 4u * BATCH; i += THREADS) {
        let batch = i / (GROUP_ROWS / 4u);
        let quad = i % (GROUP_ROWS / 4u);
        if (OUTPUT == CODES) {
            encode(batch * (GROUP_ROWS / 4u) + (quad & ~7u), quad & 7u, batch, (first >> 5u) + (quad >> 3u), params.next_units);
        } else {
            let at = batch * params.next_units * 32u + first + 4u * quad;
            let v = bitcast<vec4<u32>>(tile[i]);
            coded[at] = v.x;
            coded[at + 1u] = v.y;
            coded[at + 2u] = v.z;
            coded[at + 3u] = v.w;
        }
    }
}
