//! `tokenize`: lines of JSON to ids and back, also without weights.

use metallic::gguf::{ArrayBuf, Writer};
use serde_json::{Value, json};

use crate::support::{argument, ids, metallic, metallic_reading};

const TEXTS: [&str; 6] =
    ["Once upon a time", "", "  two spaces\n\tand a tab", "naïve café 日本語 🦊", "<|im_end|>", "\u{0}"];

fn lines(values: impl IntoIterator<Item = Value>) -> String {
    values.into_iter().map(|value| format!("{value}\n")).collect()
}

#[test]
fn text_comes_back_from_its_ids() {
    let input = lines(TEXTS.map(Value::from));
    let encoded = metallic_reading(&input, ["tokenize", "--jsonl", "-"]);
    assert_eq!(encoded.text().lines().count(), TEXTS.len());
    assert_eq!(encoded.text().lines().next(), Some("[2589,696,258,552]"));
    let decoded = metallic_reading(encoded.text(), ["tokenize", "--jsonl", "-", "--decode"]);
    assert_eq!(decoded.text(), input);
}

#[test]
fn control_tokens_are_text_unless_asked_for() {
    let input = lines([json!("<|im_end|>")]);
    let count = |flags: &[&str]| {
        let outcome = metallic_reading(&input, ["tokenize", "--jsonl", "-"].iter().chain(flags));
        ids(&serde_json::from_str(outcome.text()).unwrap()).len()
    };
    assert!(count(&[]) > 1);
    assert_eq!(count(&["--parse-special"]), 1);
}

#[test]
fn one_text_is_a_table_for_people_and_an_array_for_programs() {
    let table = metallic(["tokenize", "-p", TEXTS[0]]);
    assert!(table.text().contains("2589") && table.text().contains("\" upon\""), "{table:?}");
    let array = metallic(["tokenize", "-p", TEXTS[0], "--json"]).json();
    assert_eq!(ids(&array), [2589, 696, 258, 552]);
    assert_eq!(metallic_reading(TEXTS[0], ["tokenize", "--json"]).json(), array);
}

/// A SentencePiece vocabulary without weights, in which only `a`, `b` and `ab` can be said.
fn vocabulary_only(folder: &std::path::Path) -> String {
    let mut writer = Writer::new();
    let tokens = ["<unk>", "<s>", "</s>", "\u{2581}", "a", "b", "ab"];
    let types = [2i32, 3, 3, 1, 1, 1, 1];
    let scores = [0.0f32, 0.0, 0.0, -1.0, -2.0, -3.0, -0.5];
    let (tokens, types, scores) = (ArrayBuf::texts(tokens), ArrayBuf::scalars(&types), ArrayBuf::scalars(&scores));
    writer.set("general.architecture", "llama").unwrap();
    writer.set("tokenizer.ggml.model", "llama").unwrap();
    writer.set("tokenizer.ggml.tokens", tokens.as_array()).unwrap();
    writer.set("tokenizer.ggml.token_type", types.as_array()).unwrap();
    writer.set("tokenizer.ggml.scores", scores.as_array()).unwrap();
    let path = folder.join("vocabulary.gguf");
    writer.create(&path, |_, _| Ok(())).unwrap();
    argument(&path)
}

#[test]
fn a_file_without_weights_will_do_and_lost_bytes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = vocabulary_only(folder.path());
    let input = lines([json!("ab"), json!("b")]);
    let plain = metallic_reading(&input, ["tokenize", &file, "--jsonl", "-"]);
    assert_eq!((plain.code, plain.stdout.as_str()), (0, "[3,6]\n[3,5]\n"), "{plain:?}");
    let added = metallic_reading(&input, ["tokenize", &file, "--jsonl", "-", "--add-bos"]);
    assert_eq!(added.stdout, "[1,3,6]\n[1,3,5]\n");
    let inspected = metallic(["inspect", &file, "--json", "--program"]).json();
    assert_eq!(inspected["tensors"], json!([]));
    assert_eq!(inspected["tokenizer"]["vocabulary"], 7);
    assert_eq!(inspected["plan"]["error"]["kind"], "model");
    assert_eq!(inspected["program"]["error"]["kind"], "model");
}

#[test]
fn lines_that_are_wrong_are_named() {
    for (input, flags, reason) in [
        ("\"a\"\nb\n", &[][..], "line 2 is not a string"),
        ("[1]\n", &[], "line 1 is not a string"),
        ("\"a\"\n", &["--decode"], "line 1 is not an array of ids"),
        ("[1]\n[-1]\n", &["--decode"], "line 2 is not an array of ids"),
        ("[99999]\n", &["--decode"], "id 99999 is outside the vocabulary"),
    ] {
        let outcome = metallic_reading(input, ["tokenize", "--jsonl", "-", "--json"].iter().chain(flags));
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains(reason), "{outcome:?}");
    }
}
