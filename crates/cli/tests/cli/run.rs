//! `run`: the JSON object, streaming, where prompts come from, and that the tokens are the right ones.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{argument, command, finish, ids, metallic, metallic_reading, model};

const STORY: &str = "Once upon a time";

#[test]
fn json_has_the_promised_fields_and_a_seed_fixes_the_tokens() {
    let run = |seed: &str| metallic(["run", "-p", STORY, "-n", "24", "--temp", "0.9", "--seed", seed, "--json"]).json();
    let (first, again, other) = (run("7"), run("7"), run("8"));
    assert_eq!(ids(&first["prompt_tokens"]), [2589, 696, 258, 552]);
    assert_eq!(first["tokens"], again["tokens"]);
    assert_eq!(first["text"], again["text"]);
    assert_ne!(first["tokens"], other["tokens"]);
    assert_eq!(first["finish_reason"], "length");
    assert_eq!(first["seed"], 7);
    let timings = &first["timings"];
    for field in ["load_ms", "prefill_ms", "decode_ms"] {
        assert!(timings[field].as_f64().unwrap() > 0.0, "{field} in {timings}");
    }
    assert_eq!(timings["prefill_tokens"], 4);
    // The first of the 24 comes from the prompt's pass.
    assert_eq!(timings["decode_tokens"], 23);
}

#[test]
fn text_is_what_the_tokens_say_and_threads_change_nothing() {
    let run = |threads: &str| metallic(["run", "-p", STORY, "-n", "32", "-s", "3", "-t", threads, "--json"]).json();
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one["tokens"], two["tokens"]);
    let lines = format!("{}\n", one["tokens"]);
    let decoded = metallic_reading(&lines, ["tokenize", "--decode", "--jsonl", "-"]);
    assert_eq!(serde_json::from_str::<Value>(decoded.text()).unwrap(), one["text"]);
}

#[test]
fn stdout_is_the_text_of_the_json_and_nothing_else() {
    let flags = ["run", "-p", STORY, "-n", "20", "--temp", "0"];
    let json = metallic(flags.iter().chain(&["--json"])).json();
    assert_eq!(metallic(flags).text(), json["text"]);
}

#[test]
fn a_prompt_comes_from_text_ids_a_file_or_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, STORY).unwrap();
    let flags = ["-n", "12", "--temp", "0", "--json"];
    let run = |input: &str, prompt: &[&str]| {
        metallic_reading(input, ["run"].iter().chain(prompt).chain(&flags)).json()["tokens"].clone()
    };
    let expected = run("", &["-p", STORY]);
    assert_eq!(ids(&expected).len(), 12);
    assert_eq!(run("", &["--tokens", "2589,696,258,552"]), expected);
    assert_eq!(run("", &["-f", &argument(&file)]), expected);
    assert_eq!(run("", &["--file", &argument(&file)]), expected);
    assert_eq!(run(STORY, &[]), expected);
    assert_eq!(run(STORY, &["-f", "-"]), expected);
    assert_eq!(run("", &["-p", STORY, "-m", &argument(&model())]), expected);
    assert_eq!(run("", &[&argument(&model()), "-p", STORY, "--no-mmap"]), expected);
}

#[test]
fn a_message_goes_through_the_template_and_the_answer_ends_by_itself() {
    let answer = metallic(["run", "--chat", "-p", "Tell me a story.", "--seed", "1", "--json"]).json();
    let raw = metallic(["run", "-p", "Tell me a story.", "-n", "1", "--json"]).json();
    assert!(ids(&answer["prompt_tokens"]).len() > ids(&raw["prompt_tokens"]).len());
    assert_eq!(answer["finish_reason"], "stop");
    let text = answer["text"].as_str().unwrap();
    assert!(!text.is_empty() && !text.contains("<|"), "{text}");
    let with_system = metallic(["run", "--chat", "-p", "Hi", "--system", "Be brief.", "-n", "1", "--json"]).json();
    let without = metallic(["run", "--chat", "-p", "Hi", "-n", "1", "--json"]).json();
    assert_ne!(with_system["prompt_tokens"], without["prompt_tokens"]);
}

#[test]
fn a_stop_text_ends_the_answer_and_is_not_in_it() {
    let flags = ["run", "-p", STORY, "-n", "40", "--temp", "0", "--json"];
    let whole = metallic(flags).json();
    let stopped = metallic(flags.iter().chain(&["--stop", "castle"])).json();
    let text = stopped["text"].as_str().unwrap();
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(text, whole["text"].as_str().unwrap().split("castle").next().unwrap());
    assert!(ids(&whole["tokens"]).starts_with(&ids(&stopped["tokens"])));
}

#[test]
fn samplers_are_wired() {
    let run = |extra: &[&str]| {
        let flags = ["run", "-p", STORY, "-n", "12", "--temp", "1.5", "--seed", "5", "--json"];
        ids(&metallic(flags.iter().chain(extra)).json()["tokens"])
    };
    let greedy = run(&["--top-k", "1"]);
    assert_eq!(greedy, run(&["--min-p", "1"]));
    assert_eq!(greedy, run(&["--top-p", "0"]));
    let biased = format!("{}-inf", greedy[0]);
    assert_ne!(run(&["--top-k", "1", "--logit-bias", &biased])[0], greedy[0]);
    for flags in [
        &["--mirostat", "2", "--mirostat-ent", "8", "--mirostat-lr", "0.2"][..],
        &["--xtc-probability", "1", "--xtc-threshold", "0.01"],
        &["--typical", "0.5", "--repeat-penalty", "1.5", "--repeat-last-n", "-1"],
        &["--dry-multiplier", "2", "--dry-base", "2", "--dry-allowed-length", "1", "--presence-penalty", "1"],
        &["--top-n-sigma", "0.5", "--frequency-penalty", "0.7", "--dynatemp-range", "0.5"],
    ] {
        assert_eq!(run(flags).len(), 12, "{flags:?}");
    }
}

#[test]
fn zero_tokens_are_zero_tokens() {
    let nothing = metallic(["run", "-p", STORY, "-n", "0", "--json"]).json();
    assert_eq!((ids(&nothing["tokens"]).len(), nothing["text"].as_str().unwrap()), (0, ""));
    assert_eq!(nothing["finish_reason"], "length");
}

/// Against the ids that another program chose; see models/storyteller/README.md.
#[test]
fn greedy_tokens_are_the_expected_ones() {
    /// Where the best two logits are nearer than this, rounding may decide.
    const MARGIN_MIN: f64 = 0.1;
    let path = model().with_file_name("greedy-Q8_0.json");
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() > 5);
    let mut compared = 0;
    for case in cases {
        let margins: Vec<f64> = case["margins"].as_array().unwrap().iter().map(|m| m.as_f64().unwrap()).collect();
        let sure = margins.iter().take_while(|margin| **margin >= MARGIN_MIN).count();
        let greedy = ids(&case["greedy"]);
        let sure = sure.min(greedy.len());
        let prompt: Vec<String> = ids(&case["prompt_ids"]).iter().map(u64::to_string).collect();
        let count = sure.to_string();
        let flags = ["run", "--tokens", &prompt.join(","), "-n", &count, "--temp", "0", "--ignore-eos", "--json"];
        let run = metallic(flags).json();
        assert_eq!(ids(&run["tokens"])[..], greedy[..sure], "{}", case["prompt"]);
        compared += sure;
    }
    assert!(compared > 100, "only {compared} tokens were compared");
}

#[test]
fn the_environment_is_a_default_and_flags_win() {
    let run = |name: &str, value: &str, flags: &[&str]| {
        finish(command().env(name, value).args(["run", "-p", "x", "-n", "1", "--json"]).args(flags), "")
    };
    assert_eq!(run("METALLIC_MODEL", "/no/such.gguf", &[]).json_error().0, "file");
    assert!(run("METALLIC_MODEL", "/no/such.gguf", &[&argument(&model())]).json().is_object());
    assert!(run("METALLIC_MODEL", "/no/such.gguf", &["-m", &argument(&model())]).json().is_object());
    assert_eq!(run("METALLIC_DEVICE", "nothing", &[]).json_error().0, "unknown_device");
    assert!(run("METALLIC_DEVICE", "nothing", &["--device", "cpu"]).json().is_object());
    assert_eq!(run("METALLIC_THREADS", "0", &[]).code, 2);
    assert!(run("METALLIC_THREADS", "1", &[]).json().is_object());
}

#[test]
fn notes_are_told_only_when_asked_for_and_never_in_colour_to_a_pipe() {
    let flags = ["run", "-p", STORY, "-n", "4", "--temp", "0"];
    let verbose = metallic(flags.iter().chain(&["-v"]));
    assert!(verbose.stderr.contains("on cpu: ") && verbose.stderr.contains("tokens/s"), "{verbose:?}");
    assert!(!verbose.stderr.contains('\x1b'));
    assert_eq!(verbose.stdout, metallic(flags).text());
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = command()
        .args(["run", "-p", STORY, "-n", "1000", "-c", "1024", "--ignore-eos"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
