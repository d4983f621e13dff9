//! The interleaved weight layout: sixteen rows side by side, so that one stream of memory feeds sixteen sums.
//!
//! Per sixteen rows and 32 inputs a *record* holds the rows' scales, then their codes as quads: four neighbouring inputs
//! of row 0, the same four of row 1, and so on, so that one 64-byte load is sixteen rows by four inputs. Formats of
//! 256-element blocks put a *header* with the block scales before their eight records. Rows past the end are zero.
//! Sizes equal the file's where codes and scales stay as they are; scales that are widened to bytes or halves add up to 4 %
//! (NVFP4 11 %), and words of codebooks written out as codes of 3 or 4 bits a quarter (IQ3_S) to nine tenths (IQ1_M).

use tensor::Format;
use tensor::format::{
    BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, Half, SixBitPairs,
};

use crate::kernels::codes::{self, Codes};

mod compact;

/// Weight rows in a group.
pub(crate) const GROUP_ROWS: usize = 16;
/// Inputs in a record.
pub(crate) const RECORD_INPUTS: usize = 32;

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// 16 × f16 scale; eight quads of code + 128.
    Q8_0,
    /// 16 × f16 scale; four times quads `j` and `j + 4` in the low and high nibbles.
    Q4_0,
    /// As Q4_0 with 16 × f16 minimum behind the scales.
    Q4_1,
    /// 16 × f16 scale; eight 64-bit masks of fifth bits; nibbles.
    Q5_0,
    /// As Q5_0 with 16 × f16 minimum behind the scales.
    Q5_1,
    /// Header 16 × f16 scale, 16 × f16 minimum; record 16 × u8 scale, 16 × u8 minimum, nibbles.
    Q4K,
    /// As Q4K with eight 64-bit masks before the nibbles.
    Q5K,
    /// Header 16 × f16 scale; record 2 × 16 × i8 scale (inputs 0–15, 16–31), nibbles, then two 64-byte planes of upper bits.
    Q6K,
    /// As Q4_0; codes stand for the levels of IQ4.
    IQ4NL,
    /// Header 16 × f16 unit; record 16 × i8 scale, nibbles.
    IQ4XS,
    /// 16 × u8 exponent; nibbles.
    MXFP4,
    /// Two records of 2 × 16 × f16 scale (inputs 0–15, 16–31) and nibbles.
    NVFP4,
    /// As IQ4XS; a nibble is three bits of magnitude below a sign.
    IQ3S,
    /// As IQ3S.
    IQ3XXS,
    /// Header 16 × f16 unit; record 16 bytes of scale (inputs 0–15 below 16–31), eight 64-bit masks of signs, two 64-byte
    /// planes of magnitudes.
    IQ2S,
    /// As IQ2S.
    IQ2XS,
    /// As IQ2S.
    IQ2XXS,
    /// Header 16 × f16 unit; record 16 × i8 scale with the sign of the shift, two planes of levels.
    IQ1S,
    /// As IQ2S, with levels and masks of shifts.
    IQ1M,
    /// Header 16 × f16 unit; record 2 × 16 × i8 scale (inputs 0–15, 16–31), eight 64-bit masks of third bits, two planes.
    Q3K,
    /// Header 16 × f16 scale, 16 × f16 minimum; record 2 × 16 bytes of scale below minimum, two planes.
    Q2K,
    /// As TQ2_0.
    TQ1_0,
    /// Header 16 × f16 scale; eight records of two planes.
    TQ2_0,
    /// Header 16 × f16 scale; two records of two planes.
    Q2_0,
    /// Header 16 × f16 scale; four records of eight 64-bit masks.
    Q1_0,
    /// One 16-row column of f32 after the other.
    F32,
    /// One 16-row column of f16 after the other.
    F16,
    /// One 16-row column of bf16 after the other.
    BF16,
}

impl Layout {
    /// The layout for a format; `None` where the blocks stay as the file has them and are decoded as they are used.
    pub(crate) fn of(format: Format) -> Option<Layout> {
        match format {
            Format::Q8_0 => Some(Layout::Q8_0),
            Format::Q4_0 => Some(Layout::Q4_0),
            Format::Q4_1 => Some(Layout::Q4_1),
            Format::Q5_0 => Some(Layout::Q5_0),
            Format::Q5_1 => Some(Layout::Q5_1),
            Format::Q4_K => Some(Layout::Q4K),
            Format::Q5_K => Some(Layout::Q5K),
            Format::Q6_K => Some(Layout::Q6K),
            Format::IQ4_NL => Some(Layout::IQ4NL),
            Format::IQ4_XS => Some(Layout::IQ4XS),
            Format::MXFP4 => Some(Layout::MXFP4),
            Format::NVFP4 => Some(Layout::NVFP4),
            Format::IQ3_S => Some(Layout::IQ3S),
            Format::IQ3_XXS => Some(Layout::IQ3XXS),
            Format::IQ2_S => Some(Layout::IQ2S),
            Format::IQ2_XS => Some(Layout::IQ2XS),
            Format::IQ2_XXS => Some(Layout::IQ2XXS),
            Format::IQ1_S => Some(Layout::IQ1S),
            Format::IQ1_M => Some(Layout::IQ1M),
            Format::Q3_K => Some(Layout::Q3K),
            Format::Q2_K => Some(Layout::Q2K),
            Format::TQ1_0 => Some(Layout::TQ1_0),
            Format::TQ2_0 => Some(Layout::TQ2_0),
            Format::Q2_0 => Some(Layout::Q2_0),
            Format::Q1_0 => Some(Layout::Q1_0),
            Format::F32 => Some(Layout::F32),
            Format::F16 => Some(Layout::F16),
            Format::BF16 => Some(Layout::BF16),
            Format::F64 | Format::I8 | Format::I16 | Format::I32 | Format::I64 | Format::Q8_1 | Format::Q8_K => None,
        }
    }

    /// Header, record and records behind a header, as the kernels read them; plain layouts have none.
    fn sizes(self) -> Option<(usize, usize, usize)> {
        fn of<C: Codes>() -> Option<(usize, usize, usize)> {
            Some((C::HEADER, C::RECORD, C::RECORDS))
        }
        match self {
            Layout::Q8_0 => of::<codes::Q8_0>(),
            Layout::Q4_0 => of::<codes::Q4_0>(),
            Layout::Q4_1 => of::<codes::Q4_1>(),
            Layout::Q5_0 => of::<codes::Q5_0>(),
            Layout::Q5_1 => of::<codes::Q5_1>(),
            Layout::Q4K => of::<codes::Q4K>(),
            Layout::Q5K => of::<codes::Q5K>(),
            Layout::Q6K => of::<codes::Q6K>(),
            Layout::IQ4NL => of::<codes::IQ4NL>(),
            Layout::IQ4XS => of::<codes::IQ4XS>(),
            Layout::MXFP4 => of::<codes::MXFP4>(),
            Layout::NVFP4 => of::<codes::NVFP4>(),
            Layout::IQ3S => of::<codes::IQ3S>(),
            Layout::IQ3XXS => of::<codes::IQ3XXS>(),
            Layout::IQ2S | Layout::IQ2XS | Layout::IQ2XXS => of::<codes::IQ2>(),
            Layout::IQ1S => of::<codes::IQ1S>(),
            Layout::IQ1M => of::<codes::IQ1M>(),
            Layout::Q3K => of::<codes::Q3K>(),
            Layout::Q2K => of::<codes::Q2K>(),
            Layout::TQ1_0 | Layout::TQ2_0 => of::<codes::Ternary>(),
            Layout::Q2_0 => of::<codes::Q2_0>(),
            Layout::Q1_0 => of::<codes::Q1_0>(),
            Layout::F32 | Layout::F16 | Layout::BF16 => None,
        }
    }

    /// Bytes that sixteen rows of `columns` take.
    pub(crate) fn group_bytes(self, columns: usize) -> usize {
        match (self, self.sizes()) {
            (_, Some((header, record, records))) => columns / (records * RECORD_INPUTS) * (header + records * record),
            (Layout::F32, None) => 64 * columns,
            (_, None) => 32 * columns,
        }
    }

    /// Interleaves up to sixteen rows, each `row_bytes` long and back to back in `rows`, into `group`.
    pub(crate) fn pack_group(self, rows: &[u8], row_bytes: usize, columns: usize, group: &mut [u8]) {
        debug_assert_eq!(group.len(), self.group_bytes(columns));
        let count = rows.len() / row_bytes;
        if count < GROUP_ROWS {
            group.fill(0);
        }
        match (self, self.sizes()) {
            (_, Some((header, record, records))) => {
                let block_bytes = row_bytes / (columns / (records * RECORD_INPUTS));
                self.pack_blocks(rows, row_bytes, block_bytes, header + records * record, group);
            }
            (Layout::F32, None) => pack_plain::<4>(rows, row_bytes, group),
            (_, None) => pack_plain::<2>(rows, row_bytes, group),
        }
    }

    /// `packed_bytes` is what sixteen blocks side by side take.
    fn pack_blocks(self, rows: &[u8], row_bytes: usize, block_bytes: usize, packed_bytes: usize, group: &mut [u8]) {
        for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
            for (block, out) in bytes.chunks_exact(block_bytes).zip(group.chunks_exact_mut(packed_bytes)) {
                match self {
                    Layout::Q8_0 => pack_q8_0(bytemuck::from_bytes(block), row, out),
                    Layout::Q4_0 => pack_q4_0(bytemuck::from_bytes(block), row, out),
                    Layout::Q4_1 => pack_q4_1(bytemuck::from_bytes(block), row, out),
                    Layout::Q5_0 => pack_q5_0(bytemuck::from_bytes(block), row, out),
                    Layout::Q5_1 => pack_q5_1(bytemuck::from_bytes(block), row, out),
                    Layout::Q4K => pack_q4_k(bytemuck::from_bytes(block), row, out),
                    Layout::Q5K => pack_q5_k(bytemuck::from_bytes(block), row, out),
                    Layout::Q6K => pack_q6_k(bytemuck::from_bytes(block), row, out),
                    Layout::IQ4NL => compact::pack_iq4_nl(bytemuck::from_bytes(block), row, out),
                    Layout::IQ4XS => compact::pack_iq4_xs(bytemuck::from_bytes(block), row, out),
                    Layout::MXFP4 => compact::pack_mxfp4(bytemuck::from_bytes(block), row, out),
                    Layout::NVFP4 => compact::pack_nvfp4(bytemuck::from_bytes(block), row, out),
                    Layout::IQ3S => compact::pack_iq3_s(bytemuck::from_bytes(block), row, out),
                    Layout::IQ3XXS => compact::pack_iq3_xxs(bytemuck::from_bytes(block), row, out),
                    Layout::IQ2S => compact::pack_iq2_s(bytemuck::from_bytes(block), row, out),
                    Layout::IQ2XS => compact::pack_iq2_xs(bytemuck::from_bytes(block), row, out),
                    Layout::IQ2XXS => compact::pack_iq2_xxs(bytemuck::from_bytes(block), row, out),
                    Layout::IQ1S => compact::pack_iq1_s(bytemuck::from_bytes(block), row, out),
                    Layout::IQ1M => compact::pack_iq1_m(bytemuck::from_bytes(block), row, out),
                    Layout::Q3K => compact::pack_q3_k(bytemuck::from_bytes(block), row, out),
                    Layout::Q2K => compact::pack_q2_k(bytemuck::from_bytes(block), row, out),
                    Layout::TQ1_0 => compact::pack_tq1_0(bytemuck::from_bytes(block), row, out),
                    Layout::TQ2_0 => compact::pack_tq2_0(bytemuck::from_bytes(block), row, out),
                    Layout::Q2_0 => compact::pack_q2_0(bytemuck::from_bytes(block), row, out),
                    Layout::Q1_0 => compact::pack_q1_0(bytemuck::from_bytes(block), row, out),
                    Layout::F32 | Layout::F16 | Layout::BF16 => unreachable!("packed by column"),
                }
            }
        }
    }
}

/// Columns of `BYTES`-byte numbers.
fn pack_plain<const BYTES: usize>(rows: &[u8], row_bytes: usize, group: &mut [u8]) {
    for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        let (numbers, _) = bytes.as_chunks::<BYTES>();
        for (number, column) in numbers.iter().zip(group.chunks_exact_mut(GROUP_ROWS * BYTES)) {
            column[row * BYTES..][..BYTES].copy_from_slice(number);
        }
    }
}

/// Puts a row's f16 into the vector of sixteen that starts at `at`.
fn put_half(out: &mut [u8], at: usize, row: usize, value: Half) {
    out[at + 2 * row..][..2].copy_from_slice(&value.0);
}

/// Puts four codes of a row into quad `quad` of the codes that start at `at`.
fn put_quad(out: &mut [u8], at: usize, quad: usize, row: usize, codes: [u8; 4]) {
    out[at + 64 * quad + 4 * row..][..4].copy_from_slice(&codes);
}

fn quad_of(codes: &[u8], quad: usize) -> [u8; 4] {
    [codes[4 * quad], codes[4 * quad + 1], codes[4 * quad + 2], codes[4 * quad + 3]]
}

/// Thirty-two low nibbles as the layout pairs them: quad `j` below quad `j + 4`.
///
/// `nibbles[i]` is element `i` below element `i + 16`, which is how the 32-element formats store them: nothing moves.
fn put_nibbles(out: &mut [u8], at: usize, row: usize, nibbles: &[u8; 16]) {
    for quad in 0..4 {
        put_quad(out, at, quad, row, quad_of(nibbles, quad));
    }
}

/// Fifth bits: bit `4 · row + i` of mask `quad` belongs to element `4 · quad + i`.
fn put_fifth_bits(out: &mut [u8], at: usize, row: usize, bits: u32) {
    for quad in 0..8 {
        let four = (bits >> (4 * quad) & 15) as u8;
        let byte = &mut out[at + 8 * quad + row / 2];
        let shift = 4 * (row % 2);
        *byte = *byte & !(15 << shift) | four << shift;
    }
}

fn pack_q8_0(block: &BlockQ8_0, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    for quad in 0..8 {
        let codes = std::array::from_fn(|i| block.codes[4 * quad + i].cast_unsigned() ^ 0x80);
        put_quad(out, 32, quad, row, codes);
    }
}

fn pack_q4_0(block: &BlockQ4_0, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    put_nibbles(out, 32, row, &block.codes);
}

fn pack_q4_1(block: &BlockQ4_1, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    put_half(out, 32, row, block.m);
    put_nibbles(out, 64, row, &block.codes);
}

fn pack_q5_0(block: &BlockQ5_0, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    put_fifth_bits(out, 32, row, u32::from_le_bytes(block.high_bits));
    put_nibbles(out, 96, row, &block.low_codes);
}

fn pack_q5_1(block: &BlockQ5_1, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    put_half(out, 32, row, block.m);
    put_fifth_bits(out, 64, row, u32::from_le_bytes(block.high_bits));
    put_nibbles(out, 128, row, &block.low_codes);
}

/// Header and 6-bit scales of Q4K and Q5K, whose records are `record` bytes long.
fn put_super_scales(out: &mut [u8], row: usize, (d, dmin): (Half, Half), pairs: &SixBitPairs, record: usize) {
    put_half(out, 0, row, d);
    put_half(out, 32, row, dmin);
    for sub in 0..8 {
        let (scale, min) = pairs.get(sub);
        out[64 + sub * record + row] = scale;
        out[64 + sub * record + 16 + row] = min;
    }
}

/// The 32 nibbles of sub-block `sub` in the pairing of [`put_nibbles`]; K-formats keep two sub-blocks in 32 bytes.
fn sub_block_nibbles(codes: &[u8; 128], sub: usize) -> [u8; 16] {
    let bytes = &codes[sub / 2 * 32..][..32];
    let shift = 4 * (sub % 2);
    std::array::from_fn(|i| bytes[i] >> shift & 15 | (bytes[i + 16] >> shift & 15) << 4)
}

fn pack_q4_k(block: &BlockQ4K, row: usize, out: &mut [u8]) {
    put_super_scales(out, row, (block.d, block.dmin), &block.scales_and_mins, 288);
    for sub in 0..8 {
        put_nibbles(out, 64 + sub * 288 + 32, row, &sub_block_nibbles(&block.codes, sub));
    }
}

fn pack_q5_k(block: &BlockQ5K, row: usize, out: &mut [u8]) {
    put_super_scales(out, row, (block.d, block.dmin), &block.scales_and_mins, 352);
    for sub in 0..8 {
        let bits = (0..32).fold(0, |bits, i| bits | u32::from(block.high_bits[i] >> sub & 1) << i);
        put_fifth_bits(out, 64 + sub * 352 + 32, row, bits);
        put_nibbles(out, 64 + sub * 352 + 96, row, &sub_block_nibbles(&block.low_codes, sub));
    }
}

fn pack_q6_k(block: &BlockQ6K, row: usize, out: &mut [u8]) {
    put_half(out, 0, row, block.d);
    for sub in 0..8 {
        let record = &mut out[32 + sub * 416..][..416];
        record[row] = block.scales[2 * sub].cast_unsigned();
        record[16 + row] = block.scales[2 * sub + 1].cast_unsigned();
        // Each half of 128 elements keeps four runs of 32: nibbles in two runs of 32 bytes, upper bits in one.
        let (half, run) = (sub / 4, sub % 4);
        let low = &block.low_codes[64 * half + 32 * (run % 2)..][..32];
        let shift = 4 * (run / 2);
        let nibbles = std::array::from_fn(|i| low[i] >> shift & 15 | (low[i + 16] >> shift & 15) << 4);
        put_nibbles(record, 32, row, &nibbles);
        let high = &block.high_bits[32 * half..][..32];
        let upper: [u8; 32] = std::array::from_fn(|i| high[i] >> (2 * run) & 3);
        for plane in 0..2 {
            let bytes = std::array::from_fn(|i| {
                (0..4).fold(0, |byte, quad| byte | upper[16 * plane + 4 * quad + i] << (2 * quad))
            });
            put_quad(record, 288, plane, row, bytes);
        }
    }
}
