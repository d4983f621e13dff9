//! Decoding of the file's own blocks, for rows that are looked up rather than multiplied. The bits are those of the
//! readable codec: operations that round alike, sixteen values at a time. Never sums.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of DecodeFn")]

use half::f16;
use tensor::format::{Block, Codec};
use tensor::{Format, format};

use crate::IsaChoice;
use crate::arch::{Isa, Level};
use crate::kernels::{Kernels, vector};

mod blocks;
mod super_blocks;
#[cfg(test)]
mod tests;
mod words;

/// Blocks, their count, and where their values go.
///
/// # Safety
/// The instruction set is the processor's, and both pointers cover `count` blocks.
pub(crate) type DecodeFn = unsafe fn(*const u8, usize, *mut f32);

/// Decodes one format with the best instructions of this processor that were allowed.
#[derive(Clone, Copy)]
pub struct Decoder {
    format: Format,
    codec: Codec,
    kernel: Option<DecodeFn>,
    to_f16: unsafe fn(*const f32, usize, *mut u16),
}

/// Values that are decoded at a time on their way to f16: whole blocks of each format.
const AT_A_TIME: usize = 1024;

impl Decoder {
    /// `None` for a format without a codec.
    pub fn new(format: Format, isa: IsaChoice) -> Option<Decoder> {
        Decoder::of(&Kernels::of(Level::detect(isa)), format)
    }

    pub(crate) fn of(kernels: &Kernels, format: Format) -> Option<Decoder> {
        let codec = format.codec()?;
        Some(Decoder { format, codec, kernel: (kernels.decode)(format), to_f16: kernels.to_f16 })
    }

    /// Whether it has a kernel of its own. Otherwise the codec decodes: whole numbers, f64 and f32, which are next to nothing to
    /// decode, and everything where there is only plain Rust.
    pub fn is_simd(&self) -> bool {
        self.kernel.is_some()
    }

    /// As the codec's `decode`, with the same bits, but that a NaN may be another one.
    ///
    /// # Panics
    /// When the slices disagree in length or end inside a block.
    pub fn decode(&self, blocks: &[u8], values: &mut [f32]) {
        let count = self.count(blocks, values.len());
        match self.kernel {
            // SAFETY: the kernel was made for this processor, and both slices hold `count` blocks.
            Some(kernel) => unsafe { kernel(blocks.as_ptr(), count, values.as_mut_ptr()) },
            None => (self.codec.decode)(blocks, values),
        }
    }

    /// What [`Decoder::decode`] gives, rounded to the nearest f16, ties to even: from 65,520 on that is infinity.
    ///
    /// # Panics
    /// When the slices disagree in length or end inside a block.
    pub fn decode_f16(&self, blocks: &[u8], values: &mut [f16]) {
        self.count(blocks, values.len());
        let mut decoded = Aligned([0.0; AT_A_TIME]);
        let bytes = AT_A_TIME / self.format.block_elements() * self.format.block_bytes();
        for (blocks, values) in blocks.chunks(bytes).zip(values.chunks_mut(AT_A_TIME)) {
            let decoded = &mut decoded.0[..values.len()];
            self.decode(blocks, decoded);
            // SAFETY: the kernel was made for this processor; an f16 is its bits, and both slices are as long.
            unsafe { (self.to_f16)(decoded.as_ptr(), decoded.len(), values.as_mut_ptr().cast()) }
        }
    }

    /// How many blocks there are.
    fn count(&self, blocks: &[u8], values: usize) -> usize {
        let count = blocks.len() / self.format.block_bytes();
        assert_eq!(count * self.format.block_bytes(), blocks.len(), "blocks end inside a block");
        assert_eq!(count * self.format.block_elements(), values, "values do not match the blocks");
        count
    }
}

/// Begins where a line of the cache does.
#[repr(align(64))]
struct Aligned<T>(T);

/// Decodes whole blocks of one format.
///
/// # Safety
/// `decode_with` writes [`Block::ELEMENTS`] values and reads nothing but the block.
unsafe trait Decode: Block {
    /// # Safety
    /// As for [`DecodeFn`]; `out` covers the block's elements.
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32);
}

#[inline(always)]
unsafe fn decode<I: Isa, B: Decode>(isa: I, blocks: *const u8, count: usize, out: *mut f32) {
    for index in 0..count {
        // Blocks are bytes: any address is aligned for them.
        let block = &*blocks.cast::<B>().add(index);
        B::decode_with(isa, block, out.add(index * B::ELEMENTS));
    }
}

macro_rules! decoders {
    ($module:ident, $make:expr, $features:literal) => {
        pub(super) mod $module {
            //! Entry points compiled for one instruction set.

            use super::*;

            pub(in crate::kernels) fn decoder(format: Format) -> Option<DecodeFn> {
                Some(match format {
                    Format::F16 => f16_numbers,
                    Format::BF16 => bf16_numbers,
                    Format::Q4_0 => blocks::<format::BlockQ4_0>,
                    Format::Q4_1 => blocks::<format::BlockQ4_1>,
                    Format::Q5_0 => blocks::<format::BlockQ5_0>,
                    Format::Q5_1 => blocks::<format::BlockQ5_1>,
                    Format::Q8_0 => blocks::<format::BlockQ8_0>,
                    Format::Q8_1 => blocks::<format::BlockQ8_1>,
                    Format::Q2_K => blocks::<format::BlockQ2K>,
                    Format::Q3_K => blocks::<format::BlockQ3K>,
                    Format::Q4_K => blocks::<format::BlockQ4K>,
                    Format::Q5_K => blocks::<format::BlockQ5K>,
                    Format::Q6_K => blocks::<format::BlockQ6K>,
                    Format::Q8_K => blocks::<format::BlockQ8K>,
                    Format::IQ2_XXS => blocks::<format::BlockIQ2XXS>,
                    Format::IQ2_XS => blocks::<format::BlockIQ2XS>,
                    Format::IQ3_XXS => blocks::<format::BlockIQ3XXS>,
                    Format::IQ1_S => blocks::<format::BlockIQ1S>,
                    Format::IQ4_NL => blocks::<format::BlockIQ4NL>,
                    Format::IQ3_S => blocks::<format::BlockIQ3S>,
                    Format::IQ2_S => blocks::<format::BlockIQ2S>,
                    Format::IQ4_XS => blocks::<format::BlockIQ4XS>,
                    Format::IQ1_M => blocks::<format::BlockIQ1M>,
                    Format::TQ1_0 => blocks::<format::BlockTQ1_0>,
                    Format::TQ2_0 => blocks::<format::BlockTQ2_0>,
                    Format::MXFP4 => blocks::<format::BlockMXFP4>,
                    Format::NVFP4 => blocks::<format::BlockNVFP4>,
                    Format::Q1_0 => blocks::<format::BlockQ1_0>,
                    Format::Q2_0 => blocks::<format::BlockQ2_0>,
                    Format::F32 | Format::F64 | Format::I8 | Format::I16 | Format::I32 | Format::I64 => return None,
                })
            }

            #[target_feature(enable = $features)]
            unsafe fn blocks<B: Decode>(blocks: *const u8, count: usize, out: *mut f32) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { decode::<_, B>($make, blocks, count, out) }
            }
            #[target_feature(enable = $features)]
            unsafe fn f16_numbers(numbers: *const u8, count: usize, out: *mut f32) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { vector::widen::<_, false>($make, numbers.cast(), count, out) }
            }
            #[target_feature(enable = $features)]
            unsafe fn bf16_numbers(numbers: *const u8, count: usize, out: *mut f32) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { vector::widen::<_, true>($make, numbers.cast(), count, out) }
            }
        }
    };
}

// Decoding multiplies no bytes: one of each width.
#[cfg(target_arch = "x86_64")]
decoders!(avx512, crate::arch::avx512::Avx512::assume(), "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
decoders!(avx2, crate::arch::avx2::Avx2::assume(), "avx2,fma,f16c");
#[cfg(target_arch = "aarch64")]
decoders!(neon, crate::arch::neon::Neon::assume(), "neon");

pub(super) mod portable {
    //! What the compiler makes of the readable codec is faster than sixteen lanes in plain Rust.

    use super::{DecodeFn, Format};

    pub(in crate::kernels) fn decoder(_: Format) -> Option<DecodeFn> {
        None
    }
}
