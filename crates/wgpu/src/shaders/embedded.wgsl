// An embedded row as the inputs of the first product too.

@group(0) @binding(2) var<storage, read_write> hidden: array<f32>;

fn source_at(at: u32) -> f32 {
    return hidden[at];
}

// Every thread of the workgroup must come here. A token beyond the table is taken for the last one.
fn embed(row: u32, token: u32, thread: u32, subgroup: u32, lane: u32, subgroups: u32) {
    look_up(row, min(token, params.matrix.rows - 1u), thread, THREADS);
    storageBarrier();
    workgroupBarrier();
    prepare_row(row, row, thread, subgroup, lane, subgroups);
}
