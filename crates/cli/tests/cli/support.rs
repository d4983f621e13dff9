//! Runs the binary, away from the environment of whoever runs the tests.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The JSON object of a run that succeeded and said nothing else.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Stdout of a run that succeeded and said nothing else.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        &self.stdout
    }

    /// Kind and message of a run that failed with `--json`.
    #[track_caller]
    pub(crate) fn json_error(&self) -> (String, String) {
        assert_eq!((self.code, self.stdout.as_str()), (1, ""), "{self:?}");
        let error: Value = serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(error.as_object().unwrap().len(), 1);
        let field = |name: &str| error["error"][name].as_str().unwrap().to_owned();
        (field("kind"), field("message"))
    }
}

/// The binary with an environment that decides nothing.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metallic"));
    for name in ["METALLIC_MODEL", "METALLIC_THREADS", "METALLIC_DEVICE", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

/// Runs it with nothing on stdin.
pub(crate) fn metallic<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Outcome {
    metallic_reading("", arguments)
}

/// Runs it with `input` on stdin.
pub(crate) fn metallic_reading<A: AsRef<OsStr>>(input: &str, arguments: impl IntoIterator<Item = A>) -> Outcome {
    finish(command().args(arguments), input)
}

/// Runs a prepared command with `input` on stdin.
pub(crate) fn finish(command: &mut Command, input: &str) -> Outcome {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A run that fails before it reads closes the pipe, which is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The model file that is also built in.
pub(crate) fn model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/storyteller/metallic-storyteller-Q8_0.gguf")
}

/// A JSON array as numbers.
pub(crate) fn ids(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// A string as a path argument.
pub(crate) fn argument(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}
