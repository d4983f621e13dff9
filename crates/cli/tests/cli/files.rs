//! The commands that write and check files: exit codes, what they print, what they leave in a folder.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Outcome, argument, metallic, model};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Quantises the storyteller, quietly: it was quantised before, which is otherwise told.
fn quantize(output: &Path, rest: &[&str]) -> Outcome {
    let (model, output) = (argument(&model()), argument(output));
    metallic([&["quantize", "-q", "--json", &model, &output], rest].concat())
}

#[test]
fn a_quantised_model_tells_its_size_and_still_runs() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("q4.gguf");
    let report = quantize(&output, &["Q4_K_M"]).json();
    assert_eq!(report["type"], "Q4_K_M");
    assert_eq!(report["files"], serde_json::json!([argument(&output)]));
    let tensors = report["tensors"].as_array().unwrap();
    let of = |name: &str| tensors.iter().find(|tensor| tensor["name"] == name).unwrap();
    assert_eq!(
        (&of("blk.3.attn_q.weight")["from"], &of("blk.3.attn_q.weight")["to"]),
        (&"Q8_0".into(), &"Q4_K".into())
    );
    assert_eq!(of("token_embd.weight")["to"], "Q6_K");
    let error = of("blk.3.attn_q.weight")["relative_error"].as_f64().unwrap();
    assert!(error > 0.01 && error < 0.1, "{error}");
    assert!(fs::metadata(&output).unwrap().len() < 6_000_000);
    let path = argument(&output);
    let text = metallic(["run", &path, "-p", "Once upon a time", "-n", "8", "--temp", "0", "-q"]);
    assert!(text.text().split_whitespace().count() >= 3, "{text:?}");
}

#[test]
fn people_hear_of_weights_that_lose_twice_and_of_missing_importances() {
    let folder = tempfile::tempdir().unwrap();
    let output = argument(&folder.path().join("out.gguf"));
    let outcome = metallic(["quantize", "--dry-run", &argument(&model()), &output, "IQ2_XXS"]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.stderr.contains("were quantised before"), "{outcome:?}");
    assert!(outcome.stderr.contains("metallic imatrix"), "{outcome:?}");
    assert!(outcome.stdout.contains("bits a weight"), "{outcome:?}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn mistakes_are_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let cases: [(&[&str], &str); 6] = [
        (&["Q4_KM"], "unknown_type"),
        (&["Q4_0", "--tensor-type", "attn_q=Q9"], "unknown_type"),
        (&["Q4_0", "--tensor-type", "attn_q"], "input"),
        (&["Q4_0", "--tensor-type", "nothing=Q8_0"], "unused_pattern"),
        (&["Q4_0", "--imatrix", "no-such-file"], "file"),
        (&["Q4_0", "--output-tensor-type", "Q8_K"], "unknown_type"),
    ];
    for (rest, kind) in cases {
        assert_eq!(quantize(&output, rest).json_error().0, kind, "{rest:?}");
    }
    let model = argument(&model());
    let (kind, message) = metallic(["quantize", "-q", "--json", &model, &model, "Q4_0"]).json_error();
    assert_eq!(kind, "output_is_input", "{message}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn an_importance_matrix_is_made_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    fs::write(&text, "Once upon a time there was a fox who lived in the wood. ".repeat(40)).unwrap();
    let matrix = folder.path().join("matrix.gguf");
    let (model, text, path) = (argument(&model()), argument(&text), argument(&matrix));
    let made =
        metallic(["imatrix", "--json", &model, "-f", &text, "-o", &path, "--ctx-size", "64", "--chunks", "3"]).json();
    assert_eq!((&made["entries"], &made["chunks"], &made["tokens"]), (&70.into(), &3.into(), &192.into()));
    let report = quantize(&folder.path().join("out.gguf"), &["Q4_K_S", "--imatrix", &path]).json();
    let used = report["tensors"].as_array().unwrap().iter().filter(|tensor| tensor["importance"] == true).count();
    assert_eq!(used, 70);
}

#[test]
fn a_split_model_is_one_model_and_can_be_merged() {
    let folder = tempfile::tempdir().unwrap();
    let (model, prefix) = (argument(&model()), argument(&folder.path().join("part")));
    let files = metallic(["split", "--json", &model, &prefix, "--split-max-size", "4M"]).json();
    let files: Vec<&Value> = files["files"].as_array().unwrap().iter().collect();
    assert_eq!(files.len(), 3);
    assert_eq!(names(folder.path()), (1..=3).map(|n| format!("part-0000{n}-of-00003.gguf")).collect::<Vec<_>>());
    let merged = argument(&folder.path().join("merged.gguf"));
    metallic(["merge", files[2]["path"].as_str().unwrap(), &merged]).text();
    assert!(fs::read(&merged).unwrap() == fs::read(&model).unwrap());
    assert_eq!(metallic(["merge", "--json", &model, &prefix]).json_error().0, "not_split");
}

#[test]
fn metadata_is_edited() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (argument(&model()), argument(&folder.path().join("out.gguf")));
    let template = folder.path().join("template.jinja");
    fs::write(&template, "{{ messages }}").unwrap();
    let file = format!("tokenizer.chat_template={}", argument(&template));
    metallic(["set", &model, &output, "general.name=A: B", "my.number=u32:7", "--text-file", &file]).text();
    let shown = metallic(["inspect", &output, "--json"]).json();
    let text = shown["metadata"].to_string();
    for expected in ["A: B", "my.number", "{{ messages }}"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert_eq!(metallic(["set", "--json", &model, &output, "new.key=1"]).json_error().0, "edit");
    assert_eq!(metallic(["set", &model, &output]).code, 2);
}

#[test]
fn verify_reports_and_its_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let report = metallic(["verify", "--json", &argument(&model())]).json();
    assert_eq!((&report["ok"], &report["problems"]), (&true.into(), &serde_json::json!([])));
    // The digest that models/storyteller/SHA256SUMS has.
    let sums = fs::read_to_string(model().with_file_name("SHA256SUMS")).unwrap();
    assert!(sums.contains(report["files"][0]["sha256"].as_str().unwrap()), "{report}");

    let cut = folder.path().join("cut.gguf");
    fs::write(&cut, &fs::read(model()).unwrap()[..1_000_000]).unwrap();
    let outcome = metallic(["verify", "--json", &argument(&cut)]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&report["ok"], &report["problems"][0]["check"]), (&false.into(), &"structure".into()));
    let outcome = metallic(["verify", &argument(&cut)]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stdout.contains("problem: structure") && outcome.stdout.contains("not sound"), "{outcome:?}");
}

#[test]
fn a_checkpoint_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let output = argument(&folder.path().join("out.gguf"));
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../metallic/tests/fixtures/convert/qwen3");
    let report = metallic(["convert", "--json", &argument(&checkpoint), &output]).json();
    assert_eq!((&report["architecture"], &report["notes"]), (&"qwen3".into(), &serde_json::json!([])));
    metallic(["run", &output, "-p", "hello", "-n", "2", "--seed", "1", "-q"]).text();
    let (kind, message) = metallic(["convert", "--json", &argument(folder.path()), &output]).json_error();
    assert_eq!(kind, "checkpoint");
    assert!(message.contains("config.json"), "{message}");
}
