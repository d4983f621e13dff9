//! The table of formats: ids, names, sizes and the errors around them.

use std::collections::HashSet;

use metallic_tensor::{FORMATS, Format, FormatError};

#[test]
fn every_row_is_found_by_its_format_id_and_name() {
    let mut ids = HashSet::new();
    let mut names = HashSet::new();
    for info in FORMATS {
        assert!(ids.insert(info.ggml_id), "{} shares its id", info.name);
        assert!(names.insert(info.name.to_lowercase()), "{} shares its name", info.name);
        assert_eq!(info.format.info().format, info.format);
        assert_eq!(Format::from_ggml_id(info.ggml_id), Ok(info.format));
        assert_eq!(Format::from_name(info.name), Some(info.format));
        assert_eq!(Format::from_name(&info.name.to_lowercase()), Some(info.format));
        assert_eq!(info.format.to_string(), info.name);
        assert_eq!(info.name, format!("{:?}", info.format));
    }
    assert_eq!(Format::from_name("Q4"), None);
}

#[test]
fn ids_without_a_row_were_removed_or_never_existed() {
    let removed = [4, 5, 31, 32, 33, 36, 37, 38];
    for id in 0..=42 {
        match Format::from_ggml_id(id) {
            Ok(format) => assert_eq!(format.ggml_id(), id),
            Err(FormatError::Removed { id: reported, .. }) => {
                assert!(removed.contains(&id) && reported == id);
            }
            Err(error) => panic!("{id}: {error}"),
        }
    }
    assert_eq!(Format::from_ggml_id(4), Err(FormatError::Removed { id: 4, name: "Q4_2" }));
    for id in [43, u32::MAX] {
        assert_eq!(Format::from_ggml_id(id), Err(FormatError::Unknown { id }));
    }
}

/// Bits per element as ggml's documentation states them.
#[test]
fn block_sizes_give_the_known_densities() {
    let densities = [
        ("F32", 32.0),
        ("F16", 16.0),
        ("Q4_0", 4.5),
        ("Q4_1", 5.0),
        ("Q5_0", 5.5),
        ("Q5_1", 6.0),
        ("Q8_0", 8.5),
        ("Q2_K", 2.625),
        ("Q3_K", 3.4375),
        ("Q4_K", 4.5),
        ("Q5_K", 5.5),
        ("Q6_K", 6.5625),
        ("IQ2_XXS", 2.0625),
        ("IQ2_XS", 2.3125),
        ("IQ2_S", 2.5625),
        ("IQ3_XXS", 3.0625),
        ("IQ3_S", 3.4375),
        ("IQ1_S", 1.5625),
        ("IQ1_M", 1.75),
        ("IQ4_NL", 4.5),
        ("IQ4_XS", 4.25),
        ("TQ1_0", 1.6875),
        ("TQ2_0", 2.0625),
        ("MXFP4", 4.25),
        ("NVFP4", 4.5),
        ("Q1_0", 1.125),
        ("Q2_0", 2.25),
    ];
    for (name, density) in densities {
        let format = Format::from_name(name).unwrap();
        let bits = 8.0 * format.block_bytes() as f64 / format.block_elements() as f64;
        assert_eq!(bits, density, "{name}");
    }
}

#[test]
fn quantised_means_that_elements_share_a_block() {
    let plain = ["F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"];
    for info in FORMATS {
        assert_eq!(info.format.is_quantised(), !plain.contains(&info.name), "{}", info.name);
    }
}

/// Those that ggml refuses to encode without an importance matrix (`ggml_quantize_requires_imatrix`), and IQ1_M, whose
/// entry in that list is commented out.
#[test]
fn formats_below_two_and_a_half_bits_need_importances() {
    let needing: Vec<&str> =
        FORMATS.iter().filter(|info| info.format.encoder_needs_importances()).map(|info| info.name).collect();
    assert_eq!(needing, ["IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"]);
}

#[test]
fn row_bytes_counts_blocks() {
    assert_eq!(Format::Q4_0.row_bytes(896), Ok(504));
    assert_eq!(Format::Q6_K.row_bytes(4096), Ok(3360));
    assert_eq!(Format::F16.row_bytes(3), Ok(6));
    assert_eq!(Format::Q4_K.row_bytes(0), Ok(0));
}

#[test]
fn row_bytes_refuses_part_of_a_block() {
    let expected = FormatError::PartialBlock { format: "Q4_K", row_elements: 896, block_elements: 256 };
    assert_eq!(Format::Q4_K.row_bytes(896), Err(expected));
}

#[test]
fn row_bytes_refuses_what_64_bits_cannot_hold() {
    let elements = u64::MAX;
    let expected = FormatError::TooLarge { format: "F32", elements };
    assert_eq!(Format::F32.row_bytes(elements), Err(expected));
    assert_eq!(Format::I8.row_bytes(elements), Ok(elements));
    let blocks = u64::MAX / 32 * 32;
    let expected = FormatError::TooLarge { format: "Q8_0", elements: blocks };
    assert_eq!(Format::Q8_0.row_bytes(blocks), Err(expected));
}
