//! The shared corpus: every file does what its manifest says, quickly and with little memory.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod counting;

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metallic_gguf::{Access, GgufError, GgufFile, OpenConfig, Value};
use serde_json::Value as Json;

use counting::{Counting, LIVE, PEAK};

/// What a reader may allocate for a file of some kilobytes.
const PEAK_BYTES_MAX: usize = 64 << 20;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test, so that nothing else allocates while it counts.
#[test]
fn every_file_does_what_the_manifest_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf");
    let manifest: Vec<Json> = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest.len(), 92);
    let (mut refused, mut checked) = (0, 0);
    for case in &manifest {
        let name = case["file"].as_str().unwrap();
        let result = open_measured(&folder.join(name));
        match (case["expect"].as_str().unwrap(), &result) {
            ("reject", Ok(_)) => panic!("{name} was accepted: {}", case["what"]),
            ("accept", Err(error)) => panic!("{name} was refused: {error}"),
            (_, Err(error)) => {
                refused += 1;
                check_message(name, error);
            }
            (_, Ok(file)) if case.get("metadata").is_some() => {
                checked += 1;
                check_contents(name, file, case);
            }
            (_, Ok(_)) => {}
        }
    }
    assert!(refused >= 70, "{refused} files were refused");
    assert_eq!(checked, 12, "all good files were compared");
    check_choices(&folder.join("bad"));
    check_large_indices();
}

/// The choices of this reader where the manifest leaves one.
fn check_choices(folder: &Path) {
    let opens = |name: &str| GgufFile::open(folder.join(name).with_extension("gguf")).is_ok();
    for accepted in
        ["align_1", "arch_missing_model", "arr_of_arr", "dims_none", "key_nul", "key_upper_space", "off_first_nonzero"]
    {
        assert!(opens(accepted), "{accepted}");
    }
    for refused in ["big_endian_v3", "bool_255", "tname_empty", "tname_invalid_utf8"] {
        assert!(!opens(refused), "{refused}");
    }
}

/// As many of the smallest entries as the format of this reader takes: the index is bounded too.
fn check_large_indices() {
    const COUNT: u64 = 1 << 17;
    let header = |tensors: u64, entries: u64| {
        [&b"GGUF"[..], &3u32.to_le_bytes(), &tensors.to_le_bytes(), &entries.to_le_bytes()].concat()
    };
    let mut entries = header(0, COUNT);
    let mut tensors = header(COUNT, 0);
    for index in 0..COUNT {
        let name = format!("{index:x}");
        for (file, rest) in [(&mut entries, 5), (&mut tensors, 16)] {
            file.extend((name.len() as u64).to_le_bytes());
            file.extend(name.as_bytes());
            file.resize(file.len() + rest, 0);
        }
    }
    tensors.resize(tensors.len().next_multiple_of(32) + 4, 0);
    // The tensors are all scalars at offset 0, so the second overlaps the first: found with the whole table in memory.
    for (bytes, opens) in [(entries, true), (tensors, false)] {
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let result = GgufFile::from_bytes(bytes);
        let elapsed = start.elapsed();
        let peak_bytes = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        match result {
            Ok(file) => assert!(opens && file.metadata().len() as u64 == COUNT),
            Err(error) => assert!(!opens && matches!(error, GgufError::TensorOverlap { .. }), "{error}"),
        }
        assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
        assert!(peak_bytes < PEAK_BYTES_MAX, "{peak_bytes}");
    }
}

fn open_measured(path: &Path) -> Result<GgufFile, GgufError> {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let mapped = GgufFile::open(path);
    let elapsed = start.elapsed();
    let peak_bytes = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(elapsed < Duration::from_secs(1), "{} took {elapsed:?}", path.display());
    assert!(peak_bytes < PEAK_BYTES_MAX, "{} took {peak_bytes} bytes", path.display());
    let read = GgufFile::open_with(path, OpenConfig { access: Access::Read });
    match (&mapped, &read) {
        (Ok(mapped), Ok(read)) => assert_eq!(mapped.tensors(), read.tensors()),
        (Err(mapped), Err(read)) => assert_eq!(mapped.to_string(), read.to_string()),
        _ => panic!("{}: mapping and reading disagree", path.display()),
    }
    mapped
}

fn check_message(name: &str, error: &GgufError) {
    let message = error.to_string();
    assert!(message.contains(name), "the message names the file: {message}");
    let reason = error.root().to_string();
    let has_place = reason.contains("byte") || reason.contains("not a GGUF file");
    assert!(has_place && reason.len() > 30 && reason.len() < 400, "{name}: {reason}");
}

fn check_contents(name: &str, file: &GgufFile, case: &Json) {
    // Any shard opens the whole model, so only the model's first shard has the metadata seen here.
    let shard = usize::from(name.contains("-00002-of-"));
    if shard == 0 {
        assert_eq!(file.version(), case["version"].as_u64().unwrap() as u32, "{name}");
        assert_eq!(file.alignment(), case["alignment"].as_u64().unwrap() as u32, "{name}");
        let expected = case["metadata"].as_array().unwrap();
        assert_eq!(file.metadata().len(), expected.len(), "{name}");
        for ((key, value), row) in file.metadata().iter().zip(expected) {
            assert_eq!(key, row[0], "{name}");
            check_value(key, value, row[1].as_str().unwrap(), &row[2]);
        }
    }
    let tensors = file.tensors().iter().filter(|tensor| tensor.shard() == shard);
    let expected = case["tensors"].as_array().unwrap();
    assert_eq!(tensors.clone().count(), expected.len(), "{name}");
    for (tensor, row) in tensors.zip(expected) {
        assert_eq!(tensor.name(), row[0], "{name}");
        assert_eq!(tensor.format().name().to_lowercase(), row[1], "{name}");
        let dimensions = tensor.shape().dimensions().iter().copied().chain([1; 4]).take(4).collect::<Vec<u64>>();
        assert_eq!(Json::from(dimensions), row[2], "{name}");
        assert_eq!(tensor.offset(), row[3].as_u64().unwrap(), "{name}");
        assert_eq!(tensor.byte_count(), row[4].as_u64().unwrap(), "{name}");
        assert_eq!(format!("{:016x}", fnv1a(file.tensor_bytes(tensor))), row[5], "{name}");
    }
}

fn check_value(key: &str, value: Value<'_>, kind: &str, expected: &Json) {
    let (found_kind, found) = match value {
        Value::Text(text) => {
            // The expectations were read as C strings.
            let text = text.to_str().unwrap();
            ("str".to_owned(), Json::from(text.split('\0').next().unwrap()))
        }
        Value::Array(array) => {
            assert_eq!(array.iter().count(), array.len());
            let element = array.kind().name().replace("string", "str");
            (format!("arr[{element}]"), Json::from(array.len()))
        }
        Value::Bool(value) => ("bool".to_owned(), Json::from(u8::from(value))),
        Value::F32(number) => ("f32".to_owned(), Json::from(number)),
        Value::F64(number) => ("f64".to_owned(), Json::from(number)),
        integer => {
            let number = integer.to_integer().unwrap();
            let json = u64::try_from(number).map(Json::from).or_else(|_| i64::try_from(number).map(Json::from));
            (integer.kind().name().to_owned(), json.unwrap())
        }
    };
    assert_eq!((found_kind.as_str(), &found), (kind, expected), "{key}");
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
