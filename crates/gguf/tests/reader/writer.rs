//! What is written reads back the same, byte for byte the same each time, and appears whole or not at all.

use std::fs;
use std::io;

use metallic_gguf::{ArrayBuf, GgufError, GgufFile, Value, Writer};
use proptest::prelude::*;
use tensor::{FORMATS, Format, Shape};

use crate::raw::{Raw, fixture};

fn shape(dimensions: &[u64]) -> Shape {
    Shape::new(dimensions).unwrap()
}

/// Rewrites an opened file through the writer.
fn rewrite(file: &GgufFile) -> Vec<u8> {
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        writer.set(key, value).unwrap();
    }
    for tensor in file.tensors() {
        writer.tensor(tensor.name(), tensor.format(), *tensor.shape()).unwrap();
    }
    writer.to_vec(|tensor, out| out.write_all(file.tensor_bytes(file.tensor(tensor.name()).unwrap()))).unwrap()
}

#[test]
fn rewriting_the_corpus_gives_the_same_bytes() {
    let names =
        ["ok_plain", "ok_align_64", "ok_unicode_names", "ok_many_kv", "ok_new_tensor_types", "ok_every_kv_type"];
    for name in names {
        let path = fixture("good").join(name).with_extension("gguf");
        let original = fs::read(&path).unwrap();
        assert!(rewrite(&GgufFile::open(&path).unwrap()) == original, "{name}");
    }
}

#[test]
fn every_format_and_value_type_reads_back() {
    let numbers = ArrayBuf::scalars(&[1u16, 2, 3]);
    let nested = ArrayBuf::arrays([numbers.as_array(), ArrayBuf::texts(["x", ""]).as_array()]);
    let mut writer = Writer::new();
    writer.set("a", 1u8).unwrap().set("b", -1i64).unwrap().set("c", true).unwrap().set("d", "text").unwrap();
    writer.set("e", &numbers).unwrap().set("f", &nested).unwrap().set("g", f64::MIN_POSITIVE).unwrap();
    writer.set("general.alignment", 128u32).unwrap();
    for info in FORMATS {
        writer.tensor(info.name, info.format, shape(&[info.block_elements as u64, 3])).unwrap();
    }
    let fill = |tensor: &metallic_gguf::TensorInfo| vec![tensor.format().ggml_id() as u8; tensor.byte_count() as usize];
    let bytes = writer.to_vec(|tensor, out| out.write_all(&fill(tensor))).unwrap();
    assert_eq!(bytes, writer.to_vec(|tensor, out| out.write_all(&fill(tensor))).unwrap());

    let file = GgufFile::from_bytes(bytes).unwrap();
    assert_eq!(file.alignment(), 128);
    assert_eq!(file.metadata().get("e"), Some(Value::Array(numbers.as_array())));
    assert_eq!(file.metadata().get("f"), Some(Value::Array(nested.as_array())));
    assert_eq!(file.metadata().get("b"), Some(Value::I64(-1)));
    assert_eq!(file.tensors().len(), FORMATS.len());
    for info in FORMATS {
        let tensor = file.tensor(info.name).unwrap();
        assert_eq!((tensor.format(), tensor.byte_count()), (info.format, 3 * info.block_bytes as u64));
        assert!(tensor.offset().is_multiple_of(128));
        assert_eq!(file.tensor_bytes(tensor), fill(tensor));
    }
}

#[test]
fn the_writer_refuses_what_the_reader_refuses() {
    let mut writer = Writer::new();
    writer.set("k", 1u32).unwrap().tensor("t", Format::F32, shape(&[4])).unwrap();
    assert!(matches!(writer.set("k", 2u32), Err(GgufError::AddedTwice { field: "key", .. })));
    assert!(matches!(writer.set("", 2u32), Err(GgufError::EmptyName { .. })));
    assert!(matches!(writer.set(&"k".repeat(65_536), 2u32), Err(GgufError::OverLimit { .. })));
    assert!(matches!(writer.set("general.alignment", 32u64), Err(GgufError::WrongType { .. })));
    assert!(matches!(writer.set("general.alignment", 24u32), Err(GgufError::BadAlignment { alignment: 24, .. })));
    let too_deep = (0..8).fold(ArrayBuf::scalars(&[1u8]), |inner, _| ArrayBuf::arrays([inner.as_array()]));
    assert!(matches!(writer.set("deep", &too_deep), Err(GgufError::OverLimit { value: 9, limit: 8, .. })));

    let f32 = Format::F32;
    assert!(matches!(writer.tensor("t", f32, shape(&[4])), Err(GgufError::AddedTwice { field: "tensor", .. })));
    assert!(matches!(writer.tensor("", f32, shape(&[4])), Err(GgufError::EmptyName { .. })));
    assert!(matches!(writer.tensor(&"n".repeat(64), f32, shape(&[4])), Err(GgufError::OverLimit { .. })));
    assert!(matches!(writer.tensor("z", f32, shape(&[4, 0])), Err(GgufError::ZeroDimension { .. })));
    assert!(matches!(writer.tensor("h", f32, shape(&[1 << 62])), Err(GgufError::TensorTooLarge { .. })));
    assert!(matches!(writer.tensor("q", Format::Q8_0, shape(&[33])), Err(GgufError::TensorFormat { .. })));

    // Nothing of what was refused is in the file.
    let file = GgufFile::from_bytes(writer.to_vec(|_, out| out.write_all(&[0; 16])).unwrap()).unwrap();
    assert_eq!((file.metadata().len(), file.tensors().len(), file.alignment()), (1, 1, 32));
}

#[test]
fn a_source_of_the_wrong_length_is_refused() {
    let mut writer = Writer::new();
    writer.tensor("t", Format::F32, shape(&[4])).unwrap();
    for written in [0, 15, 17, 100] {
        let error = writer.to_vec(|_, out| out.write_all(&vec![0; written])).unwrap_err();
        assert!(
            matches!(error, GgufError::TensorBytes { expected_bytes: 16, written_bytes, .. } if written_bytes == written as u64),
            "{error:?}"
        );
    }
    let error = writer.to_vec(|_, _| Err(io::Error::other("disk gone"))).unwrap_err();
    assert_eq!(error.to_string(), "cannot write t: disk gone");
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut writer = Writer::new();
    writer.set("k", 1u32).unwrap().tensor("t", Format::F32, shape(&[4])).unwrap();

    let error = writer.create(&path, |_, out| out.write_all(&[0; 3])).unwrap_err();
    assert!(matches!(error.root(), GgufError::TensorBytes { .. }), "{error:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    writer.create(&path, |_, out| out.write_all(&[1; 16])).unwrap();
    writer.create(&path, |_, out| out.write_all(&[2; 16])).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.tensor_bytes(&file.tensors()[0]), [2; 16]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let nowhere = folder.path().join("absent").join("model.gguf");
    assert!(matches!(writer.create(&nowhere, |_, _| Ok(())), Err(GgufError::Io { action: "create", .. })));
}

#[test]
fn an_empty_file_is_a_file() {
    let bytes = Writer::new().to_vec(|_, _| Ok(())).unwrap();
    assert!(bytes.starts_with(&Raw::new().bytes()));
    assert!(GgufFile::from_bytes(bytes).unwrap().metadata().is_empty());
}

proptest! {
    #[test]
    fn any_strings_and_numbers_read_back(
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..40),
        numbers in proptest::collection::vec(any::<i32>(), 0..40),
        keys in proptest::collection::btree_set("\\PC{1,30}", 0..10),
    ) {
        let mut writer = Writer::new();
        for (number, key) in (0u64..).zip(&keys) {
            writer.set(key, number).unwrap();
        }
        writer.set("the texts", &ArrayBuf::texts(&texts)).unwrap();
        writer.set("the numbers", &ArrayBuf::scalars(&numbers)).unwrap();
        let file = GgufFile::from_bytes(writer.to_vec(|_, _| Ok(())).unwrap()).unwrap();
        for (number, key) in (0u64..).zip(&keys) {
            prop_assert_eq!(file.metadata().u64(key).unwrap(), Some(number));
        }
        let read = file.metadata().array("the texts").unwrap().unwrap();
        prop_assert!(read.texts().unwrap().map(|text| text.as_bytes().to_vec()).eq(texts));
        let read = file.metadata().array("the numbers").unwrap().unwrap();
        prop_assert!(read.scalars::<i32>().unwrap().eq(numbers));
    }
}

#[test]
fn a_staged_file_has_no_name_until_it_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new();
    writer.tensor("a", Format::F32, shape(&[2])).unwrap();
    let paths = [folder.path().join("1.gguf"), folder.path().join("2.gguf")];
    let staged = paths.each_ref().map(|path| writer.stage(path, |_, out| out.write_all(&[0; 8])).unwrap());
    assert!(paths.iter().all(|path| !path.exists()));
    let [first, second] = staged;
    first.publish().unwrap();
    drop(second);
    assert!(GgufFile::open(&paths[0]).is_ok());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
