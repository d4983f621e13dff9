//! Typed access: any integer type that fits, nothing silently converted, values and places in errors.

use metallic_gguf::{GgufError, GgufFile, Metadata, Value, ValueKind};

use crate::raw::{Raw, array, fixture, text};

fn file() -> GgufFile {
    Raw::new()
        .entry(b"small", 0, &[200])
        .entry(b"negative", 5, &(-1i32).to_le_bytes())
        .entry(b"large", 10, &u64::MAX.to_le_bytes())
        .entry(b"half", 6, &0.5f32.to_le_bytes())
        .entry(b"tenth", 12, &0.1f64.to_le_bytes())
        .entry(b"huge", 12, &1e300f64.to_le_bytes())
        .entry(b"yes", 7, &[1])
        .entry(b"name", 8, &text("grüße".as_bytes()))
        .entry(b"ids", 9, &array(5, 2, &[1, 0, 0, 0, 255, 255, 255, 255]))
        .entry(b"tokens", 9, &array(8, 3, &[text(b"a"), text(b""), text(b"\xff")].concat()))
        .open()
        .unwrap()
}

#[test]
fn reads_integers_of_any_type_that_fits() {
    let file = file();
    let metadata = file.metadata();
    assert_eq!(metadata.u32("small").unwrap(), Some(200));
    assert_eq!(metadata.require::<usize>("small").unwrap(), 200);
    assert_eq!(metadata.u64("large").unwrap(), Some(u64::MAX));
    assert_eq!(metadata.read::<i8>("negative").unwrap(), Some(-1));
    assert_eq!(metadata.u32("absent").unwrap(), None);

    let range = |result: Result<Option<u32>, GgufError>| result.unwrap_err();
    assert!(matches!(range(metadata.u32("negative")), GgufError::OutOfRange { value, .. } if value == "-1"));
    assert!(matches!(range(metadata.u32("large")), GgufError::OutOfRange { .. }));
    assert!(matches!(metadata.read::<i8>("small"), Err(GgufError::OutOfRange { .. })));
    for key in ["half", "yes", "name", "ids"] {
        assert!(matches!(range(metadata.u32(key)), GgufError::WrongType { expected: "u32", .. }), "{key}");
    }
    assert!(matches!(metadata.require::<u32>("absent"), Err(GgufError::MissingKey { key }) if key == "absent"));
}

#[test]
fn reads_floats_bools_and_strings() {
    let file = file();
    let metadata = file.metadata();
    assert_eq!(metadata.f32("half").unwrap(), Some(0.5));
    assert_eq!(metadata.f32("tenth").unwrap(), Some(0.1));
    assert_eq!(metadata.read::<f64>("half").unwrap(), Some(0.5));
    assert!(matches!(metadata.f32("huge"), Err(GgufError::OutOfRange { .. })));
    assert!(matches!(metadata.f32("small"), Err(GgufError::WrongType { found, .. }) if found == "u8"));
    assert_eq!(metadata.bool("yes").unwrap(), Some(true));
    assert!(matches!(metadata.bool("small"), Err(GgufError::WrongType { .. })));
    assert_eq!(metadata.str("name").unwrap(), Some("grüße"));
    let error = metadata.str("ids").unwrap_err();
    assert_eq!(error.to_string(), "key ids at byte 222 is array of i32, expected string");
}

#[test]
fn reads_arrays_in_place() {
    let file = file();
    let ids = file.metadata().array("ids").unwrap().unwrap();
    assert_eq!((ids.kind(), ids.len()), (ValueKind::I32, 2));
    assert_eq!(ids.scalars::<i32>().unwrap().collect::<Vec<_>>(), [1, -1]);
    assert!(ids.scalars::<u32>().is_none() && ids.texts().is_none());
    assert_eq!(ids.iter().collect::<Vec<_>>(), [Value::I32(1), Value::I32(-1)]);

    let tokens = file.metadata().array("tokens").unwrap().unwrap();
    let bytes: Vec<&[u8]> = tokens.texts().unwrap().map(|token| token.as_bytes()).collect();
    assert_eq!(bytes, [&b"a"[..], b"", b"\xff"]);
    assert_eq!(tokens.iter().count(), 3);
}

#[test]
fn iterates_in_file_order() {
    let file = file();
    let keys: Vec<&str> = file.metadata().iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["small", "negative", "large", "half", "tenth", "huge", "yes", "name", "ids", "tokens"]);
    assert_eq!(file.metadata().len(), keys.len());
}

#[test]
fn reads_every_type_of_the_corpus() {
    let file = GgufFile::open(fixture("good/ok_every_kv_type.gguf")).unwrap();
    let metadata: &Metadata = file.metadata();
    assert_eq!(metadata.get("t.str_nul"), Some(Value::Text("a\0b".into())));
    assert!(matches!(metadata.get("t.f32nan"), Some(Value::F32(number)) if number.is_nan()));
    let array = |key: &str| metadata.array(key).unwrap().unwrap();
    assert_eq!(array("t.arr8").iter().count(), 3);
    for id in (0..=12).filter(|&id| id != 9) {
        let kind = ValueKind::from_id(id).unwrap();
        assert_eq!(array(&format!("t.arr{id}")).kind(), kind);
        let empty = array(&format!("t.arr{id}_empty"));
        assert!(empty.kind() == kind && empty.is_empty() && empty.iter().next().is_none());
    }
    let nested = Raw::new().entry(b"k", 9, &array_of_arrays()).open().unwrap();
    let rows: Vec<Vec<i128>> = nested
        .metadata()
        .array("k")
        .unwrap()
        .unwrap()
        .iter()
        .map(|row| match row {
            Value::Array(row) => row.iter().filter_map(|number| number.to_integer()).collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rows, [vec![1, 2], vec![], vec![3]]);
}

fn array_of_arrays() -> Vec<u8> {
    array(9, 3, &[array(0, 2, &[1, 2]), array(4, 0, &[]), array(1, 1, &[3])].concat())
}
