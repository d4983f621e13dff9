// What a chosen token does: it makes the next pass, one position on.
//
// Constant: ROWS_MAX.

@group(0) @binding(5) var<storage, read_write> pass_input: array<u32>;
// Tokens chosen so far: how many; choose.wgsl also keeps them here.
@group(0) @binding(7) var<storage, read_write> chosen: array<u32>;

const HEADER: u32 = 4u;
const SPLIT_POSITIONS: u32 = 256u;
const SPLITS_MAX: u32 = 32u;

// Returns how many tokens were chosen before.
fn go_on_with(token: u32) -> u32 {
    let position = pass_input[HEADER + ROWS_MAX] + 1u;
    pass_input[HEADER] = token;
    pass_input[HEADER + ROWS_MAX] = position;
    // As the host counts splits.
    pass_input[2] = clamp((position + SPLIT_POSITIONS) / SPLIT_POSITIONS, 1u, SPLITS_MAX);
    let count = chosen[0];
    chosen[0] = count + 1u;
    return count;
}
