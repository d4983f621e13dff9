//! The formats that tensors of a mix get are those that llama.cpp's quantiser gives them. The expected ones were made by
//! `scripts/mix-fixtures.py` with llama-cpp-python 0.3.36 (llama.cpp 0c1e57098).

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;

use gguf::{GgufFile, Writer};
use metallic_tools::importance::Entry;
use metallic_tools::quantize::{OutputFormat, Override, QuantizeOptions, Reason, plan};
use metallic_tools::{Importance, Mix, ToolError};
use serde_json::Value;
use tensor::{Format, Shape};

fn models() -> serde_json::Map<String, Value> {
    let text = include_str!("fixtures/mixes.json");
    serde_json::from_str::<Value>(text).unwrap().as_object().unwrap().clone()
}

/// A file with the model's keys and tensors, all zero: the rules look at no value.
fn file(model: &Value) -> GgufFile {
    let architecture = model["architecture"].as_str().unwrap();
    let mut writer = Writer::new();
    writer.set("general.architecture", architecture).unwrap();
    for (key, field) in [
        ("block_count", "layers"),
        ("attention.head_count", "heads"),
        ("attention.head_count_kv", "kv_heads"),
        ("expert_count", "experts"),
    ] {
        let value = u32::try_from(model[field].as_u64().unwrap()).unwrap();
        writer.set(&format!("{architecture}.{key}"), value).unwrap();
    }
    for tensor in model["tensors"].as_array().unwrap() {
        let shape: Vec<u64> = tensor[1].as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap()).collect();
        writer.tensor(tensor[0].as_str().unwrap(), Format::F32, Shape::new(&shape).unwrap()).unwrap();
    }
    let bytes = writer.to_vec(|tensor, out| {
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), tensor.byte_count()), out).map(|_| ())
    });
    GgufFile::from_bytes(bytes.unwrap()).unwrap()
}

/// Ones for every matrix.
fn importance(file: &GgufFile) -> Importance {
    let mut entries = BTreeMap::new();
    for tensor in file.tensors().iter().filter(|tensor| tensor.shape().dimensions().len() > 1) {
        let matrices = tensor.shape().dimensions().get(2).copied().unwrap_or(1) as usize;
        let columns = tensor.shape().row_elements() as usize;
        entries.insert(
            tensor.name().to_owned(),
            Entry { sums: vec![1.0; matrices * columns], counts: vec![1.0; matrices] },
        );
    }
    Importance { entries, datasets: Vec::new(), chunks: 1, chunk_tokens: 512 }
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
        threads: 1,
    }
}

#[test]
fn every_mix_gives_llama_cpps_formats() {
    let (mut compared, mut wrong) = (0, Vec::new());
    for (label, model) in &models() {
        let file = file(model);
        let importance = importance(&file);
        for (name, expected) in model["formats"].as_object().unwrap() {
            let (mix, with) = name.strip_suffix("+imatrix").map_or((name.as_str(), false), |mix| (mix, true));
            let options =
                QuantizeOptions { importance: with.then_some(&importance), ..options(Mix::from_name(mix).unwrap()) };
            let planned = plan(&file, &options).unwrap();
            let expected = expected.as_str().unwrap().split(' ').flat_map(|run| {
                let (format, count) = run.split_once('*').unwrap();
                std::iter::repeat_n(format, count.parse::<usize>().unwrap())
            });
            for (tensor, expected) in planned.iter().zip(expected) {
                compared += 1;
                if tensor.to.name() != expected {
                    wrong.push(format!("{label} {name}: {} is {}, llama.cpp has {expected}", tensor.name, tensor.to));
                }
            }
        }
    }
    assert!(compared > 20_000, "only {compared} formats compared");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn what_is_asked_for_by_name_comes_before_the_rules() {
    let models = models();
    let file = file(&models["llama-grouped"]);
    let options = QuantizeOptions {
        output: OutputFormat::Keep,
        embedding: Some(Format::Q8_0),
        overrides: vec![
            Override::new(r"blk\.[0-3]\.attn_v", Format::Q6_K).unwrap(),
            Override::new("attn_v", Format::Q5_0).unwrap(),
        ],
        ..options(Mix::Q4_K_M)
    };
    let planned = plan(&file, &options).unwrap();
    let of = |name: &str| planned.iter().find(|tensor| tensor.name == name).unwrap();
    assert_eq!((of("output.weight").to, of("output.weight").reason), (Format::F32, Reason::Kept));
    assert_eq!((of("token_embd.weight").to, of("token_embd.weight").reason), (Format::Q8_0, Reason::Asked));
    assert_eq!(of("blk.3.attn_v.weight").to, Format::Q6_K);
    assert_eq!(of("blk.4.attn_v.weight").to, Format::Q5_0);
    assert_eq!(of("blk.4.attn_q.weight").to, Format::Q4_K);

    let unused = QuantizeOptions { overrides: vec![Override::new("attn_w", Format::Q6_K).unwrap()], ..options };
    assert!(matches!(plan(&file, &unused), Err(ToolError::UnusedPattern { .. })));
    assert!(matches!(Override::new("(", Format::Q6_K), Err(ToolError::Pattern { .. })));
}

#[test]
fn rows_that_blocks_do_not_divide_fall_back_and_say_so() {
    let models = models();
    let file = file(&models["llama-odd-rows"]);
    let planned = plan(&file, &options(Mix::Q4_K_S)).unwrap();
    let query = planned.iter().find(|tensor| tensor.name == "blk.7.attn_q.weight").unwrap();
    assert_eq!((query.to, query.reason), (Format::Q5_0, Reason::Fallback { wanted: Format::Q4_K }));
    let down = planned.iter().find(|tensor| tensor.name == "blk.7.ffn_down.weight").unwrap();
    assert_eq!((down.to, down.reason), (Format::Q4_K, Reason::Mix));
}

#[test]
fn an_importance_matrix_of_another_model_is_refused() {
    let models = models();
    let file = file(&models["llama-grouped"]);
    let mut other = importance(&file);
    other.entries = BTreeMap::from([("blk.0.attn_x.weight".to_owned(), Entry { sums: vec![1.0], counts: vec![1.0] })]);
    let options_with = QuantizeOptions { importance: Some(&other), ..options(Mix::Q4_0) };
    assert!(matches!(plan(&file, &options_with), Err(ToolError::ForeignImportance)));
    let mut short = importance(&file);
    short.entries.get_mut("blk.0.attn_q.weight").unwrap().sums.pop();
    let options_with = QuantizeOptions { importance: Some(&short), ..options(Mix::Q4_0) };
    assert!(matches!(plan(&file, &options_with), Err(ToolError::ImportanceSize { found: 255, expected: 256, .. })));
}
