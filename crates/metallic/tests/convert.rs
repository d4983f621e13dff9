//! Converted checkpoints compute what transformers computes with the originals, and cut text into the same tokens. The
//! expected values are transformers'; see the fixtures' README.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use metallic::gguf::GgufFile;
use metallic::session::Sequence;
use metallic::tensor::Format;
use metallic::text::EncodeOptions;
use metallic::tools::convert::{ConvertOptions, Converted, convert};
use metallic::tools::verify::{self, VerifyOptions};
use metallic::{Device, LoadOptions, Model};

/// Of logits up to 5, through a second program's order of sums.
const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/convert").join(name)
}

fn converted(name: &str, output: &Path, format: Option<Format>) -> Converted {
    let options = ConvertOptions { format, pre_tokenizer: None, name: None, threads: 2 };
    convert(&fixture(name), output, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn load(path: &Path) -> Model {
    let options = LoadOptions { device: Device::Reference, ..LoadOptions::new() };
    Model::load(GgufFile::open(path).unwrap(), &options, &mut |_| {}).unwrap()
}

fn check(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let report = converted(name, &path, None);
    assert_eq!(report.architecture, name);
    assert_eq!(report.notes, Vec::<String>::new());
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture(name).join("expected.json")).unwrap()).unwrap();
    let list = |key: &str| expected[key].as_array().unwrap().clone();

    let mut model = load(&path);
    let tokens: Vec<u32> = list("tokens").iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let logits = model.engine().next_logits(&mut Sequence::default(), &tokens).unwrap().to_vec();
    let wanted: Vec<f32> = list("logits").iter().map(|logit| logit.as_f64().unwrap() as f32).collect();
    assert_eq!(logits.len(), wanted.len());
    for (id, (logit, wanted)) in logits.iter().zip(&wanted).enumerate() {
        assert!((logit - wanted).abs() < TOLERANCE, "{name}: token {id} has {logit}, expected {wanted}");
    }

    let plain = EncodeOptions { add_special: false, parse_special: false };
    for (text, wanted) in list("texts").iter().zip(list("ids")) {
        let wanted: Vec<u32> = wanted.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(model.tokenizer().encode(text.as_str().unwrap(), plain).ids, wanted, "{name}: {text}");
    }
    let options = VerifyOptions {
        file_hashes: false,
        tensor_hashes: false,
        pre_tokenizer: None,
        access: metallic::gguf::Access::Map,
        threads: 1,
    };
    let report = verify::verify(&path, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(report.ok, "{name}: {:?}", report.problems);
}

#[test]
fn llama() {
    check("llama");
}

#[test]
fn qwen2_in_shards() {
    check("qwen2");
}

#[test]
fn qwen3() {
    check("qwen3");
}

#[test]
fn gemma() {
    check("gemma");
}

#[test]
fn gemma2() {
    check("gemma2");
}

#[test]
fn gemma3() {
    check("gemma3");
}

#[test]
fn special_tokens_and_template_come_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    converted("qwen2", &path, None);
    let model = load(&path);
    let tokenizer = model.tokenizer();
    assert_eq!(tokenizer.special_ids().eos, tokenizer.find_token("<|im_end|>"));
    assert_eq!(tokenizer.added_bos(), None);
    let parsed = tokenizer.encode("<|im_start|><tool>x", EncodeOptions { add_special: false, parse_special: true }).ids;
    assert_eq!(parsed[..2], [tokenizer.find_token("<|im_start|>").unwrap(), tokenizer.find_token("<tool>").unwrap()]);
    assert!(tokenizer.is_special(parsed[0]) && !tokenizer.is_special(parsed[1]));
    let template = model.file().metadata().str("tokenizer.chat_template").unwrap().unwrap();
    assert_eq!(template, std::fs::read_to_string(fixture("qwen2").join("chat_template.jinja")).unwrap());

    converted("llama", &path, None);
    assert_eq!(load(&path).tokenizer().added_bos(), Some(1));
}

#[test]
fn matrices_take_the_format_asked_for_and_vectors_stay_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    converted("llama", &path, Some(Format::F16));
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.tensor("blk.0.attn_q.weight").unwrap().format(), Format::F16);
    assert_eq!(file.tensor("blk.0.attn_norm.weight").unwrap().format(), Format::F32);
    assert_eq!(file.metadata().u32("general.file_type").unwrap(), Some(1));
    // Rows of 16 are no whole block of 32: said, and kept in F16.
    let report = converted("llama", &path, Some(Format::Q8_0));
    assert!(report.notes.iter().any(|note| note.contains("blk.0.attn_q.weight becomes F16")), "{:?}", report.notes);
}
