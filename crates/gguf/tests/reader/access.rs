//! Maps, copies and memory give the same views; handles outlive the file; advice changes nothing.

use std::fs;
use std::io::Write;

use metallic_gguf::{Access, GgufError, GgufFile, OpenConfig, TensorData};
use tensor::{Format, Shape};

use crate::raw::fixture;

#[test]
fn all_ways_of_access_agree() {
    let path = fixture("good/ok_plain.gguf");
    let bytes = fs::read(&path).unwrap();
    let mapped = GgufFile::open(&path).unwrap();
    let read = GgufFile::open_with(&path, OpenConfig { access: Access::Read }).unwrap();
    let shared: std::sync::Arc<[u8]> = bytes.clone().into();
    let others = [
        read,
        GgufFile::from_bytes(bytes).unwrap(),
        GgufFile::from_bytes(shared).unwrap(),
        GgufFile::from_bytes(include_bytes!("../../../../fixtures/gguf/good/ok_plain.gguf").as_slice()).unwrap(),
    ];
    for other in others {
        assert_eq!(other.tensors(), mapped.tensors());
        assert!(other.metadata().iter().eq(mapped.metadata().iter()));
        for tensor in mapped.tensors() {
            assert_eq!(other.tensor_bytes(tensor), mapped.tensor_bytes(tensor));
        }
    }
}

#[test]
fn mapped_and_read_data_is_aligned() {
    let path = fixture("good/ok_align_64.gguf");
    for access in [Access::Map, Access::Read] {
        let file = GgufFile::open_with(&path, OpenConfig { access }).unwrap();
        for tensor in file.tensors() {
            assert!(file.tensor_bytes(tensor).as_ptr().addr().is_multiple_of(64), "{access:?}");
        }
    }
}

#[test]
fn a_handle_outlives_its_file_and_its_thread() {
    fn is_shareable<T: Send + Sync + 'static>() {}
    is_shareable::<GgufFile>();
    is_shareable::<TensorData>();

    let file = GgufFile::open(fixture("good/ok_plain.gguf")).unwrap();
    let tensor = file.tensor("blk.0.attn_q.weight").unwrap();
    let expected = file.tensor_bytes(tensor).to_vec();
    let data = file.tensor_data(tensor);
    drop(file);
    let read = std::thread::spawn(move || data.to_vec()).join().unwrap();
    assert_eq!(read, expected);
}

#[test]
fn released_pages_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.gguf");
    let mut writer = metallic_gguf::Writer::new();
    writer.tensor("t", Format::I8, Shape::new(&[1 << 20]).unwrap()).unwrap();
    let data: Vec<u8> = (0..1 << 20).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    writer.create(&path, |_, out| out.write_all(&data)).unwrap();
    for access in [Access::Map, Access::Read] {
        let file = GgufFile::open_with(&path, OpenConfig { access }).unwrap();
        let tensor = &file.tensors()[0];
        file.advise_sequential().unwrap();
        file.advise_will_need(tensor).unwrap();
        assert_eq!(file.tensor_bytes(tensor), data);
        file.release(tensor).unwrap();
        file.tensor_data(tensor).release().unwrap();
        assert_eq!(file.tensor_bytes(tensor), data, "{access:?}");
    }
}

#[test]
fn a_file_that_changed_size_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::copy(fixture("good/ok_plain.gguf"), &path).unwrap();
    let mapped = GgufFile::open(&path).unwrap();
    let read = GgufFile::open_with(&path, OpenConfig { access: Access::Read }).unwrap();
    mapped.check_unchanged().unwrap();
    let mut handle = fs::OpenOptions::new().append(true).open(&path).unwrap();
    handle.write_all(b"more").unwrap();
    let error = mapped.check_unchanged().unwrap_err();
    assert!(matches!(error.root(), GgufError::FileChanged { bytes_at_open: 2560, bytes_now: 2564 }), "{error:?}");
    handle.set_len(100).unwrap();
    assert!(mapped.check_unchanged().is_err());
    read.check_unchanged().unwrap();
    assert_eq!(read.tensors().len(), 3);
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_without_waiting() {
    let error = GgufFile::open("/dev/null").unwrap_err();
    assert!(matches!(error.root(), GgufError::NotAFile { found: "a device or pipe" }), "{error:?}");
    let error = GgufFile::open(fixture("")).unwrap_err();
    assert!(matches!(error.root(), GgufError::NotAFile { found: "a directory" }), "{error:?}");
    let error = GgufFile::open(fixture("absent.gguf")).unwrap_err();
    assert!(matches!(error, GgufError::Io { action: "open", .. }), "{error:?}");
}
