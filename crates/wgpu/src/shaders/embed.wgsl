// Looks the rows of a pass up in the embedding table, one workgroup for each row.

@group(0) @binding(2) var<storage, read> pass_input: array<u32>;
@group(0) @binding(4) var<storage, read_write> hidden: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = pass_input[4u + workgroup.x];
    let m = params.matrix;
    // The table may be cut into parts of rows; `output` is the first row of this one.
    if (token >= m.output && token - m.output < m.rows) {
        look_up(workgroup.x, token - m.output, thread, 64u);
    }
}
