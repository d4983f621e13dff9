// What changes from pass to pass, as the host writes it: counts, then tokens, positions and page table starts of ROWS
// rows, the rows that want logits (LOGIT_ROWS), and the pages of all sequences.

@group(0) @binding(0) var<storage, read> pass_input: array<u32>;

const HEADER: u32 = 4u;

fn token_of(row: u32) -> u32 {
    return pass_input[HEADER + row];
}

fn position_of(row: u32) -> u32 {
    return pass_input[HEADER + ROWS_MAX + row];
}

// The word of the pass with the page of a row's position.
fn page_word_of(row: u32, position: u32) -> u32 {
    let table = pass_input[HEADER + 2u * ROWS_MAX + row];
    return HEADER + 3u * ROWS_MAX + LOGIT_ROWS_MAX + table + (position >> 6u);
}

fn logit_row_of(index: u32) -> u32 {
    return pass_input[HEADER + 3u * ROWS_MAX + index];
}
