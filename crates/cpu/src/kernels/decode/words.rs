//! Blocks of 256 elements whose values are words of a codebook.

use tensor::format::{BlockIQ1M, BlockIQ1S, BlockIQ2S, BlockIQ2XS, BlockIQ2XXS, BlockIQ3S, BlockIQ3XXS, Words};

use super::Decode;
use crate::arch::Isa;

/// The levels of sixteen elements, as numbers, and their signs.
#[inline(always)]
unsafe fn two_words<I: Isa, B: Words>(isa: I, block: &B, sixteen: usize) -> (I::F32, [u8; 2]) {
    let [(first, first_signs), (second, second_signs)] = [block.word(2 * sixteen), block.word(2 * sixteen + 1)];
    let levels = [first, second];
    (isa.load_i8(levels.as_ptr().cast()), [first_signs, second_signs])
}

/// Words with a sign for each element.
#[inline(always)]
unsafe fn signed<I: Isa, B: Words>(isa: I, block: &B, out: *mut f32) {
    let d = block.unit().to_f32();
    for sixteen in 0..16 {
        let scale = isa.splat(B::units(block.scale(sixteen)) * d);
        let (levels, signs) = two_words(isa, block, sixteen);
        let negative = isa.to_f32(isa.fields::<1>(u16::from_le_bytes(signs).into()));
        let sign = isa.fma(negative, isa.splat(-2.0), isa.splat(1.0));
        isa.store(out.add(16 * sixteen), isa.mul(isa.mul(scale, levels), sign));
    }
}

/// Words that are shifted up or down by an eighth.
#[inline(always)]
unsafe fn shifted<I: Isa, B: Words>(isa: I, block: &B, out: *mut f32) {
    let d = block.unit().to_f32();
    for sixteen in 0..16 {
        let scale = isa.splat(d * B::units(block.scale(sixteen)));
        let (levels, downs) = two_words(isa, block, sixteen);
        let down = isa.to_f32(isa.fields::<1>(u16::from_le_bytes(downs).into()));
        let shift = isa.fma(down, isa.splat(-0.25), isa.splat(0.125));
        isa.store(out.add(16 * sixteen), isa.mul(scale, isa.add(levels, shift)));
    }
}

macro_rules! decode_words {
    ($($block:ident: $decode:ident),*) => {$(
        // SAFETY: sixteen values at a time, as many as the block has, from words of their own.
        unsafe impl Decode for $block {
            #[inline(always)]
            unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
                $decode(isa, block, out);
            }
        }
    )*};
}
decode_words!(
    BlockIQ2XXS: signed,
    BlockIQ2XS: signed,
    BlockIQ2S: signed,
    BlockIQ3XXS: signed,
    BlockIQ3S: signed,
    BlockIQ1S: shifted,
    BlockIQ1M: shifted
);
