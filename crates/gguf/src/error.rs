//! Why a file could not be read or written: the field, what it held, where it is, and what to do.
//!
//! A message is whole: an error has no `source()`, whose text would come twice in a printed chain. Names from files
//! are escaped and shortened in messages; the variants keep them whole.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tensor::{FormatError, Shape};
use thiserror::Error;

use crate::lookalike::Lookalike;

/// A name longer than this is cut in a message.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// Past this many missing bytes (1 PiB) a damaged number is likelier than an unfinished download.
const DOWNLOAD_BYTES_MAX: u64 = 1 << 50;

/// Every way in which reading or writing a GGUF file fails. Offsets count from the start of the file (of the shard).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The operating system refused. Covers missing files and permissions.
    #[error("cannot {action} {}: {cause}", .path.display())]
    Io {
        /// What was tried: `open`, `map`, `read`, `create`, `write` or `rename`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        cause: io::Error,
    },
    /// An error of one file, with the file's path.
    #[error("{}: {error}", .path.display())]
    InFile {
        /// The file, a shard of it for a split model.
        path: PathBuf,
        /// What is wrong with it; never an `InFile` itself.
        error: Box<GgufError>,
    },
    /// The path names a directory, a device or a pipe.
    #[error("is {found}, not a file: name a .gguf file")]
    NotAFile {
        /// `a directory` or `a device or pipe`.
        found: &'static str,
    },
    /// The first bytes belong to something else.
    #[error("not a GGUF file: {found}")]
    NotGguf {
        /// What the bytes look like, with what to do about it.
        found: Lookalike,
    },
    /// No memory for a copy of the file.
    #[error("no memory for the {bytes} bytes of the file: map it instead of reading it")]
    OutOfMemory {
        /// The file's size.
        bytes: u64,
    },
    /// The file under the map no longer has the size it had.
    #[error("the file had {bytes_at_open} bytes when it was opened and has {bytes_now} now: load it again")]
    FileChanged {
        /// Size when it was mapped.
        bytes_at_open: u64,
        /// Size now.
        bytes_now: u64,
    },

    /// The version field, byte-swapped, is a version that exists.
    #[error("version at byte 4 is {version:#010x}, byte-swapped {}: a big-endian file; \
             convert it to little endian (gguf_convert_endian.py of llama.cpp)", .version.swap_bytes())]
    BigEndian {
        /// The field as a little-endian number.
        version: u32,
    },
    /// Neither version 2 nor 3.
    #[error("version at byte 4 is {version}; this build reads versions 2 and 3: {}", version_remedy(*.version))]
    UnsupportedVersion {
        /// The field.
        version: u32,
    },

    /// The file ends inside a field or a tensor.
    #[error("file ends at byte {file_bytes}; {field} at byte {offset} needs {missing_bytes} more bytes: {}",
            truncation_cause(*.missing_bytes))]
    Truncated {
        /// What was being read.
        field: String,
        /// Where that starts.
        offset: u64,
        /// How many bytes are not there.
        missing_bytes: u64,
        /// Where the file ends.
        file_bytes: u64,
    },
    /// A count claims more items than could fit into the rest of the file.
    #[error(
        "{field} at byte {offset} is {count}, at least {item_bytes} bytes each, but only {left_bytes} bytes \
             follow: the file is damaged or incomplete"
    )]
    CountTooLarge {
        /// What was being read.
        field: String,
        /// Where the count is.
        offset: u64,
        /// The count.
        count: u64,
        /// The least that one item takes.
        item_bytes: u64,
        /// Bytes between the count and the end of the file.
        left_bytes: u64,
    },
    /// A count, length or depth over this crate's own bound.
    #[error("{field} at byte {offset} is {value}, over the limit of {limit}: the file is damaged or hostile")]
    OverLimit {
        /// What was being read.
        field: String,
        /// Where it is.
        offset: u64,
        /// What it holds.
        value: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A name that must be text is not UTF-8.
    #[error("{field} at byte {offset} is not UTF-8: {}", shown(.lossy))]
    NotUtf8 {
        /// What was being read.
        field: String,
        /// Where the first bad byte is.
        offset: u64,
        /// The bytes with replacement characters.
        lossy: String,
    },
    /// A key or tensor name of no bytes.
    #[error("{field} at byte {offset} is empty: the file is damaged")]
    EmptyName {
        /// What was being read.
        field: String,
        /// Where it is.
        offset: u64,
    },

    /// Two metadata entries share a key.
    #[error("key {} at byte {offset} was already used at byte {first_offset}: the file is damaged", shown(.key))]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where the second one is.
        offset: u64,
        /// Where the first one is.
        first_offset: u64,
    },
    /// A value type that GGUF does not have.
    #[error("key {} has value type {id} at byte {offset}; types are 0 to 12", shown(.key))]
    UnknownValueType {
        /// The key.
        key: String,
        /// The type id.
        id: u32,
        /// Where the id is.
        offset: u64,
    },
    /// A bool that is neither 0 nor 1.
    #[error("key {} holds the bool {value} at byte {offset}; a bool is 0 or 1", shown(.key))]
    BadBool {
        /// The key.
        key: String,
        /// The byte.
        value: u8,
        /// Where it is.
        offset: u64,
    },
    /// The caller needs a key that the file lacks.
    #[error("key {} is missing: the file lacks something this model needs", shown(.key))]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key holds another type than the caller needs.
    #[error("key {} at byte {offset} is {found}, expected {expected}", shown(.key))]
    WrongType {
        /// The key.
        key: String,
        /// What was asked for.
        expected: &'static str,
        /// What is there, such as `u32` or `array of string`.
        found: String,
        /// Where the value is.
        offset: u64,
    },
    /// A number of the right kind does not fit the type the caller needs.
    #[error("key {} at byte {offset} is {value}, which does not fit {expected}", shown(.key))]
    OutOfRange {
        /// The key.
        key: String,
        /// The number.
        value: String,
        /// What was asked for.
        expected: &'static str,
        /// Where the value is.
        offset: u64,
    },
    /// `general.alignment` is no power of two, or larger than any file needs.
    #[error("general.alignment at byte {offset} is {alignment}; it must be a power of two up to {limit}")]
    BadAlignment {
        /// The value.
        alignment: u32,
        /// Where it is.
        offset: u64,
        /// The largest alignment accepted.
        limit: u32,
    },

    /// Two tensors share a name.
    #[error("tensor {} at byte {offset} of shard {shard} was already listed in shard {first_shard}", shown(.name))]
    DuplicateTensor {
        /// The name.
        name: String,
        /// Where the second entry is.
        offset: u64,
        /// The shard of the second entry, from 0.
        shard: usize,
        /// The shard of the first entry, from 0.
        first_shard: usize,
    },
    /// A tensor of no elements.
    #[error("tensor {} at byte {offset} has shape {shape}: a dimension is 0", shown(.name))]
    ZeroDimension {
        /// The tensor.
        name: String,
        /// Its shape, contiguous first.
        shape: Shape,
        /// Where its entry is.
        offset: u64,
    },
    /// The type id or the row length is not one that ggml has.
    #[error("tensor {} at byte {offset}: {cause}", shown(.name))]
    TensorFormat {
        /// The tensor.
        name: String,
        /// Where its entry is.
        offset: u64,
        /// What is wrong.
        cause: FormatError,
    },
    /// The size or the end of a tensor does not fit 63 bits.
    #[error("tensor {} at byte {offset}: {shape} at data offset {data_offset} ends past 2^63 bytes: \
             the file is damaged", shown(.name))]
    TensorTooLarge {
        /// The tensor.
        name: String,
        /// Its shape, contiguous first.
        shape: Shape,
        /// Its offset in the data section.
        data_offset: u64,
        /// Where its entry is.
        offset: u64,
    },
    /// A tensor's data does not start at a multiple of the alignment.
    #[error("tensor {} at byte {offset} has data offset {data_offset}, not a multiple of the alignment {alignment}",
            shown(.name))]
    TensorMisaligned {
        /// The tensor.
        name: String,
        /// Its offset in the data section.
        data_offset: u64,
        /// `general.alignment`.
        alignment: u32,
        /// Where its entry is.
        offset: u64,
    },
    /// A tensor's data starts before the data of the entry before it ends.
    #[error("tensor {} at byte {offset} has data offset {data_offset}, but the tensor before it ends at \
             {previous_end}: data overlaps or is out of order", shown(.name))]
    TensorOverlap {
        /// The tensor.
        name: String,
        /// Its offset in the data section.
        data_offset: u64,
        /// Where the data of the entry before ends.
        previous_end: u64,
        /// Where its entry is.
        offset: u64,
    },

    /// A split file without the name that leads to its siblings.
    #[error("split.count is {count}, so the file is one shard of a split model, but it is not called \
             NAME-{:05}-of-{count:05}.gguf: rename the shards to that pattern", .number + 1)]
    ShardName {
        /// `split.no`, from 0.
        number: u64,
        /// `split.count`.
        count: u64,
    },
    /// Bytes in memory hold one shard of several; the others cannot be found.
    #[error("split.count is {count}: one shard of a split model cannot be read from memory; open it by its path")]
    ShardInMemory {
        /// `split.count`.
        count: u64,
    },
    /// A sibling is not there.
    #[error("shard {number} of {count} is missing: {} does not exist; download it into the same folder",
            .path.display())]
    MissingShard {
        /// The file that should exist.
        path: PathBuf,
        /// Which shard, from 1.
        number: u64,
        /// How many shards there are.
        count: u64,
    },
    /// A file carries a sibling's name and is not part of the model.
    #[error("{field} is {found}, expected {expected}: a shard of another model, or a renamed one")]
    ShardMismatch {
        /// The key or quantity that disagrees.
        field: String,
        /// What this shard has.
        found: String,
        /// What the other shards ask for.
        expected: String,
    },
    /// The shards together do not hold the tensors that the first one promises.
    #[error(
        "split.tensors.count is {expected}, but the {shards} shards hold {found} tensors: \
             shards of different models are mixed"
    )]
    ShardTensorCount {
        /// `split.tensors.count`.
        expected: u64,
        /// Tensors found.
        found: usize,
        /// Shards read.
        shards: usize,
    },

    /// The writer was given a name twice.
    #[error("{field} {} was already added", shown(.name))]
    AddedTwice {
        /// `key` or `tensor`.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// Writing to the caller's output failed.
    #[error("cannot write {field}: {cause}")]
    Write {
        /// What was being written.
        field: String,
        /// The answer of the output or of what gives the tensor's bytes.
        cause: io::Error,
    },
    /// What gives a tensor's bytes gave another number of bytes than its shape and format take.
    #[error("tensor {} takes {expected_bytes} bytes, its source wrote {written_bytes}", shown(.name))]
    TensorBytes {
        /// The tensor.
        name: String,
        /// Bytes by shape and format.
        expected_bytes: u64,
        /// Bytes written.
        written_bytes: u64,
    },
}

impl GgufError {
    /// The error itself, without the path around it.
    pub fn root(&self) -> &Self {
        match self {
            Self::InFile { error, .. } => error,
            other => other,
        }
    }

    /// This error with its file's path, unless the error names a path already.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Io { .. } | Self::InFile { .. } | Self::MissingShard { .. } => self,
            error => Self::InFile { path: path.to_path_buf(), error: Box::new(error) },
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), cause }
    }
}

/// `name`, with control characters escaped and no longer than a line.
pub(crate) fn shown(name: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        let end = name.char_indices().nth(SHOWN_CHARACTERS_MAX).map_or(name.len(), |(index, _)| index);
        let (head, tail) = name.split_at(end);
        write!(f, "{}", head.escape_debug())?;
        if tail.is_empty() { Ok(()) } else { write!(f, "… ({} bytes)", name.len()) }
    })
}

fn version_remedy(version: u32) -> &'static str {
    match version {
        0 => "the file is damaged",
        1 => "version 1 is from 2023; convert the model again",
        4..=99 => "a newer build may read it",
        _ => "the file is damaged",
    }
}

fn truncation_cause(missing_bytes: u64) -> &'static str {
    if missing_bytes > DOWNLOAD_BYTES_MAX { "the length is damaged" } else { "the download is incomplete" }
}
