//! The commands that write and check files: thin shells over `metallic::tools`.

pub(crate) mod convert;
pub(crate) mod imatrix;
pub(crate) mod quantize;
pub(crate) mod set;
pub(crate) mod split;
pub(crate) mod verify;

use std::ops::ControlFlow;
use std::path::Path;

use metallic::Error;
use metallic::gguf::GgufFile;
use metallic::tools::{ToolError, Watch};

use crate::interrupt::Answering;
use crate::output::{Interrupted, Output};
use crate::progress::Progress;

/// Opens the file that a tool reads.
fn open(path: &Path) -> anyhow::Result<GgufFile> {
    Ok(GgufFile::open(path).map_err(Error::from)?)
}

/// Runs a tool under a progress bar. Ctrl-C ends it, and it takes back what it began to write.
fn watched<T>(out: &Output, tool: impl FnOnce(&mut Watch<'_>) -> Result<T, ToolError>) -> anyhow::Result<T> {
    let mut progress = Progress::of_bytes(out);
    let working = Answering::begin();
    let outcome = tool(&mut |at| {
        progress.set(at.name, at.done_bytes, at.total_bytes);
        if working.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(progress);
    match outcome {
        Ok(result) => Ok(result),
        Err(ToolError::Cancelled) => Err(Interrupted.into()),
        Err(error) => Err(Error::from(error).into()),
    }
}

/// Threads asked for, or as many as there are physical cores.
fn threads(asked: Option<u32>) -> usize {
    asked.map_or_else(metallic::default_threads, |threads| threads as usize)
}

/// A size for people.
fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}
