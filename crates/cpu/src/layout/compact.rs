//! Interleaving of the formats with codebooks, of those with two bits a code, and of the ternary and binary ones.
//!
//! Words of a codebook are written out as codes of their levels, one for each input: finding words by their index would
//! cost a gather for each four or eight inputs, which is several times slower than reading the codes.

use tensor::format::{
    BlockIQ1M, BlockIQ1S, BlockIQ2S, BlockIQ2XS, BlockIQ2XXS, BlockIQ3S, BlockIQ3XXS, BlockIQ4NL, BlockIQ4XS,
    BlockMXFP4, BlockNVFP4, BlockQ1_0, BlockQ2_0, BlockQ2K, BlockQ3K, BlockTQ1_0, BlockTQ2_0, Half, Words,
};

use super::{put_fifth_bits, put_half, put_nibbles, put_quad};

/// Thirty-two codes of four bits, in the order of the inputs, in the pairing of [`put_nibbles`].
fn put_codes(out: &mut [u8], at: usize, row: usize, codes: &[u8; 32]) {
    put_nibbles(out, at, row, &std::array::from_fn(|i| codes[i] | codes[i + 16] << 4));
}

/// Thirty-two codes of two bits: two planes, four quads to each, the first lowest.
fn put_two_bits(out: &mut [u8], at: usize, row: usize, codes: &[u8; 32]) {
    for plane in 0..2 {
        let bytes = std::array::from_fn(|i| {
            (0..4).fold(0, |byte, quad| byte | (codes[16 * plane + 4 * quad + i] & 3) << (2 * quad))
        });
        put_quad(out, at, plane, row, bytes);
    }
}

pub(super) fn pack_iq4_nl(block: &BlockIQ4NL, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    put_nibbles(out, 32, row, &block.codes);
}

pub(super) fn pack_iq4_xs(block: &BlockIQ4XS, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    for (sub, (codes, record)) in block.codes.as_chunks().0.iter().zip(out[32..].chunks_exact_mut(272)).enumerate() {
        record[row] = block.scale(sub).cast_unsigned();
        put_nibbles(record, 16, row, codes);
    }
}

pub(super) fn pack_mxfp4(block: &BlockMXFP4, row: usize, out: &mut [u8]) {
    out[row] = block.exponent;
    put_nibbles(out, 16, row, &block.codes);
}

pub(super) fn pack_nvfp4(block: &BlockNVFP4, row: usize, out: &mut [u8]) {
    for (record, out) in out.chunks_exact_mut(320).enumerate() {
        for half in 0..2 {
            // Three bits of mantissa and no sign: every scale is an f16.
            put_half(out, 32 * half, row, Half::from_f32(block.scale(2 * record + half)));
        }
        let codes = &block.codes[16 * record..][..16];
        let code = |i: usize| codes[i / 16 * 8 + i % 8] >> (i % 16 / 8 * 4) & 15;
        put_codes(out, 64, row, &std::array::from_fn(code));
    }
}

pub(super) fn pack_iq3_s(block: &BlockIQ3S, row: usize, out: &mut [u8]) {
    // 1, 3, 5 … 15.
    pack_iq3(block, row, out, |level| level.cast_unsigned() / 2);
}

pub(super) fn pack_iq3_xxs(block: &BlockIQ3XXS, row: usize, out: &mut [u8]) {
    // 4, 12, 20 … 52, 62.
    pack_iq3(block, row, out, |level| (level.cast_unsigned() - 4) / 8);
}

pub(super) fn pack_iq2_s(block: &BlockIQ2S, row: usize, out: &mut [u8]) {
    pack_words(block, row, out, two_bit_place);
}

pub(super) fn pack_iq2_xs(block: &BlockIQ2XS, row: usize, out: &mut [u8]) {
    pack_words(block, row, out, two_bit_place);
}

pub(super) fn pack_iq2_xxs(block: &BlockIQ2XXS, row: usize, out: &mut [u8]) {
    pack_words(block, row, out, two_bit_place);
}

pub(super) fn pack_iq1_s(block: &BlockIQ1S, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.unit());
    for (sub, record) in out[32..].chunks_exact_mut(144).enumerate() {
        let words = [0, 1, 2, 3].map(|eight| block.word(4 * sub + eight));
        let scale = 2 * block.scale(2 * sub).cast_signed() + 1;
        record[row] = if words[0].1 == 0 { scale } else { -scale }.cast_unsigned();
        put_two_bits(record, 16, row, &std::array::from_fn(|i| ternary_place(words[i / 8].0[i % 8])));
    }
}

pub(super) fn pack_iq1_m(block: &BlockIQ1M, row: usize, out: &mut [u8]) {
    pack_words(block, row, out, ternary_place);
}

/// The place of a level of IQ2: 8, 25 or 43.
fn two_bit_place(level: i8) -> u8 {
    level.cast_unsigned() / 17
}

/// The place of a level of IQ1: -1, 0 or 1.
fn ternary_place(level: i8) -> u8 {
    (level + 1).cast_unsigned()
}

/// IQ3: for each input three bits of magnitude and its sign; `magnitude` finds a level's place.
fn pack_iq3<B: Words>(block: &B, row: usize, out: &mut [u8], magnitude: impl Fn(i8) -> u8) {
    put_half(out, 0, row, block.unit());
    for (sub, record) in out[32..].chunks_exact_mut(272).enumerate() {
        record[row] = 2 * block.scale(2 * sub) + 1;
        let words = [0, 1, 2, 3].map(|eight| block.word(4 * sub + eight));
        let code = |i: usize| {
            let (levels, signs) = words[i / 8];
            magnitude(levels[i % 8]) | (signs >> (i % 8) & 1) << 3
        };
        put_codes(record, 16, row, &std::array::from_fn(code));
    }
}

/// IQ2 and IQ1_M: for each input two bits of level, whose place `level` finds, and a bit in a mask.
fn pack_words<B: Words>(block: &B, row: usize, out: &mut [u8], level: impl Fn(i8) -> u8) {
    put_half(out, 0, row, block.unit());
    for (sub, record) in out[32..].chunks_exact_mut(208).enumerate() {
        record[row] = block.scale(2 * sub) | block.scale(2 * sub + 1) << 4;
        let words = [0, 1, 2, 3].map(|eight| block.word(4 * sub + eight));
        put_fifth_bits(record, 16, row, u32::from_le_bytes(words.map(|(_, bits)| bits)));
        put_two_bits(record, 80, row, &std::array::from_fn(|i| level(words[i / 8].0[i % 8])));
    }
}

pub(super) fn pack_q3_k(block: &BlockQ3K, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    for (sub, record) in out[32..].chunks_exact_mut(224).enumerate() {
        for half in 0..2 {
            record[16 * half + row] = block.scale(2 * sub + half).cast_unsigned();
        }
        let codes: [u8; 32] = std::array::from_fn(|i| block.code(32 * sub + i));
        put_fifth_bits(record, 32, row, (0..32).fold(0, |bits, i| bits | u32::from(codes[i] >> 2) << i));
        put_two_bits(record, 96, row, &codes);
    }
}

pub(super) fn pack_q2_k(block: &BlockQ2K, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    put_half(out, 32, row, block.dmin);
    for (sub, record) in out[64..].chunks_exact_mut(160).enumerate() {
        for half in 0..2 {
            record[16 * half + row] = block.scales_and_mins[2 * sub + half];
        }
        put_two_bits(record, 32, row, &std::array::from_fn(|i| block.code(32 * sub + i)));
    }
}

pub(super) fn pack_tq2_0(block: &BlockTQ2_0, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    for (sub, record) in out[32..].chunks_exact_mut(128).enumerate() {
        put_two_bits(record, 0, row, &std::array::from_fn(|i| block.code(32 * sub + i)));
    }
}

pub(super) fn pack_tq1_0(block: &BlockTQ1_0, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    let mut digits = block.digits();
    for record in out[32..].chunks_exact_mut(128) {
        put_two_bits(record, 0, row, &std::array::from_fn(|_| digits.next().unwrap_or(1)));
    }
}

pub(super) fn pack_q2_0(block: &BlockQ2_0, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    for (sub, record) in out[32..].chunks_exact_mut(128).enumerate() {
        put_two_bits(record, 0, row, &std::array::from_fn(|i| block.code(32 * sub + i)));
    }
}

pub(super) fn pack_q1_0(block: &BlockQ1_0, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    for (bits, record) in block.bits.as_chunks().0.iter().zip(out[32..].chunks_exact_mut(64)) {
        put_fifth_bits(record, 0, row, u32::from_le_bytes(*bits));
    }
}
