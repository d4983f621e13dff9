//! Where results go: never onto what is being read, and whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gguf::writer::Staged;
use gguf::{GgufFile, TensorInfo, Writer};

use crate::error::ToolError;

/// Refuses an output that is one of the files being read.
pub(crate) fn check_not_input(output: &Path, inputs: &[PathBuf]) -> Result<(), ToolError> {
    for input in inputs {
        if is_same(output, input) {
            return Err(ToolError::OutputIsInput { path: output.to_path_buf() });
        }
    }
    Ok(())
}

/// The paths of all shards of an opened model.
pub(crate) fn paths(file: &GgufFile) -> Vec<PathBuf> {
    (0..file.shard_count()).filter_map(|shard| file.shard_path(shard).map(Path::to_path_buf)).collect()
}

/// Writes the file beside its name. `data` writes the bytes of one tensor; its errors come out as they are.
pub(crate) fn stage(
    writer: &Writer,
    path: &Path,
    mut data: impl FnMut(&TensorInfo, &mut dyn Write) -> Result<(), ToolError>,
) -> Result<Staged, ToolError> {
    let mut failure = None;
    let staged = writer.stage(path, |tensor, out| {
        data(tensor, out).map_err(|error| match error {
            ToolError::Output(cause) => cause,
            error => {
                failure = Some(error);
                io::Error::other("the source of a tensor failed")
            }
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(staged?),
    }
}

/// Two paths lead to one file. A path that leads nowhere is no file.
fn is_same(left: &Path, right: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // Hard links have two canonical paths and one inode.
        match (std::fs::metadata(left), std::fs::metadata(right)) {
            (Ok(left), Ok(right)) => left.dev() == right.dev() && left.ino() == right.ino(),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}
