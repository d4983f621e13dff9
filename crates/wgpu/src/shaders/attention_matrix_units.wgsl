// Attention of runs of rows of one sequence by matrix units: a workgroup takes up to 64 rows and one head, each of its
// four subgroups 16 rows, a page of 64 positions at a time. The pages are walked twice: first for the largest score of
// each row, then for the shares and the sums, so that sums never need to be scaled.
// `load_tile` comes from tile_halves.wgsl or tile_codes.wgsl.

@group(0) @binding(3) var<storage, read> qkv: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<f32>;
// First row and number of rows of each tile.
@group(0) @binding(6) var<storage, read> tiles: array<vec2<u32>>;

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

// Tiles of 16 elements in a head.
const STEPS: u32 = WIDTH / 16u;
// Vectors of four halves in a head, and from one row to the next: two more spread the rows over the banks.
const QUADS: u32 = WIDTH / 4u;
const PITCH: u32 = QUADS + 2u;
const SCORE_PITCH: u32 = 68u;
const SHARE_PITCH: u32 = 72u;

// Queries at first, then the keys or the values of a page.
var<workgroup> tile: array<vec4<f16>, 64u * PITCH>;
var<workgroup> scores: array<f32, 64u * SCORE_PITCH>;
var<workgroup> shares: array<f16, 64u * SHARE_PITCH>;

// Scores of the subgroup's 16 rows with the 64 positions in `tile`.
fn find_scores(first: u32, queries: array<Left, STEPS>) {
    for (var n = 0u; n < 4u; n++) {
        var sum = Sum();
        for (var k = 0u; k < STEPS; k++) {
            let b = coopLoad<Right>(&tile[16u * n * PITCH + 4u * k], PITCH);
            sum = coopMultiplyAdd(queries[k], b, sum);
        }
        coopStoreT(sum, &scores[first * SCORE_PITCH + 16u * n], SCORE_PITCH);
    }
}

fn capped(score: f32) -> f32 {
    if (SOFT_CAP != 0.0) {
        return SOFT_CAP * tanh(score / SOFT_CAP);
    }
    return score;
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let run = tiles[workgroup.x];
    let head = workgroup.y;
    let kv_head = head / (HEADS / KV_HEADS);
    for (var i = thread; i < 64u * QUADS; i += 128u) {
        let at = (run.x + min(i / QUADS, run.y - 1u)) * STRIDE + head * WIDTH + 4u * (i % QUADS);
        let v = vec4<f32>(qkv[at], qkv[at + 1u], qkv[at + 2u], qkv[at + 3u]) * SCALE;
        tile[i / QUADS * PITCH + i % QUADS] = vec4<f16>(v);
    }
    workgroupBarrier();
    let first = 16u * subgroup;
    var queries: array<Left, STEPS>;
    for (var k = 0u; k < STEPS; k++) {
        queries[k] = coopLoadT<Left>(&tile[first * PITCH + 4u * k], PITCH);
    }
    // Two lanes share a row, half of the positions each; they walk them from where no two meet in a bank.
    let local = first + lane % 16u;
    let half = lane / 16u;
    let turn = (lane % 16u) / 8u + 2u * half;
    let alive = local < run.y;
    let row = run.x + min(local, run.y - 1u);
    let end = position_of(row) + 1u;
    var begin = 0u;
    if (WINDOW != 0u && end > WINDOW) {
        begin = end - WINDOW;
    }
    let tile_end = position_of(run.x + run.y - 1u) + 1u;
    let first_end = position_of(run.x) + 1u;
    var tile_begin = 0u;
    if (WINDOW != 0u && first_end > WINDOW) {
        tile_begin = first_end - WINDOW;
    }
    let first_page = tile_begin / 64u;
    let last_page = (tile_end + 63u) / 64u;

    var largest = -3.0e38;
    for (var page = first_page; page < last_page; page++) {
        workgroupBarrier();
        load_tile(page_start(run.x, 64u * page, kv_head), 0u, thread);
        workgroupBarrier();
        find_scores(first, queries);
        subgroupBarrier();
        for (var i = 0u; i < 32u; i++) {
            let column = 32u * half + ((i + turn) & 31u);
            let seen = 64u * page + column;
            let score = scores[local * SCORE_PITCH + column];
            largest = select(largest, max(largest, capped(score)), seen >= begin && seen < end);
        }
        subgroupBarrier();
    }
    largest = max(largest, subgroupShuffleXor(largest, 16u));

    var total = 0.0;
    var sums: array<Sum, STEPS>;
    for (var n = 0u; n < STEPS; n++) {
        sums[n] = Sum();
    }
    for (var page = first_page; page < last_page; page++) {
        let slot = page_start(run.x, 64u * page, kv_head);
        workgroupBarrier();
        load_tile(slot, 0u, thread);
        workgroupBarrier();
        find_scores(first, queries);
        workgroupBarrier();
        load_tile(slot, VALUES, thread);
        for (var i = 0u; i < 32u; i++) {
            let column = 32u * half + ((i + turn) & 31u);
            let seen = 64u * page + column;
            let score = scores[local * SCORE_PITCH + column];
            let share = f16(select(0.0, exp(capped(score) - largest), seen >= begin && seen < end));
            total += f32(share);
            shares[local * SHARE_PITCH + column] = share;
        }
        workgroupBarrier();
        for (var k = 0u; k < 4u; k++) {
            let a = coopLoadT<Left>(&shares[first * SHARE_PITCH + 16u * k], SHARE_PITCH);
            for (var n = 0u; n < STEPS; n++) {
                let b = coopLoadT<Right>(&tile[16u * k * PITCH + 4u * n], PITCH);
                sums[n] = coopMultiplyAdd(a, b, sums[n]);
            }
        }
    }
    total += subgroupShuffleXor(total, 16u);
    for (var n = 0u; n < STEPS; n++) {
        subgroupBarrier();
        coopStoreT(sums[n], &scores[first * SCORE_PITCH], SCORE_PITCH);
        subgroupBarrier();
        if (alive) {
            for (var i = 0u; i < 8u; i++) {
                let element = 8u * half + i;
                let at = row * OUTPUT_STRIDE + head * WIDTH + 16u * n + element;
                output[at] = scores[local * SCORE_PITCH + element] / total;
            }
        }
    }
}
