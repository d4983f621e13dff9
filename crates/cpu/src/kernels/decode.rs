//! Decoding of the file's own blocks to f32, for rows that are looked up rather than multiplied. The bits are those of the
//! readable codec: the same operations in the same order, sixteen values at a time. Never sums.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of DecodeFn")]

use tensor::Format;
use tensor::format::{Block, BlockQ4_0, BlockQ4K, BlockQ6K, BlockQ8_0};

use crate::IsaChoice;
use crate::arch::{Isa, Level};
use crate::kernels::Kernels;

/// Blocks, their count, and where their values go.
///
/// # Safety
/// The instruction set is the processor's, and both pointers cover `count` blocks.
pub(crate) type DecodeFn = unsafe fn(*const u8, usize, *mut f32);

/// Decodes one format with the best instructions of this processor.
#[derive(Clone, Copy)]
pub struct Decoder {
    format: Format,
    kernel: DecodeFn,
}

impl Decoder {
    /// `None` for formats that only the readable codec decodes.
    pub fn new(format: Format, isa: IsaChoice) -> Option<Decoder> {
        Decoder::of(&Kernels::of(Level::detect(isa)), format)
    }

    pub(crate) fn of(kernels: &Kernels, format: Format) -> Option<Decoder> {
        (kernels.decode)(format).map(|kernel| Decoder { format, kernel })
    }

    /// As the codec's `decode`, with the same bits.
    ///
    /// # Panics
    /// When the slices disagree in length or end inside a block.
    pub fn decode(&self, blocks: &[u8], values: &mut [f32]) {
        let count = blocks.len() / self.format.block_bytes();
        assert_eq!(count * self.format.block_bytes(), blocks.len(), "blocks end inside a block");
        assert_eq!(count * self.format.block_elements(), values.len(), "values do not match the blocks");
        // SAFETY: the kernel was made for this processor, and both slices hold `count` blocks.
        unsafe { (self.kernel)(blocks.as_ptr(), count, values.as_mut_ptr()) }
    }
}

/// Decodes whole blocks of one format.
///
/// # Safety
/// As for [`DecodeFn`]; `out` covers the block's elements.
pub(crate) unsafe trait Decode: Block {
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32);
}

#[inline(always)]
pub(crate) unsafe fn decode<I: Isa, B: Decode>(isa: I, blocks: *const u8, count: usize, out: *mut f32) {
    for index in 0..count {
        // Blocks are bytes: any address is aligned for them.
        let block = &*blocks.cast::<B>().add(index);
        B::decode_with(isa, block, out.add(index * B::ELEMENTS));
    }
}

/// The low and the high `BITS` bits of sixteen whole numbers below `2^(2 · BITS)`. Exact: all are small multiples of a
/// power of two, and none lies in the middle between two whole numbers.
#[inline(always)]
unsafe fn split<I: Isa, const BITS: u32>(isa: I, numbers: I::F32) -> [I::F32; 2] {
    let parts = (1_u32 << BITS) as f32;
    let high = isa.fma(numbers, isa.splat(1.0 / parts), isa.splat(0.5 / parts - 0.5));
    let high = isa.to_f32(isa.round(high));
    [isa.fma(high, isa.splat(-parts), numbers), high]
}

// SAFETY: here and below, sixteen values at a time, as many as the block has.
unsafe impl Decode for BlockQ8_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let bits = u16::from_le_bytes(block.d.0);
        // The vector pipes are busy with codes: a normal number becomes an f32 beside them.
        let d = match bits & 0x7c00 {
            0 | 0x7c00 => isa.splat_f16(bits),
            _ => {
                let moved = (i32::from(bits.cast_signed()) << 13).cast_unsigned() & 0x8fff_e000;
                isa.splat(f32::from_bits(moved + ((127 - 15) << 23)))
            }
        };
        for at in [0, 16] {
            isa.store(out.add(at), isa.mul(isa.load_i8(block.codes.as_ptr().add(at)), d));
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ4_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let (d, eight) = (isa.splat(block.d.to_f32()), isa.splat(8.0));
        let [low, high] = split::<I, 4>(isa, isa.load_u8(block.codes.as_ptr()));
        isa.store(out, isa.mul(isa.sub(low, eight), d));
        isa.store(out.add(16), isa.mul(isa.sub(high, eight), d));
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ4K {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
        for pair in 0..4 {
            let lines = [2 * pair, 2 * pair + 1].map(|sub_block| {
                let (scale, min) = block.scales_and_mins.get(sub_block);
                (d * f32::from(scale), dmin * f32::from(min))
            });
            for at in [0, 16] {
                let codes = split::<I, 4>(isa, isa.load_u8(block.codes.as_ptr().add(32 * pair + at)));
                for half in 0..2 {
                    let (scale, min) = lines[half];
                    let value = isa.sub(isa.mul(isa.splat(scale), codes[half]), isa.splat(min));
                    isa.store(out.add(64 * pair + 32 * half + at), value);
                }
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ6K {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let d = block.d.to_f32();
        for sixteen in 0..4 {
            // Of 128 elements: four runs of 32, whose upper bits share bytes; two and two of them share nibbles.
            let (half, at) = (sixteen / 2, sixteen % 2 * 16);
            let upper = split::<I, 4>(isa, isa.load_u8(block.high_bits.as_ptr().add(32 * half + at)));
            let bytes = block.low_codes.as_ptr().add(64 * half + at);
            let low = [split::<I, 4>(isa, isa.load_u8(bytes)), split::<I, 4>(isa, isa.load_u8(bytes.add(32)))];
            let upper = [split::<I, 2>(isa, upper[0]), split::<I, 2>(isa, upper[1])];
            for run in 0..4 {
                let two_bits = upper[run / 2][run % 2];
                let code = isa.fma(two_bits, isa.splat(16.0), low[run % 2][run / 2]);
                let scale = d * f32::from(block.scales[8 * half + 2 * run + at / 16]);
                let value = isa.mul(isa.splat(scale), isa.sub(code, isa.splat(32.0)));
                isa.store(out.add(128 * half + 32 * run + at), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_gives_the_bits_of_the_codec() {
        for (level, format) in
            Level::all().into_iter().flat_map(|level| [Format::Q8_0, Format::Q4_0].map(|format| (level, format)))
        {
            let Some(decoder) = Decoder::of(&Kernels::of(level), format) else { continue };
            let codec = format.codec().unwrap();
            // Both formats begin with their scale; each block has codes of its own.
            let mut blocks: Vec<u8> = Vec::new();
            for scale in 0..=u16::MAX {
                blocks.extend(scale.to_le_bytes());
                let codes = (0..format.block_bytes() - 2).map(|at| (usize::from(scale) * 31 + at * 57) as u8);
                blocks.extend(codes);
            }
            let count = (1 << 16) * format.block_elements();
            let (mut values, mut expected) = (vec![0.0f32; count], vec![0.0f32; count]);
            decoder.decode(&blocks, &mut values);
            (codec.decode)(&blocks, &mut expected);
            let differs = |(a, b): &(&f32, &f32)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
            let first = values.iter().zip(&expected).position(|pair| differs(&pair));
            assert_eq!(first.map(|at| at / format.block_elements()), None, "{format}, {}", level.name());
        }
    }
}
