//! Plain Rust over arrays, which every target's compiler turns into the vectors it has.

use half::{bf16, f16};

use super::Isa;

/// Needs no proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

#[inline(always)]
fn zip<T: Copy, R>(a: [T; 16], b: [T; 16], f: impl Fn(T, T) -> R) -> [R; 16] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// Halves combined until one lane is left: the tree that every instruction set uses.
#[inline(always)]
fn tree<T: Copy>(mut lanes: [T; 16], f: impl Fn(T, T) -> T) -> T {
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
unsafe fn array<T: Copy, const N: usize>(from: *const T) -> [T; N] {
    from.cast::<[T; N]>().read_unaligned()
}

#[inline(always)]
fn dot_offset(mut acc: [i32; 16], weights: [u8; 64], quad: i32, offset: i32) -> [i32; 16] {
    let a = quad.to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
    for (lane, sum) in acc.iter_mut().enumerate() {
        for (i, value) in a.iter().enumerate() {
            *sum += (i32::from(weights[4 * lane + i]) - offset) * value;
        }
    }
    acc
}

// SAFETY: plain arithmetic; pointers are the caller's promise.
unsafe impl Isa for Portable {
    type F32 = [f32; 16];
    type I32 = [i32; 16];
    type U8 = [u8; 64];

    const BYTE_BIAS: i32 = 0;
    const TILE_ROWS: usize = 2;
    const TILE_GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> [f32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; 16] {
        array(from)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: [f32; 16]) {
        to.cast::<[f32; 16]>().write_unaligned(value);
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> [f32; 16] {
        array::<u16, 16>(from).map(|bits| f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, value: [f32; 16]) {
        to.cast::<[u16; 16]>().write_unaligned(value.map(|v| f16::from_f32(v).to_bits()));
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> [f32; 16] {
        array::<u16, 16>(from).map(|bits| bf16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> [f32; 16] {
        array::<i8, 16>(from).map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_levels(self, levels: &[i8; 16], from: *const u8) -> [[f32; 16]; 2] {
        let bytes = array::<u8, 16>(from);
        [0, 4].map(|shift| bytes.map(|byte| f32::from(levels[usize::from(byte >> shift & 15)])))
    }
    #[inline(always)]
    unsafe fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn fma(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        // Rounded twice: a fused multiply-add without the instruction is a library call for every lane.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn abs(self, a: [f32; 16]) -> [f32; 16] {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn choose(self, mask: u16, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| if mask >> i & 1 == 1 { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn sum(self, a: [f32; 16]) -> f32 {
        tree(a, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn largest(self, a: [f32; 16]) -> f32 {
        tree(a, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "callers keep the values within i32")]
    unsafe fn round(self, a: [f32; 16]) -> [i32; 16] {
        a.map(|v| v.round_ties_even() as i32)
    }
    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "rounds as the vector instruction does")]
    unsafe fn to_f32(self, a: [i32; 16]) -> [f32; 16] {
        a.map(|v| v as f32)
    }
    #[inline(always)]
    unsafe fn exp2_int(self, a: [i32; 16]) -> [f32; 16] {
        a.map(|v| f32::from_bits((v + 127).cast_unsigned() << 23))
    }

    #[inline(always)]
    unsafe fn splat_i32(self, value: i32) -> [i32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn add_i32(self, a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sum_i32(self, a: [i32; 16]) -> i32 {
        a.iter().sum()
    }
    #[inline(always)]
    unsafe fn widen_u8(self, from: *const u8) -> [i32; 16] {
        array::<u8, 16>(from).map(i32::from)
    }
    #[inline(always)]
    unsafe fn and_i32(self, a: [i32; 16], mask: i32) -> [i32; 16] {
        a.map(|lane| lane & mask)
    }
    #[inline(always)]
    unsafe fn shift_left(self, a: [i32; 16], bits: u32) -> [i32; 16] {
        a.map(|lane| lane << bits)
    }
    #[inline(always)]
    unsafe fn shift_right(self, a: [i32; 16], bits: u32) -> [i32; 16] {
        a.map(|lane| (lane.cast_unsigned() >> bits).cast_signed())
    }
    #[inline(always)]
    unsafe fn fields<const WIDTH: u32>(self, word: u32) -> [i32; 16] {
        std::array::from_fn(|lane| (word >> (WIDTH as usize * lane) & ((1 << WIDTH) - 1)).cast_signed())
    }
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low byte is what is asked for")]
    unsafe fn store_i8(self, to: *mut i8, value: [i32; 16]) {
        to.cast::<[i8; 16]>().write_unaligned(value.map(|v| v as i8));
    }
    #[inline(always)]
    unsafe fn sum_codes(self, codes: *const i8) -> [i32; 2] {
        codes.cast::<[[i8; 16]; 2]>().read_unaligned().map(|codes| codes.into_iter().map(i32::from).sum())
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> [u8; 64] {
        array(from)
    }
    #[inline(always)]
    unsafe fn low_nibbles(self, a: [u8; 64]) -> [u8; 64] {
        a.map(|byte| byte & 15)
    }
    #[inline(always)]
    unsafe fn high_nibbles(self, a: [u8; 64]) -> [u8; 64] {
        a.map(|byte| byte >> 4)
    }
    #[inline(always)]
    unsafe fn splat_bytes(self, byte: u8) -> [u8; 64] {
        [byte; 64]
    }
    #[inline(always)]
    unsafe fn two_bits<const SHIFT: u32>(self, a: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| a[i] >> SHIFT & 3)
    }
    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16], a: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| table[usize::from(a[i] & 15)])
    }
    #[inline(always)]
    unsafe fn add_where(self, mut a: [u8; 64], mask: u64, amount: u8) -> [u8; 64] {
        for (i, byte) in a.iter_mut().enumerate() {
            *byte += if mask >> i & 1 == 1 { amount } else { 0 };
        }
        a
    }
    #[inline(always)]
    unsafe fn or_two_bits<const SHIFT: u32>(self, a: [u8; 64], high: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| a[i] | (high[i] >> SHIFT & 3) << 4)
    }
    #[inline(always)]
    unsafe fn dot(self, acc: [i32; 16], weights: [u8; 64], quad: i32) -> [i32; 16] {
        dot_offset(acc, weights, quad, 0)
    }
    #[inline(always)]
    unsafe fn dot_biased(self, acc: [i32; 16], weights: [u8; 64], quad: i32) -> [i32; 16] {
        dot_offset(acc, weights, quad, 128)
    }
    #[inline(always)]
    unsafe fn dot_signed(self, mut acc: [i32; 16], codes: [u8; 64], quad: i32) -> [i32; 16] {
        let shares = quad.to_le_bytes().map(i32::from);
        for (lane, sum) in acc.iter_mut().enumerate() {
            for (i, share) in shares.iter().enumerate() {
                *sum += i32::from(codes[4 * lane + i].cast_signed()) * share;
            }
        }
        acc
    }
    #[inline(always)]
    unsafe fn prefetch(self, _from: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_to_write(self, _to: *const u8) {}
}
