//! Every method of every instruction set that this processor has, against scalar arithmetic bit for bit.

#[cfg(target_arch = "aarch64")]
mod byte_matrix;

use half::{bf16, f16};
use testkit::Random;

use super::{Isa, IsaChoice, Level, portable};

/// For lookups: no order, and up to the 127 that a dot may have.
const TABLE: [u8; 16] = [5, 127, 0, 99, 1, 64, 33, 2, 126, 17, 80, 3, 8, 120, 61, 40];

/// For lookups of signed numbers.
const LEVELS: [i8; 16] = [0, -128, 127, 3, -1, 44, -99, 12, 100, 9, -8, 64, -33, 1, 90, -5];

/// What the methods are given.
struct Input {
    /// Any f32.
    floats: [[f32; 16]; 3],
    /// Finite f32.
    finite: [f32; 16],
    /// Whole numbers below 2^22 in magnitude, exact in f32.
    whole: [[i32; 16]; 2],
    /// f32 that round to such numbers, half of them from the middle between two.
    fractions: [f32; 16],
    /// -126..=127.
    exponents: [i32; 16],
    /// Any sixteen bits, read as f16 and as bf16.
    halves: [u16; 16],
    /// f32 on and around the borders between neighbouring f16.
    near_halves: [f32; 16],
    bytes: [u8; 64],
    upper_bits: [u8; 64],
    mask: u64,
    /// -127..=127, as activation codes are.
    quad: [i8; 4],
}

/// A method's name and its sixteen lanes. Sums stand in all lanes, integers are exact in f32.
type Results = Vec<(&'static str, [f32; 16])>;

/// [`operations`] compiled for an instruction set that the processor has.
struct Compiled {
    name: &'static str,
    /// Multiply-adds round once.
    fused: bool,
    run: unsafe fn(&Input) -> Results,
}

macro_rules! compiled {
    ($name:ident, $make:expr $(, $features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn $name(input: &Input) -> Results {
            // SAFETY: the caller has a proof that the processor has the features.
            unsafe { operations($make, input) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
#[cfg(target_arch = "x86_64")]
compiled!(on_avx512_vnni, avx512::Avx512Vnni::assume(), "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
compiled!(on_avx512, avx512::Avx512::assume(), "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
compiled!(on_avx2_vnni, avx2::Avx2Vnni::assume(), "avxvnni,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
compiled!(on_avx2, avx2::Avx2::assume(), "avx2,fma,f16c");
#[cfg(target_arch = "aarch64")]
compiled!(on_neon_i8mm, super::neon::NeonI8mm::assume(), "neon,dotprod,i8mm");
#[cfg(target_arch = "aarch64")]
compiled!(on_neon_dot, super::neon::NeonDot::assume(), "neon,dotprod");
#[cfg(target_arch = "aarch64")]
compiled!(on_neon, super::neon::Neon::assume(), "neon");
compiled!(on_portable, portable::Portable);

fn compiled() -> Vec<Compiled> {
    let mut sets = vec![Compiled { name: "portable", fused: false, run: on_portable }];
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::Avx512Vnni::detect().is_some() {
            sets.push(Compiled { name: "AVX-512 VNNI", fused: true, run: on_avx512_vnni });
        }
        if avx512::Avx512::detect().is_some() {
            sets.push(Compiled { name: "AVX-512", fused: true, run: on_avx512 });
        }
        if avx2::Avx2Vnni::detect().is_some() {
            sets.push(Compiled { name: "AVX-VNNI", fused: true, run: on_avx2_vnni });
        }
        if avx2::Avx2::detect().is_some() {
            sets.push(Compiled { name: "AVX2", fused: true, run: on_avx2 });
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        if super::neon::NeonI8mm::detect().is_some() {
            sets.push(Compiled { name: "NEON I8MM", fused: true, run: on_neon_i8mm });
        }
        if super::neon::NeonDot::detect().is_some() {
            sets.push(Compiled { name: "NEON DotProd", fused: true, run: on_neon_dot });
        }
        if super::neon::Neon::detect().is_some() {
            sets.push(Compiled { name: "NEON", fused: true, run: on_neon });
        }
    }
    sets
}

/// What `isa` makes of the input, in the order of [`expected`].
#[inline(always)]
unsafe fn operations<I: Isa>(isa: I, input: &Input) -> Results {
    let [a, b, c] = [0, 1, 2].map(|at| isa.load(input.floats[at].as_ptr()));
    let finite = isa.load(input.finite.as_ptr());
    let mut results = vec![
        ("splat", stored(isa, isa.splat(input.finite[0]))),
        ("splat_f16", stored(isa, isa.splat_f16(input.halves[0]))),
        ("load_f16", stored(isa, isa.load_f16(input.halves.as_ptr()))),
        ("store_f16", stored_f16(isa, isa.load(input.near_halves.as_ptr()))),
        ("load_bf16", stored(isa, isa.load_bf16(input.halves.as_ptr()))),
        ("load_u8", stored(isa, isa.load_u8(input.bytes.as_ptr()))),
        ("load_levels, low", stored(isa, isa.load_levels(&LEVELS, input.bytes.as_ptr())[0])),
        ("load_levels, high", stored(isa, isa.load_levels(&LEVELS, input.bytes.as_ptr())[1])),
        ("load_i8", stored(isa, isa.load_i8(input.bytes.as_ptr().cast()))),
        ("add", stored(isa, isa.add(a, b))),
        ("sub", stored(isa, isa.sub(a, b))),
        ("mul", stored(isa, isa.mul(a, b))),
        ("div", stored(isa, isa.div(a, b))),
        ("fma", stored(isa, isa.fma(a, b, c))),
        ("max", stored(isa, isa.max(a, b))),
        ("min", stored(isa, isa.min(a, b))),
        ("abs", stored(isa, isa.abs(a))),
        ("choose", stored(isa, isa.choose(input.mask as u16, a, b))),
        ("sum", [isa.sum(finite); 16]),
        ("largest", [isa.largest(finite); 16]),
    ];
    let [whole, other] = input.whole.map(|numbers| isa.round(isa.load(numbers.map(|number| number as f32).as_ptr())));
    let exponents = isa.round(isa.load(input.exponents.map(|number| number as f32).as_ptr()));
    let [first, second] = isa.sum_codes(input.bytes.as_ptr().cast());
    results.extend([
        ("round", stored_i32(isa, isa.round(isa.load(input.fractions.as_ptr())))),
        ("to_f32", stored_i32(isa, whole)),
        ("exp2_int", stored(isa, isa.exp2_int(exponents))),
        ("splat_i32", stored_i32(isa, isa.splat_i32(input.whole[0][0]))),
        ("add_i32", stored_i32(isa, isa.add_i32(whole, other))),
        ("sum_i32", [isa.sum_i32(whole) as f32; 16]),
        ("widen_u8", stored_i32(isa, isa.widen_u8(input.bytes.as_ptr()))),
        ("and_i32", stored_i32(isa, isa.and_i32(whole, input.whole[1][0]))),
        ("shift_left", stored_i32(isa, isa.shift_left(whole, 11))),
        ("shift_right", stored_i32(isa, isa.shift_right(whole, 8))),
        ("fields of one bit", stored_i32(isa, isa.fields::<1>(input.mask as u32))),
        ("fields of two bits", stored_i32(isa, isa.fields::<2>(input.mask as u32))),
        ("store_i8", stored_i8(isa, exponents)),
        ("sum_codes, first", [first as f32; 16]),
        ("sum_codes, second", [second as f32; 16]),
    ]);
    byte_operations(isa, input, whole, &mut results);
    results
}

/// 0..=127.
fn magnitude(value: i8) -> u8 {
    value.unsigned_abs().min(127)
}

#[inline(always)]
unsafe fn byte_operations<I: Isa>(isa: I, input: &Input, acc: I::I32, results: &mut Results) {
    let bytes = isa.load_bytes(input.bytes.as_ptr());
    let upper = isa.load_bytes(input.upper_bits.as_ptr());
    let small = isa.load_bytes(input.bytes.map(|byte| byte & 127).as_ptr());
    let (low, high) = (isa.low_nibbles(bytes), isa.high_nibbles(bytes));
    // An accumulator lowered for the bias, as the kernels start them.
    let sum: i32 = input.quad.iter().map(|&value| i32::from(value)).sum();
    let lowered = isa.add_i32(acc, isa.splat_i32(-I::BYTE_BIAS * sum));
    let quad = i32::from_le_bytes(input.quad.map(i8::cast_unsigned));
    let six_bits = isa.load_bytes(input.bytes.map(|byte| byte & 63).as_ptr());
    let once = isa.settled(isa.add_products(isa.splat_i32(0), six_bits, quad));
    let twice = isa.add_products(once, six_bits, quad);
    results.extend([
        ("add_products", stored_i32(isa, isa.settled(isa.widen(acc, twice)))),
        ("dot", stored_i32(isa, isa.dot(acc, small, quad))),
        ("dot_biased", stored_i32(isa, isa.dot_biased(lowered, bytes, quad))),
        ("dot_signed", stored_i32(isa, isa.dot_signed(acc, bytes, i32::from_le_bytes(input.quad.map(magnitude))))),
    ]);
    for (name, bytes) in [
        ("load_bytes", small),
        ("low_nibbles", low),
        ("high_nibbles", high),
        ("add_where", isa.add_where(low, input.mask, 16)),
        ("splat_bytes", isa.splat_bytes(77)),
        ("lookup", isa.lookup(&TABLE, low)),
        ("two_bits, 0", isa.two_bits::<0>(upper)),
        ("two_bits, 2", isa.two_bits::<2>(upper)),
        ("two_bits, 4", isa.two_bits::<4>(upper)),
        ("two_bits, 6", isa.two_bits::<6>(upper)),
        ("or_two_bits, 0", isa.or_two_bits::<0>(low, upper)),
        ("or_two_bits, 2", isa.or_two_bits::<2>(low, upper)),
        ("or_two_bits, 4", isa.or_two_bits::<4>(high, upper)),
        ("or_two_bits, 6", isa.or_two_bits::<6>(high, upper)),
    ] {
        // Bytes come out through a dot with a one and three zeros.
        for i in 0..4 {
            results.push((name, stored_i32(isa, isa.dot(isa.splat_i32(0), bytes, 1 << (8 * i)))));
        }
    }
    isa.prefetch(std::ptr::without_provenance(64));
    isa.prefetch_to_write(std::ptr::without_provenance(64));
    isa.prefetch_far(std::ptr::without_provenance(64));
}

#[inline(always)]
unsafe fn stored<I: Isa>(isa: I, value: I::F32) -> [f32; 16] {
    let mut lanes = [0.0; 16];
    isa.store(lanes.as_mut_ptr(), value);
    lanes
}

#[inline(always)]
unsafe fn stored_i32<I: Isa>(isa: I, value: I::I32) -> [f32; 16] {
    stored(isa, isa.to_f32(value))
}

#[inline(always)]
unsafe fn stored_i8<I: Isa>(isa: I, value: I::I32) -> [f32; 16] {
    let mut lanes = [0; 16];
    isa.store_i8(lanes.as_mut_ptr(), value);
    lanes.map(f32::from)
}

#[inline(always)]
unsafe fn stored_f16<I: Isa>(isa: I, value: I::F32) -> [f32; 16] {
    let mut lanes = [0; 16];
    isa.store_f16(lanes.as_mut_ptr(), value);
    lanes.map(|bits| f16::from_bits(bits).to_f32_const())
}

fn lanes<T>(of: impl FnMut(usize) -> T) -> [T; 16] {
    std::array::from_fn(of)
}

/// Halves combined until one lane is left.
fn tree(values: &[f32], combine: fn(f32, f32) -> f32) -> f32 {
    match values {
        [one] => *one,
        _ => {
            let (low, high) = values.split_at(values.len() / 2);
            let half: Vec<f32> = low.iter().zip(high).map(|(&x, &y)| combine(x, y)).collect();
            tree(&half, combine)
        }
    }
}

/// What the documentation of [`Isa`] says about the input.
fn expected(input: &Input, fused: bool) -> Results {
    let [a, b, c] = input.floats;
    let [whole, other] = input.whole;
    let larger = |x, y| if x > y { x } else { y };
    let sum_codes = |codes: &[u8]| codes.iter().map(|code| i32::from(code.cast_signed())).sum::<i32>() as f32;
    let mut results = vec![
        ("splat", [input.finite[0]; 16]),
        ("splat_f16", [f16::from_bits(input.halves[0]).to_f32_const(); 16]),
        ("load_f16", input.halves.map(|bits| f16::from_bits(bits).to_f32_const())),
        ("store_f16", input.near_halves.map(|value| f16::from_f32_const(value).to_f32_const())),
        ("load_bf16", input.halves.map(|bits| bf16::from_bits(bits).to_f32_const())),
        ("load_u8", lanes(|i| f32::from(input.bytes[i]))),
        ("load_levels, low", lanes(|i| f32::from(LEVELS[usize::from(input.bytes[i] & 15)]))),
        ("load_levels, high", lanes(|i| f32::from(LEVELS[usize::from(input.bytes[i] >> 4)]))),
        ("load_i8", lanes(|i| f32::from(input.bytes[i].cast_signed()))),
        ("add", lanes(|i| a[i] + b[i])),
        ("sub", lanes(|i| a[i] - b[i])),
        ("mul", lanes(|i| a[i] * b[i])),
        ("div", lanes(|i| a[i] / b[i])),
        ("fma", lanes(|i| if fused { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })),
        ("max", lanes(|i| larger(a[i], b[i]))),
        ("min", lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })),
        ("abs", a.map(f32::abs)),
        ("choose", lanes(|i| if input.mask >> i & 1 == 1 { a[i] } else { b[i] })),
        ("sum", [tree(&input.finite, |x, y| x + y); 16]),
        ("largest", [tree(&input.finite, larger); 16]),
        ("round", input.fractions.map(|value| value.round_ties_even() + 0.0)),
        ("to_f32", whole.map(|number| number as f32)),
        ("exp2_int", input.exponents.map(|exponent| 2.0f64.powi(exponent) as f32)),
        ("splat_i32", [whole[0] as f32; 16]),
        ("add_i32", lanes(|i| (whole[i] + other[i]) as f32)),
        ("sum_i32", [whole.iter().sum::<i32>() as f32; 16]),
        ("widen_u8", lanes(|i| f32::from(input.bytes[i]))),
        ("and_i32", lanes(|i| (whole[i] & other[0]) as f32)),
        ("shift_left", lanes(|i| (whole[i] << 11) as f32)),
        ("shift_right", lanes(|i| (whole[i].cast_unsigned() >> 8) as f32)),
        ("fields of one bit", lanes(|i| (input.mask >> i & 1) as f32)),
        ("fields of two bits", lanes(|i| (input.mask >> (2 * i) & 3) as f32)),
        ("store_i8", input.exponents.map(|number| number as f32)),
        ("sum_codes, first", [sum_codes(&input.bytes[..16]); 16]),
        ("sum_codes, second", [sum_codes(&input.bytes[16..32]); 16]),
    ];
    let dot = |quad: [i32; 4], weight: fn(u8) -> i32| {
        lanes(|lane| {
            let products = (0..4).map(|i| weight(input.bytes[4 * lane + i]) * quad[i]);
            (whole[lane] + products.sum::<i32>()) as f32
        })
    };
    let (quad, unsigned) = (input.quad.map(i32::from), input.quad.map(|value| i32::from(magnitude(value))));
    results.extend([
        ("add_products", dot(quad, |byte| 2 * i32::from(byte & 63))),
        ("dot", dot(quad, |byte| i32::from(byte & 127))),
        ("dot_biased", dot(quad, |byte| i32::from(byte) - 128)),
        ("dot_signed", dot(unsigned, |byte| i32::from(byte.cast_signed()))),
    ]);
    let mut bytes = |name, byte: &dyn Fn(usize) -> u8| {
        for i in 0..4 {
            results.push((name, lanes(|lane| f32::from(byte(4 * lane + i)))));
        }
    };
    let (given, upper) = (&input.bytes, &input.upper_bits);
    bytes("load_bytes", &|at| given[at] % 128);
    bytes("low_nibbles", &|at| given[at] % 16);
    bytes("high_nibbles", &|at| given[at] / 16);
    bytes("add_where", &|at| given[at] % 16 + if input.mask >> at & 1 == 1 { 16 } else { 0 });
    bytes("splat_bytes", &|_| 77);
    bytes("lookup", &|at| TABLE[usize::from(given[at] % 16)]);
    bytes("two_bits, 0", &|at| upper[at] % 4);
    bytes("two_bits, 2", &|at| upper[at] / 4 % 4);
    bytes("two_bits, 4", &|at| upper[at] / 16 % 4);
    bytes("two_bits, 6", &|at| upper[at] / 64);
    bytes("or_two_bits, 0", &|at| given[at] % 16 + upper[at] % 4 * 16);
    bytes("or_two_bits, 2", &|at| given[at] % 16 + upper[at] / 4 % 4 * 16);
    bytes("or_two_bits, 4", &|at| given[at] / 16 + upper[at] / 16 % 4 * 16);
    bytes("or_two_bits, 6", &|at| given[at] / 16 + upper[at] / 64 * 16);
    results
}

const SPECIAL: [f32; 8] =
    [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE / 4.0, -1.0];

fn finite(random: &mut Random) -> f32 {
    let magnitude = 2.0f32.powi(i32::try_from(random.below(41)).expect("below 41") - 20);
    random.signed_unit() * magnitude
}

fn integer(random: &mut Random, limit: i32) -> i32 {
    i32::try_from(random.bits() % (2 * u64::from(limit.unsigned_abs()) + 1)).expect("below 2^31") - limit
}

/// `step` walks through all f16.
fn input(random: &mut Random, step: u16) -> Input {
    let halves = lanes(|lane| (16 * (step % 4096)) + u16::try_from(lane).expect("below 16"));
    let fractions = lanes(|lane| {
        let whole = integer(random, if lane < 8 { 4 } else { 1 << 20 }) as f32;
        whole + if lane % 2 == 0 { 0.5 } else { random.signed_unit() / 2.0 }
    });
    Input {
        floats: std::array::from_fn(|_| {
            lanes(|_| if random.below(8) == 0 { SPECIAL[random.below(8) as usize] } else { finite(random) })
        }),
        finite: lanes(|_| finite(random)),
        whole: std::array::from_fn(|_| lanes(|_| integer(random, 1 << 20))),
        fractions,
        exponents: lanes(|_| integer(random, 126) + i32::from(random.below(2) == 0)),
        halves,
        near_halves: halves.map(|bits| near_half(random, bits)),
        bytes: std::array::from_fn(|_| random.bits() as u8),
        upper_bits: std::array::from_fn(|_| random.bits() as u8),
        mask: random.bits(),
        quad: std::array::from_fn(|_| i8::try_from(integer(random, 127)).expect("at most 127")),
    }
}

/// The f16 of these bits, the middle between it and the next, or an f32 beside either.
fn near_half(random: &mut Random, bits: u16) -> f32 {
    let here = f16::from_bits(bits).to_f32_const();
    let next = f16::from_bits(bits ^ 1).to_f32_const();
    let value = if random.below(2) == 0 || !next.is_finite() { here } else { here / 2.0 + next / 2.0 };
    match random.below(3) {
        0 => value.next_down(),
        1 => value.next_up(),
        _ => value,
    }
}

#[track_caller]
fn assert_all_agree(input: &Input) {
    for set in compiled() {
        // SAFETY: `compiled` lists what was detected.
        let actual = unsafe { (set.run)(input) };
        let expected = expected(input, set.fused);
        assert_eq!(actual.len(), expected.len());
        for ((name, actual), (same_name, expected)) in actual.iter().zip(&expected) {
            assert_eq!(name, same_name);
            for (lane, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                // Which NaN it is differs from processor to processor.
                let same = actual.to_bits() == expected.to_bits() || actual.is_nan() && expected.is_nan();
                assert!(same, "{}, {name}, lane {lane}: {actual:?} is not {expected:?}", set.name);
            }
        }
    }
}

#[test]
fn instruction_sets_agree_with_scalar_arithmetic() {
    let mut random = Random::new(1);
    for step in 0..4096 {
        assert_all_agree(&input(&mut random, step));
    }
}

#[test]
fn the_largest_products_of_bytes_are_exact() {
    let mut random = Random::new(2);
    let mut input = input(&mut random, 0);
    for byte in [0, 1, 127, 128, 255] {
        input.bytes = [byte; 64];
        for quad in [[127; 4], [-127; 4], [127, -127, 127, -127], [0, 0, 0, -127]] {
            input.quad = quad;
            assert_all_agree(&input);
        }
    }
}

/// A processor that lacks what it is here for would pass every other test.
#[test]
#[ignore = "needs METALLIC_TEST_ISA, the name of the instruction set that must be found"]
#[expect(clippy::disallowed_methods, reason = "a script says what it has set up")]
fn this_processor_has_the_named_instruction_set() {
    let expected = std::env::var("METALLIC_TEST_ISA").expect("METALLIC_TEST_ISA is set");
    assert_eq!(Level::detect(IsaChoice::Best).name(), expected);
}
