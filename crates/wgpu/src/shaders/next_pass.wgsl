// What a chosen token does: it makes the next pass, one position on.
//
// Constants: ROWS_MAX; WHOLE_POSITIONS, SPLIT_POSITIONS, SPLITS_MIN and SPLITS_MAX, which say how a row is split.

@group(0) @binding(5) var<storage, read_write> pass_input: array<u32>;
// Tokens chosen so far: how many; choose.wgsl also keeps them here.
@group(0) @binding(7) var<storage, read_write> chosen: array<u32>;

const HEADER: u32 = 4u;

// Returns how many tokens were chosen before.
fn go_on_with(token: u32) -> u32 {
    let position = pass_input[HEADER + ROWS_MAX] + 1u;
    pass_input[HEADER] = token;
    pass_input[HEADER + ROWS_MAX] = position;
    // As the host counts splits.
    let splits = clamp((position + SPLIT_POSITIONS) / SPLIT_POSITIONS, SPLITS_MIN, SPLITS_MAX);
    pass_input[2] = select(splits, 1u, position + 1u <= WHOLE_POSITIONS);
    let count = chosen[0];
    chosen[0] = count + 1u;
    return count;
}
