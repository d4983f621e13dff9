// Attention of runs of rows of one sequence, for prompts: one workgroup for a tile of up to TILE rows and one head. A
// page of keys and values is read once for the whole tile. Softmax runs along as in attention_rows.wgsl.

@group(0) @binding(3) var<storage, read> qkv: array<f32>;
@group(0) @binding(4) var<storage, read> pages: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> output: array<f32>;
// First row and number of rows of each tile.
@group(0) @binding(6) var<storage, read> tiles: array<vec2<u32>>;

const TILE: u32 = 16u;
// Threads that share a row.
const SHARE: u32 = 8u;
const THREADS: u32 = TILE * SHARE;
const KEYS: u32 = 32u;
const OCTETS: u32 = WIDTH / 8u;
// Elements of the output that a thread sums.
const OWN: u32 = (WIDTH + SHARE - 1u) / SHARE;

var<workgroup> queries: array<f32, TILE * WIDTH>;
var<workgroup> shares: array<f32, TILE * KEYS>;

fn eight(values: vec4<u32>, first: u32) -> f32 {
    let a = unpack2x16float(values.x);
    let b = unpack2x16float(values.y);
    let c = unpack2x16float(values.z);
    let d = unpack2x16float(values.w);
    var sum = fma(a.x, queries[first], a.y * queries[first + 1u]);
    sum = fma(b.x, queries[first + 2u], fma(b.y, queries[first + 3u], sum));
    sum = fma(c.x, queries[first + 4u], fma(c.y, queries[first + 5u], sum));
    return fma(d.x, queries[first + 6u], fma(d.y, queries[first + 7u], sum));
}

fn score_of(row: u32, local: u32, seen: u32, kv_head: u32) -> f32 {
    let at = page_start(row, seen, kv_head);
    var score = 0.0;
    for (var i = 0u; i < OCTETS; i++) {
        score += eight(pages[at + i], local * WIDTH + 8u * i);
    }
    if (SOFT_CAP != 0.0) {
        score = SOFT_CAP * tanh(score / SOFT_CAP);
    }
    return score;
}

fn value_of(row: u32, seen: u32, kv_head: u32, element: u32) -> f32 {
    let words = pages[page_start(row, seen, kv_head) + VALUES + (element >> 3u)];
    let pair = unpack2x16float(words[(element >> 1u) & 3u]);
    return select(pair.x, pair.y, (element & 1u) == 1u);
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
    for (var base = tile_begin / KEYS * KEYS; base < tile_end; base += KEYS) {
        for (var k = part; k < KEYS; k += SHARE) {
            let seen = base + k;
            var score = -3.0e38;
            if (alive && seen >= begin && seen < end) {
                score = score_of(row, local, seen, kv_head);
            }
            shares[local * KEYS + k] = score;
        }
        workgroupBarrier();
        var next = largest;
        for (var k = 0u; k < KEYS; k++) {
            next = max(next, shares[local * KEYS + k]);
        }
        let fade = exp(largest - next);
        largest = next;
        total *= fade;
        for (var i = 0u; i < OWN; i++) {
            acc[i] *= fade;
        }
        for (var k = 0u; k < KEYS; k++) {
            let seen = base + k;
            if (alive && seen >= begin && seen < end) {
                let share = exp(shares[local * KEYS + k] - largest);
                total += share;
                for (var i = 0u; i < OWN; i++) {
                    let element = part * OWN + i;
                    if (element < WIDTH) {
                        acc[i] = fma(share, value_of(row, seen, kv_head, element), acc[i]);
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
