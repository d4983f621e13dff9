// Looks the rows of a pass up in the embedding table. One workgroup for each row; a lane takes units of 32.

@group(0) @binding(2) var<storage, read> pass_input: array<u32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = pass_input[4u + workgroup.x];
    let m = params.matrix;
    // The table may be cut into parts of rows; `output` is the first row of this one.
    if (token < m.output || token - m.output >= m.rows) {
        return;
    }
    for (var i = thread; i < params.units; i += 64u) {
        let w = numbers_of(0u, m, (token - m.output) * params.units + i);
        let at = workgroup.x * params.output_width + 32u * i;
        for (var j = 0u; j < 8u; j++) {
            for (var k = 0u; k < 4u; k++) {
                if (32u * i + 4u * j + k < params.output_width) {
                    output[at + 4u * j + k] = w.v[j][k] * params.factor;
                }
            }
        }
    }
}
