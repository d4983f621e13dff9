// Attention of runs of rows of one sequence, for prompts: one workgroup for a tile of up to TILE rows and one head. A
// page of keys and values is read once for the whole tile. Softmax runs along as in attention_rows.wgsl.

@group(0) @binding(3) var<storage, read> qkv: array<f32>;
@group(0) @binding(4) var<storage, read> pages: array<Words>;
@group(0) @binding(5) var<storage, read_write> output: array<f32>;
// First row and number of rows of each tile.
@group(0) @binding(6) var<storage, read> tiles: array<vec2<u32>>;

const TILE: u32 = 16u;
// Threads that share a row.
const SHARE: u32 = 8u;
const THREADS: u32 = TILE * SHARE;
const POSITIONS: u32 = 32u;
const OCTETS: u32 = WIDTH / 8u;
// Elements of the output that a thread sums.
const OWN: u32 = (WIDTH + SHARE - 1u) / SHARE;

var<workgroup> queries: array<f32, TILE * WIDTH>;
var<workgroup> shares: array<f32, TILE * POSITIONS>;

fn dot8(values: Octet, first: u32) -> f32 {
    var sum = values.low.x * queries[first];
    for (var k = 1u; k < 4u; k++) {
        sum = fma(values.low[k], queries[first + k], sum);
    }
    for (var k = 0u; k < 4u; k++) {
        sum = fma(values.high[k], queries[first + 4u + k], sum);
    }
    return sum;
}

fn score_of(row: u32, local: u32, seen: u32, kv_head: u32) -> f32 {
    let slot = page_start(row, seen, kv_head);
    var score = 0.0;
    for (var i = 0u; i < OCTETS; i++) {
        score += dot8(unpacked(stored_at(slot, KEYS, i)), local * WIDTH + 8u * i);
    }
    if (SOFT_CAP != 0.0) {
        score = SOFT_CAP * tanh(score / SOFT_CAP);
    }
    return score;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let run = tiles[workgroup.x];
    let head = workgroup.y;
    let kv_head = head / (HEADS / KV_HEADS);
    for (var i = thread; i < TILE * WIDTH; i += THREADS) {
        let local = i / WIDTH;
        if (local < run.y) {
            queries[i] = qkv[(run.x + local) * STRIDE + head * WIDTH + i % WIDTH] * SCALE;
        }
    }
    workgroupBarrier();
    let local = thread / SHARE;
    let part = thread % SHARE;
    let alive = local < run.y;
    let row = run.x + min(local, run.y - 1u);
    let end = position_of(row) + 1u;
    var begin = 0u;
    if (WINDOW != 0u && end > WINDOW) {
        begin = end - WINDOW;
    }
    // What any row of the tile sees; positions ascend.
    let tile_end = position_of(run.x + run.y - 1u) + 1u;
    let first_end = position_of(run.x) + 1u;
    var tile_begin = 0u;
    if (WINDOW != 0u && first_end > WINDOW) {
        tile_begin = first_end - WINDOW;
    }
    var largest = -3.0e38;
    var total = 0.0;
    var acc: array<f32, OWN>;
    for (var base = tile_begin / POSITIONS * POSITIONS; base < tile_end; base += POSITIONS) {
        for (var k = part; k < POSITIONS; k += SHARE) {
            let seen = base + k;
            var score = -3.0e38;
            if (alive && seen >= begin && seen < end) {
                score = score_of(row, local, seen, kv_head);
            }
            shares[local * POSITIONS + k] = score;
        }
        workgroupBarrier();
        var next = largest;
        for (var k = 0u; k < POSITIONS; k++) {
            next = max(next, shares[local * POSITIONS + k]);
        }
        let fade = exp(largest - next);
        largest = next;
        total *= fade;
        for (var i = 0u; i < OWN; i++) {
            acc[i] *= fade;
        }
        for (var k = 0u; k < POSITIONS; k++) {
            let seen = base + k;
            if (alive && seen >= begin && seen < end) {
                let share = exp(shares[local * POSITIONS + k] - largest);
                total += share;
                let slot = page_start(row, seen, kv_head);
                for (var i = 0u; i < OWN; i++) {
                    let element = part * OWN + i;
                    if (element < WIDTH) {
                        acc[i] = fma(share, element_at(slot, VALUES, element), acc[i]);
                    }
                }
            }
        }
        workgroupBarrier();
    }
    if (alive) {
        for (var i = 0u; i < OWN; i++) {
            let element = part * OWN + i;
            if (element < WIDTH) {
                output[row * OUTPUT_STRIDE + head * WIDTH + element] = acc[i] / total;
            }
        }
    }
}
