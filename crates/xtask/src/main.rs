//! `cargo xtask`: every check of the repository, in the order in which they fail fastest. It holds no rules itself:
//! those are lints, tests and `deny.toml`.

#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "progress of a command-line tool")]

mod fuzz;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

const USAGE: &str = "\
usage: cargo xtask check [--real] [--gpu] [--no-tests]
       cargo xtask fuzz SECONDS

  check        formatting, lints here and for AArch64 and macOS, dependencies, fuzz targets for some seconds, tests (which
               hold the tidy rules)
  --real       also fetch the real models and run the tests that need them
  --gpu        also every GPU kernel in every shape, and real models on a GPU: many minutes in software
  --no-tests   leave `cargo test --workspace` out, for a caller that has just run it
  fuzz         run each fuzz target for SECONDS; what they find is kept in fuzz/corpus and fuzz/artifacts";

/// How long `check` runs each fuzz target.
const CHECK_FUZZ_SECONDS: u32 = 5;

/// What is linted for processors and systems that this machine may not be, without a linker or a C compiler for them. On
/// Linux only the crates with code for one processor and those around them: the others are the same code as on x86-64.
const OTHER_TARGETS: &[(&str, &[&str])] = &[
    (
        "aarch64-unknown-linux-gnu",
        &["metallic-cpu", "metallic-text", "metallic-tools", "metallic-session", "metallic-conformance"],
    ),
    ("aarch64-apple-darwin", &["metallic-wgpu", "metallic", "metallic-cli"]),
    ("x86_64-pc-windows-msvc", &["metallic-wgpu", "metallic", "metallic-cli"]),
];

/// What to do.
enum Task {
    Check(Options),
    /// For so many seconds each.
    Fuzz(u32),
}

/// What `check` runs.
struct Options {
    real_models: bool,
    gpu: bool,
    tests: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match parse(&arguments) {
        None => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
        Some(Task::Check(options)) => check(&options),
        Some(Task::Fuzz(seconds)) => fuzz::run(&root(), seconds),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<Task> {
    let (command, flags) = arguments.split_first()?;
    match (command.as_str(), flags) {
        ("check", _) => {}
        ("fuzz", [seconds]) => return seconds.parse().ok().map(Task::Fuzz),
        _ => return None,
    }
    let mut options = Options { real_models: false, gpu: false, tests: true };
    for flag in flags {
        match flag.as_str() {
            "--real" => options.real_models = true,
            "--gpu" => options.gpu = true,
            "--no-tests" => options.tests = false,
            _ => return None,
        }
    }
    Some(Task::Check(options))
}

fn check(options: &Options) -> Result<(), String> {
    stage("formatting", cargo(&["fmt", "--all", "--check"]))?;
    stage("lints", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    other_targets()?;
    dependencies()?;
    eprintln!("== fuzz targets");
    fuzz::run(&root(), CHECK_FUZZ_SECONDS)?;
    if options.tests {
        stage("tests", cargo(&["test", "--workspace"]))?;
    }
    if options.gpu {
        // By the whole workspace, so that nothing is built again with other features.
        let every_shape = ["test", "--workspace", "--test", "conformance", "--", "--ignored", "every_shape"];
        stage("GPU kernels in every shape", cargo(&every_shape))?;
    }
    if options.real_models {
        real_models(options.gpu)?;
    }
    Ok(())
}

/// Types and lints of code that this machine does not run.
fn other_targets() -> Result<(), String> {
    let missing: Vec<&str> =
        OTHER_TARGETS.iter().map(|(target, _)| *target).filter(|target| !is_installed(target)).collect();
    if !missing.is_empty() {
        let missing = missing.join(" ");
        return Err(format!("lints for other targets: to install them, run `rustup target add {missing}`"));
    }
    for (target, packages) in OTHER_TARGETS {
        let mut command = cargo(&["clippy", "--target", target]);
        command.args(packages.iter().flat_map(|package| ["-p", package])).args(["--", "-D", "warnings"]);
        stage(&format!("lints for {target}"), command)?;
    }
    Ok(())
}

/// Whether the compiler has the standard library of `target`.
fn is_installed(target: &str) -> bool {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", target]).current_dir(root());
    let Ok(output) = command.output() else {
        return false;
    };
    Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
}

/// Licences, sources and versions of dependencies. Advisories are left out: they need a clone of another repository.
fn dependencies() -> Result<(), String> {
    if Command::new("cargo-deny").arg("--version").output().is_err() {
        eprintln!("== dependencies: skipped, cargo-deny is not installed");
        return Ok(());
    }
    stage("dependencies", cargo(&["deny", "check", "bans", "licenses", "sources"]))
}

fn real_models(on_gpu: bool) -> Result<(), String> {
    let script = root().join("scripts/real-models.sh");
    let mut fetch = Command::new(&script);
    fetch.arg("--vocabularies").stderr(std::process::Stdio::inherit());
    eprintln!("== real models: fetch");
    let started = Instant::now();
    let output = fetch.output().map_err(|error| format!("{}: {error}", script.display()))?;
    if !output.status.success() {
        return Err(format!("real models: {} failed with {}", script.display(), output.status));
    }
    let stdout = String::from_utf8(output.stdout).map_err(|error| format!("real models: {error}"))?;
    let folder = stdout.lines().last().ok_or("real models: the script named no folder")?;
    done("real models: fetch", started);
    // As all other tests are built, so that nothing is built again: a release would take longer than it saves.
    let mut command = cargo(&["test", "--workspace", "--test", "real_models", "--", "--ignored"]);
    if !on_gpu {
        command.args(["--skip", "on_a_gpu"]);
    }
    command.env("METALLIC_TEST_MODELS", folder);
    stage("real models: tests", command)
}

fn stage(name: &str, mut command: Command) -> Result<(), String> {
    eprintln!("== {name}");
    let started = Instant::now();
    let status = command.status().map_err(|error| format!("{name}: {command:?} could not start: {error}"))?;
    if !status.success() {
        return Err(format!("{name}: {command:?} failed with {status}"));
    }
    done(name, started);
    Ok(())
}

fn done(name: &str, started: Instant) {
    eprintln!("== {name}: ok, {:.1} s", started.elapsed().as_secs_f64());
}

/// Cargo in the repository's root.
///
/// By name and not by the `CARGO` of `cargo run`, so that the pinned toolchain and `cargo fmt` are found as in a shell.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root());
    command
}

fn root() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("this crate lies two folders below the root").to_owned()
}
