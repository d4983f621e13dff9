//! Every truncation and every single-byte change of a good file: an error or a file that can be read, never a panic.

use metallic_gguf::{GgufError, GgufFile, Value};

use crate::raw::fixture;

#[test]
fn every_truncation_is_an_error() {
    let bytes = std::fs::read(fixture("good/ok_plain.gguf")).unwrap();
    for length in 0..bytes.len() {
        let error = GgufFile::from_bytes(bytes[..length].to_vec()).expect_err("a truncated file must be refused");
        let named = match error {
            GgufError::NotGguf { .. } => length == 0,
            GgufError::Truncated { missing_bytes, file_bytes, .. } => {
                file_bytes == length as u64 && missing_bytes > 0 && missing_bytes <= bytes.len() as u64
            }
            GgufError::CountTooLarge { left_bytes, .. } => left_bytes < length as u64,
            _ => false,
        };
        assert!(named, "{length} bytes: {error:?}");
    }
}

#[test]
fn no_changed_byte_panics() {
    for name in ["good/ok_plain.gguf", "good/ok_every_kv_type.gguf", "good/ok_odd_sizes.gguf", "bad/arr_of_arr.gguf"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let head = bytes.len().min(1400);
        let mut opened = 0;
        for index in 0..head {
            for change in [0x01, 0x02, 0x10, 0x20, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[index] ^= change;
                if let Ok(file) = GgufFile::from_bytes(changed) {
                    opened += 1;
                    read_everything(&file);
                }
            }
        }
        assert!(opened > 0, "{name}: some bytes are free to change");
    }
}

fn read_everything(file: &GgufFile) {
    for (key, value) in file.metadata().iter() {
        assert_eq!(file.metadata().get(key).map(|value| value.kind()), Some(value.kind()));
        assert_eq!(count_leaves(value), count_leaves(value));
    }
    for tensor in file.tensors() {
        assert_eq!(file.tensor_bytes(tensor).len() as u64, tensor.byte_count());
    }
}

fn count_leaves(value: Value<'_>) -> usize {
    match value {
        Value::Array(array) => {
            assert_eq!(array.iter().count(), array.len(), "an opened array yields all its elements");
            array.iter().map(count_leaves).sum()
        }
        Value::Text(text) => text.to_lossy().len(),
        _ => 1,
    }
}
