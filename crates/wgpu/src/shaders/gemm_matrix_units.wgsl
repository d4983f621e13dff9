// Many rows times one matrix by matrix units: a workgroup makes 128 rows by 128 outputs, each of its four subgroups 64 by
// 64, 32 inputs at a time. Weights become halves on the way into workgroup memory, one unit for each thread; what the next
// 32 inputs need is on its way meanwhile.
//
// Inputs are halves with a scale for each row, which follow the rows (see prepare.wgsl). Constants as in gemm.wgsl.

@group(0) @binding(2) var<storage, read> pass_input: array<u32>;
@group(0) @binding(3) var<storage, read> inputs: array<vec4<f16>>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;
// `inputs` once more, for the row scales.
@group(0) @binding(5) var<storage, read> input_words: array<f32>;

const TILE: u32 = 128u;
// Vectors of a row of 32 halves in workgroup memory: two more than needed spread the rows over the banks.
const PITCH: u32 = 10u;

var<workgroup> left: array<vec4<f16>, TILE * PITCH>;
var<workgroup> right: array<vec4<f16>, TILE * PITCH>;
var<workgroup> stage: array<f32, 4u * 256u>;

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

struct Corner {
    row: u32,
    output_row: u32,
    rows: u32,
    subgroup: u32,
    lane: u32,
}

// Writes the tile `r`, `c` of the subgroup's 4 by 4.
fn put_tile(corner: Corner, sum: Sum, r: u32, c: u32) {
    subgroupBarrier();
    coopStoreT(sum, &stage[corner.subgroup * 256u], 16u);
    subgroupBarrier();
    for (var i = corner.lane; i < 256u; i += 32u) {
        let row = corner.row + 16u * r + i / 16u;
        let output_row = corner.output_row + 16u * c + i % 16u;
        if (row < corner.rows && output_row < params.matrix.rows) {
            let scale = input_words[params.row_scales + row];
            put(row, output_row, stage[corner.subgroup * 256u + i] * scale);
        }
    }
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let m = params.matrix;
    let rows = select(pass_input[0], pass_input[1], HEAD);
    let first_row = workgroup.x * TILE;
    let first_output = workgroup.y * TILE;
    let weight_row = min(first_output + thread, m.rows - 1u) * params.units;
    // Eight threads bring the eight quads of a row of the inputs, so that a warp's loads are whole lines: a thread brings
    // one quad of every sixteenth row.
    let quad = thread % 8u;
    var sources: array<u32, 8>;
    for (var j = 0u; j < 8u; j++) {
        sources[j] = min(first_row + thread / 8u + 16u * j, rows - 1u) * params.units * 8u + quad;
    }
    let left_row = subgroup / 2u * 64u;
    let right_row = subgroup % 2u * 64u;

    var c00 = Sum();
    var c01 = Sum();
    var c02 = Sum();
    var c03 = Sum();
    var c10 = Sum();
    var c11 = Sum();
    var c12 = Sum();
    var c13 = Sum();
    var c20 = Sum();
    var c21 = Sum();
    var c22 = Sum();
    var c23 = Sum();
    var c30 = Sum();
    var c31 = Sum();
    var c32 = Sum();
    var c33 = Sum();
    var next = fetched(m, weight_row);
    var quads: array<vec4<f16>, 8>;
    for (var j = 0u; j < 8u; j++) {
        quads[j] = inputs[sources[j]];
    }
    for (var i = 0u; i < params.units; i++) {
        workgroupBarrier();
        let w = numbers_in(next);
        for (var j = 0u; j < 8u; j++) {
            right[thread * PITCH + j] = vec4<f16>(w.v[j]);
            left[(thread / 8u + 16u * j) * PITCH + quad] = quads[j];
        }
        workgroupBarrier();
        let following = min(i + 1u, params.units - 1u);
        next = fetched(m, weight_row + following);
        for (var j = 0u; j < 8u; j++) {
            quads[j] = inputs[sources[j] + 8u * following];
        }
        for (var k = 0u; k < 8u; k += 4u) {
            let a = left_row * PITCH + k;
            let b = right_row * PITCH + k;
            let b0 = coopLoad<Right>(&right[b], PITCH);
            let b1 = coopLoad<Right>(&right[b + 16u * PITCH], PITCH);
            let b2 = coopLoad<Right>(&right[b + 32u * PITCH], PITCH);
            let b3 = coopLoad<Right>(&right[b + 48u * PITCH], PITCH);
            let a0 = coopLoadT<Left>(&left[a], PITCH);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c02 = coopMultiplyAdd(a0, b2, c02);
            c03 = coopMultiplyAdd(a0, b3, c03);
            let a1 = coopLoadT<Left>(&left[a + 16u * PITCH], PITCH);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
            c12 = coopMultiplyAdd(a1, b2, c12);
            c13 = coopMultiplyAdd(a1, b3, c13);
            let a2 = coopLoadT<Left>(&left[a + 32u * PITCH], PITCH);
            c20 = coopMultiplyAdd(a2, b0, c20);
            c21 = coopMultiplyAdd(a2, b1, c21);
            c22 = coopMultiplyAdd(a2, b2, c22);
            c23 = coopMultiplyAdd(a2, b3, c23);
            let a3 = coopLoadT<Left>(&left[a + 48u * PITCH], PITCH);
            c30 = coopMultiplyAdd(a3, b0, c30);
            c31 = coopMultiplyAdd(a3, b1, c31);
            c32 = coopMultiplyAdd(a3, b2, c32);
            c33 = coopMultiplyAdd(a3, b3, c33);
        }
    }
    let corner = Corner(first_row + left_row, first_output + right_row, rows, subgroup, lane);
    put_tile(corner, c00, 0u, 0u);
    put_tile(corner, c01, 0u, 1u);
    put_tile(corner, c02, 0u, 2u);
    put_tile(corner, c03, 0u, 3u);
    put_tile(corner, c10, 1u, 0u);
    put_tile(corner, c11, 1u, 1u);
    put_tile(corner, c12, 1u, 2u);
    put_tile(corner, c13, 1u, 3u);
    put_tile(corner, c20, 2u, 0u);
    put_tile(corner, c21, 2u, 1u);
    put_tile(corner, c22, 2u, 2u);
    put_tile(corner, c23, 2u, 3u);
    put_tile(corner, c30, 3u, 0u);
    put_tile(corner, c31, 3u, 1u);
    put_tile(corner, c32, 3u, 2u);
    put_tile(corner, c33, 3u, 3u);
}
