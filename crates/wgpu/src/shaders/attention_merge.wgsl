// Joins the splits of attention_rows.wgsl: one workgroup for each head of each row. Threads of a column hold an element of
// all splits, a share of them each, so that all loads are under way together.
//
// Constants beyond those of heads.wgsl: SPLITS_MAX, OUTPUT (what the next step reads).

const NOTHING: u32 = 0u;
const CODES: u32 = 1u;
const FLOATS: u32 = 2u;

@group(0) @binding(5) var<storage, read_write> output: array<f32>;
@group(0) @binding(6) var<storage, read_write> coded: array<u32>;
@group(0) @binding(7) var<storage, read_write> partials: array<f32>;

const THREADS: u32 = 256u;
// Elements of a head at a time, and threads that share the splits of one.
const ELEMENTS: u32 = min(WIDTH, THREADS);
const SHARES: u32 = THREADS / ELEMENTS;
const OWN: u32 = (SPLITS_MAX + SHARES - 1u) / SHARES;

var<workgroup> peaks: array<f32, SPLITS_MAX>;
var<workgroup> totals: array<f32, SPLITS_MAX>;
var<workgroup> sums: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) lanes: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let thread = select(index, subgroup * lanes + lane, ACROSS);
    let head = workgroup.x;
    let row = workgroup.y;
    // The host writes how many splits there are into the header of the pass.
    let splits = pass_input[2];
    let start = (row * HEADS + head) * splits * (WIDTH + 2u);
    let share = thread / ELEMENTS;
    var own = own_of(start, splits, share, thread % ELEMENTS);
    if (thread < SPLITS_MAX) {
        let at = start + min(thread, splits - 1u) * (WIDTH + 2u);
        peaks[thread] = partials[at];
        // Beyond the last split there is nothing.
        totals[thread] = select(0.0, partials[at + 1u], thread < splits);
    }
    workgroupBarrier();
    var largest = peaks[0];
    for (var s = 1u; s < SPLITS_MAX; s++) {
        largest = max(largest, peaks[s]);
    }
    var total = 0.0;
    for (var s = 0u; s < SPLITS_MAX; s++) {
        total = fma(exp(peaks[s] - largest), totals[s], total);
    }
    for (var first = 0u; first < WIDTH; first += ELEMENTS) {
        let i = first + thread % ELEMENTS;
        if (first != 0u) {
            own = own_of(start, splits, share, i);
        }
        var sum = 0.0;
        for (var k = 0u; k < OWN; k++) {
            let s = min(k * SHARES + share, SPLITS_MAX - 1u);
            sum = fma(exp(peaks[s] - largest), own[k], sum);
        }
        workgroupBarrier();
        sums[thread] = sum;
        workgroupBarrier();
        var value = 0.0;
        let writes = thread < ELEMENTS && i < WIDTH;
        if (writes) {
            for (var k = 0u; k < SHARES; k++) {
                value += sums[k * ELEMENTS + thread];
            }
            value /= total;
            output[row * OUTPUT_STRIDE + head * WIDTH + i] = value;
        }
        hand_on(row, head, thread, select(WIDTH, i, writes), value);
    }
}

// Element `i` of the splits that are a thread's own; zero where there is none.
fn own_of(start: u32, splits: u32, share: u32, i: u32) -> array<f32, OWN> {
    var own: array<f32, OWN>;
    for (var k = 0u; k < OWN; k++) {
        let s = k * SHARES + share;
        if (share < SHARES && s < splits && i < WIDTH) {
            own[k] = partials[start + s * (WIDTH + 2u) + 2u + i];
        }
    }
    return own;
}
