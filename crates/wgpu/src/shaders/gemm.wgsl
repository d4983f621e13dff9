// Many rows times one matrix, in f32: a workgroup makes 64 rows by 64 outputs, a thread 4 by 4, 32 inputs at a time.
//
// Constants: MODE, and where the matrix is a head, HEAD.

@group(0) @binding(2) var<storage, read> pass_input: array<u32>;
@group(0) @binding(3) var<storage, read> inputs: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

const TILE: u32 = 64u;

// Four inputs to a vector: (input quad, row) and (input quad, output).
var<workgroup> left: array<vec4<f32>, 8u * TILE>;
var<workgroup> right: array<vec4<f32>, 8u * TILE>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let m = params.matrix;
    let rows = select(pass_input[0], pass_input[1], HEAD);
    let first_output = workgroup.x * TILE;
    let first_row = workgroup.y * TILE;
    let mine = vec2<u32>(thread % 16u, thread / 16u) * 4u;
    var sums: array<vec4<f32>, 4>;
    for (var i = 0u; i < params.units; i++) {
        if (thread < TILE) {
            let w = numbers_of(0u, m, min(first_output + thread, m.rows - 1u) * params.units + i);
            for (var j = 0u; j < 8u; j++) {
                right[j * TILE + thread] = w.v[j];
            }
        }
        for (var k = thread; k < 8u * TILE; k += 256u) {
            let row = min(first_row + k / 8u, rows - 1u);
            left[k % 8u * TILE + k / 8u] = inputs[(row * params.units + i) * 8u + k % 8u];
        }
        workgroupBarrier();
        for (var j = 0u; j < 8u; j++) {
            let start = j * TILE;
            for (var r = 0u; r < 4u; r++) {
                let a = left[start + mine.y + r];
                for (var c = 0u; c < 4u; c++) {
                    sums[r][c] += dot(a, right[start + mine.x + c]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        for (var c = 0u; c < 4u; c++) {
            let row = first_row + mine.y + r;
            let output_row = first_output + mine.x + c;
            if (row < rows && output_row < m.rows) {
                put(row, output_row, sums[r][c]);
            }
        }
    }
}
