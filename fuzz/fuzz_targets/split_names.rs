//! Any name and any `split.*` keys for a file in a folder: an error that names what is missing, or files of that folder.

#![no_main]

use std::ffi::OsStr;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use metallic_gguf::{GgufFile, Value, Writer};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().expect("a folder for the files");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((keys, names)) = bytes.split_at_checked(8) else {
        return;
    };
    let number = u16::from_le_bytes([keys[0], keys[1]]);
    let count = u16::from_le_bytes([keys[2], keys[3]]);
    let tensors = i32::from_le_bytes([keys[4], keys[5], keys[6], keys[7]]);
    // The first name is opened, the others are there.
    let names: Vec<String> = names.split(|&b| b == 0).map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    FOLDER.with(|folder| {
        // Below the folder, so that `..` leads to a file of this test.
        let inner = folder.path().join("inner");
        std::fs::create_dir_all(&inner).expect("a folder");
        let mut written = Vec::new();
        for (place, name) in (0..).zip(names.iter().take(4)) {
            let path = inner.join(name);
            let plain = path.parent() == Some(&*inner) && path.file_name() == Some(OsStr::new(name)) && name.len() < 200;
            if plain && std::fs::write(&path, shard(number.wrapping_add(place), count, tensors)).is_ok() {
                written.push(path);
            }
        }
        if let Some(path) = written.first() {
            check(path, &inner, written.len());
        }
        for path in written {
            // The same name may have been written twice.
            let _ = std::fs::remove_file(path);
        }
    });
});

fn check(path: &Path, folder: &Path, files: usize) {
    match GgufFile::open(path) {
        Ok(file) => {
            assert!(file.shard_count() <= files);
            for shard in 0..file.shard_count() {
                assert_eq!(file.shard_path(shard).and_then(Path::parent), Some(folder));
            }
        }
        Err(error) => assert!(error.to_string().len() < 8000, "{error}"),
    }
}

fn shard(number: u16, count: u16, tensors: i32) -> Vec<u8> {
    let mut writer = Writer::new();
    for (key, value) in [
        ("split.no", Value::U16(number)),
        ("split.count", Value::U16(count)),
        ("split.tensors.count", Value::I32(tensors)),
    ] {
        writer.set(key, value).expect("a key and a value");
    }
    writer.to_vec(|_, _| Ok(())).expect("memory takes all bytes")
}
