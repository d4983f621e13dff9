// Makes the inputs of a product from rows of f32, one workgroup for each row. Constant: GATHER (take the rows that want
// logits).

@group(0) @binding(1) var<storage, read> vectors: array<f32>;
@group(0) @binding(2) var<storage, read> source: array<f32>;

fn source_at(at: u32) -> f32 {
    return source[at];
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) position: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    var thread = position;
    if (ACROSS) {
        thread = subgroup * lanes + lane;
    }
    let index = workgroup.x;
    var row = index;
    if (GATHER) {
        row = logit_row_of(index);
    }
    prepare_row(row, index, thread, subgroup, lane, subgroups);
}
