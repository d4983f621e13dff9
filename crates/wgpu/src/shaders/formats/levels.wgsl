// Codes of four bits that stand for levels, four to a word as bytes. `levels` holds the sixteen levels as bytes, in order.
// Each bit of a code chooses between halves of what is left, for all bytes at once.

fn chosen(mask: vec4<u32>, if_set: vec4<u32>, if_clear: vec4<u32>) -> vec4<u32> {
    return (if_set & mask) | (if_clear & ~mask);
}

// Bytes of all ones where bit `bit` of the code is set.
fn bit_masks(codes: vec4<u32>, bit: u32) -> vec4<u32> {
    return ((codes >> vec4<u32>(bit)) & vec4<u32>(0x01010101u)) * 255u;
}

// The level of two codes that differ in their lowest bit.
fn level_of_pair(levels: vec4<u32>, pair: u32, mask: vec4<u32>) -> vec4<u32> {
    let both = levels[pair >> 1u] >> (16u * (pair & 1u));
    return chosen(mask, vec4<u32>(((both >> 8u) & 255u) * 0x01010101u), vec4<u32>((both & 255u) * 0x01010101u));
}

fn levels_of(codes: vec4<u32>, levels: vec4<u32>) -> vec4<u32> {
    let first = bit_masks(codes, 0u);
    let second = bit_masks(codes, 1u);
    let third = bit_masks(codes, 2u);
    let a = chosen(second, level_of_pair(levels, 1u, first), level_of_pair(levels, 0u, first));
    let b = chosen(second, level_of_pair(levels, 3u, first), level_of_pair(levels, 2u, first));
    let c = chosen(second, level_of_pair(levels, 5u, first), level_of_pair(levels, 4u, first));
    let d = chosen(second, level_of_pair(levels, 7u, first), level_of_pair(levels, 6u, first));
    return chosen(bit_masks(codes, 3u), chosen(third, d, c), chosen(third, b, a));
}
