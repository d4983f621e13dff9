//! A small model of any architecture with some of its metadata and tensor shapes changed: an error, or a program.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metallic_gguf::{GgufFile, Value, Writer};
use metallic_models::{ARCHITECTURES, load};
use metallic_tensor::{Format, Shape};
use metallic_testkit::{MetaValue, TinyModel, TinyParts};
use metallic_text::Tokenizer;

/// Bytes of one change: what, where, and eight bytes of value.
const CHANGE_BYTES: usize = 10;
/// No tensor is made larger than this.
const TENSOR_BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, changes)) = bytes.split_first() else {
        return;
    };
    let architecture = &ARCHITECTURES[usize::from(*first) % ARCHITECTURES.len()];
    let mut parts = TinyModel::new(architecture.name, 1).parts();
    for change in changes.chunks_exact(CHANGE_BYTES) {
        let (what, rest) = change.split_first().expect("a whole change");
        let (place, value) = rest.split_first().expect("a whole change");
        apply(&mut parts, *what, usize::from(*place), u64::from_le_bytes(value.try_into().expect("eight bytes")));
    }
    let Some(file) = file_of(&parts) else {
        return;
    };
    match load(&file) {
        Ok(model) => {
            assert!(model.context() > 0);
            let layers = file.tensors().len();
            assert!(format!("{:?}", model.program).len() < 1 << 24, "{layers} tensors");
        }
        Err(error) => assert!(error.to_string().len() < 4000, "{error}"),
    }
    if let Err(error) = Tokenizer::from_gguf(file.metadata(), None) {
        assert!(error.to_string().len() < 4000, "{error}");
    }
});

fn apply(parts: &mut TinyParts, what: u8, place: usize, value: u64) {
    let entry = place % parts.metadata.len();
    let tensor = place % parts.tensors.len();
    match what % 8 {
        0 | 1 => parts.metadata[entry].1 = MetaValue::U32(value as u32),
        2 => parts.metadata[entry].1 = MetaValue::F32(f32::from_bits(value as u32)),
        3 => parts.metadata[entry].1 = MetaValue::Text(String::from_utf8_lossy(&value.to_le_bytes()).into_owned()),
        4 => parts.metadata[entry].1 = MetaValue::Bool(value & 1 == 1),
        5 => drop(parts.metadata.remove(entry)),
        6 => {
            let dimensions = &mut parts.tensors[tensor].dimensions;
            let at = value as usize % dimensions.len();
            dimensions[at] = value >> 32;
        }
        _ => parts.tensors[tensor].name = String::from_utf8_lossy(&value.to_le_bytes()).into_owned(),
    }
    if parts.metadata.is_empty() {
        parts.set("general.architecture", MetaValue::Text("llama".to_owned()));
    }
}

/// The file with zeros for weights; none where GGUF cannot hold the parts.
fn file_of(parts: &TinyParts) -> Option<GgufFile> {
    let mut writer = Writer::new();
    for (key, value) in &parts.metadata {
        let value = match value {
            MetaValue::U32(value) => Value::U32(*value),
            MetaValue::F32(value) => Value::F32(*value),
            MetaValue::Bool(value) => Value::Bool(*value),
            MetaValue::Text(value) => Value::from(value.as_str()),
            MetaValue::Array(value) => Value::from(value),
        };
        writer.set(key, value).ok()?;
    }
    let mut sizes = Vec::new();
    for tensor in &parts.tensors {
        let shape = Shape::new(&tensor.dimensions)?;
        let bytes = shape.elements()?.checked_mul(4).filter(|&bytes| bytes <= TENSOR_BYTES_MAX)?;
        writer.tensor(&tensor.name, Format::F32, shape).ok()?;
        sizes.push(bytes as usize);
    }
    let zeros = vec![0; TENSOR_BYTES_MAX as usize];
    let mut sizes = sizes.into_iter();
    let bytes = writer.to_vec(|_, out| out.write_all(&zeros[..sizes.next().unwrap_or(0)])).ok()?;
    Some(GgufFile::from_bytes(bytes).expect("the writer writes what the reader reads"))
}
