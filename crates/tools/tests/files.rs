//! Files that the tools write: whole or not at all, the same whatever the threads, never in place of an input.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use gguf::{Access, GgufFile, TensorInfo, Value};
use metallic_tools::importance::{Entry, Importance};
use metallic_tools::quantize::{OutputFormat, QuantizeOptions, quantize};
use metallic_tools::set::{Edit, OwnedValue, set};
use metallic_tools::split::{SplitLimit, SplitOptions, merge, split};
use metallic_tools::verify::{VerifyOptions, verify};
use metallic_tools::{Mix, Progress, ToolError};
use tensor::Format;
use testkit::tiny_gguf::{TinyFormats, TinyModel};

fn go(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A model on disk, with rows that all blocks divide.
fn model(folder: &Path) -> PathBuf {
    let path = folder.join("in.gguf");
    fs::write(&path, TinyModel::wide("llama", 7).parts().bytes()).unwrap();
    path
}

fn options(mix: Mix) -> QuantizeOptions<'static> {
    QuantizeOptions {
        mix,
        pure: false,
        output: OutputFormat::ByMix,
        embedding: None,
        overrides: Vec::new(),
        importance: None,
        importance_name: None,
        keep_split: false,
        threads: 2,
    }
}

fn check_options() -> VerifyOptions {
    VerifyOptions { file_hashes: true, tensor_hashes: true, pre_tokenizer: None, access: Access::Map, threads: 2 }
}

/// Names in a folder, sorted: nothing but results may be there.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn same_tensors(left: &GgufFile, right: &GgufFile) {
    assert_eq!(left.tensors().len(), right.tensors().len());
    for tensor in left.tensors() {
        let other = right.tensor(tensor.name()).unwrap();
        assert_eq!((tensor.format(), tensor.shape()), (other.format(), other.shape()), "{}", tensor.name());
        assert!(left.tensor_bytes(tensor) == right.tensor_bytes(other), "{}", tensor.name());
    }
}

#[test]
fn quantised_tensors_are_what_the_codecs_make_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let source = GgufFile::open(model(folder.path())).unwrap();
    let output = folder.path().join("out.gguf");
    let (files, tensors) = quantize(&source, &output, &options(Mix::Q4_K_S), &mut go).unwrap();
    assert_eq!(files, std::slice::from_ref(&output));
    let file = GgufFile::open(&output).unwrap();
    assert_eq!(file.metadata().u32("general.file_type").unwrap(), Some(14));
    assert_eq!(file.metadata().str("general.name").unwrap(), Some("tiny llama"));
    let mut converted = 0;
    for (tensor, report) in file.tensors().iter().zip(&tensors) {
        let before = source.tensor(tensor.name()).unwrap();
        assert_eq!((tensor.name(), tensor.format()), (report.plan.name.as_str(), report.plan.to));
        if tensor.format() == before.format() {
            assert!(file.tensor_bytes(tensor) == source.tensor_bytes(before));
            assert_eq!(report.relative_error, None);
            continue;
        }
        converted += 1;
        let (values, codec) = (floats(&source, before), tensor.format().codec().unwrap());
        let mut blocks = vec![0; tensor.byte_count() as usize];
        (codec.encode)(&values, &mut blocks);
        assert!(file.tensor_bytes(tensor) == blocks, "{}", tensor.name());
        let error = relative_error(&values, &floats(&file, tensor));
        assert!((report.relative_error.unwrap() - error).abs() < 1e-9, "{}", tensor.name());
    }
    assert_eq!(converted, 15);
}

#[test]
fn threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = GgufFile::open(model(folder.path())).unwrap();
    let mut written = Vec::new();
    for threads in [1, 3] {
        let output = folder.path().join(format!("{threads}.gguf"));
        quantize(&source, &output, &QuantizeOptions { threads, ..options(Mix::Q5_K_M) }, &mut go).unwrap();
        written.push(fs::read(output).unwrap());
    }
    assert!(written[0] == written[1]);
}

#[test]
fn importances_are_used_column_by_column_and_named_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = GgufFile::open(model(folder.path())).unwrap();
    let name = "blk.0.ffn_down.weight";
    let tensor = source.tensor(name).unwrap();
    let columns = tensor.shape().row_elements() as usize;
    let sums: Vec<f32> = (0..columns).map(|column| if column % 7 == 0 { 900.0 } else { 0.9 }).collect();
    let matrix = Importance {
        entries: [(name.to_owned(), Entry { sums: sums.clone(), counts: vec![9.0] })].into(),
        datasets: vec!["a text".to_owned()],
        chunks: 3,
        chunk_tokens: 512,
    };
    let path = folder.path().join("matrix.gguf");
    matrix.write(&path).unwrap();
    let matrix = Importance::read(&path).unwrap();
    let options = QuantizeOptions {
        importance: Some(&matrix),
        importance_name: Some("matrix.gguf".to_owned()),
        ..options(Mix::Q4_K_S)
    };
    let output = folder.path().join("out.gguf");
    quantize(&source, &output, &options, &mut go).unwrap();
    let file = GgufFile::open(&output).unwrap();
    let after = file.tensor(name).unwrap();
    let means: Vec<f32> = sums.iter().map(|sum| sum / 9.0).collect();
    let mut blocks = vec![0; after.byte_count() as usize];
    (after.format().codec().unwrap().encode_weighted)(&floats(&source, tensor), &means, &mut blocks);
    assert!(file.tensor_bytes(after) == blocks);
    assert_eq!(file.metadata().str("quantize.imatrix.file").unwrap(), Some("matrix.gguf"));
    assert_eq!(file.metadata().str("quantize.imatrix.dataset").unwrap(), Some("a text"));
    assert_eq!(file.metadata().u32("quantize.imatrix.chunks_count").unwrap(), Some(3));
}

#[test]
fn the_older_importance_format_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.dat");
    let mut bytes = Vec::new();
    let number = |value: i32, bytes: &mut Vec<u8>| bytes.extend(value.to_le_bytes());
    number(1, &mut bytes);
    number(1, &mut bytes);
    bytes.extend(b"w");
    number(4, &mut bytes);
    number(2, &mut bytes);
    bytes.extend([2.0_f32, 6.0].iter().flat_map(|value| value.to_le_bytes()));
    number(4, &mut bytes);
    number(3, &mut bytes);
    bytes.extend(b"txt");
    fs::write(&path, &bytes).unwrap();
    let matrix = Importance::read(&path).unwrap();
    assert_eq!(matrix.entries["w"].means(), [0.5, 1.5]);
    assert_eq!((matrix.chunks, matrix.datasets.as_slice()), (4, ["txt".to_owned()].as_slice()));
    for end in 0..bytes.len() - 11 {
        fs::write(&path, &bytes[..end]).unwrap();
        let error = Importance::read(&path).unwrap_err();
        assert!(matches!(error, ToolError::NotImportance { .. } | ToolError::File(_)), "{end}: {error}");
    }
}

#[test]
fn values_that_are_no_numbers_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = TinyModel::wide("llama", 7).parts();
    let tensor = parts.tensor_mut("blk.1.attn_k.weight");
    let mut values = vec![0.5; tensor.dimensions.iter().product::<u64>() as usize];
    values[256 * 3 + 17] = f32::NAN;
    tensor.values = Some(values);
    let path = folder.path().join("in.gguf");
    fs::write(&path, parts.bytes()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let error = quantize(&file, &folder.path().join("out.gguf"), &options(Mix::Q8_0), &mut go).unwrap_err();
    assert!(
        matches!(&error, ToolError::NotFinite { tensor, row: 3, column: 17, .. } if tensor == "blk.1.attn_k.weight"),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["in.gguf"]);

    let report = verify(&path, &check_options(), &mut go).unwrap();
    assert!(!report.ok);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].tensor.as_deref(), Some("blk.1.attn_k.weight"));
    assert!(report.problems[0].message.contains("row 3, column 17"), "{:?}", report.problems);
}

#[test]
fn values_too_large_for_a_format_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = TinyModel::wide("llama", 7).parts();
    let tensor = parts.tensor_mut("blk.0.attn_k.weight");
    tensor.values = Some(vec![1e6; tensor.dimensions.iter().product::<u64>() as usize]);
    let file = parts.file();
    let output = folder.path().join("out.gguf");
    let error = quantize(&file, &output, &options(Mix::F16), &mut go).unwrap_err();
    assert!(matches!(error, ToolError::BeyondFormat { format: "F16", row: 0, .. }), "{error}");
    quantize(&file, &output, &options(Mix::BF16), &mut go).unwrap();
}

#[test]
fn no_tool_writes_onto_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path());
    let before = fs::read(&path).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let link = folder.path().join("link.gguf");
    fs::hard_link(&path, &link).unwrap();
    let edit = Edit::Remove { key: "general.name".to_owned() };
    for output in [&path, &link, &folder.path().join("./in.gguf")] {
        let refused = |result: Result<(), ToolError>| assert!(matches!(result, Err(ToolError::OutputIsInput { .. })));
        refused(quantize(&file, output, &options(Mix::Q8_0), &mut go).map(|_| ()));
        refused(set(&file, output, std::slice::from_ref(&edit), &mut go));
    }
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn ending_the_work_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = GgufFile::open(model(folder.path())).unwrap();
    let output = folder.path().join("out.gguf");
    for stop_at in [1, 5, 20] {
        let mut calls = 0;
        let mut stop = |_: Progress<'_>| {
            calls += 1;
            if calls == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(matches!(quantize(&file, &output, &options(Mix::Q4_0), &mut stop), Err(ToolError::Cancelled)));
        let limit = SplitLimit::Tensors(4);
        let mut calls = 0;
        let mut stop = |_: Progress<'_>| {
            calls += 1;
            if calls == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = split(&file, &output, SplitOptions { limit, empty_first: false }, &mut stop);
        assert!(matches!(result, Err(ToolError::Cancelled)));
        assert_eq!(names(folder.path()), ["in.gguf"]);
    }
}

#[test]
fn progress_ends_at_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = GgufFile::open(model(folder.path())).unwrap();
    let mut last = (0, 0);
    let mut watch = |at: Progress<'_>| {
        assert!(at.done_bytes >= last.0);
        last = (at.done_bytes, at.total_bytes);
        ControlFlow::Continue(())
    };
    quantize(&file, &folder.path().join("out.gguf"), &options(Mix::Q4_0), &mut watch).unwrap();
    assert_eq!(last.0, last.1);
    assert_eq!(last.1, file.tensors().iter().map(TensorInfo::byte_count).sum::<u64>());
}

#[test]
fn splitting_and_merging_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path());
    let file = GgufFile::open(&path).unwrap();
    for (limit, empty_first) in [
        (SplitLimit::Tensors(5), false),
        (SplitLimit::Tensors(1), true),
        (SplitLimit::Bytes(600_000), false),
        (SplitLimit::Bytes(1), false),
    ] {
        let parts = tempfile::tempdir().unwrap();
        let shards = split(&file, &parts.path().join("m.gguf"), SplitOptions { limit, empty_first }, &mut go).unwrap();
        assert!(shards.len() > 2);
        assert_eq!(names(parts.path()).len(), shards.len());
        let count = shards.len();
        assert_eq!(shards[1].path, parts.path().join(format!("m-00002-of-{count:05}.gguf")));
        let whole = GgufFile::open(&shards[1].path).unwrap();
        assert_eq!(whole.metadata().read::<u16>("split.count").unwrap(), Some(count as u16));
        same_tensors(&file, &whole);
        let merged = parts.path().join("merged.gguf");
        merge(&whole, &merged, &mut go).unwrap();
        assert!(fs::read(&merged).unwrap() == fs::read(&path).unwrap());
    }
    assert!(matches!(merge(&file, &folder.path().join("x.gguf"), &mut go), Err(ToolError::NotSplit)));
}

#[test]
fn shards_can_be_kept_or_joined_while_quantising() {
    let folder = tempfile::tempdir().unwrap();
    let file = GgufFile::open(model(folder.path())).unwrap();
    let limit = SplitLimit::Tensors(7);
    let shards = split(&file, &folder.path().join("s"), SplitOptions { limit, empty_first: false }, &mut go).unwrap();
    let sharded = GgufFile::open(&shards[0].path).unwrap();
    let (one, _) = quantize(&sharded, &folder.path().join("one.gguf"), &options(Mix::Q8_0), &mut go).unwrap();
    let keep = QuantizeOptions { keep_split: true, ..options(Mix::Q8_0) };
    let (several, _) = quantize(&sharded, &folder.path().join("several.gguf"), &keep, &mut go).unwrap();
    assert_eq!((one.len(), several.len()), (1, shards.len()));
    let (one, several) = (GgufFile::open(&one[0]).unwrap(), GgufFile::open(&several[1]).unwrap());
    same_tensors(&one, &several);
    assert_eq!(one.metadata().get("split.count"), None);
    assert_eq!(several.shard_count(), shards.len());
}

#[test]
fn keys_are_set_added_and_removed_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = GgufFile::open(model(folder.path())).unwrap();
    let output = folder.path().join("out.gguf");
    let texts = [
        "general.name=new: name",
        "llama.context_length=99",
        "my.list=i32[]:[1,-2]",
        "my.flag=bool:true",
        "my.words=str[]:[\"a\"]",
    ];
    let mut edits: Vec<Edit> = texts.iter().map(|text| Edit::parse(text, &file).unwrap()).collect();
    edits.push(Edit::Remove { key: "tokenizer.chat_template".to_owned() });
    edits.push(Edit::Set { key: "my.flag".to_owned(), value: OwnedValue::Scalar(Value::Bool(false)) });
    set(&file, &output, &edits, &mut go).unwrap();
    let edited = GgufFile::open(&output).unwrap();
    let metadata = edited.metadata();
    assert_eq!(metadata.get("general.name"), Some(Value::from("new: name")));
    assert_eq!(metadata.get("llama.context_length"), Some(Value::U32(99)));
    assert_eq!(metadata.get("my.flag"), Some(Value::Bool(false)));
    assert_eq!(metadata.array("my.list").unwrap().unwrap().iter().collect::<Vec<_>>(), [Value::I32(1), Value::I32(-2)]);
    assert_eq!(metadata.get("tokenizer.chat_template"), None);
    assert_eq!(metadata.len(), file.metadata().len() + 2);
    let order = |file: &GgufFile| file.metadata().iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
    let kept: Vec<String> = order(&file).into_iter().filter(|key| key != "tokenizer.chat_template").collect();
    assert_eq!(order(&edited)[..kept.len()], kept);
    same_tensors(&file, &edited);
}

#[test]
fn edits_without_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = GgufFile::open(model(folder.path())).unwrap();
    for text in [
        "",
        "=1",
        "general.name",
        "no.such=1",
        "llama.context_length=x",
        "llama.context_length=-1",
        "a=u8:256",
        "a=bool:1",
        "a=i32[]:[1.5]",
        "a=i32[]:1",
    ] {
        assert!(matches!(Edit::parse(text, &file), Err(ToolError::Edit { .. })), "{text}");
    }
    for edit in [Edit::Remove { key: "no.such".to_owned() }, Edit::parse("split.no=u16:1", &file).unwrap()] {
        let result = set(&file, &folder.path().join("out.gguf"), &[edit], &mut go);
        assert!(matches!(result, Err(ToolError::Edit { .. })));
    }
    assert_eq!(names(folder.path()), ["in.gguf"]);
}

#[test]
fn a_sound_file_is_sound_and_a_cut_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path());
    let report = verify(&path, &check_options(), &mut go).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    let bytes = fs::read(&path).unwrap();
    assert_eq!((report.files[0].bytes, report.files.len()), (bytes.len() as u64, 1));
    assert_eq!(report.files[0].sha256.as_ref().map(String::len), Some(64));
    assert_eq!(report.tensor_hashes.len(), report.tensors);
    let again = verify(&path, &VerifyOptions { threads: 1, ..check_options() }, &mut go).unwrap();
    assert_eq!(report, again);

    fs::write(&path, &bytes[..bytes.len() - 1000]).unwrap();
    let report = verify(&path, &check_options(), &mut go).unwrap();
    assert_eq!((report.ok, report.problems[0].check), (false, "structure"));
}

#[test]
fn a_vocabulary_that_does_not_fit_the_model_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = TinyModel::new("qwen2", 1).parts();
    parts.remove("tokenizer.ggml.merges");
    let path = folder.path().join("in.gguf");
    fs::write(&path, parts.bytes()).unwrap();
    let report = verify(&path, &check_options(), &mut go).unwrap();
    assert_eq!(report.problems.iter().map(|found| found.check).collect::<Vec<_>>(), ["tokenizer"]);
}

#[test]
fn quantised_weights_can_be_quantised_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = TinyModel { formats: TinyFormats::uniform(Format::Q8_0), ..TinyModel::wide("llama", 3) };
    let (_, tensors) = quantize(&model.file(), &folder.path().join("out.gguf"), &options(Mix::Q4_0), &mut go).unwrap();
    assert!(tensors.iter().any(|tensor| tensor.plan.is_requantised()));
}

fn floats(file: &GgufFile, tensor: &TensorInfo) -> Vec<f32> {
    let mut values = vec![0.0; tensor.shape().elements().unwrap() as usize];
    (tensor.format().codec().unwrap().decode)(file.tensor_bytes(tensor), &mut values);
    values
}

fn relative_error(values: &[f32], decoded: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let errors: f64 = values.iter().zip(decoded).map(|(value, decoded)| square(value - decoded)).sum();
    (errors / values.iter().map(|value| square(*value)).sum::<f64>()).sqrt()
}
