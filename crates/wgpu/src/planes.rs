//! How weights lie in GPU memory: a format's blocks taken apart into planes that lanes read in whole words.
//!
//! A *unit* is 32 weights of one row; the planes of a matrix are its codes, further bits of codes, scales, and what
//! several units share, each for all units of all rows in order. Together they have the size of the file's blocks. Rows of
//! plain numbers are filled up with zeros to whole units. The shaders in `shaders/formats` read what is written here.

use bytemuck::{Pod, cast_slice};
use tensor::Format;
use tensor::format::{
    BlockIQ4NL, BlockIQ4XS, BlockMXFP4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1,
    BlockQ5K, BlockQ6K, BlockQ8_0, SixBitPairs,
};

/// Weights in a unit.
pub(crate) const UNIT: usize = 32;

/// Planes of a matrix: codes, further bits, scales, what several units share.
pub(crate) const PLANES: usize = 4;

/// One plane: so many bytes for so many units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plane {
    pub(crate) bytes: usize,
    pub(crate) units: usize,
}

impl Plane {
    /// Bytes that `units` take. Rows of formats whose planes span several units have a whole number of these.
    pub(crate) fn bytes_of(self, units: usize) -> usize {
        units / self.units * self.bytes
    }
}

/// A format's planes and how rows are taken apart.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Suffix of the shader's functions for the format.
    pub(crate) name: &'static str,
    /// Whether a unit is 8-bit codes with scales and mins, rather than numbers.
    pub(crate) coded: bool,
    pub(crate) planes: [Plane; PLANES],
    /// Takes whole rows of `columns` apart.
    pub(crate) split: fn(rows: &[u8], columns: usize, planes: [&mut [u8]; PLANES]),
}

const fn layout(
    name: &'static str,
    coded: bool,
    planes: [(usize, usize); PLANES],
    split: fn(&[u8], usize, [&mut [u8]; PLANES]),
) -> Layout {
    let mut sizes = [Plane { bytes: 0, units: 1 }; PLANES];
    let mut index = 0;
    while index < PLANES {
        sizes[index] = Plane { bytes: planes[index].0, units: planes[index].1 };
        index += 1;
    }
    Layout { name, coded, planes: sizes, split }
}

impl Layout {
    /// Whether its units have mins.
    pub(crate) fn has_mins(&self) -> bool {
        !matches!(self.name, "q8_0" | "iq4_nl" | "iq4_xs" | "mxfp4")
    }

    /// The layout of a format that has a kernel of its own.
    pub(crate) fn of(format: Format) -> Option<Layout> {
        const NONE: (usize, usize) = (0, 1);
        Some(match format {
            Format::F32 => layout("f32", false, [(128, 1), NONE, NONE, NONE], split_numbers::<4>),
            Format::F16 => layout("f16", false, [(64, 1), NONE, NONE, NONE], split_numbers::<2>),
            Format::BF16 => layout("bf16", false, [(64, 1), NONE, NONE, NONE], split_numbers::<2>),
            Format::Q8_0 => layout("q8_0", true, [(16, 1), (16, 1), (2, 1), NONE], split_q8_0),
            Format::Q4_0 => layout("q4_0", true, [(16, 1), NONE, (2, 1), NONE], split_q4_0),
            Format::Q4_1 => layout("q4_1", true, [(16, 1), NONE, (4, 1), NONE], split_q4_1),
            Format::Q5_0 => layout("q5_0", true, [(16, 1), (4, 1), (2, 1), NONE], split_q5_0),
            Format::Q5_1 => layout("q5_1", true, [(16, 1), (4, 1), (4, 1), NONE], split_q5_1),
            Format::Q2_K => layout("q2_k", true, [(8, 1), NONE, (2, 1), (4, 8)], split_q2_k),
            Format::Q3_K => layout("q3_k", true, [(8, 1), (4, 1), (12, 8), (2, 8)], split_q3_k),
            Format::Q4_K => layout("q4_k", true, [(16, 1), NONE, NONE, (16, 8)], split_q4_k),
            Format::Q5_K => layout("q5_k", true, [(16, 1), (4, 1), NONE, (16, 8)], split_q5_k),
            Format::IQ4_NL => layout("iq4_nl", true, [(16, 1), NONE, (2, 1), NONE], split_iq4_nl),
            Format::IQ4_XS => layout("iq4_xs", true, [(16, 1), NONE, NONE, (8, 8)], split_iq4_xs),
            Format::MXFP4 => layout("mxfp4", true, [(16, 1), NONE, (1, 1), NONE], split_mxfp4),
            Format::Q6_K => layout("q6_k", true, [(16, 1), (8, 1), (2, 1), (2, 8)], split_q6_k),
            _ => return None,
        })
    }
}

/// The format that weights of `format` have on the GPU: their own, or F32 where there is no kernel for it.
pub(crate) fn stored(format: Format) -> Format {
    if Layout::of(format).is_some() { format } else { Format::F32 }
}

/// Units of a row.
pub(crate) fn units_of(columns: usize) -> usize {
    columns.div_ceil(UNIT)
}

fn split_numbers<const BYTES: usize>(rows: &[u8], columns: usize, [codes, ..]: [&mut [u8]; PLANES]) {
    let padded = units_of(columns) * UNIT * BYTES;
    for (row, codes) in rows.chunks_exact(columns * BYTES).zip(codes.chunks_exact_mut(padded)) {
        let (filled, rest) = codes.split_at_mut(row.len());
        filled.copy_from_slice(row);
        rest.fill(0);
    }
}

fn blocks<B: Pod>(rows: &[u8]) -> &[B] {
    cast_slice(rows)
}

fn split_q8_0(rows: &[u8], _: usize, [low, high, scales, _]: [&mut [u8]; PLANES]) {
    let (low, high) = (low.as_chunks_mut::<16>().0, high.as_chunks_mut::<16>().0);
    let outputs = low.iter_mut().zip(high).zip(scales.as_chunks_mut::<2>().0);
    for (block, ((low, high), scale)) in blocks::<BlockQ8_0>(rows).iter().zip(outputs) {
        let (first, second) = cast_slice(&block.codes).split_at(16);
        low.copy_from_slice(first);
        high.copy_from_slice(second);
        *scale = block.d.0;
    }
}

fn split_q4_0(rows: &[u8], _: usize, [codes, _, scales, _]: [&mut [u8]; PLANES]) {
    let outputs = codes.as_chunks_mut::<16>().0.iter_mut().zip(scales.as_chunks_mut::<2>().0);
    for (block, (codes, scale)) in blocks::<BlockQ4_0>(rows).iter().zip(outputs) {
        *codes = block.codes;
        *scale = block.d.0;
    }
}

fn split_iq4_nl(rows: &[u8], _: usize, [codes, _, scales, _]: [&mut [u8]; PLANES]) {
    let outputs = codes.as_chunks_mut::<16>().0.iter_mut().zip(scales.as_chunks_mut::<2>().0);
    for (block, (codes, scale)) in blocks::<BlockIQ4NL>(rows).iter().zip(outputs) {
        *codes = block.codes;
        *scale = block.d.0;
    }
}

fn split_iq4_xs(rows: &[u8], _: usize, [codes, _, _, supers]: [&mut [u8]; PLANES]) {
    let outputs = codes.as_chunks_mut::<128>().0.iter_mut().zip(supers.as_chunks_mut::<8>().0);
    for (block, (codes, shared)) in blocks::<BlockIQ4XS>(rows).iter().zip(outputs) {
        *codes = block.codes;
        shared[..2].copy_from_slice(&block.d.0);
        shared[2..4].copy_from_slice(&block.high_scales);
        shared[4..].copy_from_slice(&block.low_scales);
    }
}

fn split_mxfp4(rows: &[u8], _: usize, [codes, _, scales, _]: [&mut [u8]; PLANES]) {
    let outputs = codes.as_chunks_mut::<16>().0.iter_mut().zip(scales);
    for (block, (codes, scale)) in blocks::<BlockMXFP4>(rows).iter().zip(outputs) {
        *codes = block.codes;
        *scale = block.exponent;
    }
}

fn split_q4_1(rows: &[u8], _: usize, [codes, _, scales, _]: [&mut [u8]; PLANES]) {
    let outputs = codes.as_chunks_mut::<16>().0.iter_mut().zip(scales.as_chunks_mut::<4>().0);
    for (block, (codes, scale)) in blocks::<BlockQ4_1>(rows).iter().zip(outputs) {
        *codes = block.codes;
        scale[..2].copy_from_slice(&block.d.0);
        scale[2..].copy_from_slice(&block.m.0);
    }
}

fn split_q5_0(rows: &[u8], _: usize, [codes, high, scales, _]: [&mut [u8]; PLANES]) {
    let high = high.as_chunks_mut::<4>().0;
    let outputs = codes.as_chunks_mut::<16>().0.iter_mut().zip(high).zip(scales.as_chunks_mut::<2>().0);
    for (block, ((codes, high), scale)) in blocks::<BlockQ5_0>(rows).iter().zip(outputs) {
        *codes = block.low_codes;
        *high = spread(u32::from_le_bytes(block.high_bits)).to_le_bytes();
        *scale = block.d.0;
    }
}

fn split_q5_1(rows: &[u8], _: usize, [codes, high, scales, _]: [&mut [u8]; PLANES]) {
    let high = high.as_chunks_mut::<4>().0;
    let outputs = codes.as_chunks_mut::<16>().0.iter_mut().zip(high).zip(scales.as_chunks_mut::<4>().0);
    for (block, ((codes, high), scale)) in blocks::<BlockQ5_1>(rows).iter().zip(outputs) {
        *codes = block.low_codes;
        *high = spread(u32::from_le_bytes(block.high_bits)).to_le_bytes();
        scale[..2].copy_from_slice(&block.d.0);
        scale[2..].copy_from_slice(&block.m.0);
    }
}

/// Bit `4f + j` to bit `8j + f`: an 8 by 4 matrix of bits, transposed.
fn spread(bits: u32) -> u32 {
    (0..8).fold(0, |word, f| {
        let four = bits >> (4 * f) & 15;
        // Multiplying copies the four bits to where their places are 8 apart.
        word | (four.wrapping_mul(0x0020_4081) & 0x0101_0101) << f
    })
}

/// A unit's codes of 0 to 255, two by two: element `j` in the low, `j + 16` in the high half of byte `j`.
fn nibbles(codes: &[u8; UNIT]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | codes[j + 16] << 4)
}

/// Two bits of each code: element `16h + 4f + j` at bits `8j + 2f` of word `h`.
fn pairs(codes: &[u8; UNIT]) -> [u8; 8] {
    std::array::from_fn(|byte| {
        let (h, j) = (byte / 4, byte % 4);
        (0..4).fold(0, |bits, f| bits | (codes[16 * h + 4 * f + j] & 3) << (2 * f))
    })
}

/// One bit of each code: element `4f + j` at bit `8j + f`.
fn bits(codes: &[u8; UNIT]) -> [u8; 4] {
    std::array::from_fn(|j| (0..8).fold(0, |bits, f| bits | (codes[4 * f + j] & 1) << f))
}

/// The low four bits of Q4_K and Q5_K as units: runs of 32 share 32 bytes, the first in the low halves.
fn split_runs(low: &[u8; 128], codes: &mut [[u8; 16]]) {
    for (pair, bytes) in codes.chunks_exact_mut(2).zip(low.as_chunks::<32>().0) {
        for j in 0..16 {
            pair[0][j] = bytes[j] & 15 | bytes[j + 16] << 4;
            pair[1][j] = bytes[j] >> 4 | bytes[j + 16] & 0xf0;
        }
    }
}

/// d, dmin, low halves of the scales, low halves of the mins, upper bits of both.
fn header(d: [u8; 2], dmin: [u8; 2], scales_and_mins: &SixBitPairs) -> [u8; 16] {
    let (mut scales, mut mins, mut upper) = (0_u32, 0_u32, 0_u32);
    for unit in 0..8 {
        let (scale, min) = scales_and_mins.get(unit);
        let (scale, min) = (u32::from(scale), u32::from(min));
        scales |= (scale & 15) << (4 * unit);
        mins |= (min & 15) << (4 * unit);
        upper |= (scale >> 4) << (2 * unit) | (min >> 4) << (16 + 2 * unit);
    }
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&d);
    bytes[2..4].copy_from_slice(&dmin);
    bytes[4..8].copy_from_slice(&scales.to_le_bytes());
    bytes[8..12].copy_from_slice(&mins.to_le_bytes());
    bytes[12..].copy_from_slice(&upper.to_le_bytes());
    bytes
}

fn split_q4_k(rows: &[u8], _: usize, [codes, _, _, supers]: [&mut [u8]; PLANES]) {
    let codes = codes.as_chunks_mut::<16>().0.chunks_exact_mut(8);
    let outputs = codes.zip(supers.as_chunks_mut::<16>().0);
    for (block, (codes, shared)) in blocks::<BlockQ4K>(rows).iter().zip(outputs) {
        split_runs(&block.codes, codes);
        *shared = header(block.d.0, block.dmin.0, &block.scales_and_mins);
    }
}

fn split_q5_k(rows: &[u8], _: usize, [codes, high, _, supers]: [&mut [u8]; PLANES]) {
    let codes = codes.as_chunks_mut::<16>().0.chunks_exact_mut(8);
    let high = high.as_chunks_mut::<4>().0.chunks_exact_mut(8);
    let outputs = codes.zip(high).zip(supers.as_chunks_mut::<16>().0);
    for (block, ((codes, high), shared)) in blocks::<BlockQ5K>(rows).iter().zip(outputs) {
        split_runs(&block.low_codes, codes);
        *shared = header(block.d.0, block.dmin.0, &block.scales_and_mins);
        for (unit, high) in high.iter_mut().enumerate() {
            *high = bits(&std::array::from_fn(|element| block.high_bits[element] >> unit));
        }
    }
}

fn split_q6_k(rows: &[u8], _: usize, [codes, high, scales, supers]: [&mut [u8]; PLANES]) {
    let codes = codes.as_chunks_mut::<16>().0.chunks_exact_mut(8);
    let high = high.as_chunks_mut::<8>().0.chunks_exact_mut(8);
    let scales = scales.as_chunks_mut::<16>().0;
    let outputs = codes.zip(high).zip(scales).zip(supers.as_chunks_mut::<2>().0);
    for (block, (((codes, high), scales), d)) in blocks::<BlockQ6K>(rows).iter().zip(outputs) {
        for (unit, (codes, high)) in codes.iter_mut().zip(high).enumerate() {
            // Halves of 128 elements are four runs of 32: low bits of two share 32 bytes, upper bits of all four do.
            let (half, run) = (unit / 4, unit % 4);
            let low = &block.low_codes[64 * half + 32 * (run % 2)..][..32];
            let upper = &block.high_bits[32 * half..][..32];
            let shift = 4 * (run / 2);
            *codes = nibbles(&std::array::from_fn(|element| low[element] >> shift & 15));
            *high = pairs(&std::array::from_fn(|element| upper[element] >> (2 * run)));
        }
        scales.copy_from_slice(cast_slice(&block.scales));
        *d = block.d.0;
    }
}

fn split_q3_k(rows: &[u8], _: usize, [codes, high, scales, supers]: [&mut [u8]; PLANES]) {
    let codes = codes.as_chunks_mut::<8>().0.chunks_exact_mut(8);
    let high = high.as_chunks_mut::<4>().0.chunks_exact_mut(8);
    let scales = scales.as_chunks_mut::<12>().0;
    let outputs = codes.zip(high).zip(scales).zip(supers.as_chunks_mut::<2>().0);
    for (block, (((codes, high), scales), d)) in blocks::<BlockQ3K>(rows).iter().zip(outputs) {
        for (unit, (codes, high)) in codes.iter_mut().zip(high).enumerate() {
            let low = &block.low_codes[32 * (unit / 4)..][..32];
            *codes = pairs(&std::array::from_fn(|element| low[element] >> (2 * (unit % 4))));
            *high = bits(&std::array::from_fn(|element| block.high_bits[element] >> unit));
        }
        let (mut low, mut upper) = (0_u64, 0_u32);
        for sub_block in 0..16 {
            let scale = (block.scale(sub_block) + 32) as u8;
            low |= u64::from(scale & 15) << (4 * sub_block);
            upper |= u32::from(scale >> 4) << (2 * sub_block);
        }
        scales[..8].copy_from_slice(&low.to_le_bytes());
        scales[8..].copy_from_slice(&upper.to_le_bytes());
        *d = block.d.0;
    }
}

fn split_q2_k(rows: &[u8], _: usize, [codes, _, scales, supers]: [&mut [u8]; PLANES]) {
    let codes = codes.as_chunks_mut::<8>().0.chunks_exact_mut(8);
    let outputs = codes.zip(scales.as_chunks_mut::<16>().0).zip(supers.as_chunks_mut::<4>().0);
    for (block, ((codes, scales), shared)) in blocks::<BlockQ2K>(rows).iter().zip(outputs) {
        for (unit, codes) in codes.iter_mut().enumerate() {
            let low = &block.codes[32 * (unit / 4)..][..32];
            *codes = pairs(&std::array::from_fn(|element| low[element] >> (2 * (unit % 4))));
        }
        *scales = block.scales_and_mins;
        shared[..2].copy_from_slice(&block.d.0);
        shared[2..].copy_from_slice(&block.dmin.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_as_large_as_blocks() {
        for info in tensor::FORMATS {
            let Some(layout) = Layout::of(info.format) else { continue };
            let units = 8 * 3;
            let planes: usize = layout.planes.iter().map(|plane| plane.bytes_of(units)).sum();
            assert_eq!(
                planes,
                info.format.row_bytes(units as u64 * 32).expect("whole blocks") as usize,
                "{}",
                info.name
            );
        }
    }

    #[test]
    fn bits_spread_as_the_shaders_gather_them() {
        for element in 0..32 {
            let (f, j) = (element / 4, element % 4);
            assert_eq!(spread(1 << element), 1 << (8 * j + f));
            let mut codes = [0; UNIT];
            codes[element] = 1;
            assert_eq!(u32::from_le_bytes(bits(&codes)), 1 << (8 * j + f));
            let expected = 1_u64 << (32 * (element / 16) + 8 * j + 2 * (f % 4));
            assert_eq!(u64::from_le_bytes(pairs(&codes)), expected);
        }
    }
}
