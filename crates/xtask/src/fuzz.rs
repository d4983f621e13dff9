//! `cargo xtask fuzz`: builds the fuzz targets with coverage and runs each for some time. It needs the pinned toolchain
//! and a C++ compiler, no nightly: the flags are those of cargo-fuzz without its sanitizers.

use std::path::Path;
use std::process::{Command, Stdio};

/// By target: folders of inputs besides `fuzz/seeds`.
const TARGETS: &[(&str, &[&str])] = &[
    ("gguf_open", &["fixtures/gguf/good", "fixtures/gguf/bad"]),
    ("model_config", &[]),
    ("vocabulary", &[]),
    ("chat_template", &[]),
    ("block_decode", &[]),
    ("split_names", &[]),
];

/// Edge counters, comparisons, and the two checks that release builds leave out.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Seconds that one input may take.
const INPUT_SECONDS_MAX: u32 = 10;
const MEMORY_MIB_MAX: u32 = 2048;

/// Runs every target for `seconds`; the first input that fails ends it.
pub(crate) fn run(root: &Path, seconds: u32) -> Result<(), String> {
    // Given a target, cargo leaves build scripts without the flags.
    let triple = host_triple()?;
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--bins", "--target", &triple, "--manifest-path", "fuzz/Cargo.toml"]);
    build.env("RUSTFLAGS", RUSTFLAGS).current_dir(root);
    let status = build.status().map_err(|error| format!("fuzz targets: {error}"))?;
    if !status.success() {
        return Err(format!("fuzz targets: {build:?} failed with {status}"));
    }
    for (target, inputs) in TARGETS {
        let line = run_target(root, &triple, target, inputs, seconds)?;
        eprintln!("== fuzz {target}: {line}");
    }
    Ok(())
}

fn run_target(root: &Path, triple: &str, target: &str, inputs: &[&str], seconds: u32) -> Result<String, String> {
    let failed = |what: &str| format!("fuzz {target}: {what}");
    let (corpus, artifacts) = (format!("fuzz/corpus/{target}"), format!("fuzz/artifacts/{target}"));
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(root.join(folder)).map_err(|error| failed(&format!("{folder}: {error}")))?;
    }
    let seeds = format!("fuzz/seeds/{target}");
    let mut command = Command::new(root.join("fuzz/target").join(triple).join("release").join(target));
    command.arg(&corpus);
    command.args([seeds.as_str()].iter().chain(inputs).filter(|folder| root.join(folder).exists()));
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-timeout={INPUT_SECONDS_MAX}")).arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    command.arg(format!("-artifact_prefix={artifacts}/")).args(["-print_final_stats=1", "-verbosity=1"]);
    // glibc's heap grows with freed memory in it otherwise, until the limit takes that for a leak.
    command.env("MALLOC_MMAP_THRESHOLD_", "131072").current_dir(root).stdin(Stdio::null());
    let output = command.output().map_err(|error| failed(&error.to_string()))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let from = log.len().saturating_sub(4000);
        let end = &log[log.ceil_char_boundary(from)..];
        return Err(failed(&format!("{}; the input is in {artifacts}\n{end}", output.status)));
    }
    let stat = |name: &str| log.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    let covered = log.lines().rev().find_map(|line| line.split("cov: ").nth(1)?.split(' ').next()).unwrap_or("?");
    Ok(format!(
        "{} executions, {} a second, {covered} edges, peak {} MiB, no finding",
        stat("stat::number_of_executed_units:"),
        stat("stat::average_exec_per_sec:"),
        stat("stat::peak_rss_mb:"),
    ))
}

fn host_triple() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc -vV: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned);
    host.ok_or_else(|| "rustc -vV names no host".to_owned())
}
