//! Sixteen-lane SIMD, one thin implementation for each instruction set.
//!
//! Kernels are written once over [`Isa`] and inlined into entry points compiled for the instruction set. A value of an
//! `Isa` type is the proof that the processor has it: the only ways to get one are the `detect` functions.

#![expect(unsafe_op_in_unsafe_fn, reason = "every line of an Isa method is an intrinsic under the trait's contract")]

use tensor::format::Half;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod byte_matrix;
pub(crate) mod interleave;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
#[cfg(test)]
mod tests;

/// How codes of weights are multiplied with many rows: see `kernels/codes/bytes.rs`.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "no architecture has instruction sets for all of them")]
pub(crate) enum ManyRows {
    /// Taken apart in each tile.
    Packed,
    /// Written out once, as they are.
    Codes,
    /// Written out once as bytes of one layout, where the size of unsigned codes does not matter.
    Bytes,
}

/// Sixteen f32 or i32 lanes, and 64 bytes seen as four for each lane.
///
/// # Safety
/// Methods may only be called inside a function compiled for the instruction set (or inlined into one), and pointers
/// must be valid for the lanes they read or write; no alignment is asked for.
pub(crate) unsafe trait Isa: Copy + Send + Sync + 'static {
    /// Sixteen f32.
    type F32: Copy;
    /// Sixteen i32.
    type I32: Copy;
    /// Sixty-four bytes.
    type U8: Copy;

    /// What [`Isa::dot_biased`] expects its accumulator to have been lowered by, for each unit of activation sum:
    /// 128 where bytes enter as unsigned, 0 where they are made signed first.
    const BYTE_BIAS: i32;
    /// Whether products of bytes have 16 bits, so that it pays to sum several quads before they are widened.
    const NARROW: bool = false;
    /// How codes of weights are multiplied with many rows.
    const MANY_ROWS: ManyRows = ManyRows::Packed;
    /// Rows of activations in a tile with one group of sixteen weight rows that serves many.
    const TILE_ROWS: usize;
    /// Groups of sixteen weight rows in a tile: two where there are registers for four rows with both.
    const TILE_GROUPS: usize;

    unsafe fn splat(self, value: f32) -> Self::F32;
    /// The f16 of these bits, everywhere.
    unsafe fn splat_f16(self, bits: u16) -> Self::F32 {
        self.splat(Half(bits.to_le_bytes()).to_f32())
    }
    unsafe fn load(self, from: *const f32) -> Self::F32;
    unsafe fn store(self, to: *mut f32, value: Self::F32);
    unsafe fn load_f16(self, from: *const u16) -> Self::F32;
    unsafe fn store_f16(self, to: *mut u16, value: Self::F32);
    unsafe fn load_bf16(self, from: *const u16) -> Self::F32;
    /// Sixteen unsigned bytes as f32.
    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> Self::F32 {
        self.to_f32(self.widen_u8(from))
    }
    /// Sixteen signed bytes as f32.
    unsafe fn load_i8(self, from: *const i8) -> Self::F32;
    /// Of sixteen bytes the low and the high four bits, as the number of `levels` at that place.
    unsafe fn load_levels(self, levels: &[i8; 16], from: *const u8) -> [Self::F32; 2];
    unsafe fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    unsafe fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    unsafe fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    unsafe fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b + c`, rounded once where the instruction set has it.
    unsafe fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    unsafe fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    unsafe fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    unsafe fn abs(self, a: Self::F32) -> Self::F32;
    /// `a` in the lanes whose bits in `mask` are set, `b` in the others.
    unsafe fn choose(self, mask: u16, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Sum of the lanes, always in the same tree: halves added until one is left.
    unsafe fn sum(self, a: Self::F32) -> f32;
    unsafe fn largest(self, a: Self::F32) -> f32;
    /// Nearest integer, ties to even.
    unsafe fn round(self, a: Self::F32) -> Self::I32;
    unsafe fn to_f32(self, a: Self::I32) -> Self::F32;
    /// `2^a` for whole `a` in -126..=127, from the bits of the exponent.
    unsafe fn exp2_int(self, a: Self::I32) -> Self::F32;

    unsafe fn splat_i32(self, value: i32) -> Self::I32;
    unsafe fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    unsafe fn sum_i32(self, a: Self::I32) -> i32;
    /// Sixteen unsigned bytes.
    unsafe fn widen_u8(self, from: *const u8) -> Self::I32;
    unsafe fn and_i32(self, a: Self::I32, mask: i32) -> Self::I32;
    /// By fewer than 32 bits.
    unsafe fn shift_left(self, a: Self::I32, bits: u32) -> Self::I32;
    /// By fewer than 32 bits, with zeros from above.
    unsafe fn shift_right(self, a: Self::I32, bits: u32) -> Self::I32;
    /// Fields of `WIDTH` bits, 1 or 2, the lowest in the first lane.
    unsafe fn fields<const WIDTH: u32>(self, word: u32) -> Self::I32;
    /// The low byte of each lane.
    unsafe fn store_i8(self, to: *mut i8, value: Self::I32);
    /// The sums of sixteen codes and of the sixteen behind them.
    unsafe fn sum_codes(self, codes: *const i8) -> [i32; 2];

    unsafe fn load_bytes(self, from: *const u8) -> Self::U8;
    /// The low four bits of each byte.
    unsafe fn low_nibbles(self, a: Self::U8) -> Self::U8;
    /// The high four bits of each byte.
    unsafe fn high_nibbles(self, a: Self::U8) -> Self::U8;
    /// The same byte everywhere.
    unsafe fn splat_bytes(self, byte: u8) -> Self::U8;
    /// Bits `SHIFT` and `SHIFT + 1` of each byte.
    unsafe fn two_bits<const SHIFT: u32>(self, a: Self::U8) -> Self::U8;
    /// For each byte, which is below 16, the byte of `table` at that place.
    unsafe fn lookup(self, table: &[u8; 16], a: Self::U8) -> Self::U8;
    /// Adds `amount` to each byte whose bit in `mask` is set (byte 0 is bit 0).
    unsafe fn add_where(self, a: Self::U8, mask: u64, amount: u8) -> Self::U8;
    /// `a | ((high >> SHIFT) & 3) << 4` for each byte.
    unsafe fn or_two_bits<const SHIFT: u32>(self, a: Self::U8, high: Self::U8) -> Self::U8;
    /// For each lane: `acc + Σ weights[4·lane + i] · quad[i]`, weights unsigned and at most 127, quad four signed bytes.
    unsafe fn dot(self, acc: Self::I32, weights: Self::U8, quad: i32) -> Self::I32;
    /// As [`Isa::dot`] for bytes stored as value + 128: the accumulator starts at `-BYTE_BIAS · Σ quad`.
    unsafe fn dot_biased(self, acc: Self::I32, weights: Self::U8, quad: i32) -> Self::I32;
    /// As [`Isa::dot`] the other way round: the vector has signed bytes, the quad unsigned ones of at most 127.
    unsafe fn dot_signed(self, acc: Self::I32, codes: Self::U8, quad: i32) -> Self::I32;
    /// As [`Isa::dot`], but where products are [`NARROW`](Isa::NARROW), a lane keeps two sums of 16 bits: `254 · Σ` of the
    /// largest weight of each call must stay below 2^15.
    #[inline(always)]
    unsafe fn add_products(self, sum: Self::I32, weights: Self::U8, quad: i32) -> Self::I32 {
        self.dot(sum, weights, quad)
    }
    /// Adds what [`Isa::add_products`] came to.
    #[inline(always)]
    unsafe fn widen(self, acc: Self::I32, sum: Self::I32) -> Self::I32 {
        self.add_i32(acc, sum)
    }
    /// The same sum, computed here: where registers are few, compilers that put sums off run out of them.
    #[inline(always)]
    unsafe fn settled(self, sum: Self::I32) -> Self::I32 {
        sum
    }
    /// Hints that the line at `from` is wanted soon.
    unsafe fn prefetch(self, from: *const u8);
    /// Hints that the line at `to` will be written soon: other cores give it up meanwhile.
    unsafe fn prefetch_to_write(self, to: *const u8);
    /// Hints that the line at `from` is wanted in the second-level cache, where that was seen to help.
    #[inline(always)]
    unsafe fn prefetch_far(self, _from: *const u8) {}
}

/// The instruction sets this build can use, best first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    /// AVX-512 F, BW, DQ, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(avx512::Avx512Vnni),
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    /// AVX2, FMA, F16C and AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx2Vnni(avx2::Avx2Vnni),
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// NEON with DotProd and I8MM.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(neon::NeonI8mm),
    /// NEON with DotProd.
    #[cfg(target_arch = "aarch64")]
    NeonDot(neon::NeonDot),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
    /// Plain Rust.
    Portable(portable::Portable),
}

/// Which instruction set to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsaChoice {
    /// The best the processor has.
    Best,
    /// AVX-512 without VNNI, AVX2 or portable.
    WithoutVnni,
    /// AVX2 or portable.
    AtMostAvx2,
    /// Plain Rust.
    Portable,
}

impl Level {
    /// The best instruction set within `choice` that this processor has.
    pub(crate) fn detect(choice: IsaChoice) -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            if choice == IsaChoice::Best
                && let Some(isa) = avx512::Avx512Vnni::detect()
            {
                return Level::Avx512Vnni(isa);
            }
            if matches!(choice, IsaChoice::Best | IsaChoice::WithoutVnni)
                && let Some(isa) = avx512::Avx512::detect()
            {
                return Level::Avx512(isa);
            }
            if choice == IsaChoice::Best
                && let Some(isa) = avx2::Avx2Vnni::detect()
            {
                return Level::Avx2Vnni(isa);
            }
            if choice != IsaChoice::Portable
                && let Some(isa) = avx2::Avx2::detect()
            {
                return Level::Avx2(isa);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if choice == IsaChoice::Best {
            if let Some(isa) = neon::NeonI8mm::detect() {
                return Level::NeonI8mm(isa);
            }
            if let Some(isa) = neon::NeonDot::detect() {
                return Level::NeonDot(isa);
            }
            if let Some(isa) = neon::Neon::detect() {
                return Level::Neon(isa);
            }
        }
        let _ = choice;
        Level::Portable(portable::Portable)
    }

    /// What the choices come to on this processor, each once, and AVX-VNNI where AVX-512 is preferred to it.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Level> {
        let choices = [IsaChoice::Best, IsaChoice::WithoutVnni, IsaChoice::AtMostAvx2, IsaChoice::Portable];
        let mut levels: Vec<Level> = choices.map(Level::detect).into();
        #[cfg(target_arch = "x86_64")]
        levels.extend(avx2::Avx2Vnni::detect().map(Level::Avx2Vnni));
        let mut names = std::collections::HashSet::new();
        levels.retain(|level| names.insert(level.name()));
        levels
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni(_) => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Vnni(_) => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm(_) => "NEON I8MM",
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot(_) => "NEON DotProd",
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => "NEON",
            Level::Portable(_) => "portable",
        }
    }
}
