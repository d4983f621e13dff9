//! What a tool can fail with, each with the place and what would work.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Every way in which a tool fails. Names from files are shown as they are in the files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ToolError {
    /// A GGUF file could not be read or written.
    #[error(transparent)]
    File(#[from] gguf::GgufError),
    /// The watcher ended the work; nothing was left behind.
    #[error("cancelled; no file was written")]
    Cancelled,
    /// The output is one of the inputs.
    #[error("{} is being read: name another file for the result", .path.display())]
    OutputIsInput {
        /// The path that was given for the result.
        path: PathBuf,
    },
    /// A file other than a GGUF file could not be read.
    #[error("cannot read {}: {cause}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        cause: io::Error,
    },
    /// The output refused bytes. The writer puts the path around it.
    #[error("cannot write: {0}")]
    Output(io::Error),
    /// No mix or format has this name.
    #[error("no type is called {name:?}; there are {known}")]
    UnknownMix {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// This build cannot write a format.
    #[error("tensor {tensor} would become {format}, which this build cannot encode")]
    NoEncoder {
        /// The tensor.
        tensor: String,
        /// The format.
        format: &'static str,
    },
    /// This build cannot read a format.
    #[error("tensor {tensor} is stored as {format}, which this build cannot decode")]
    NoDecoder {
        /// The tensor.
        tensor: String,
        /// The format.
        format: &'static str,
    },
    /// A weight is NaN or infinite.
    #[error("tensor {tensor} has the value {value} at row {row}, column {column}: the file is damaged")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// The row, from 0.
        row: u64,
        /// The column, from 0.
        column: u64,
    },
    /// A weight is too large for a format's scales.
    #[error(
        "tensor {tensor} has values near row {row} too large for {format}: keep it in another format \
         (--tensor-type {tensor}=BF16)"
    )]
    BeyondFormat {
        /// The tensor.
        tensor: String,
        /// The format.
        format: &'static str,
        /// The row, from 0.
        row: u64,
    },
    /// A pattern is no regular expression.
    #[error("the pattern {pattern:?} of a tensor type is no regular expression: {cause}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A pattern matches no tensor that could be quantised.
    #[error("the pattern {pattern:?} matches no tensor that is quantised: `metallic inspect` lists their names")]
    UnusedPattern {
        /// The pattern.
        pattern: String,
    },
    /// A file is no importance matrix.
    #[error("{} is no importance matrix: {reason}", .path.display())]
    NotImportance {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// An importance matrix is for another model.
    #[error(
        "the importance matrix has {found} numbers for tensor {tensor}, which needs {expected}: it was made from \
         another model"
    )]
    ImportanceSize {
        /// The tensor.
        tensor: String,
        /// Numbers in the file.
        found: usize,
        /// Columns times matrices.
        expected: u64,
    },
    /// An importance is NaN, infinite or negative.
    #[error("the importance of tensor {tensor} has the value {value}: the file is damaged")]
    BadImportance {
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
    },
    /// An importance matrix has nothing for a model.
    #[error("the importance matrix has no entry for any tensor of this model: it was made from another one")]
    ForeignImportance,
    /// A model of one file was to be merged.
    #[error("the model is one file already")]
    NotSplit,
    /// A model was to be split into more files than the numbering allows.
    #[error("the limits give {shards} files, at most {limit} can be numbered: allow more in each")]
    TooManyShards {
        /// Files wanted.
        shards: usize,
        /// The most there can be.
        limit: usize,
    },
    /// A checkpoint to be converted is wrong or of a kind that cannot be converted.
    #[error("{}: {reason}", .path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what would work.
        reason: String,
    },
    /// An edit of metadata makes no sense.
    #[error("cannot set {key}: {reason}")]
    Edit {
        /// The key.
        key: String,
        /// Why, and what would work.
        reason: String,
    },
    /// A worker thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl ToolError {
    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            ToolError::File(_) => "file",
            ToolError::Cancelled => "cancelled",
            ToolError::OutputIsInput { .. } => "output_is_input",
            ToolError::Read { .. } => "read",
            ToolError::Output(_) => "output",
            ToolError::UnknownMix { .. } => "unknown_type",
            ToolError::NoEncoder { .. } => "no_encoder",
            ToolError::NoDecoder { .. } => "no_decoder",
            ToolError::NotFinite { .. } => "not_finite",
            ToolError::BeyondFormat { .. } => "beyond_format",
            ToolError::Pattern { .. } => "pattern",
            ToolError::UnusedPattern { .. } => "unused_pattern",
            ToolError::NotImportance { .. } => "not_importance",
            ToolError::ImportanceSize { .. } => "importance_size",
            ToolError::BadImportance { .. } => "bad_importance",
            ToolError::ForeignImportance => "foreign_importance",
            ToolError::NotSplit => "not_split",
            ToolError::TooManyShards { .. } => "too_many_shards",
            ToolError::Checkpoint { .. } => "checkpoint",
            ToolError::Edit { .. } => "edit",
            ToolError::Thread(_) => "thread",
        }
    }
}
