//! Messages name the field, its value and its place, and say what to do; their words are part of the product.

use metallic_gguf::GgufFile;

use crate::raw::{Raw, array};

#[test]
fn messages_read_well() {
    let u32_value = 7u32.to_le_bytes();
    let cases = [
        (
            Raw::new().tensor(b"blk.3.ffn_up.weight", &[64, 2], 0, 0).data(100),
            "file ends at byte 196; tensor blk.3.ffn_up.weight at byte 96 needs 412 more bytes: \
             the download is incomplete",
        ),
        (
            Raw::new().entry(b"general.name", 8, &u64::MAX.to_le_bytes()),
            "file ends at byte 56; string of 18446744073709551615 bytes in general.name at byte 56 needs \
             18446744073709551615 more bytes: the length is damaged",
        ),
        (
            Raw { metadata_count: Some(1 << 40), ..Raw::new() },
            "metadata count at byte 16 is 1099511627776, over the limit of 131072: the file is damaged or hostile",
        ),
        (
            Raw::new().entry(b"tokenizer.ggml.tokens", 9, &array(8, 1000, &[0; 16])),
            "array length of tokenizer.ggml.tokens at byte 61 is 1000, at least 8 bytes each, but only 16 bytes \
             follow: the file is damaged or incomplete",
        ),
        (
            Raw::new().entry(b"a", 4, &u32_value).entry(b"a", 4, &u32_value),
            "key a at byte 41 was already used at byte 24: the file is damaged",
        ),
        (Raw::new().entry(b"x.y", 13, &[]), "key x.y has value type 13 at byte 35; types are 0 to 12"),
        (Raw::new().entry(b"x.y", 7, &[9]), "key x.y holds the bool 9 at byte 39; a bool is 0 or 1"),
        (
            Raw::new().entry(b"general.alignment", 4, &3u32.to_le_bytes()),
            "general.alignment at byte 53 is 3; it must be a power of two up to 16777216",
        ),
        (
            Raw::new().tensor(b"output.weight", &[32], 31, 0).data(64),
            "tensor output.weight at byte 24: tensor type 31 (Q4_0_4_4) was removed from ggml: re-quantise the model \
             from its original weights",
        ),
        (
            Raw::new().tensor(b"output.weight", &[33, 2], 2, 0).data(64),
            "tensor output.weight at byte 24: a row of 33 elements is no whole number of Q4_0 blocks of 32",
        ),
        (
            Raw::new().tensor(b"t", &[8], 0, 8).data(64),
            "tensor t at byte 24 has data offset 8, not a multiple of the alignment 32",
        ),
        (
            Raw { version: 3u32.swap_bytes(), ..Raw::new() },
            "version at byte 4 is 0x03000000, byte-swapped 3: a big-endian file; convert it to little endian \
             (gguf_convert_endian.py of llama.cpp)",
        ),
        (
            Raw { version: 1, ..Raw::new() },
            "version at byte 4 is 1; this build reads versions 2 and 3: version 1 is from 2023; convert the model again",
        ),
        (
            // A terminal escape in a name must not reach a terminal.
            Raw::new().tensor(b"\x1b[31m", &[0], 0, 0),
            "tensor \\u{1b}[31m at byte 24 has shape 0: a dimension is 0",
        ),
    ];
    for (raw, expected) in cases {
        assert_eq!(raw.error().to_string(), expected);
    }
    let not_gguf = GgufFile::from_bytes(b"<html>".as_slice()).unwrap_err();
    assert_eq!(
        not_gguf.to_string(),
        "not a GGUF file: this is a web page, perhaps an error or a login page; download the file itself, not its page"
    );
}

#[test]
fn messages_shorten_long_names() {
    let error = Raw::new().entry(&[b'k'; 60_000], 13, &[]).error().to_string();
    assert!(error.len() < 200 && error.contains("… (60000 bytes)"), "{error}");
}

#[test]
fn messages_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let open = || GgufFile::open(&path).unwrap_err().to_string();
    assert!(open().starts_with(&format!("cannot open {}: ", path.display())), "{}", open());
    std::fs::write(&path, "").unwrap();
    assert_eq!(open(), format!("{}: not a GGUF file: the file is empty; download it again", path.display()));
    let error = GgufFile::open(folder.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: is a directory, not a file: name a .gguf file", folder.path().display()));
}
