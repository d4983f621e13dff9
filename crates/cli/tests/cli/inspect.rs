//! `inspect`: JSON that adds up, and tables.

use serde_json::Value;

use crate::support::{argument, metallic, model};

#[test]
fn json_tells_the_whole_file() {
    let report = metallic(["inspect", &argument(&model()), "--json"]).json();
    assert_eq!(report["version"], 3);
    assert_eq!(report["metadata"]["general.architecture"], "qwen2");
    let tokens = &report["metadata"]["tokenizer.ggml.tokens"];
    assert!(tokens["length"].as_u64().unwrap() > 1000 && tokens["first"].as_array().unwrap().len() < 20, "{tokens}");
    let tensors = report["tensors"].as_array().unwrap();
    let embedding = tensors.iter().find(|tensor| tensor["name"] == "token_embd.weight").unwrap();
    assert_eq!(embedding["type"], "Q8_0");
    assert_eq!(embedding["shape"][1], tokens["length"]);
    let elements = embedding["shape"][0].as_u64().unwrap() * embedding["shape"][1].as_u64().unwrap();
    assert_eq!(embedding["bytes"].as_u64().unwrap(), elements / 32 * 34);
    let file_bytes = report["file_bytes"].as_u64().unwrap();
    let end = |tensor: &Value| tensor["file_offset"].as_u64().unwrap() + tensor["bytes"].as_u64().unwrap();
    assert!(tensors.iter().all(|tensor| end(tensor) <= file_bytes));
    let in_section = |tensor: &Value| tensor["offset"].as_u64().unwrap();
    assert!(tensors.iter().any(|tensor| in_section(tensor) == 0));
    let formats = report["formats"].as_array().unwrap();
    let sum = |rows: &[Value]| rows.iter().map(|row| row["bytes"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum(formats), sum(tensors));
    assert!(report["plan"]["kv_bytes_per_token"].as_u64().unwrap() > 0);
    assert!(report.get("program").is_none());
}

#[test]
fn full_shows_long_arrays_whole() {
    let short = metallic(["inspect", "--json"]).json();
    let full = metallic(["inspect", "--json", "--full"]).json();
    let key = "tokenizer.ggml.tokens";
    let tokens = full["metadata"][key].as_array().unwrap();
    assert_eq!(tokens.len() as u64, short["metadata"][key]["length"].as_u64().unwrap());
    let first = short["metadata"][key]["first"].as_array().unwrap();
    assert_eq!(tokens[..first.len()], first[..]);
}

#[test]
fn the_built_in_model_is_the_one_in_the_repository() {
    let of_file = metallic(["inspect", &argument(&model()), "--json", "--full"]).json();
    assert_eq!(metallic(["inspect", "--json", "--full"]).json(), of_file);
}

#[test]
fn tables_show_what_matters_and_the_program_when_asked() {
    let plain = metallic(["inspect"]);
    for expected in ["general.architecture", "token_embd.weight", "Q8_0", "<|im_end|>", "keys and values of a token"] {
        assert!(plain.text().contains(expected), "{expected} in {plain:?}");
    }
    assert!(!plain.text().contains("NormLinear") && !plain.text().contains("blk.1.attn_q.weight"));
    let program = metallic(["inspect", "--program"]);
    assert!(program.text().contains("NormLinear"), "{program:?}");
    let all = metallic(["inspect", "--program", "--all"]);
    assert!(all.text().contains("blk.1.attn_q.weight"));
    assert!(all.text().lines().count() > program.text().lines().count());
}
