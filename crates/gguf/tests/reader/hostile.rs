//! The damage and the attacks that readers of this format have met, one test each: a typed error, never a panic.

use metallic_gguf::{GgufError, Lookalike, Value};
use tensor::FormatError;

use crate::raw::{Raw, array, text};

const U32: u32 = 4;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

macro_rules! assert_error {
    ($raw:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = $raw.error();
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    };
}

#[test]
fn names_what_is_not_gguf() {
    let safetensors = [&1000u64.to_le_bytes()[..], b"{\"a\":1}"].concat();
    let cases: &[(&[u8], Lookalike)] = &[
        (b"", Lookalike::Empty),
        (b"<!DOCTYPE html><html>", Lookalike::Html),
        (b"\xef\xbb\xbf\n <HTML lang=en>", Lookalike::Html),
        (b"{\"error\":\"Repository not found\"}", Lookalike::Json),
        (b"version https://git-lfs.github.com/spec/v1\n", Lookalike::GitLfsPointer),
        (b"lmgg\0\0\0\0", Lookalike::OldGgml { magic: "ggml" }),
        (b"fmgg\x01\0\0\0", Lookalike::OldGgml { magic: "ggmf" }),
        (b"tjgg\x03\0\0\0", Lookalike::OldGgml { magic: "ggjt" }),
        (b"ggjt\x03\0\0\0", Lookalike::OldGgml { magic: "ggjt" }),
        (b"gguf\x03\0\0\0", Lookalike::LowerCase),
        (&safetensors, Lookalike::Safetensors),
        (b"PK\x03\x04\0\0", Lookalike::Zip),
        (b"\x80\x02}q\0", Lookalike::Pickle),
        (b"\x1f\x8b\x08", Lookalike::Compressed),
        (b"FUGG\0\0", Lookalike::Unknown { first: *b"FUGG" }),
        (b"x", Lookalike::Unknown { first: *b"x\0\0\0" }),
    ];
    for &(bytes, expected) in cases {
        let error = metallic_gguf::GgufFile::from_bytes(bytes.to_vec()).unwrap_err();
        assert!(matches!(error, GgufError::NotGguf { found } if found == expected), "{bytes:?}: {error:?}");
    }
}

#[test]
fn refuses_other_versions_and_byte_orders() {
    for version in [0, 1, 4, u32::MAX] {
        assert_error!(Raw { version, ..Raw::new() }, GgufError::UnsupportedVersion { version: v } if *v == version);
    }
    for version in [1u32, 2, 3] {
        assert_error!(Raw { version: version.swap_bytes(), ..Raw::new() }, GgufError::BigEndian { .. });
    }
    for version in [2, 3] {
        assert_eq!(Raw { version, ..Raw::new() }.open().unwrap().version(), version);
    }
}

#[test]
fn refuses_counts_that_do_not_fit() {
    for count in [1 << 63, u64::MAX, u64::MAX / 64, 1 << 31] {
        assert_error!(
            Raw { tensor_count: Some(count), ..Raw::new() },
            GgufError::OverLimit { value, offset: 8, .. } if *value == count
        );
        assert_error!(
            Raw { metadata_count: Some(count), ..Raw::new() },
            GgufError::OverLimit { value, offset: 16, .. } if *value == count
        );
    }
    assert_error!(
        Raw { tensor_count: Some(1), ..Raw::new() },
        GgufError::CountTooLarge { count: 1, left_bytes: 0, .. }
    );
    assert_error!(Raw { metadata_count: Some(9999), ..Raw::new() }, GgufError::CountTooLarge { count: 9999, .. });
}

#[test]
fn refuses_bad_keys() {
    let value = 7u32.to_le_bytes();
    assert_error!(Raw::new().entry(b"", U32, &value), GgufError::EmptyName { offset: 24, .. });
    assert_error!(
        Raw::new().entry(b"a", U32, &value).entry(b"b", U32, &value).entry(b"a", U32, &value),
        GgufError::DuplicateKey { key, offset: 58, first_offset: 24 } if key == "a"
    );
    assert_error!(Raw::new().entry(b"a\xff", U32, &value), GgufError::NotUtf8 { offset: 33, .. });
    let long = vec![b'k'; 65_536];
    assert_error!(Raw::new().entry(&long, U32, &value), GgufError::OverLimit { value: 65_536, limit: 65_535, .. });
    assert!(Raw::new().entry(&long[1..], U32, &value).open().is_ok());

    let mut endless = Raw::new().entry(b"abcdefgh", U32, &value);
    endless.entries[0][..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_error!(endless, GgufError::OverLimit { value: u64::MAX, offset: 24, .. });
}

#[test]
fn refuses_bad_values() {
    for id in [13, 255, u32::MAX] {
        assert_error!(
            Raw::new().entry(b"k", id, &[0; 16]),
            GgufError::UnknownValueType { id: found, offset: 33, .. } if *found == id
        );
        assert_error!(
            Raw::new().entry(b"k", ARRAY, &array(id, 0, &[])),
            GgufError::UnknownValueType { id: found, offset: 37, .. } if *found == id
        );
    }
    assert_error!(Raw::new().entry(b"k", 7, &[255]), GgufError::BadBool { value: 255, offset: 37, .. });
    assert_error!(
        Raw::new().entry(b"k", ARRAY, &array(7, 3, &[0, 1, 2])),
        GgufError::BadBool { value: 2, offset: 51, .. }
    );
}

#[test]
fn refuses_lengths_beyond_the_file() {
    for length in [3, 1 << 31, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX - 7, u64::MAX, u64::MAX / 64] {
        let value = [&length.to_le_bytes()[..], b"ab"].concat();
        assert_error!(
            Raw::new().entry(b"k", TEXT, &value),
            GgufError::Truncated { offset: 45, missing_bytes, file_bytes: 47, .. } if *missing_bytes == length - 2
        );
        // The same length in a string array.
        let error = Raw::new().entry(b"k", ARRAY, &array(TEXT, 1, &value)).error();
        assert!(matches!(error, GgufError::Truncated { .. }), "{error:?}");
    }
    for (kind, count) in
        [(U32, 3), (U32, 1 << 62), (10, (1 << 61) + 2), (TEXT, 1 << 40), (ARRAY, 1 << 60), (0, u64::MAX)]
    {
        assert_error!(
            Raw::new().entry(b"k", ARRAY, &array(kind, count, &[0; 8])),
            GgufError::CountTooLarge { count: found, left_bytes: 8, offset: 41, .. } if *found == count
        );
    }
}

#[test]
fn bounds_the_depth_of_arrays() {
    let nested = |depth: usize| {
        let innermost = array(U32, 2, &[1, 0, 0, 0, 2, 0, 0, 0]);
        (1..depth).fold(innermost, |inner, _| array(ARRAY, 1, &inner))
    };
    let file = Raw::new().entry(b"k", ARRAY, &nested(8)).open().unwrap();
    let mut value = file.metadata().get("k").unwrap();
    for _ in 1..8 {
        let Value::Array(array) = value else { panic!("{value:?}") };
        assert_eq!(array.len(), 1);
        value = array.iter().next().unwrap();
    }
    let Value::Array(innermost) = value else { panic!("{value:?}") };
    assert_eq!(innermost.scalars::<u32>().unwrap().collect::<Vec<_>>(), [1, 2]);

    for depth in [9, 1000, 200_000] {
        assert_error!(
            Raw::new().entry(b"k", ARRAY, &nested_iteratively(depth)),
            GgufError::OverLimit { value: 9, limit: 8, .. }
        );
    }
}

/// `depth` array headers of one element each, without the quadratic cost of wrapping.
fn nested_iteratively(depth: usize) -> Vec<u8> {
    array(ARRAY, 1, &[]).repeat(depth)
}

#[test]
fn keeps_strings_that_are_not_utf8() {
    let file = Raw::new().entry(b"k", TEXT, &text(b"ab\xffc")).open().unwrap();
    let Some(Value::Text(value)) = file.metadata().get("k") else { panic!() };
    assert_eq!(value.as_bytes(), b"ab\xffc");
    assert!(value.to_str().is_err());
    assert!(matches!(value.to_lossy(), std::borrow::Cow::Owned(text) if text == "ab\u{fffd}c"));
    let error = file.metadata().str("k").unwrap_err();
    assert!(matches!(error, GgufError::NotUtf8 { offset: 47, .. }), "{error:?}");
}

#[test]
fn checks_the_alignment() {
    let aligned = |alignment: u32| Raw::new().entry(b"general.alignment", U32, &alignment.to_le_bytes());
    for alignment in [0, 3, 33, 1 << 25, 1 << 31, u32::MAX] {
        assert_error!(
            aligned(alignment),
            GgufError::BadAlignment { alignment: found, offset: 53, .. } if *found == alignment
        );
    }
    for alignment in [1, 2, 8, 64, 4096, 1 << 24] {
        assert_eq!(aligned(alignment).open().unwrap().alignment(), alignment);
    }
    let wrong: &[(u32, Vec<u8>)] = &[
        (10, 32u64.to_le_bytes().into()),
        (5, 32i32.to_le_bytes().into()),
        (TEXT, text(b"32")),
        (ARRAY, array(U32, 1, &32u32.to_le_bytes())),
    ];
    for (kind, value) in wrong {
        assert_error!(
            Raw::new().entry(b"general.alignment", *kind, value),
            GgufError::WrongType { expected: "u32", offset: 53, .. }
        );
    }
}

#[test]
fn checks_tensor_shapes() {
    let shaped = |dimensions: &[u64], kind: u32| Raw::new().tensor(b"t", dimensions, kind, 0).data(64);
    assert_error!(shaped(&[1; 5], 0), GgufError::OverLimit { value: 5, limit: 4, .. });
    for dimensions in [&[0][..], &[4, 0], &[0, u64::MAX], &[u64::MAX, u64::MAX, u64::MAX, 0]] {
        assert_error!(shaped(dimensions, 0), GgufError::ZeroDimension { offset: 24, .. });
    }
    let too_large: [&[u64]; 6] = [
        &[u64::MAX, 2],
        // -1 as a signed number.
        &[u64::MAX],
        &[1 << 63],
        &[1 << 33, (1 << 31) + 1, 4],
        &[1 << 32, 1 << 32],
        &[1 << 62, 1, 1, 4],
    ];
    for dimensions in too_large {
        assert_error!(shaped(dimensions, 0), GgufError::TensorTooLarge { .. });
    }
    assert_eq!(shaped(&[], 0).open().unwrap().tensors()[0].byte_count(), 4);
    assert_eq!(shaped(&[2, 2, 2, 2], 0).open().unwrap().tensors()[0].byte_count(), 64);

    let mut hostile = shaped(&[4], 0);
    hostile.tensors[0][9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_error!(hostile, GgufError::OverLimit { value: 4_294_967_295, limit: 4, offset: 33, .. });
}

#[test]
fn checks_sizes_against_the_file() {
    // 2^63 - 1 bytes: rounding up to the alignment would overflow.
    assert_error!(Raw::new().tensor(b"t", &[(1 << 63) - 1], 24, 0).data(64), GgufError::TensorTooLarge { .. });
    // Two tensors whose sizes sum to 2^64 - 64.
    let half = (1u64 << 63) - 32;
    assert_error!(
        Raw::new().tensor(b"a", &[half], 24, 0).tensor(b"b", &[half], 24, half).data(64),
        GgufError::TensorTooLarge { .. } | GgufError::Truncated { .. }
    );
    assert_error!(
        Raw::new().tensor(b"t", &[17], 0, 0).data(64),
        GgufError::Truncated { field, offset: 64, missing_bytes: 4, file_bytes: 128 } if field == "tensor t"
    );
    assert_error!(Raw::new().tensor(b"t", &[1], 0, 0), GgufError::Truncated { .. });
}

#[test]
fn refuses_types_that_are_gone_or_unknown() {
    for id in [4, 5, 31, 32, 33, 36, 37, 38] {
        assert_error!(
            Raw::new().tensor(b"t", &[256], id, 0).data(1024),
            GgufError::TensorFormat { name, cause: FormatError::Removed { id: found, .. }, .. }
                if name == "t" && *found == id
        );
    }
    for id in [43, 99, 1 << 31, u32::MAX] {
        assert_error!(
            Raw::new().tensor(b"t", &[256], id, 0).data(1024),
            GgufError::TensorFormat { cause: FormatError::Unknown { id: found }, .. } if *found == id
        );
    }
    for (id, row) in [(2, 33), (8, 31), (12, 128), (14, 255)] {
        assert_error!(
            Raw::new().tensor(b"t", &[row, 2], id, 0).data(1024),
            GgufError::TensorFormat { cause: FormatError::PartialBlock { .. }, .. }
        );
    }
}

#[test]
fn checks_tensor_offsets() {
    let second_at = |offset| Raw::new().tensor(b"a", &[16], 0, 0).tensor(b"b", &[8], 0, offset).data(96);
    assert!(second_at(64).open().is_ok());
    assert_error!(second_at(33), GgufError::TensorMisaligned { data_offset: 33, alignment: 32, .. });
    assert_error!(second_at(32), GgufError::TensorOverlap { data_offset: 32, previous_end: 64, .. });
    assert_error!(second_at(0), GgufError::TensorOverlap { data_offset: 0, .. });
    assert_error!(second_at(96), GgufError::Truncated { missing_bytes: 32, .. });
    assert_error!(second_at(1 << 20), GgufError::Truncated { .. });
    assert_error!(second_at(1 << 63), GgufError::TensorTooLarge { .. });
    assert_error!(second_at(u64::MAX - 31), GgufError::TensorTooLarge { .. });
    let descending = Raw::new().tensor(b"a", &[8], 0, 64).tensor(b"b", &[8], 0, 0).data(96);
    assert_error!(descending, GgufError::TensorOverlap { name, .. } if name == "b");
    // A gap loses nothing.
    assert!(Raw::new().tensor(b"a", &[8], 0, 32).data(64).open().is_ok());
}

#[test]
fn refuses_bad_tensor_names() {
    let named = |name: &[u8]| Raw::new().tensor(name, &[8], 0, 0).data(32);
    assert_error!(named(b""), GgufError::EmptyName { offset: 24, .. });
    for length in [64, 65, 5000] {
        assert_error!(named(&vec![b'n'; length]), GgufError::OverLimit { limit: 63, offset: 24, .. });
    }
    assert!(named(&[b'n'; 63]).open().is_ok());
    assert_error!(named(b"a\xffb"), GgufError::NotUtf8 { offset: 33, .. });
    assert_error!(
        Raw::new().tensor(b"a", &[8], 0, 0).tensor(b"a", &[8], 0, 32).data(64),
        GgufError::DuplicateTensor { name, .. } if name == "a"
    );
}
