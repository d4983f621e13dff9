//! Which device is taken and why, what `doctor` shows, what `selftest` checks. Machines differ: what must hold on each.

use serde_json::Value;

use crate::support::{ids, metallic};

const STORY: &str = "Once upon a time";

fn doctor() -> Value {
    metallic(["doctor", "--json"]).json()
}

/// Names of devices of a kind that can be used.
fn usable(doctor: &Value, software: bool) -> Vec<&str> {
    let gpus = doctor["gpus"].as_array().unwrap().iter();
    let wanted = gpus.filter(|gpu| gpu["usable"] == true && (gpu["kind"] == "software") == software);
    wanted.map(|gpu| gpu["name"].as_str().unwrap()).collect()
}

#[test]
fn doctor_lists_what_there_is_and_never_prefers_software() {
    let report = doctor();
    assert!(report["cpu"]["cores"].as_u64().unwrap() > 0, "{report}");
    assert!(!report["cpu"]["description"].as_str().unwrap().is_empty());
    for gpu in report["gpus"].as_array().unwrap() {
        assert!(gpu["limits"]["binding_bytes"].as_u64().unwrap() >= 1 << 27, "{gpu}");
        assert!(gpu["features"]["integer_dot"].is_boolean());
        assert!(!gpu["verdict"].as_str().unwrap().is_empty());
        if gpu["kind"] == "software" {
            assert_eq!(gpu["taken_unasked"], false);
            assert_ne!(gpu["name"], report["default"]["name"]);
        }
    }
    let expected = if usable(&report, false).is_empty() { "cpu" } else { "gpu" };
    assert_eq!(report["default"]["device"], expected, "{report}");
    let text = metallic(["doctor"]);
    assert!(text.text().starts_with(&format!("default: {expected}: ")), "{text:?}");
    for gpu in report["gpus"].as_array().unwrap() {
        assert!(text.stdout.contains(gpu["name"].as_str().unwrap()), "{text:?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_named_with_those_that_are() {
    let report = doctor();
    for flags in [&["run", "-p", "x"][..], &["selftest"], &["logits", "--tokens", "1"]] {
        let (kind, message) = metallic(flags.iter().chain(&["--device", "no such thing", "--json"])).json_error();
        assert_eq!(kind, "unknown_device");
        assert!(message.contains("no such thing") && message.contains("`cpu`"), "{message}");
        for gpu in report["gpus"].as_array().unwrap() {
            assert!(message.contains(gpu["name"].as_str().unwrap()), "{message}");
        }
    }
}

#[test]
fn a_gpu_that_is_required_is_a_gpu() {
    let here = !usable(&doctor(), false).is_empty();
    for flags in [&["doctor"][..], &["run", "-p", "x", "-n", "1"], &["run", "-p", "x", "-n", "1", "--device", "gpu"]] {
        let outcome = metallic(flags.iter().chain(&["--require-gpu", "--json"]));
        if here {
            assert_eq!(outcome.code, 0, "{outcome:?}");
        } else {
            assert_eq!(outcome.json_error().0, "unknown_device");
        }
    }
    let outcome = metallic(["run", "-p", "x", "--require-gpu", "--device", "cpu", "--json"]);
    assert_eq!(outcome.json_error().0, "unknown_device");
    for software in usable(&doctor(), true) {
        let outcome = metallic(["run", "-p", "x", "--require-gpu", "--device", software, "--json"]);
        assert_eq!(outcome.json_error().0, "unknown_device", "software is no GPU");
    }
}

#[test]
fn the_device_and_the_reason_are_one_line_on_stderr() {
    let report = doctor();
    let run = |device: &str| {
        let flags = ["run", "-p", STORY, "-n", "12", "--temp", "0", "--device", device];
        metallic(flags.iter().chain(&["-v"]))
    };
    let (reason, device) =
        (report["default"]["reason"].as_str().unwrap(), report["default"]["device"].as_str().unwrap());
    let auto = run("auto");
    let line = auto.stderr.lines().next().unwrap();
    assert!(line.starts_with(device) && line.contains(reason), "{auto:?}");
    assert!(run("cpu").stderr.starts_with("cpu: asked for\n"));
    // A GPU that was asked for is told also where notes are not, and answers with the CPU's tokens.
    for software in usable(&report, true) {
        let flags = ["run", "-p", STORY, "-n", "12", "--temp", "0", "--device", software];
        let told = metallic(flags);
        assert_eq!((told.code, told.stderr.lines().count()), (0, 1), "{told:?}");
        assert!(told.stderr.starts_with("gpu: ") && told.stderr.contains(software), "{told:?}");
        assert_eq!(told.stdout, run("cpu").stdout);
        let json = metallic(flags.iter().chain(&["--json"])).json();
        assert_eq!(ids(&json["tokens"]).len(), 12);
        assert_eq!(json["device"], told.stderr.trim());
    }
}

#[test]
fn selftest_checks_every_step_of_the_cpu() {
    let report = metallic(["selftest", "--device", "cpu", "--json"]).json();
    assert_eq!(report["device"], "cpu");
    assert!(report["cases"].as_u64().unwrap() > 150, "{report}");
    assert_eq!(report["failures"].as_array().unwrap().len(), 0);
    let worst = report["worst"].as_array().unwrap();
    assert!(worst.iter().any(|row| row["path"] == "Codes" && row["nmse"].as_f64().unwrap() > 0.0), "{report}");
}
