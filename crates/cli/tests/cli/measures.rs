//! `logits`, `perplexity` and `bench`.

use serde_json::Value;

use crate::support::{argument, ids, metallic, metallic_reading};

const PROMPT: &str = "2589,696,258,552";

#[test]
fn the_highest_logit_is_the_greedy_token() {
    let report = metallic(["logits", "--tokens", PROMPT, "--top", "5", "--json"]).json();
    let positions = report["positions"].as_array().unwrap();
    assert_eq!(positions.len(), 1);
    assert_eq!(positions[0]["position"], 3);
    let top = positions[0]["top"].as_array().unwrap();
    let logits: Vec<f64> = top.iter().map(|pair| pair[1].as_f64().unwrap()).collect();
    assert_eq!(logits.len(), 5);
    assert!(logits.windows(2).all(|pair| pair[0] >= pair[1]), "{logits:?}");
    assert!(positions[0]["lse"].as_f64().unwrap() > logits[0]);
    let run = metallic(["run", "--tokens", PROMPT, "-n", "1", "--temp", "0", "--json"]).json();
    assert_eq!(run["tokens"][0], top[0][0]);
}

#[test]
fn all_positions_agree_with_the_last_of_each_beginning() {
    let all =
        metallic_reading("[2589, 696, 258, 552]", ["logits", "--tokens-file", "-", "--top", "3", "--all", "--json"]);
    let all = all.json()["positions"].as_array().unwrap().clone();
    assert_eq!(all.len(), 4);
    for (beginning, position) in ["2589", "2589,696", "2589,696,258", PROMPT].iter().zip(&all) {
        let last = metallic(["logits", "--tokens", beginning, "--top", "3", "--json"]).json();
        assert_eq!(last["positions"][0], *position);
    }
}

#[test]
fn the_log_sum_is_over_the_whole_vocabulary() {
    let report = metallic(["logits", "--tokens", PROMPT, "--top", "1000000", "--json"]).json();
    let position = &report["positions"][0];
    let logits = position["top"].as_array().unwrap().iter().map(|pair| pair[1].as_f64().unwrap());
    let sum: f64 = logits.map(f64::exp).sum();
    assert!((sum.ln() - position["lse"].as_f64().unwrap()).abs() < 1e-5);
}

#[test]
fn logits_for_people_name_the_piece() {
    let table = metallic(["logits", "--tokens", PROMPT, "--top", "2"]);
    assert!(table.text().contains("\" there\""), "{table:?}");
}

#[test]
fn perplexity_of_a_text_is_that_of_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    let story = metallic(["run", "-p", "Once upon a time", "-n", "80", "--temp", "0", "--ignore-eos", "--json"]).json();
    let text = format!("Once upon a time{}", story["text"].as_str().unwrap());
    std::fs::write(&file, &text).unwrap();
    let path = argument(&file);
    let measure = |chunk: &str| metallic(["perplexity", "-f", &path, "-c", chunk, "--json"]).json();
    let report = measure("32");
    let perplexity = report["perplexity"].as_f64().unwrap();
    // Its own most likely words surprise a model little, and any other text more.
    assert!((1.0..3.0).contains(&perplexity), "{report}");
    assert_eq!(report["chunks"], 2);
    assert_eq!(report["tokens"], 2 * 15);
    assert!(report["standard_error"].as_f64().unwrap() > 0.0);
    std::fs::write(&file, text.chars().rev().collect::<String>()).unwrap();
    assert!(measure("32")["perplexity"].as_f64().unwrap() > 10.0 * perplexity);
}

#[test]
fn bench_has_the_promised_fields() {
    let flags = ["bench", "-p", "24", "-n", "6", "-t", "2", "-r", "3", "--json"];
    let report = metallic(flags).json();
    for rates in ["prefill_tok_s", "decode_tok_s"] {
        let rate = |field: &str| report[rates][field].as_f64().unwrap();
        assert!(0.0 < rate("min") && rate("min") <= rate("median") && rate("median") <= rate("max"), "{report}");
    }
    assert_eq!(report["threads"], 2);
    assert_eq!(report["backend"], "cpu");
    for field in ["load_ms", "read_gb_s"] {
        assert!(report[field].as_f64().unwrap() > 0.0, "{field} in {report}");
    }
    let weights = report["weight_bytes_per_token"].as_u64().unwrap();
    assert!((1_000_000..9_650_336).contains(&weights), "{weights}");
    let ledger = report["ledger"].as_array().unwrap();
    let sum = |field: &str| ledger.iter().map(|row| row[field].as_f64().unwrap()).sum::<f64>();
    // Each of the 3 × 6 passes reads every weight once.
    assert_eq!(sum("weight_bytes") as u64, weights * 18);
    assert!((sum("share") - 1.0).abs() < 1e-9);
    assert!(ledger.iter().all(|row| row["step"].is_string() && row["calls"].as_u64().unwrap() > 0));
    if cfg!(target_os = "linux") {
        // Less than the buffer of the read measurement, which must not count.
        assert!((9_000_000..1_000_000_000).contains(&report["peak_rss_bytes"].as_u64().unwrap()), "{report}");
    }
}

#[test]
fn bench_decodes_sequences_side_by_side() {
    let report = metallic(["bench", "-p", "0", "-n", "3", "-s", "8", "-r", "2", "--json"]).json();
    assert_eq!(report["sequences"], 8);
    let ledger = report["ledger"].as_array().unwrap();
    let sum = |field: &str| ledger.iter().map(|row| row[field].as_u64().unwrap()).sum::<u64>();
    let weights = report["weight_bytes_per_token"].as_u64().unwrap();
    // Each of the 2 × 3 passes reads every weight once, for eight rows.
    assert_eq!(sum("weight_bytes"), weights * 6);
    let alone = metallic(["bench", "-p", "0", "-n", "3", "-r", "2", "--json"]).json();
    let multiply_adds = |report: &Value| {
        let steps = report["ledger"].as_array().unwrap().iter();
        let head = steps.clone().find(|row| row["step"] == "head").unwrap();
        head["multiply_adds"].as_u64().unwrap()
    };
    assert_eq!(multiply_adds(&report), 8 * multiply_adds(&alone));
    let table = metallic(["bench", "-p", "0", "-n", "2", "-s", "2", "-d", "70", "-r", "1"]);
    assert!(table.text().contains("decode 2 × 2"), "{table:?}");
    let refused = metallic(["bench", "-p", "0", "-s", "8", "-b", "4"]);
    assert!(refused.stderr.contains("raise -b"), "{refused:?}");
}

#[test]
fn bench_measures_only_what_is_asked_for() {
    let report = metallic(["bench", "-p", "0", "-n", "2", "-r", "1", "--json"]).json();
    assert_eq!(report["prefill_tok_s"], Value::Null);
    assert!(report["decode_tok_s"]["median"].is_number());
    let table = metallic(["bench", "-p", "8", "-n", "2", "-r", "1"]);
    assert!(table.text().contains("decode 2") && table.text().contains("GB/s"), "{table:?}");
}

#[test]
fn the_reference_device_agrees_on_the_most_likely_token() {
    let top = |device: &str| {
        let flags = ["logits", "--tokens", PROMPT, "--top", "3", "--json", "--backend", device];
        let report = metallic(flags).json();
        let pairs = report["positions"][0]["top"].as_array().unwrap().clone();
        ids(&pairs.iter().map(|pair| pair[0].clone()).collect())
    };
    assert_eq!(top("cpu"), top("reference"));
}
