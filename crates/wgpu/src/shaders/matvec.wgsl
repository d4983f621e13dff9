// A few rows times one, two or three matrices: teams of four lanes make ROWS outputs at a time, SHARES of them the same
// ones, each from a share of the inputs.
//
// Constants from outside: ROWS, SHARES, AHEAD (units of a lane at a time), THREADS (of SHARES teams for every ROWS of a
// workgroup's outputs, or some more), BATCH (rows of the pass at most), MODE, OUTPUT (what the next step reads besides
// `output`), PARTS (2 for a gate and what it gates), HEAD, FIRST, SECOND and THIRD (matrices), MINS (whether weights have
// mins), ACROSS (see encode.wgsl); UNITS of 32 inputs in a row, OUTPUT_WIDTH, SOFT_CAP (logits become cap · tanh(logit /
// cap) where it is not 0); NORM_WIDTH and NORM_EPSILON of the norm that the inputs went through only by its weights (0
// where they went through none), SUM_COUNT of the sums of squares of parts of each row (a multiple of four), and LANES_MIN
// (lanes of the smallest subgroup); NEXT_UNITS, NEXT_SUMS (the word where they start), NEXT_SUM_COUNT and NEXT_NORM (its
// weights in `vectors`) of what is handed on. `Inputs` and `accumulate` come from matvec_codes.wgsl or matvec_values.wgsl,
// `hand_on` from hand_on_block.wgsl or hand_on_nothing.wgsl.
//
// All of these are constants rather than parameters: a pass of one row is many dispatches that wait for each other, and
// each would wait for its parameters too. Layers of one shape have the same constants, and so the same kernels.

const NOTHING: u32 = 0u;
const CODES: u32 = 1u;
const FLOATS: u32 = 2u;

const TEAM: u32 = 4u;

// Outputs of a workgroup: a block of the next product's inputs.
const GROUP_ROWS: u32 = 8u;
const FINISHED: u32 = GROUP_ROWS * BATCH;

struct Pass {
    rows: u32,
    logit_rows: u32,
    spare0: u32,
    spare1: u32,
}

@group(0) @binding(2) var<storage, read> counts: Pass;
@group(0) @binding(3) var<storage, read> inputs: Inputs;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

// (share, part, row of the pass, output).
var<workgroup> sums: array<f32, SHARES * PARTS * FINISHED>;
var<workgroup> factors: array<f32, BATCH>;

// Whether the pass has row `batch`.
fn exists(batch: u32) -> bool {
    if (BATCH == 1u) {
        return batch == 0u;
    }
    return batch < select(counts.rows, counts.logit_rows, HEAD);
}

fn matrix_of(part: u32) -> Matrix {
    if (part == 0u) {
        return FIRST;
    }
    if (part == 1u) {
        return SECOND;
    }
    return THIRD;
}

fn part_of(group: u32) -> u32 {
    if (PARTS == 2u) {
        return 0u;
    }
    let second = select(0u, 1u, group >= SECOND.group);
    return select(second, 2u, group >= THIRD.group);
}

// Vectors of sums of squares in a row.
const ROW_SQUARES: u32 = SUM_COUNT / 4u;

// A subgroup reads them all at once. Then nothing is computed with them before the weights were asked for: lanes work in
// order, and would wait here first. Where there are more of them, four registers would cost more than that.
const AT_ONCE: bool = ROW_SQUARES <= LANES_MIN;

// This lane's share of a row's sum of squares, as a sum of four; with AT_ONCE lanes beyond the last vector repeat it, which
// norm_factor leaves out.
fn squares_of(row: u32, lane: u32, lanes: u32) -> vec4<f32> {
    var squares = vec4<f32>(0.0);
    if (NORM_WIDTH == 0u) {
        return squares;
    }
    if (AT_ONCE) {
        return inputs.sums[row * ROW_SQUARES + min(lane, max(ROW_SQUARES, 1u) - 1u)];
    }
    for (var i = lane; i < ROW_SQUARES; i += lanes) {
        squares += inputs.sums[row * ROW_SQUARES + i];
    }
    return vec4<f32>((squares.x + squares.y) + (squares.z + squares.w), 0.0, 0.0, 0.0);
}

// What the inputs of a row must be multiplied with: they went through their norm's weights, not through its division.
fn norm_factor(squares: vec4<f32>, lane: u32) -> f32 {
    if (NORM_WIDTH == 0u) {
        return 1.0;
    }
    let share = (squares.x + squares.y) + (squares.z + squares.w);
    let sum = subgroupAdd(select(0.0, share, !AT_ONCE || lane < ROW_SQUARES));
    return inverseSqrt(sum / f32(NORM_WIDTH) + NORM_EPSILON);
}

// What the end needs of memory: it is asked for at the beginning.
struct Early {
    output: f32,
    norm: f32,
    bias: f32,
    second_bias: f32,
}

fn early_of(part: u32, row: u32, batch: u32) -> Early {
    var early = Early(0.0, 0.0, 0.0, 0.0);
    let m = matrix_of(part);
    if (MODE == ADD) {
        early.output = output[batch * OUTPUT_WIDTH + m.output + row];
        if (OUTPUT != NOTHING) {
            early.norm = vectors[NEXT_NORM + m.output + row];
        }
    }
    if (m.bias != NONE) {
        early.bias = vectors[m.bias + row];
    }
    if (PARTS == 2u && SECOND.bias != NONE) {
        early.second_bias = vectors[SECOND.bias + row];
    }
    return early;
}

// The sum over a team's lanes.
fn team_sum(value: f32) -> f32 {
    let pair = value + subgroupShuffleXor(value, 1u);
    return pair + subgroupShuffleXor(pair, 2u);
}

fn sum_of(at: u32) -> f32 {
    var sum = sums[at];
    for (var share = 1u; share < SHARES; share++) {
        sum += sums[share * PARTS * FINISHED + at];
    }
    return sum;
}

// The output of one row of the matrix for one row of the pass.
fn finish(early: Early, at: u32, batch: u32) -> f32 {
    let value = fma(sum_of(at), factors[batch], early.bias);
    if (MODE == GATE_SILU || MODE == GATE_GELU) {
        return activated(value) * fma(sum_of(FINISHED + at), factors[batch], early.second_bias);
    }
    if (MODE == ADD) {
        return early.output + value;
    }
    if (SOFT_CAP != 0.0) {
        return SOFT_CAP * tanh(value / SOFT_CAP);
    }
    return value;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    // Along subgroups, so that teams are of one.
    let thread = subgroup * lanes + lane;
    let part = part_of(workgroup.x);
    let first = (workgroup.x - matrix_of(part).group) * GROUP_ROWS;
    // The first threads finish an output of a row each.
    let row = min(first + thread % GROUP_ROWS, matrix_of(part).rows - 1u);
    let batch = thread / GROUP_ROWS;
    let finishes = thread < FINISHED && first + thread % GROUP_ROWS < matrix_of(part).rows && exists(batch);
    // Subgroups without such threads have nothing to ask for.
    var early = Early(0.0, 0.0, 0.0, 0.0);
    if (!ACROSS || subgroup * lanes < FINISHED) {
        early = early_of(part, row, select(0u, batch, finishes));
    }
    var squares = vec4<f32>(0.0);
    if (subgroup < BATCH) {
        squares = squares_of(subgroup, lane, lanes);
    }
    let team = thread / TEAM;
    let share = team % SHARES;
    let local = team / SHARES * ROWS;
    let found = accumulate(part, first + local, share * TEAM + thread % TEAM, SHARES * TEAM);
    for (var k = 0u; k < PARTS * ROWS * BATCH; k++) {
        let sum = team_sum(found[k]);
        if (local < GROUP_ROWS && thread % TEAM == 0u) {
            let p = k / (ROWS * BATCH);
            let r = k / BATCH % ROWS;
            sums[(share * PARTS + p) * FINISHED + (k % BATCH) * GROUP_ROWS + local + r] = sum;
        }
    }
    if (subgroup < BATCH) {
        let factor = norm_factor(squares, lane);
        if (lane == 0u) {
            factors[subgroup] = factor;
        }
    }
    for (var b = subgroup + subgroups; b < BATCH; b += subgroups) {
        let factor = norm_factor(squares_of(b, lane, lanes), lane);
        if (lane == 0u) {
            factors[b] = factor;
        }
    }
    workgroupBarrier();
    if (ACROSS && subgroup * lanes >= FINISHED) {
        return;
    }
    var kept = 0.0;
    if (finishes) {
        kept = finish(early, thread, batch);
        output[batch * OUTPUT_WIDTH + matrix_of(part).output + row] = kept;
    }
    hand_on(matrix_of(part).output + first, thread, kept, early.norm);
}
