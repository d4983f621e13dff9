//! Any bytes as a GGUF file: an error with a message, or a file of which everything can be read and rewritten.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metallic_gguf::{GgufError, GgufFile, Value, Writer};

fuzz_target!(|bytes: &[u8]| {
    match GgufFile::from_bytes(bytes.to_vec()) {
        Ok(file) => {
            read_everything(&file);
            let rewritten = rewrite(&file);
            compare(&file, &GgufFile::from_bytes(rewritten).expect("what the writer wrote opens"));
        }
        Err(error) => check_error(&error),
    }
});

fn check_error(error: &GgufError) {
    assert!(error.to_string().len() < 2000);
}

fn read_everything(file: &GgufFile) {
    for (key, value) in file.metadata().iter() {
        assert!(file.metadata().get(key).is_some());
        walk(value);
        let _ = file.metadata().u32(key);
        let _ = file.metadata().f32(key);
        let _ = file.metadata().str(key);
    }
    for tensor in file.tensors() {
        assert_eq!(file.tensor_bytes(tensor).len() as u64, tensor.byte_count());
        assert_eq!(file.tensor(tensor.name()), Some(tensor));
        std::hint::black_box(file.tensor_data(tensor).iter().fold(0u8, |sum, byte| sum ^ byte));
    }
}

fn walk(value: Value<'_>) {
    match value {
        Value::Array(array) => {
            assert_eq!(array.iter().count(), array.len());
            if let Some(texts) = array.texts() {
                assert_eq!(texts.count(), array.len());
            }
            if let Some(numbers) = array.scalars::<i32>() {
                assert_eq!(numbers.count(), array.len());
            }
            array.iter().for_each(walk);
        }
        Value::Text(text) => assert_eq!(text.to_str().ok().unwrap_or(&text.to_lossy()), text.to_lossy()),
        _ => {}
    }
}

fn rewrite(file: &GgufFile) -> Vec<u8> {
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        writer.set(key, value).expect("what the reader accepts the writer accepts");
    }
    for tensor in file.tensors() {
        writer
            .tensor(tensor.name(), tensor.format(), *tensor.shape())
            .expect("what the reader accepts the writer accepts");
    }
    writer
        .to_vec(|tensor, out| {
            let tensor = file.tensor(tensor.name()).expect("added from this file");
            out.write_all(file.tensor_bytes(tensor))
        })
        .expect("memory takes all bytes")
}

fn compare(file: &GgufFile, rewritten: &GgufFile) {
    assert_eq!(file.metadata().len(), rewritten.metadata().len());
    for (a, b) in file.tensors().iter().zip(rewritten.tensors()) {
        assert_eq!((a.name(), a.format(), a.shape()), (b.name(), b.format(), b.shape()));
        assert_eq!(file.tensor_bytes(a), rewritten.tensor_bytes(b));
    }
}
