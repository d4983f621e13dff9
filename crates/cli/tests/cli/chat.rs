//! `chat` as a script sees it: lines in, answers out, everything else on stderr.

use serde_json::Value;

use crate::support::{Outcome, argument, metallic, metallic_reading};

/// A conversation with short, fixed answers.
fn talk(script: &str) -> Outcome {
    metallic_reading(script, ["chat", "--temp", "0", "-n", "12"])
}

/// The answers, one a line where they have no line breaks.
fn answer_of(message: &str) -> String {
    let run = metallic(["run", "--chat", "-p", message, "--temp", "0", "-n", "12"]);
    format!("{}\n", run.text())
}

#[test]
fn lines_are_answered_on_stdout() {
    assert_eq!(talk("Tell me a story.\n").text(), answer_of("Tell me a story."));
    assert_eq!(talk("").text(), "");
    assert_eq!(talk("\n\n/exit\nnever said\n").text(), "");
    // Without a line break at the end, and with Windows's.
    assert_eq!(talk("Tell me a story.").text(), answer_of("Tell me a story."));
    assert_eq!(talk("Tell me a story.\r\n").text(), answer_of("Tell me a story."));
}

#[test]
fn a_backslash_continues_a_line() {
    assert_eq!(talk("Tell me\\\na story.\n").text(), answer_of("Tell me\na story."));
}

#[test]
fn undone_and_cleared_turns_leave_no_trace() {
    let story = answer_of("Tell me a story.");
    let first = answer_of("Hello!");
    assert_eq!(talk("Hello!\n/undo\nTell me a story.\n").text(), format!("{first}{story}"));
    assert_eq!(talk("Hello!\n/clear\nTell me a story.\n").text(), format!("{first}{story}"));
    assert_eq!(talk("Tell me a story.\n/regen\n").text(), format!("{story}{story}"));
}

#[test]
fn a_turn_is_seen_by_the_next() {
    let alone = answer_of("Go on.");
    let first = answer_of("Tell me a story.");
    let both = talk("Tell me a story.\nGo on.\n");
    assert!(both.text().starts_with(&first));
    assert_ne!(both.text()[first.len()..], alone);
}

#[test]
fn conversations_are_saved_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = argument(&folder.path().join("talk.json"));
    let said = talk(&format!("/system Be kind.\nTell me a story.\n/save {path}\nGo on.\n"));
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let roles: Vec<&str> = saved.as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(saved[0]["content"], "Be kind.");
    let answer = saved[2]["content"].as_str().unwrap();
    let rest = said.text().strip_prefix(&format!("{answer}\n")).unwrap();
    assert_eq!(talk(&format!("/load {path}\nGo on.\n")).text(), rest);
}

#[test]
fn commands_speak_on_stderr_and_change_what_they_say() {
    let outcome = talk("/help\n/set\n/set temp 0.5\n/set seed 3\n/set\n/stats\n/tokens\n");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""));
    for expected in
        ["/regen", "/load FILE", "temp                 0\n", "temp                 0.5\n", "of 1024 tokens", "[]"]
    {
        assert!(outcome.stderr.contains(expected), "{expected} in {outcome:?}");
    }
    let sampled = |seed: u32| talk(&format!("/set temp 2\n/set seed {seed}\nTell me a story.\n"));
    assert_eq!(sampled(1).text(), sampled(1).text());
    assert_ne!(sampled(1).text(), sampled(2).text());
    let short = talk("/set n-predict 3\nTell me a story.\n");
    assert!(answer_of("Tell me a story.").starts_with(short.text().trim_end()) && short.text().len() < 30, "{short:?}");
}

#[test]
fn a_system_message_is_in_front_and_can_be_taken_away() {
    let tokens = |script: &str| {
        let outcome = talk(script);
        assert_eq!(outcome.code, 0);
        serde_json::from_str::<Vec<u32>>(&outcome.stderr).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
    };
    let plain = tokens("Hello!\n/tokens\n");
    let with_system = tokens("Hello!\n/system Be kind.\n/tokens\n");
    assert_ne!(with_system, plain);
    assert_eq!(tokens("Hello!\n/system Be kind.\n/system\n/tokens\n"), plain);
}

#[test]
fn what_cannot_be_done_is_told_and_the_script_fails_in_the_end() {
    let story = answer_of("Tell me a story.");
    for wrong in ["/nothing", "/undo", "/regen", "/set temp hot", "/set nothing 1", "/load /no/such", "/help me"] {
        let outcome = talk(&format!("{wrong}\nTell me a story.\n"));
        assert_eq!((outcome.code, &outcome.stdout), (1, &story), "{wrong}: {outcome:?}");
        assert!(outcome.stderr.starts_with("error: "), "{wrong}: {outcome:?}");
    }
    let long = "word ".repeat(200);
    let outcome = metallic_reading(&format!("{long}\nHi\n"), ["chat", "-c", "64", "-n", "2", "--temp", "0"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("the context holds 64 tokens"), "{outcome:?}");
    assert!(!outcome.stdout.is_empty());
}
