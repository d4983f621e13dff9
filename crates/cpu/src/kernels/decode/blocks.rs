//! Blocks of 32 to 128 elements: one scale for all of them, or for sixteen.

use tensor::format::{
    BlockIQ4NL, BlockMXFP4, BlockNVFP4, BlockQ1_0, BlockQ2_0, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0,
    BlockQ8_1, E2M1_LEVELS, Half, IQ4_LEVELS,
};

use super::Decode;
use crate::arch::Isa;

/// An f16 in all lanes. The vector pipes are busy with codes: a normal number becomes an f32 beside them.
#[inline(always)]
unsafe fn splat<I: Isa>(isa: I, half: Half) -> I::F32 {
    let bits = u16::from_le_bytes(half.0);
    match bits & 0x7c00 {
        0 | 0x7c00 => isa.splat_f16(bits),
        _ => {
            let moved = (i32::from(bits.cast_signed()) << 13).cast_unsigned() & 0x8fff_e000;
            isa.splat(f32::from_bits(moved + ((127 - 15) << 23)))
        }
    }
}

/// Of sixteen bytes the low four bits, and the high.
#[inline(always)]
unsafe fn nibbles<I: Isa>(isa: I, bytes: *const u8) -> [I::I32; 2] {
    let bytes = isa.widen_u8(bytes);
    [isa.and_i32(bytes, 15), isa.shift_right(bytes, 4)]
}

/// Codes of five bits: sixteen bytes with four of each, and a word with the fifth bits of all.
#[inline(always)]
unsafe fn five_bits<I: Isa>(isa: I, low_codes: &[u8; 16], high_bits: [u8; 4]) -> [I::F32; 2] {
    let [low, high] = nibbles(isa, low_codes.as_ptr());
    let word = u32::from_le_bytes(high_bits);
    let fifth = [isa.shift_left(isa.fields::<1>(word), 4), isa.shift_left(isa.fields::<1>(word >> 16), 4)];
    [isa.to_f32(isa.add_i32(low, fifth[0])), isa.to_f32(isa.add_i32(high, fifth[1]))]
}

#[inline(always)]
unsafe fn store_both<I: Isa>(isa: I, out: *mut f32, values: [I::F32; 2]) {
    isa.store(out, values[0]);
    isa.store(out.add(16), values[1]);
}

/// Stores `code · d` for 32 signed bytes.
#[inline(always)]
unsafe fn store_codes<I: Isa>(isa: I, out: *mut f32, codes: &[i8; 32], d: Half) {
    let (codes, d) = (codes.as_ptr(), splat(isa, d));
    store_both(isa, out, [isa.mul(isa.load_i8(codes), d), isa.mul(isa.load_i8(codes.add(16)), d)]);
}

// SAFETY: here and below, sixteen values at a time, as many as the block has, from loads that end in their field.
unsafe impl Decode for BlockQ8_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        store_codes(isa, out, &block.codes, block.d);
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ8_1 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        store_codes(isa, out, &block.codes, block.d);
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ4_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let (d, eight) = (splat(isa, block.d), isa.splat(8.0));
        let [low, high] = nibbles(isa, block.codes.as_ptr());
        let [low, high] = [isa.sub(isa.to_f32(low), eight), isa.sub(isa.to_f32(high), eight)];
        store_both(isa, out, [isa.mul(low, d), isa.mul(high, d)]);
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ4_1 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let (d, m) = (splat(isa, block.d), splat(isa, block.m));
        let [low, high] = nibbles(isa, block.codes.as_ptr());
        let [low, high] = [isa.mul(isa.to_f32(low), d), isa.mul(isa.to_f32(high), d)];
        store_both(isa, out, [isa.add(low, m), isa.add(high, m)]);
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ5_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let (d, sixteen) = (splat(isa, block.d), isa.splat(16.0));
        let [low, high] = five_bits(isa, &block.low_codes, block.high_bits);
        store_both(isa, out, [isa.mul(isa.sub(low, sixteen), d), isa.mul(isa.sub(high, sixteen), d)]);
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ5_1 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let (d, m) = (splat(isa, block.d), splat(isa, block.m));
        let [low, high] = five_bits(isa, &block.low_codes, block.high_bits);
        store_both(isa, out, [isa.add(isa.mul(low, d), m), isa.add(isa.mul(high, d), m)]);
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockIQ4NL {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let d = splat(isa, block.d);
        let [low, high] = isa.load_levels(&IQ4_LEVELS, block.codes.as_ptr());
        store_both(isa, out, [isa.mul(low, d), isa.mul(high, d)]);
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockMXFP4 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let scale = isa.splat(block.scale());
        let [low, high] = isa.load_levels(&E2M1_LEVELS, block.codes.as_ptr());
        store_both(isa, out, [isa.mul(low, scale), isa.mul(high, scale)]);
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockNVFP4 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        for pair in 0..2 {
            // Of each eight bytes the low four bits, then the high, are sixteen elements. Both come to lie in low four bits;
            // what else is shifted is not looked at.
            let bytes = u128::from_le_bytes(*block.codes.as_ptr().add(16 * pair).cast::<[u8; 16]>());
            for half in 0..2 {
                let eight = u128::from((bytes >> (64 * half)) as u64);
                let codes = (eight | eight << 60).to_le_bytes();
                let [levels, _] = isa.load_levels(&E2M1_LEVELS, codes.as_ptr());
                let scale = isa.splat(block.scale(2 * pair + half));
                isa.store(out.add(32 * pair + 16 * half), isa.mul(levels, scale));
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ1_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let (d, two, minus_one) = (splat(isa, block.d), isa.splat(2.0), isa.splat(-1.0));
        for sixteen in 0..8 {
            let word = u16::from_le_bytes([block.bits[2 * sixteen], block.bits[2 * sixteen + 1]]);
            let sign = isa.fma(isa.to_f32(isa.fields::<1>(word.into())), two, minus_one);
            isa.store(out.add(16 * sixteen), isa.mul(sign, d));
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ2_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let (d, one) = (splat(isa, block.d), isa.splat(1.0));
        for sixteen in 0..4 {
            let word = u32::from_le_bytes(*block.codes.as_ptr().add(4 * sixteen).cast::<[u8; 4]>());
            let code = isa.to_f32(isa.fields::<2>(word));
            isa.store(out.add(16 * sixteen), isa.mul(isa.sub(code, one), d));
        }
    }
}
