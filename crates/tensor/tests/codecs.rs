//! The codecs against ggml's own blocks, and against input no file should hold.

use std::path::PathBuf;

use metallic_tensor::{Codec, FORMATS, Format};

/// Formats whose encoder equals ggml's reference bit for bit.
const SIMPLE: &[Format] = &[
    Format::F16,
    Format::BF16,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::Q8_1,
    Format::Q8_K,
];

/// Formats whose encoder searches.
const SEARCHED: &[Format] = &[
    Format::Q2_K,
    Format::Q3_K,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
    Format::IQ2_XXS,
    Format::IQ2_XS,
    Format::IQ3_XXS,
    Format::IQ1_S,
    Format::IQ4_NL,
    Format::IQ3_S,
    Format::IQ2_S,
    Format::IQ4_XS,
    Format::IQ1_M,
    Format::TQ1_0,
    Format::TQ2_0,
    Format::MXFP4,
    Format::NVFP4,
    Format::Q1_0,
    Format::Q2_0,
];

/// Elements in a test's buffer: a whole number of blocks in every format.
const ELEMENTS: usize = 512;

#[test]
fn decodes_ggml_blocks_bit_for_bit() {
    for &format in SIMPLE.iter().chain(SEARCHED) {
        // ggml does not decode Q8_1; its values are those of the Q8_0 it extends.
        if format != Format::Q8_1 {
            let decoded = decode(format, &fixture(format, "bin"));
            assert_same(format, &decoded, &floats(format, "f32"));
        }
    }
}

#[test]
fn decodes_random_bytes_as_ggml_does() {
    let quantised = SIMPLE.iter().chain(SEARCHED).filter(|format| format.is_quantised());
    for &format in quantised.filter(|&&format| format != Format::Q8_1) {
        let decoded = decode(format, &fixture(format, "random.bin"));
        assert_same(format, &decoded, &floats(format, "random.f32"));
    }
}

#[test]
fn encodes_simple_formats_as_ggml_does() {
    for &format in SIMPLE {
        let blocks = encode(format, &floats(format, "source.f32"));
        assert_eq!(blocks, fixture(format, "bin"), "{format}");
    }
}

#[test]
fn searched_formats_err_no_more_than_ggml() {
    for &format in SEARCHED {
        let source = floats(format, "source.f32");
        let ours = rms_difference(&source, &decode(format, &encode(format, &source)));
        let ggml = rms_difference(&source, &floats(format, "f32"));
        assert!(ours <= 1.01 * ggml, "{format}: {ours} is over 1.01 * {ggml}");
    }
}

/// Formats in which importances change what is chosen, besides those that search anyway.
const WEIGHTED: &[Format] = &[Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1];

#[test]
fn importances_lower_the_error_that_counts() {
    let mut random = Random(5);
    let importances: Vec<f32> = (0..256).map(|_| random.signed_unit().powi(4) + 1e-3).collect();
    let source: Vec<f32> = (0..4 * 256).map(|_| random.signed_unit() + random.signed_unit()).collect();
    for (format, codec) in codecs() {
        let plain = encode(format, &source);
        let mut weighted = vec![0xa5; plain.len()];
        (codec.encode_weighted)(&source, &importances, &mut weighted);
        if !WEIGHTED.contains(&format) && !SEARCHED.contains(&format) {
            assert_eq!(plain, weighted, "{format}: nothing to choose");
            continue;
        }
        let error = |blocks: &[u8]| -> f64 {
            let errors = source.iter().zip(decode(format, blocks)).map(|(source, decoded)| source - decoded);
            errors.zip(importances.iter().cycle()).map(|(error, weight)| f64::from(weight * error * error)).sum()
        };
        assert!(error(&weighted) < 0.995 * error(&plain), "{format}: {} of {}", error(&weighted), error(&plain));
    }
}

#[test]
fn importances_that_say_nothing_are_left_out() {
    let mut random = Random(6);
    let source: Vec<f32> = (0..ELEMENTS).map(|_| random.signed_unit()).collect();
    for (format, codec) in codecs() {
        let plain = encode(format, &source);
        for useless in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let mut blocks = vec![0xa5; plain.len()];
            (codec.encode_weighted)(&source, &[useless; ELEMENTS], &mut blocks);
            assert_eq!(blocks, plain, "{format}, {useless}");
        }
        // Only their ratios count.
        let importances: Vec<f32> = (0..ELEMENTS).map(|index| (index % 7 + 1) as f32).collect();
        let [mut small, mut large] = [vec![0; plain.len()], vec![1; plain.len()]];
        (codec.encode_weighted)(
            &source,
            &importances.iter().map(|i| i * 2_f32.powi(-60)).collect::<Vec<_>>(),
            &mut small,
        );
        (codec.encode_weighted)(
            &source,
            &importances.iter().map(|i| i * 2_f32.powi(60)).collect::<Vec<_>>(),
            &mut large,
        );
        assert_eq!(small, large, "{format}");
    }
}

#[test]
fn q8_1_decodes_to_what_q8_0_decodes_to() {
    let source = floats(Format::Q8_1, "source.f32");
    let decoded = decode(Format::Q8_1, &encode(Format::Q8_1, &source));
    assert_same(Format::Q8_1, &decoded, &decode(Format::Q8_0, &encode(Format::Q8_0, &source)));
}

#[test]
fn random_values_survive_within_their_precision() {
    let mut random = Random(1);
    for (format, _) in codecs().filter(|(format, _)| !is_integer(*format)) {
        for scale in [0.01, 1.0, 50.0] {
            let source: Vec<f32> = (0..ELEMENTS).map(|_| scale * random.signed_unit()).collect();
            let decoded = decode(format, &encode(format, &source));
            let relative = rms_difference(&source, &decoded) / rms(&source);
            let bound = relative_error_of_uniform_values(format);
            assert!(relative <= bound, "{format} at scale {scale}: {relative} is over {bound}");
        }
    }
}

#[test]
fn re_encoding_drifts_little() {
    for (format, _) in codecs() {
        let source: Vec<f32> = (0..ELEMENTS).map(|index| (index % 32) as f32 - 16.0).collect();
        let once = decode(format, &encode(format, &source));
        let twice = decode(format, &encode(format, &once));
        let drift = rms_difference(&once, &twice) / rms(&once);
        assert!(drift <= relative_error_of_uniform_values(format), "{format} drifts by {drift}");
    }
}

#[test]
fn constants_and_zeros_come_back() {
    for (format, _) in codecs() {
        for constant in [0.0, 1.0, -1.0, 3.0, -96.0] {
            let decoded = decode(format, &encode(format, &[constant; ELEMENTS]));
            for value in decoded {
                // An f16 scale and an f16 min each round by up to 2^-11.
                let error = (value - constant).abs();
                assert!(error <= constant.abs() / 512.0, "{format}: {constant} became {value}");
            }
        }
    }
}

#[test]
fn tiny_values_decode_to_tiny_values() {
    for (format, _) in codecs() {
        for tiny in [f32::MIN_POSITIVE, 1e-45, -1e-41, 1e-30, -0.0] {
            let mut source = [0.0; ELEMENTS];
            source.iter_mut().step_by(3).for_each(|value| *value = tiny);
            for value in decode(format, &encode(format, &source)) {
                assert!(value.abs() <= 1e-29, "{format}: {tiny} became {value}");
            }
        }
    }
}

#[test]
fn no_input_makes_an_encoder_panic() {
    let extremes = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, 0.0, 1.0];
    let mut random = Random(2);
    for (format, _) in codecs() {
        for extreme in extremes {
            let mut source = [extreme; ELEMENTS];
            let all = encode(format, &source);
            assert_eq!(decode(format, &all).len(), ELEMENTS);
            source.iter_mut().step_by(7).for_each(|value| *value = random.signed_unit());
            let most = encode(format, &source);
            assert_eq!(decode(format, &most).len(), ELEMENTS);
        }
        for _ in 0..50 {
            let source: Vec<f32> = (0..ELEMENTS).map(|_| f32::from_bits(random.bits())).collect();
            assert_eq!(decode(format, &encode(format, &source)).len(), ELEMENTS);
        }
    }
}

#[test]
fn a_bad_value_spoils_its_own_block_only() {
    let mut random = Random(3);
    for (format, _) in codecs() {
        let clean: Vec<f32> = (0..ELEMENTS).map(|_| 9.0 * random.signed_unit()).collect();
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut spoiled = clean.clone();
            spoiled[0] = bad;
            let (clean, spoiled) = (encode(format, &clean), encode(format, &spoiled));
            let bytes = format.block_bytes();
            assert_eq!(clean[bytes..], spoiled[bytes..], "{format}, {bad}");
        }
    }
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let mut random = Random(4);
    for (format, _) in codecs() {
        let bytes = ELEMENTS / format.block_elements() * format.block_bytes();
        for byte in [0x00, 0x7c, 0x7f, 0x80, 0xff] {
            assert_eq!(decode(format, &vec![byte; bytes]).len(), ELEMENTS);
        }
        for _ in 0..200 {
            let blocks: Vec<u8> = (0..bytes).map(|_| (random.bits() >> 9) as u8).collect();
            assert_eq!(decode(format, &blocks).len(), ELEMENTS);
        }
    }
}

#[test]
fn blocks_decode_at_any_alignment() {
    for &format in SIMPLE.iter().chain(SEARCHED) {
        let blocks = fixture(format, "bin");
        let aligned = decode(format, &blocks);
        let mut shifted = vec![0];
        shifted.extend(&blocks);
        assert_same(format, &decode(format, &shifted[1..]), &aligned);
    }
}

/// What training in ternary leaves is stored exactly by the ternary formats.
#[test]
fn ternary_values_are_exact_in_ternary_formats() {
    let mut random = Random(7);
    for format in [Format::TQ1_0, Format::TQ2_0] {
        for scale in [1.0, 0.75, 0.015625] {
            let source: Vec<f32> = (0..ELEMENTS).map(|_| scale * ((random.bits() >> 8) % 3) as f32 - scale).collect();
            assert_same(format, &decode(format, &encode(format, &source)), &source);
        }
    }
}

#[test]
fn integers_round_and_saturate() {
    let source = [0.0, -0.5, 1.5, 2.5, -7.4, 126.9, 1e30, -1e30, f32::NAN];
    let cases = [
        (Format::I8, 127.0, -128.0),
        (Format::I16, 32_767.0, -32_768.0),
        (Format::I32, 2_147_483_647.0, -2_147_483_648.0),
        (Format::I64, i64::MAX as f32, i64::MIN as f32),
    ];
    for (format, greatest, least) in cases {
        let decoded = decode(format, &encode(format, &source));
        assert_eq!(decoded, [0.0, 0.0, 2.0, 2.0, -7.0, 127.0, greatest, least, 0.0], "{format}");
    }
}

#[test]
fn wide_floats_are_exact() {
    let source = [0.0, -1.5, f32::MAX, 1e-45, f32::INFINITY];
    for format in [Format::F32, Format::F64] {
        assert_same(format, &decode(format, &encode(format, &source)), &source);
    }
    assert_eq!(decode(Format::F64, &0.1_f64.to_le_bytes()), [0.1_f32]);
}

#[test]
#[should_panic(expected = "values do not match the blocks")]
fn a_short_output_is_a_caller_error() {
    (codec(Format::Q4_0).decode)(&[0; 36], &mut [0.0; 32]);
}

/// A bound on the rms error of values spread evenly around zero, relative to their own rms.
///
/// Ideal rounding to `levels` evenly spread codes errs by `1 / levels`; a quarter more is allowed. Words of several values
/// count as two to the power of their bits for each value, and half more is allowed. The levels of E2M1 are as coarse at
/// the end as eight evenly spread ones, and those of Q2_0 as three, as its fourth lies past the largest of half the values.
fn relative_error_of_uniform_values(format: Format) -> f64 {
    let levels = match format {
        Format::F32 | Format::F64 => return 0.0,
        Format::F16 => return 2_f64.powi(-11),
        Format::BF16 => return 2_f64.powi(-8),
        Format::IQ1_S | Format::IQ1_M => return 1.5 / 2_f64.powf(11.0 / 8.0),
        Format::IQ2_XXS => return 1.5 / 2_f64.powf(15.0 / 8.0),
        Format::IQ2_XS => return 1.5 / 2_f64.powf(16.0 / 8.0),
        Format::IQ2_S => return 1.5 / 2_f64.powf(18.0 / 8.0),
        Format::IQ3_XXS => return 1.5 / 2_f64.powf(23.0 / 8.0),
        Format::IQ3_S => return 1.5 / 2_f64.powf(26.0 / 8.0),
        Format::Q1_0 => 2.0,
        Format::TQ1_0 | Format::TQ2_0 | Format::Q2_0 => 3.0,
        Format::MXFP4 | Format::NVFP4 => 8.0,
        Format::IQ4_NL | Format::IQ4_XS => 16.0,
        Format::Q2_K => 4.0,
        Format::Q3_K => 8.0,
        Format::Q4_0 | Format::Q4_1 | Format::Q4_K => 16.0,
        Format::Q5_0 | Format::Q5_1 | Format::Q5_K => 32.0,
        Format::Q6_K => 64.0,
        Format::Q8_0 | Format::Q8_1 | Format::Q8_K => 255.0,
        // Whole numbers are exact.
        Format::I8 | Format::I16 | Format::I32 | Format::I64 => return 0.0,
    };
    1.25 / levels
}

fn is_integer(format: Format) -> bool {
    matches!(format, Format::I8 | Format::I16 | Format::I32 | Format::I64)
}

fn codecs() -> impl Iterator<Item = (Format, Codec)> {
    FORMATS.iter().filter_map(|info| info.codec.map(|codec| (info.format, codec)))
}

fn codec(format: Format) -> Codec {
    format.codec().unwrap_or_else(|| panic!("{format} has no codec"))
}

fn decode(format: Format, blocks: &[u8]) -> Vec<f32> {
    let elements = blocks.len() / format.block_bytes() * format.block_elements();
    let mut values = vec![0.0; elements];
    (codec(format).decode)(blocks, &mut values);
    values
}

fn encode(format: Format, values: &[f32]) -> Vec<u8> {
    let bytes = values.len() / format.block_elements() * format.block_bytes();
    // Bytes an encoder forgets to write stay visible.
    let mut blocks = vec![0xa5; bytes];
    (codec(format).encode)(values, &mut blocks);
    blocks
}

fn fixture(format: Format, kind: &str) -> Vec<u8> {
    let name = format!("{}.{kind}", format.name().to_lowercase());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(format: Format, kind: &str) -> Vec<f32> {
    decode(Format::F32, &fixture(format, kind))
}

/// Equal bits, except that any NaN equals any other.
fn assert_same(format: Format, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{format}");
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
        assert!(same, "{format}, element {index}: {ours} is not {theirs}");
    }
}

fn rms(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
    (squares / values.len() as f64).sqrt()
}

fn rms_difference(left: &[f32], right: &[f32]) -> f64 {
    rms(&left.iter().zip(right).map(|(left, right)| left - right).collect::<Vec<_>>())
}

/// A xorshift generator: the same numbers on every run.
struct Random(u32);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A value in -1..1.
    fn signed_unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}
