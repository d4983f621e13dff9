//! Whatever is wrong ends in one error that says what, with the right exit code, and nothing on stdout.

use std::path::Path;

use metallic::gguf::Writer;

use crate::support::{Outcome, argument, metallic, metallic_reading, model};

/// `run` on a file at `path`, with errors as JSON.
fn run_on(path: &Path) -> Outcome {
    metallic(["run", &argument(path), "-p", "x", "--json"])
}

/// A file that holds `bytes`, and what running it says.
#[track_caller]
fn refused(name: &str, bytes: &[u8], reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let (kind, message) = run_on(&path).json_error();
    assert_eq!(kind, "file", "{message}");
    assert!(message.contains(reason) && message.contains(name), "{message}");
    // The same for people: one line that says it.
    let plain = metallic(["run", &argument(&path), "-p", "x"]);
    assert_eq!((plain.code, plain.stdout.as_str()), (1, ""));
    assert!(plain.stderr.starts_with("error: ") && plain.stderr.contains(reason), "{plain:?}");
}

#[test]
fn files_that_are_no_models_say_so() {
    refused("empty.gguf", b"", "empty");
    refused("page.gguf", b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "web page");
    refused("noise.gguf", &[0xa5; 4096], "not a GGUF file");
}

#[test]
fn half_a_download_is_told_as_such() {
    let whole = std::fs::read(model()).unwrap();
    refused("half.gguf", &whole[..100_000], "damaged or incomplete");
    refused("most.gguf", &whole[..whole.len() - 1_000_000], "download is incomplete");
}

#[test]
fn every_command_refuses_a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("storyteller-q8.gguf"), b"").unwrap();
    let missing = argument(&folder.path().join("storyteller-q4.gguf"));
    let text = argument(&folder.path().join("storyteller-q8.gguf"));
    for flags in [
        &["run", &missing, "-p", "x"][..],
        &["inspect", &missing],
        &["tokenize", &missing, "-p", "x"],
        &["logits", &missing, "--tokens", "1"],
        &["perplexity", &missing, "-f", &text],
        &["bench", &missing],
    ] {
        let (kind, message) = metallic(flags.iter().chain(&["--json"])).json_error();
        assert_eq!(kind, "file");
        assert!(message.contains("storyteller-q4.gguf") && message.contains("storyteller-q8.gguf"), "{message}");
    }
    assert_eq!(metallic(["chat", &missing]).code, 1);
}

#[test]
fn a_folder_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let (kind, message) = run_on(folder.path()).json_error();
    assert_eq!(kind, "file");
    assert!(message.contains("directory"), "{message}");
}

#[test]
fn an_architecture_that_is_not_known_is_named_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.gguf");
    let mut writer = Writer::new();
    writer.set("general.architecture", "mamba").unwrap();
    writer.create(&path, |_, _| Ok(())).unwrap();
    let (kind, message) = run_on(&path).json_error();
    assert_eq!(kind, "model");
    assert!(message.contains("mamba") && message.contains("llama"), "{message}");
    // Looking into it works, and says the same.
    let report = metallic(["inspect", &argument(&path), "--program"]);
    assert!(report.text().contains("`mamba` is not supported"), "{report:?}");
}

#[test]
fn a_prompt_longer_than_the_context_states_the_numbers() {
    let prompt = vec!["13"; 40].join(",");
    let flags = ["run", "--tokens", &prompt, "-c", "16", "--json"];
    let (kind, message) = metallic(flags).json_error();
    assert_eq!(kind, "context_overflow");
    assert!(message.contains("16") && message.contains("40"), "{message}");
}

#[test]
fn a_budget_that_is_too_small_states_the_numbers() {
    let (kind, message) = metallic(["run", "-p", "x", "--memory", "1", "--json"]).json_error();
    assert_eq!(kind, "does_not_fit");
    assert!(message.contains("1 MiB"), "{message}");
}

#[test]
fn tokens_and_settings_that_mean_nothing_are_refused() {
    let kind = |flags: &[&str]| metallic(flags.iter().chain(&["--json"])).json_error().0;
    assert_eq!(kind(&["run", "--tokens", "99999999"]), "unknown_token");
    assert_eq!(kind(&["logits", "--tokens", "99999999"]), "unknown_token");
    assert_eq!(kind(&["run", "-p", ""]), "empty_prompt");
    assert_eq!(kind(&["run", "-p", "x", "--top-p", "2"]), "sampler");
    assert_eq!(kind(&["run", "-p", "x", "--temp", "nan"]), "sampler");
    assert_eq!(kind(&["run", "-p", "x", "--pre", "nothing"]), "tokenizer");
    assert_eq!(kind(&["run", "-f", "/no/such/prompt"]), "input");
}

#[test]
fn texts_that_are_wrong_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, b"ok \xff").unwrap();
    let path = argument(&path);
    let (kind, message) = metallic(["run", "-f", &path, "--json"]).json_error();
    assert_eq!(kind, "input");
    assert!(message.contains("byte 3"), "{message}");
    let (kind, _) = metallic_reading("{}", ["logits", "--tokens-file", "-", "--json"]).json_error();
    assert_eq!(kind, "input");
    let (kind, _) = metallic_reading("[]", ["logits", "--tokens-file", "-", "--json"]).json_error();
    assert_eq!(kind, "empty_prompt");
    let (kind, message) = metallic_reading("short", ["perplexity", "-f", "-", "--json"]).json_error();
    assert_eq!(kind, "text_too_short");
    assert!(message.contains("1024"), "{message}");
}

#[test]
fn a_broken_template_keeps_only_conversations_from_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.jinja");
    std::fs::write(&path, "{% for %}").unwrap();
    let flags = ["--chat-template-file", &argument(&path), "-n", "1", "--json"];
    let (kind, message) = metallic(["run", "--chat", "-p", "x"].iter().chain(&flags)).json_error();
    assert_eq!(kind, "template");
    assert!(message.contains("line 1"), "{message}");
    assert!(metallic(["run", "-p", "x"].iter().chain(&flags)).json().is_object());
}

#[test]
fn wrong_usage_ends_with_two_and_says_what_would_work() {
    for (flags, reason) in [
        (&[][..], "Usage"),
        (&["model.gguf"], "metallic chat model.gguf"),
        (&["run", "--nothing"], "--nothing"),
        (&["run", "-p", "a", "--tokens", "1"], "cannot be used with"),
        (&["run", "--tokens", "x"], "invalid value"),
        (&["run", "-p", "x", "-n", "-2"], "-2"),
        (&["run", "-p", "x", "-t", "0"], "0 is not in"),
        (&["run", "-p", "x", "-b", "0"], "0 is not in"),
        (&["run", "-p", "x", "--mirostat", "1"], "mirostat"),
        (&["run", "-p", "x", "--logit-bias", "12"], "ID+X"),
        (&["run", "a.gguf", "-m", "b.gguf", "-p", "x"], "named twice"),
        (&["logits"], "--tokens"),
        (&["perplexity"], "--file"),
    ] {
        let outcome = metallic(flags);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{flags:?}: {outcome:?}");
        assert!(outcome.stderr.contains(reason), "{flags:?}: {outcome:?}");
    }
    assert_eq!(metallic(["--help"]).code, 0);
    assert_eq!(metallic(["run", "--help"]).code, 0);
}
