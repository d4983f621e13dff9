//! Every format at every instruction set of this processor, against the readable codec bit for bit.

use tensor::format::FORMATS;
use testkit::Random;

use super::*;

/// The first value that is not the codec's; which NaN it is differs from processor to processor.
fn first_difference(values: &[f32], expected: &[f32]) -> Option<usize> {
    let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
    values.iter().zip(expected).position(differs)
}

#[track_caller]
fn assert_decodes_as_the_codec(level: Level, format: Format, blocks: &[u8]) {
    let decoder = Decoder::of(&Kernels::of(level), format).unwrap();
    let count = blocks.len() / format.block_bytes() * format.block_elements();
    let (mut values, mut expected) = (vec![0.0f32; count], vec![0.0f32; count]);
    (decoder.codec.decode)(blocks, &mut expected);
    decoder.decode(blocks, &mut values);
    assert_eq!(first_difference(&values, &expected), None, "{format}, {}", level.name());

    let mut halves = vec![f16::NAN; count];
    decoder.decode_f16(blocks, &mut halves);
    let rounded = expected.iter().map(|&value| f16::from_f32_const(value).to_f32_const());
    let halves: Vec<f32> = halves.into_iter().map(f16::to_f32_const).collect();
    assert_eq!(first_difference(&halves, &rounded.collect::<Vec<_>>()), None, "{format} to f16, {}", level.name());
}

#[test]
fn any_bytes_give_the_bits_of_the_codec() {
    let mut random = Random::new(11);
    for info in FORMATS {
        for elements in [1024, 37 * 256, 3 * 256] {
            // Plain numbers also in counts that sixteen does not divide.
            let elements = if info.block_elements == 1 { elements + 7 } else { elements };
            let blocks: Vec<u8> =
                (0..elements / info.block_elements * info.block_bytes).map(|_| random.bits() as u8).collect();
            Level::all().into_iter().for_each(|level| assert_decodes_as_the_codec(level, info.format, &blocks));
        }
    }
}

#[test]
fn every_scale_gives_the_bits_of_the_codec() {
    // All begin with their scale; each block has codes of its own.
    for format in [Format::Q8_0, Format::Q4_0, Format::Q5_1, Format::IQ4_NL] {
        let mut blocks: Vec<u8> = Vec::new();
        for scale in 0..=u16::MAX {
            blocks.extend(scale.to_le_bytes());
            blocks.extend((0..format.block_bytes() - 2).map(|at| (usize::from(scale) * 31 + at * 57) as u8));
        }
        Level::all().into_iter().for_each(|level| assert_decodes_as_the_codec(level, format, &blocks));
    }
}

#[test]
fn instructions_are_used_for_all_but_plain_numbers() {
    for level in Level::all() {
        let plain = matches!(level, Level::Portable(_));
        for info in FORMATS {
            let simd = Decoder::of(&Kernels::of(level), info.format).unwrap().is_simd();
            let number = info.block_elements == 1 && !matches!(info.format, Format::F16 | Format::BF16);
            assert_eq!(simd, !plain && !number, "{}, {}", info.name, level.name());
        }
    }
}

#[test]
#[should_panic(expected = "values do not match the blocks")]
fn too_few_values_are_refused() {
    Decoder::new(Format::Q8_0, IsaChoice::Best).unwrap().decode(&[0; 68], &mut [0.0; 63]);
}

#[test]
#[should_panic(expected = "blocks end inside a block")]
fn a_part_of_a_block_is_refused() {
    Decoder::new(Format::Q4_K, IsaChoice::Best).unwrap().decode_f16(&[0; 145], &mut [f16::ZERO; 256]);
}
