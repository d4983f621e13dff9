// Looks the rows of a pass up in the embedding table and makes the first product's inputs of them, one workgroup for each
// row.

@group(0) @binding(5) var<storage, read> pass_input: array<u32>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) position: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let thread = select(position, subgroup * lanes + lane, ACROSS);
    embed(workgroup.x, pass_input[4u + workgroup.x], thread, subgroup, lane, subgroups);
}
