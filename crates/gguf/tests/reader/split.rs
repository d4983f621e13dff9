//! Split models: any shard opens all; wrong, missing and foreign shards are refused by name.

use std::fs;
use std::path::{Path, PathBuf};

use metallic_gguf::{GgufError, GgufFile};
use tempfile::TempDir;

use crate::raw::{Raw, fixture, text};

/// The `split.*` keys of a shard; `number` counts from 0.
fn shard(number: u16, count: u16, tensor_count: i32) -> Raw {
    Raw::new().entry(b"split.no", 2, &number.to_le_bytes()).entry(b"split.count", 2, &count.to_le_bytes()).entry(
        b"split.tensors.count",
        5,
        &tensor_count.to_le_bytes(),
    )
}

fn path(folder: &TempDir, number: u16, count: u16) -> PathBuf {
    folder.path().join(format!("model-{number:05}-of-{count:05}.gguf"))
}

/// Writes shards numbered from 1 and opens the one numbered `open`.
fn open_of(shards: &[Raw], open: u16) -> Result<GgufFile, GgufError> {
    let folder = tempfile::tempdir().unwrap();
    for (number, raw) in (1..).zip(shards) {
        fs::write(path(&folder, number, shards.len() as u16), raw.bytes()).unwrap();
    }
    GgufFile::open(path(&folder, open, shards.len() as u16))
}

fn named_tensor(raw: Raw, name: &str) -> Raw {
    raw.tensor(name.as_bytes(), &[8], 0, 0).data(32)
}

#[test]
fn any_shard_opens_all() {
    for name in ["ok_split-00001-of-00002.gguf", "ok_split-00002-of-00002.gguf"] {
        let file = GgufFile::open(fixture("good").join(name)).unwrap();
        assert_eq!(file.shard_count(), 2);
        assert_eq!(file.metadata().str("general.name").unwrap(), Some("tiny"));
        assert_eq!(file.metadata().u32("split.no").unwrap(), Some(0));
        let places: Vec<_> = file.tensors().iter().map(|t| (t.name(), t.shard(), t.offset(), t.byte_count())).collect();
        assert_eq!(
            places,
            [
                ("token_embd.weight", 0, 544, 768),
                ("blk.0.attn_norm.weight", 1, 224, 128),
                ("blk.0.attn_q.weight", 1, 352, 1088)
            ]
        );
        for tensor in file.tensors() {
            let bytes = fs::read(file.shard_path(tensor.shard()).unwrap()).unwrap();
            let expected = &bytes[tensor.offset() as usize..][..tensor.byte_count() as usize];
            assert_eq!(file.tensor_bytes(tensor), expected);
            assert_eq!(&*file.tensor_data(tensor), expected);
            assert_eq!(file.tensor(tensor.name()), Some(tensor));
        }
    }
}

#[test]
fn a_missing_shard_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for present in [1, 3] {
        fs::write(path(&folder, present, 3), shard(present - 1, 3, 0).bytes()).unwrap();
    }
    for opened in [1, 3] {
        let error = GgufFile::open(path(&folder, opened, 3)).unwrap_err();
        let missing = path(&folder, 2, 3);
        assert_eq!(
            error.to_string(),
            format!("shard 2 of 3 is missing: {} does not exist; download it into the same folder", missing.display())
        );
        assert!(matches!(error, GgufError::MissingShard { path, number: 2, count: 3 } if path == missing));
    }
}

#[test]
fn shards_of_another_model_are_refused() {
    let named = |raw: Raw, name: &[u8]| raw.entry(b"general.name", 8, &text(name));
    let cases = [
        ("general.name", vec![named(shard(0, 2, 0), b"one"), named(shard(1, 2, 0), b"two")]),
        ("split.no", vec![shard(0, 2, 0), shard(0, 2, 0)]),
        ("split.count", vec![shard(0, 2, 0), shard(1, 3, 0)]),
        ("split.tensors.count", vec![shard(0, 2, 0), shard(1, 2, 5)]),
        ("split.count", vec![shard(0, 2, 0), Raw::new()]),
    ];
    for (key, shards) in cases {
        let error = open_of(&shards, 1).unwrap_err();
        assert!(matches!(error.root(), GgufError::ShardMismatch { field, .. } if field == key), "{key}: {error:?}");
        assert!(error.to_string().contains("model-00002-of-00002.gguf: "), "{error}");
    }
    let nan = |raw: Raw| raw.entry(b"x", 6, &f32::NAN.to_le_bytes());
    assert!(open_of(&[nan(shard(0, 2, 0)), nan(shard(1, 2, 0))], 2).is_ok());
}

#[test]
fn tensors_of_all_shards_are_counted_once() {
    let two = [named_tensor(shard(0, 2, 2), "a"), named_tensor(shard(1, 2, 2), "b")];
    assert_eq!(open_of(&two, 2).unwrap().tensors().len(), 2);

    let short = [named_tensor(shard(0, 2, 3), "a"), named_tensor(shard(1, 2, 3), "b")];
    let error = open_of(&short, 1).unwrap_err();
    assert!(matches!(error.root(), GgufError::ShardTensorCount { expected: 3, found: 2, shards: 2 }), "{error:?}");

    let twice = [named_tensor(shard(0, 2, 2), "a"), named_tensor(shard(1, 2, 2), "a")];
    let error = open_of(&twice, 1).unwrap_err();
    assert!(
        matches!(error.root(), GgufError::DuplicateTensor { name, shard: 1, first_shard: 0, .. } if name == "a"),
        "{error:?}"
    );
}

#[test]
fn the_name_must_lead_to_the_siblings() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = shard(1, 3, 0).bytes();
    for name in ["model.gguf", "model-00001-of-00003.gguf", "model-00002-of-00004.gguf", "model-2-of-3.gguf"] {
        let path = folder.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let error = GgufFile::open(&path).unwrap_err();
        assert!(matches!(error.root(), GgufError::ShardName { number: 1, count: 3 }), "{name}: {error:?}");
        assert!(error.to_string().contains("NAME-00002-of-00003.gguf"), "{error}");
    }
    // A file of one shard may be called anything.
    let whole = folder.path().join("whole-00007-of-00009.gguf");
    fs::write(&whole, named_tensor(shard(0, 1, 1), "a").bytes()).unwrap();
    assert_eq!(GgufFile::open(&whole).unwrap().shard_count(), 1);
}

#[test]
fn siblings_are_looked_for_in_the_same_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a").join("..").join("b");
    fs::create_dir_all(folder.path().join("a")).unwrap();
    fs::create_dir_all(folder.path().join("b")).unwrap();
    let name = "..-00001-of-00002.gguf";
    fs::write(inner.join(name), shard(0, 2, 0).bytes()).unwrap();
    let error = GgufFile::open(inner.join(name)).unwrap_err();
    let GgufError::MissingShard { path, .. } = error else { panic!("{error:?}") };
    assert_eq!(path.parent(), Some(Path::new(&inner)));
    assert_eq!(path.file_name().unwrap(), "..-00002-of-00002.gguf");
}

#[test]
fn shard_keys_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let open = |raw: &Raw| {
        let path = path(&folder, 1, 2);
        fs::write(&path, raw.bytes()).unwrap();
        GgufFile::open(path).unwrap_err()
    };
    let count = |kind: u32, value: &[u8]| Raw::new().entry(b"split.count", kind, value);
    assert!(matches!(open(&shard(2, 2, 0)).root(), GgufError::OverLimit { value: 2, limit: 1, .. }));
    assert!(matches!(open(&shard(0, 2, -1)).root(), GgufError::OutOfRange { .. }));
    assert!(matches!(open(&count(2, &[2, 0])).root(), GgufError::MissingKey { key } if key == "split.no"));
    assert!(matches!(open(&count(4, &[0, 0, 1, 0])).root(), GgufError::OutOfRange { .. }));
    assert!(matches!(open(&count(8, &text(b"2"))).root(), GgufError::WrongType { .. }));
    let in_memory = shard(0, 2, 0).error();
    assert!(matches!(in_memory, GgufError::ShardInMemory { count: 2 }), "{in_memory:?}");
}
