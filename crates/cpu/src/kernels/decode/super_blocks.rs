//! Blocks of 256 elements with codes of their own, whose scales are multiples of the block's.

use tensor::format::{
    BlockIQ4XS, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, BlockQ8K, BlockTQ1_0, BlockTQ2_0, Half, IQ4_LEVELS,
    SixBitPairs,
};

use super::{Aligned, Decode};
use crate::arch::Isa;

/// Numbers that are splat one by one: out of memory, since the vector pipes are busy with codes.
type Sixteen = Aligned<[f32; 16]>;

/// `unit` times each number.
#[inline(always)]
unsafe fn multiples<I: Isa>(isa: I, unit: Half, numbers: I::F32) -> Sixteen {
    let mut multiples = Aligned([0.0; 16]);
    isa.store(multiples.0.as_mut_ptr(), isa.mul(isa.splat(unit.to_f32()), numbers));
    multiples
}

/// The scales and the minimums of Q4_K and Q5_K.
#[inline(always)]
unsafe fn lines<I: Isa>(isa: I, d: Half, dmin: Half, packed: &SixBitPairs) -> [Sixteen; 2] {
    let (mut scales, mut mins) = ([0; 16], [0; 16]);
    for sub_block in 0..8 {
        (scales[sub_block], mins[sub_block]) = packed.get(sub_block);
    }
    [multiples(isa, d, isa.load_u8(scales.as_ptr())), multiples(isa, dmin, isa.load_u8(mins.as_ptr()))]
}

/// Stores `scale · code - min`.
#[inline(always)]
unsafe fn store_line<I: Isa>(isa: I, out: *mut f32, code: I::I32, scale: f32, min: f32) {
    let product = isa.mul(isa.splat(scale), isa.to_f32(code));
    isa.store(out, isa.sub(product, isa.splat(min)));
}

/// Stores `scale · (code - zero)`.
#[inline(always)]
unsafe fn store_around<I: Isa>(isa: I, out: *mut f32, code: I::I32, zero: f32, scale: f32) {
    isa.store(out, isa.mul(isa.splat(scale), isa.sub(isa.to_f32(code), isa.splat(zero))));
}

/// The two bits of each byte from `bits` on.
#[inline(always)]
unsafe fn bit_pair<I: Isa>(isa: I, bytes: I::I32, bits: usize) -> I::I32 {
    isa.and_i32(isa.shift_right(bytes, bits as u32), 3)
}

// SAFETY: here and below, sixteen values at a time, as many as the block has, from loads that end in their field.
unsafe impl Decode for BlockQ2K {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let both = isa.widen_u8(block.scales_and_mins.as_ptr());
        let scales = multiples(isa, block.d, isa.to_f32(isa.and_i32(both, 15)));
        let mins = multiples(isa, block.dmin, isa.to_f32(isa.shift_right(both, 4)));
        for half in 0..2 {
            for at in 0..2 {
                let bytes = isa.widen_u8(block.codes.as_ptr().add(32 * half + 16 * at));
                for run in 0..4 {
                    let sub_block = 8 * half + 2 * run + at;
                    let code = bit_pair(isa, bytes, 2 * run);
                    store_line(isa, out.add(16 * sub_block), code, scales.0[sub_block], mins.0[sub_block]);
                }
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ3K {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let mut scales = [0; 16];
        for sub_block in 0..16 {
            scales[sub_block] = block.scale(sub_block);
        }
        let scales = multiples(isa, block.d, isa.load_i8(scales.as_ptr()));
        for at in 0..2 {
            let high = isa.widen_u8(block.high_bits.as_ptr().add(16 * at));
            for half in 0..2 {
                let bytes = isa.widen_u8(block.low_codes.as_ptr().add(32 * half + 16 * at));
                for run in 0..4 {
                    let third = isa.and_i32(isa.shift_right(high, (4 * half + run) as u32), 1);
                    let code = isa.add_i32(bit_pair(isa, bytes, 2 * run), isa.shift_left(third, 2));
                    let sub_block = 8 * half + 2 * run + at;
                    store_around(isa, out.add(16 * sub_block), code, 4.0, scales.0[sub_block]);
                }
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ4K {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let [scales, mins] = lines(isa, block.d, block.dmin, &block.scales_and_mins);
        for pair in 0..4 {
            for at in [0, 16] {
                let bytes = isa.widen_u8(block.codes.as_ptr().add(32 * pair + at));
                for half in 0..2 {
                    let sub_block = 2 * pair + half;
                    let code = isa.and_i32(isa.shift_right(bytes, 4 * half as u32), 15);
                    store_line(isa, out.add(32 * sub_block + at), code, scales.0[sub_block], mins.0[sub_block]);
                }
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ5K {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let [scales, mins] = lines(isa, block.d, block.dmin, &block.scales_and_mins);
        for at in [0, 16] {
            let high = isa.widen_u8(block.high_bits.as_ptr().add(at));
            for pair in 0..4 {
                let bytes = isa.widen_u8(block.low_codes.as_ptr().add(32 * pair + at));
                for half in 0..2 {
                    let sub_block = 2 * pair + half;
                    let low = isa.and_i32(isa.shift_right(bytes, 4 * half as u32), 15);
                    let fifth = isa.and_i32(isa.shift_right(high, sub_block as u32), 1);
                    let code = isa.add_i32(low, isa.shift_left(fifth, 4));
                    store_line(isa, out.add(32 * sub_block + at), code, scales.0[sub_block], mins.0[sub_block]);
                }
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ6K {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let scales = multiples(isa, block.d, isa.load_i8(block.scales.as_ptr()));
        for half in 0..2 {
            for at in 0..2 {
                // Four runs of 32 elements: their upper bits share bytes, two and two of them share nibbles.
                let upper = isa.widen_u8(block.high_bits.as_ptr().add(32 * half + 16 * at));
                let bytes = block.low_codes.as_ptr().add(64 * half + 16 * at);
                let low = [isa.widen_u8(bytes), isa.widen_u8(bytes.add(32))];
                for run in 0..4 {
                    let nibble = isa.and_i32(isa.shift_right(low[run % 2], 4 * (run / 2) as u32), 15);
                    let code = isa.add_i32(nibble, isa.shift_left(bit_pair(isa, upper, 2 * run), 4));
                    let sub_block = 8 * half + 2 * run + at;
                    store_around(isa, out.add(16 * sub_block), code, 32.0, scales.0[sub_block]);
                }
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockQ8K {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let d = isa.splat(f32::from_le_bytes(block.d));
        for at in (0..256).step_by(16) {
            isa.store(out.add(at), isa.mul(d, isa.load_i8(block.codes.as_ptr().add(at))));
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockIQ4XS {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let d = block.d.to_f32();
        for sub_block in 0..8 {
            let scale = isa.splat(d * f32::from(block.scale(sub_block)));
            let [low, high] = isa.load_levels(&IQ4_LEVELS, block.codes.as_ptr().add(16 * sub_block));
            isa.store(out.add(32 * sub_block), isa.mul(scale, low));
            isa.store(out.add(32 * sub_block + 16), isa.mul(scale, high));
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockTQ2_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let d = block.d.to_f32();
        for half in 0..2 {
            for at in 0..2 {
                let bytes = isa.widen_u8(block.codes.as_ptr().add(32 * half + 16 * at));
                for run in 0..4 {
                    let code = bit_pair(isa, bytes, 2 * run);
                    store_around(isa, out.add(128 * half + 32 * run + 16 * at), code, 1.0, d);
                }
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Decode for BlockTQ1_0 {
    #[inline(always)]
    unsafe fn decode_with<I: Isa>(isa: I, block: &Self, out: *mut f32) {
        let d = block.d.to_f32();
        // Where sixteen bytes with five digits begin, where their first digits go, and from digit to digit.
        for (at, first, step) in [(0, 0, 32), (16, 16, 32), (32, 160, 16)] {
            let mut fraction = isa.widen_u8(block.fives.as_ptr().add(at));
            for digit in 0..5 {
                let tripled = isa.add_i32(isa.add_i32(fraction, fraction), fraction);
                store_around(isa, out.add(first + step * digit), isa.shift_right(tripled, 8), 1.0, d);
                fraction = isa.and_i32(tripled, 255);
            }
        }
        // Four bytes with four digits: each digit of all, one after the other.
        let mut fractions = [0; 16];
        for digit in 0..4 {
            for byte in 0..4 {
                fractions[4 * digit + byte] = block.fours[byte].wrapping_mul([1, 3, 9, 27][digit]);
            }
        }
        let fraction = isa.widen_u8(fractions.as_ptr());
        let tripled = isa.add_i32(isa.add_i32(fraction, fraction), fraction);
        store_around(isa, out.add(240), isa.shift_right(tripled, 8), 1.0, d);
    }
}
