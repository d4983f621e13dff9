//! Writing GGUF version 3: metadata and tensors are announced first, then tensor data streams through.
//!
//! The same calls give the same bytes. Memory holds the metadata and the tensor table, never a tensor.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use tensor::{Format, Shape};

use crate::cursor::Cursor;
use crate::error::GgufError;
use crate::header::{HEADER_BYTES, MAGIC, VERSION};
use crate::metadata::{ALIGNMENT_DEFAULT, ALIGNMENT_KEY, KEY_BYTES_MAX, check_alignment};
use crate::tensor_table::{self, TensorInfo};
use crate::value::{self, Value, ValueKind};

/// A GGUF file in the making. In its errors, offsets of metadata are those that the file would have; tensors have none
/// yet and say 0, as does the `offset` of its [`TensorInfo`]s.
#[derive(Clone, Debug)]
pub struct Writer {
    keys: BTreeSet<String>,
    /// The entries as they will stand in the file.
    metadata: Vec<u8>,
    alignment: u32,
    names: BTreeSet<String>,
    /// In file order; offsets follow from the alignment when the file is written.
    tensors: Vec<TensorInfo>,
}

impl Writer {
    /// An empty file, aligned to 32 bytes.
    #[expect(clippy::new_without_default, reason = "an empty GGUF file is no useful default of anything")]
    pub fn new() -> Self {
        Self {
            keys: BTreeSet::new(),
            metadata: Vec::new(),
            alignment: ALIGNMENT_DEFAULT,
            names: BTreeSet::new(),
            tensors: Vec::new(),
        }
    }

    /// Adds a metadata entry. `general.alignment`, a `u32`, also sets the alignment of the data.
    ///
    /// Refuses what the reader would refuse: a key that is empty, too long or used, arrays nested too deep.
    pub fn set<'a>(&mut self, key: &str, value: impl Into<Value<'a>>) -> Result<&mut Self, GgufError> {
        let value = value.into();
        let offset = (HEADER_BYTES + self.metadata.len()) as u64;
        check_key(key, offset)?;
        check_depth(&value, key)?;
        if self.keys.contains(key) {
            return Err(GgufError::AddedTwice { field: "key", name: key.to_owned() });
        }
        if key == ALIGNMENT_KEY {
            let Value::U32(alignment) = value else {
                let found = value.describe();
                return Err(GgufError::WrongType { key: key.to_owned(), expected: "u32", found, offset });
            };
            self.alignment = check_alignment(alignment, offset)?;
        }
        self.keys.insert(key.to_owned());
        Value::from(key).encode(&mut self.metadata);
        self.metadata.extend_from_slice(&value.kind().id().to_le_bytes());
        value.encode(&mut self.metadata);
        Ok(self)
    }

    /// Announces a tensor; its data comes when the file is written, in the order of these calls.
    ///
    /// Refuses what the reader would refuse: a name that is empty, too long or used, a row that is no whole number of
    /// blocks, a dimension of 0, a size over 63 bits.
    pub fn tensor(&mut self, name: &str, format: Format, shape: Shape) -> Result<&mut Self, GgufError> {
        let index = self.tensors.len();
        tensor_table::check_name_length(name.len() as u64, 0, format_args!("name of tensor {index}"))?;
        let tensor = tensor_table::entry(name, format, shape, 0, 0)?;
        if !self.names.insert(name.to_owned()) {
            return Err(GgufError::AddedTwice { field: "tensor", name: name.to_owned() });
        }
        self.tensors.push(tensor);
        Ok(self)
    }

    /// The tensors announced so far.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Writes the file to `out`. `data` is called once for each tensor, in order, and writes exactly its bytes.
    pub fn write_to(
        &self,
        out: &mut impl Write,
        mut data: impl FnMut(&TensorInfo, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), GgufError> {
        let head = self.head()?;
        let failed = |field: &str| {
            let field = field.to_owned();
            move |cause| GgufError::Write { field, cause }
        };
        out.write_all(&head).map_err(failed("header"))?;
        for tensor in &self.tensors {
            let mut sink = TensorSink { out, left: tensor.byte_count(), written: 0 };
            let result = data(tensor, &mut sink);
            let written_bytes = sink.written;
            // A source that wrote too much was stopped by the sink: name that rather than the stop.
            if written_bytes > tensor.byte_count() || (result.is_ok() && written_bytes < tensor.byte_count()) {
                return Err(GgufError::TensorBytes {
                    name: tensor.name().to_owned(),
                    expected_bytes: tensor.byte_count(),
                    written_bytes,
                });
            }
            result.map_err(failed(tensor.name()))?;
            let padding = self.padded(tensor.byte_count()) - tensor.byte_count();
            io::copy(&mut io::Read::take(io::repeat(0), padding), out).map_err(failed("padding"))?;
        }
        out.flush().map_err(failed("padding"))
    }

    /// The file as bytes; `data` as for [`Writer::write_to`].
    pub fn to_vec(
        &self,
        data: impl FnMut(&TensorInfo, &mut dyn Write) -> io::Result<()>,
    ) -> Result<Vec<u8>, GgufError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes, data)?;
        Ok(bytes)
    }

    /// Writes the file at `path`, which appears whole or not at all: the bytes go to a new file beside it, reach the
    /// disk, and then take the name, replacing a file that has it.
    pub fn create(
        &self,
        path: impl AsRef<Path>,
        data: impl FnMut(&TensorInfo, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), GgufError> {
        self.stage(path, data)?.publish()
    }

    /// Writes the file beside `path` without taking the name yet, so that several files can appear together.
    pub fn stage(
        &self,
        path: impl AsRef<Path>,
        data: impl FnMut(&TensorInfo, &mut dyn Write) -> io::Result<()>,
    ) -> Result<Staged, GgufError> {
        let path = path.as_ref();
        let (scratch, file) = Scratch::create(path)?;
        let mut out = BufWriter::new(file);
        self.write_to(&mut out, data).map_err(|error| error.in_file(path))?;
        let file = out.into_inner().map_err(|error| GgufError::io("write", path, error.into_error()))?;
        file.sync_all().map_err(|source| GgufError::io("write", path, source))?;
        Ok(Staged { scratch, path: path.to_path_buf() })
    }

    /// Everything in front of the data section, padded to the alignment.
    fn head(&self) -> Result<Vec<u8>, GgufError> {
        let mut head = Vec::with_capacity(HEADER_BYTES + self.metadata.len());
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        head.extend_from_slice(&(self.keys.len() as u64).to_le_bytes());
        head.extend_from_slice(&self.metadata);
        let mut data_offset = 0u64;
        for tensor in &self.tensors {
            Value::from(tensor.name()).encode(&mut head);
            let dimensions = tensor.shape().dimensions();
            head.extend_from_slice(&(dimensions.len() as u32).to_le_bytes());
            dimensions.iter().for_each(|dimension| head.extend_from_slice(&dimension.to_le_bytes()));
            head.extend_from_slice(&tensor.format().ggml_id().to_le_bytes());
            head.extend_from_slice(&data_offset.to_le_bytes());
            let end = self.padded(tensor.byte_count()).checked_add(data_offset);
            data_offset = end.filter(|&end| end <= i64::MAX as u64).ok_or_else(|| too_large(tensor, data_offset))?;
        }
        head.resize(head.len().next_multiple_of(self.alignment as usize), 0);
        Ok(head)
    }

    /// `bytes`, which fit 63 bits, rounded up to the alignment.
    fn padded(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.alignment.into())
    }
}

fn too_large(tensor: &TensorInfo, data_offset: u64) -> GgufError {
    GgufError::TensorTooLarge { name: tensor.name().to_owned(), shape: *tensor.shape(), data_offset, offset: 0 }
}

fn check_key(key: &str, offset: u64) -> Result<(), GgufError> {
    let value = key.len() as u64;
    if key.is_empty() {
        return Err(GgufError::EmptyName { field: "key".to_owned(), offset });
    }
    if value > KEY_BYTES_MAX {
        return Err(GgufError::OverLimit { field: "length of a key".to_owned(), offset, value, limit: KEY_BYTES_MAX });
    }
    Ok(())
}

/// Arrays of arrays are walked as the reader will, for their depth.
fn check_depth(value: &Value<'_>, key: &str) -> Result<(), GgufError> {
    let Value::Array(array) = value else {
        return Ok(());
    };
    if array.kind() != ValueKind::Array {
        return Ok(());
    }
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    value::walk(&mut Cursor::new(&bytes, 0), ValueKind::Array, 1, key)
}

/// Passes on the bytes of one tensor and stops its source when there are too many.
struct TensorSink<'a, W> {
    out: &'a mut W,
    left: u64,
    /// Bytes that came, those refused included.
    written: u64,
}

impl<W: Write> Write for TensorSink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.written += bytes.len() as u64;
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more bytes than the tensor takes"));
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A whole file that has not got its name yet. Dropping it removes it.
#[derive(Debug)]
#[must_use = "a staged file is removed unless it is published"]
pub struct Staged {
    scratch: Scratch,
    path: PathBuf,
}

impl Staged {
    /// Gives the file its name, replacing a file that has it.
    pub fn publish(self) -> Result<(), GgufError> {
        self.scratch.rename(&self.path)
    }
}

/// A new file beside the final one, removed unless it gets its name.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    renamed: bool,
}

impl Scratch {
    fn create(path: &Path) -> Result<(Self, File), GgufError> {
        /// Distinguishes the files of one process.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}-{}.part", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let scratch = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&scratch)
            .map_err(|source| GgufError::io("create", &scratch, source))?;
        Ok((Self { path: scratch, renamed: false }, file))
    }

    fn rename(mut self, path: &Path) -> Result<(), GgufError> {
        fs::rename(&self.path, path).map_err(|source| GgufError::io("rename", path, source))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.renamed {
            // The error that led here matters more than a file that stays behind.
            let _ = fs::remove_file(&self.path);
        }
    }
}
