// Chooses a token and embeds it for the next pass.

@compute @workgroup_size(THREADS)
fn main(
    @builtin(local_invocation_index) position: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let thread = select(position, subgroup * lanes + lane, ACROSS);
    embed(0u, choose(thread), thread, subgroup, lane, subgroups);
}
