//! Repacking of whole groups of sixteen rows into the interleaved layout, as fast as memory. What it writes is what
//! [`Layout::pack_group`] writes, which defines the layout and takes what is left: other layouts, and groups with fewer
//! rows.
//!
//! Sketch (Q8_0): a record takes 32 loads, 24 that also insert, 16 shuffles, 8 stores and 16 moves of scales for 544
//! bytes: some 40 cycles, a third of what memory allows one core for reading and writing them.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of PackFn")]

use tensor::format::{BlockQ4K, BlockQ5K, BlockQ6K, SixBitPairs};

use crate::arch::interleave::Interleave;
use crate::kernels::Kernels;
use crate::kernels::codes::{Codes, IQ4NL, MXFP4, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use crate::layout::{GROUP_ROWS, Layout};

/// Sixteen rows back to back, bytes of a row, and where the group goes.
///
/// # Safety
/// The instruction set is the processor's, the rows are whole, and the group has the layout's size.
pub(crate) type PackFn = unsafe fn(*const u8, usize, *mut u8);

/// Packs the rows of one matrix.
#[derive(Clone, Copy)]
pub(crate) struct Packer {
    layout: Layout,
    row_bytes: usize,
    columns: usize,
    /// For whole groups, where the layout has one and rows are whole numbers of its blocks.
    kernel: Option<PackFn>,
}

impl Packer {
    pub(crate) fn new(kernels: &Kernels, layout: Layout, row_bytes: usize, columns: usize) -> Packer {
        let kernel = (kernels.pack)(layout).filter(|(_, block_bytes)| row_bytes.is_multiple_of(*block_bytes));
        Packer { layout, row_bytes, columns, kernel: kernel.map(|(kernel, _)| kernel) }
    }

    /// Whether groups are packed about as fast as they are read, so that it may be done over and over.
    pub(crate) fn is_fast(&self) -> bool {
        self.kernel.is_some()
    }

    /// Bytes of a packed group.
    pub(crate) fn group_bytes(&self) -> usize {
        self.layout.group_bytes(self.columns)
    }

    /// Packs groups `groups` of the matrix whose rows are `matrix` into `out`.
    pub(crate) fn pack(&self, matrix: &[u8], groups: std::ops::Range<usize>, out: &mut [u8]) {
        let (from_bytes, to_bytes) = (GROUP_ROWS * self.row_bytes, self.group_bytes());
        for (group, out) in groups.zip(out.chunks_exact_mut(to_bytes)) {
            let rows = &matrix[group * from_bytes..matrix.len().min((group + 1) * from_bytes)];
            match self.kernel {
                // SAFETY: the kernel was made for this processor, sixteen rows are there, and so is room for the group.
                Some(kernel) if rows.len() == from_bytes => unsafe {
                    kernel(rows.as_ptr(), self.row_bytes, out.as_mut_ptr());
                },
                _ => self.layout.pack_group(rows, self.row_bytes, self.columns, out),
            }
        }
    }
}

/// A layout that has a kernel here.
///
/// # Safety
/// `block` reads `BLOCK` bytes of each of sixteen rows, and writes `PACKED`.
pub(crate) unsafe trait Pack {
    /// Bytes of a row that are packed at once.
    const BLOCK: usize;
    /// Bytes that sixteen of them become.
    const PACKED: usize;

    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8);
}

#[inline(always)]
pub(crate) unsafe fn pack<I: Interleave, P: Pack>(isa: I, rows: *const u8, row_bytes: usize, out: *mut u8) {
    let next_group = rows.wrapping_add(GROUP_ROWS * row_bytes);
    for index in 0..row_bytes / P::BLOCK {
        // Sixteen streams at once are more than a core's prefetchers follow; the next group is one.
        let mut line = 0;
        while line < GROUP_ROWS * P::BLOCK {
            isa.prefetch(next_group.wrapping_add(index * GROUP_ROWS * P::BLOCK + line));
            line += 64;
        }
        P::block(isa, rows.add(index * P::BLOCK), row_bytes, out.add(index * P::PACKED));
    }
}

/// One f16 of each row.
#[inline(always)]
unsafe fn halves(from: *const u8, stride: usize, out: *mut u8) {
    for row in 0..GROUP_ROWS {
        let half = from.add(row * stride).cast::<[u8; 2]>().read();
        out.add(2 * row).cast::<[u8; 2]>().write(half);
    }
}

/// Sixteen bytes of each row, as four quads.
#[inline(always)]
unsafe fn quads<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
    let words = isa.words(from, stride);
    for quad in 0..4 {
        isa.store_bytes(out.add(64 * quad), words[quad]);
    }
}

/// The eight masks of one record from the fifth bits of each row.
#[inline(always)]
unsafe fn fifth_bits(bits: &[u32; GROUP_ROWS], out: *mut u8) {
    for pair in 0..GROUP_ROWS / 2 {
        let bytes = (spread(bits[2 * pair]) | spread(bits[2 * pair + 1]) << 4).to_le_bytes();
        for (quad, byte) in bytes.into_iter().enumerate() {
            *out.add(8 * quad + pair) = byte;
        }
    }
}

/// Each nibble in a byte of its own.
#[inline(always)]
fn spread(bits: u32) -> u64 {
    let bits = u64::from(bits);
    let bits = (bits | bits << 16) & 0x0000_FFFF_0000_FFFF;
    let bits = (bits | bits << 8) & 0x00FF_00FF_00FF_00FF;
    (bits | bits << 4) & 0x0F0F_0F0F_0F0F_0F0F
}

/// Four bytes of each row.
#[inline(always)]
unsafe fn bit_words(from: *const u8, stride: usize) -> [u32; GROUP_ROWS] {
    let mut words = [0; GROUP_ROWS];
    for row in 0..GROUP_ROWS {
        words[row] = u32::from_le(from.add(row * stride).cast::<u32>().read_unaligned());
    }
    words
}

/// Bit `j` of byte `i` becomes bit `i` of byte `j` (Hacker's Delight, 7-3).
#[inline(always)]
fn transpose(bits: u64) -> u64 {
    let swap = |bits: u64, by: u32, mask: u64| {
        let moved = (bits ^ bits >> by) & mask;
        bits ^ moved ^ moved << by
    };
    let bits = swap(bits, 7, 0x00AA_00AA_00AA_00AA);
    let bits = swap(bits, 14, 0x0000_CCCC_0000_CCCC);
    swap(bits, 28, 0x0000_0000_F0F0_F0F0)
}

/// Thirty-two bytes of each row hold two runs of 32 nibbles; in each run, input `i` goes below input `i + 16`.
#[inline(always)]
unsafe fn nibble_runs<I: Interleave>(isa: I, from: *const u8, stride: usize, low: *mut u8, high: *mut u8) {
    let (first, second) = (isa.words(from, stride), isa.words(from.add(16), stride));
    for quad in 0..4 {
        let of_low = isa.join::<4>(isa.low_nibbles(first[quad]), isa.low_nibbles(second[quad]));
        isa.store_bytes(low.add(64 * quad), of_low);
        let of_high = isa.join::<4>(isa.high_nibbles(first[quad]), isa.high_nibbles(second[quad]));
        isa.store_bytes(high.add(64 * quad), of_high);
    }
}

/// The 6-bit scale and minimum of a row's eight sub-blocks.
#[inline(always)]
unsafe fn six_bit_pairs(pairs: &SixBitPairs, row: usize, records: *mut u8, record_bytes: usize) {
    for sub in 0..8 {
        let (scale, minimum) = pairs.get(sub);
        *records.add(sub * record_bytes + row) = scale;
        *records.add(sub * record_bytes + 16 + row) = minimum;
    }
}

// SAFETY: here and below, offsets are those of the file's block on one side and of the layout's record on the other.
unsafe impl Pack for Q8_0 {
    const BLOCK: usize = 34;
    const PACKED: usize = Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        halves(from, stride, out);
        for half in 0..2 {
            let words = isa.words(from.add(2 + 16 * half), stride);
            for quad in 0..4 {
                isa.store_bytes(out.add(32 + 64 * (4 * half + quad)), isa.flip(words[quad]));
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Pack for Q4_0 {
    const BLOCK: usize = 18;
    const PACKED: usize = Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        halves(from, stride, out);
        quads(isa, from.add(2), stride, out.add(32));
    }
}

// SAFETY: as above; the bytes are those of Q4_0.
unsafe impl Pack for IQ4NL {
    const BLOCK: usize = 18;
    const PACKED: usize = Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        <Q4_0 as Pack>::block(isa, from, stride, out);
    }
}

// SAFETY: as above.
unsafe impl Pack for MXFP4 {
    const BLOCK: usize = 17;
    const PACKED: usize = Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        for row in 0..GROUP_ROWS {
            *out.add(row) = *from.add(row * stride);
        }
        quads(isa, from.add(1), stride, out.add(16));
    }
}

// SAFETY: as above.
unsafe impl Pack for Q4_1 {
    const BLOCK: usize = 20;
    const PACKED: usize = Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        halves(from, stride, out);
        halves(from.add(2), stride, out.add(32));
        quads(isa, from.add(4), stride, out.add(64));
    }
}

// SAFETY: as above.
unsafe impl Pack for Q5_0 {
    const BLOCK: usize = 22;
    const PACKED: usize = Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        halves(from, stride, out);
        fifth_bits(&bit_words(from.add(2), stride), out.add(32));
        quads(isa, from.add(6), stride, out.add(96));
    }
}

// SAFETY: as above.
unsafe impl Pack for Q5_1 {
    const BLOCK: usize = 24;
    const PACKED: usize = Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        halves(from, stride, out);
        halves(from.add(2), stride, out.add(32));
        fifth_bits(&bit_words(from.add(4), stride), out.add(64));
        quads(isa, from.add(8), stride, out.add(128));
    }
}

// SAFETY: as above.
unsafe impl Pack for Q4K {
    const BLOCK: usize = size_of::<BlockQ4K>();
    const PACKED: usize = Self::HEADER + Self::RECORDS * Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        halves(from, stride, out);
        halves(from.add(2), stride, out.add(32));
        let records = out.add(Self::HEADER);
        for row in 0..GROUP_ROWS {
            let block = &*from.add(row * stride).cast::<BlockQ4K>();
            six_bit_pairs(&block.scales_and_mins, row, records, Self::RECORD);
        }
        for pair in 0..4 {
            let low = records.add(2 * pair * Self::RECORD + 32);
            nibble_runs(isa, from.add(16 + 32 * pair), stride, low, low.add(Self::RECORD));
        }
    }
}

// SAFETY: as above.
unsafe impl Pack for Q5K {
    const BLOCK: usize = size_of::<BlockQ5K>();
    const PACKED: usize = Self::HEADER + Self::RECORDS * Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        halves(from, stride, out);
        halves(from.add(2), stride, out.add(32));
        let records = out.add(Self::HEADER);
        // Fifth bits of the 256 inputs: (row, eight inputs) → eight sub-blocks.
        let mut bits = [[0_u64; 4]; GROUP_ROWS];
        for row in 0..GROUP_ROWS {
            let block = &*from.add(row * stride).cast::<BlockQ5K>();
            six_bit_pairs(&block.scales_and_mins, row, records, Self::RECORD);
            for (eight, bytes) in bits[row].iter_mut().zip(block.high_bits.as_chunks().0) {
                *eight = transpose(u64::from_le_bytes(*bytes));
            }
        }
        for sub in 0..8 {
            let of_sub = bits.map(|eights| u32::from_le_bytes(eights.map(|eight| eight.to_le_bytes()[sub])));
            fifth_bits(&of_sub, records.add(sub * Self::RECORD + 32));
        }
        for pair in 0..4 {
            let low = records.add(2 * pair * Self::RECORD + 96);
            nibble_runs(isa, from.add(48 + 32 * pair), stride, low, low.add(Self::RECORD));
        }
    }
}

// SAFETY: as above.
unsafe impl Pack for Q6K {
    const BLOCK: usize = size_of::<BlockQ6K>();
    const PACKED: usize = Self::HEADER + Self::RECORDS * Self::RECORD;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        halves(from.add(208), stride, out);
        let records = out.add(Self::HEADER);
        for row in 0..GROUP_ROWS {
            for sub in 0..8 {
                let scales = from.add(row * stride + 192 + 2 * sub);
                *records.add(sub * Self::RECORD + row) = *scales;
                *records.add(sub * Self::RECORD + 16 + row) = *scales.add(1);
            }
        }
        for half in 0..2 {
            let records = records.add(4 * half * Self::RECORD);
            for run in 0..2 {
                let low = records.add(run * Self::RECORD + 32);
                nibble_runs(isa, from.add(64 * half + 32 * run), stride, low, low.add(2 * Self::RECORD));
            }
            for plane in 0..2 {
                let words = isa.words(from.add(128 + 32 * half + 16 * plane), stride);
                let to = records.add(288 + 64 * plane);
                isa.store_bytes(to, upper_bits::<I, 0>(isa, words));
                isa.store_bytes(to.add(Self::RECORD), upper_bits::<I, 2>(isa, words));
                isa.store_bytes(to.add(2 * Self::RECORD), upper_bits::<I, 4>(isa, words));
                isa.store_bytes(to.add(3 * Self::RECORD), upper_bits::<I, 6>(isa, words));
            }
        }
    }
}

/// Two bits of each byte, four quads to a plane.
#[inline(always)]
unsafe fn upper_bits<I: Interleave, const SHIFT: u32>(isa: I, words: [I::U8; 4]) -> I::U8 {
    let low = isa.join::<2>(isa.two_bits::<SHIFT>(words[0]), isa.two_bits::<SHIFT>(words[1]));
    let high = isa.join::<2>(isa.two_bits::<SHIFT>(words[2]), isa.two_bits::<SHIFT>(words[3]));
    isa.join::<4>(low, high)
}

/// Columns of numbers of two bytes, eight of them at once.
pub(crate) struct TwoBytes;

// SAFETY: as above.
unsafe impl Pack for TwoBytes {
    const BLOCK: usize = 16;
    const PACKED: usize = GROUP_ROWS * Self::BLOCK;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        let words = isa.words(from, stride);
        for pair in 0..4 {
            isa.store_bytes(out.add(64 * pair), isa.unzip(words[pair]));
        }
    }
}

/// Columns of numbers of four bytes, four of them at once.
pub(crate) struct FourBytes;

// SAFETY: as above.
unsafe impl Pack for FourBytes {
    const BLOCK: usize = 16;
    const PACKED: usize = GROUP_ROWS * Self::BLOCK;

    #[inline(always)]
    unsafe fn block<I: Interleave>(isa: I, from: *const u8, stride: usize, out: *mut u8) {
        quads(isa, from, stride, out);
    }
}

#[cfg(test)]
mod tests {
    use tensor::Format;
    use testkit::Random;

    use super::*;
    use crate::IsaChoice;
    use crate::arch::Level;

    const LAYOUTS: usize = 13;

    /// Any bytes are weights here: nothing is computed with them.
    #[test]
    fn kernels_write_what_the_layout_defines() {
        let mut random = Random::new(1);
        for level in Level::all() {
            let (kernels, isa) = (Kernels::of(level), level.name());
            let mut fast = 0;
            for row in tensor::FORMATS {
                let Some(layout) = Layout::of(row.format) else { continue };
                for (rows, columns) in [(16, 256), (48, 1024), (37, 512)] {
                    let row_bytes = columns / row.format.block_elements() * row.format.block_bytes();
                    let matrix: Vec<u8> = (0..rows * row_bytes).map(|_| random.bits() as u8).collect();
                    let packer = Packer::new(&kernels, layout, row_bytes, columns);
                    let mut by_definition = packer;
                    by_definition.kernel = None;
                    let groups = rows.div_ceil(GROUP_ROWS);
                    let mut expected = vec![0xAA; groups * packer.group_bytes()];
                    let mut actual = vec![0x55; expected.len()];
                    by_definition.pack(&matrix, 0..groups, &mut expected);
                    packer.pack(&matrix, 0..groups, &mut actual);
                    assert!(actual == expected, "{}, {isa}: {rows} rows of {columns}", row.name);
                    fast += usize::from(packer.is_fast());
                }
            }
            assert_eq!(fast, 3 * LAYOUTS, "{isa}: layouts with a kernel");
        }
    }

    /// Rows of plain numbers may have any length.
    #[test]
    fn rows_that_end_inside_a_block_are_packed_by_definition() {
        let kernels = Kernels::of(Level::detect(IsaChoice::Best));
        let columns = 13;
        let row_bytes = 2 * columns;
        let matrix: Vec<u8> = (0..16 * row_bytes).map(|at| at as u8).collect();
        let packer = Packer::new(&kernels, Layout::of(Format::F16).expect("a layout"), row_bytes, columns);
        assert!(!packer.is_fast());
        let mut out = vec![0; packer.group_bytes()];
        packer.pack(&matrix, 0..1, &mut out);
        // Column 12 of row 3.
        assert_eq!(out[2 * (12 * GROUP_ROWS + 3)..][..2], matrix[3 * row_bytes + 24..][..2]);
    }
}
