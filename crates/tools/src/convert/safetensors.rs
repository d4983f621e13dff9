//! Checkpoints in safetensors: one file, or several with an index. A file is a length, a JSON table of that length, and the
//! tensors (<https://github.com/huggingface/safetensors>, "Format"). Tensors are read one at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tensor::Format;

use super::read_json;
use crate::error::ToolError;

/// The format's own limit.
const TABLE_BYTES_MAX: u64 = 100_000_000;

/// The tensors of a checkpoint.
pub(super) struct Checkpoint {
    files: Vec<PathBuf>,
    tensors: Vec<Stored>,
}

/// Where a tensor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) format: Format,
    /// Outermost dimension first, as in Python.
    pub(super) shape: Vec<u64>,
    file: usize,
    start: u64,
    bytes: u64,
}

impl Stored {
    pub(super) fn byte_count(&self) -> u64 {
        self.bytes
    }
}

/// One row of a file's table.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Checkpoint {
    /// Reads the tables of all files of the folder.
    pub(super) fn open(folder: &Path) -> Result<Checkpoint, ToolError> {
        let files = find_files(folder)?;
        let mut tensors: Vec<Stored> = Vec::new();
        for (file, path) in files.iter().enumerate() {
            read_table(path, file, &mut tensors)?;
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let reason = format!("tensor {} is in {} too", pair[1].name, files[pair[0].file].display());
            return Err(ToolError::Checkpoint { path: files[pair[1].file].clone(), reason });
        }
        Ok(Checkpoint { files, tensors })
    }

    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Sorted by name.
    pub(super) fn tensors(&self) -> &[Stored] {
        &self.tensors
    }

    /// Whether there is an output matrix of its own.
    pub(super) fn has_head(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.name.ends_with("lm_head.weight"))
    }

    /// The bytes of a tensor.
    pub(super) fn read(&self, stored: &Stored) -> Result<Vec<u8>, ToolError> {
        let path = &self.files[stored.file];
        let unreadable = |cause| ToolError::Read { path: path.clone(), cause };
        let mut file = File::open(path).map_err(unreadable)?;
        file.seek(SeekFrom::Start(stored.start)).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(stored.bytes).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 != stored.bytes {
            return Err(self.wrong(&stored.name, "the file became shorter while it was read"));
        }
        Ok(bytes)
    }

    /// An error about a tensor.
    pub(super) fn wrong(&self, name: &str, reason: &str) -> ToolError {
        let file = self.tensors.iter().find(|tensor| tensor.name == name).map_or(0, |tensor| tensor.file);
        let path = self.files.get(file).cloned().unwrap_or_default();
        ToolError::Checkpoint { path, reason: format!("tensor {name}: {reason}") }
    }
}

/// The files that the index names, or the only file there is.
fn find_files(folder: &Path) -> Result<Vec<PathBuf>, ToolError> {
    const INDEX: &str = "model.safetensors.index.json";
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    if let Some(json) = read_json(folder, INDEX)? {
        let wrong = |reason: String| ToolError::Checkpoint { path: folder.join(INDEX), reason };
        let index: Index = serde_json::from_value(json).map_err(|error| wrong(error.to_string()))?;
        let mut names: Vec<String> = index.weight_map.into_values().collect();
        names.sort();
        names.dedup();
        // A name is a file of this folder and leads nowhere else.
        if let Some(name) = names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
            return Err(wrong(format!("{name:?} is no name of a file beside it")));
        }
        return Ok(names.into_iter().map(|name| folder.join(name)).collect());
    }
    let path = folder.join("model.safetensors");
    if path.is_file() {
        return Ok(vec![path]);
    }
    let reason = "it has neither model.safetensors nor model.safetensors.index.json; other checkpoints must be saved \
                  as safetensors first";
    Err(ToolError::Checkpoint { path: folder.to_path_buf(), reason: reason.to_owned() })
}

/// Appends the tensors of one file, each checked against the file's size.
fn read_table(path: &Path, number: usize, tensors: &mut Vec<Stored>) -> Result<(), ToolError> {
    let unreadable = |cause| ToolError::Read { path: path.to_path_buf(), cause };
    let wrong = |reason: String| ToolError::Checkpoint { path: path.to_path_buf(), reason };
    let mut file = File::open(path).map_err(unreadable)?;
    let file_bytes = file.metadata().map_err(unreadable)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| wrong("it is too short for a safetensors file".to_owned()))?;
    let length = u64::from_le_bytes(length);
    if length > TABLE_BYTES_MAX || length > file_bytes.saturating_sub(8) {
        return Err(wrong(format!("its table would have {length} bytes: it is damaged or no safetensors file")));
    }
    let mut table = Vec::new();
    file.take(length).read_to_end(&mut table).map_err(unreadable)?;
    let table: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&table).map_err(|error| wrong(format!("its table is no JSON: {error}")))?;
    let data_start = 8 + length;
    for (name, entry) in table.into_iter().filter(|(name, _)| name != "__metadata__") {
        let entry: Entry = serde_json::from_value(entry).map_err(|error| wrong(format!("tensor {name}: {error}")))?;
        let format = format(&entry.dtype).ok_or_else(|| {
            let dtype = &entry.dtype;
            wrong(format!(
                "tensor {name} is {dtype}; F32, F16, BF16 and F64 can be converted: save the model in one of them"
            ))
        })?;
        let (start, end) = entry.data_offsets;
        let elements = entry.shape.iter().try_fold(1_u64, |product, extent| product.checked_mul(*extent));
        let expected = elements.and_then(|elements| elements.checked_mul(format.block_bytes() as u64));
        let bytes = end.checked_sub(start);
        if bytes.is_none() || bytes != expected {
            let shape = &entry.shape;
            return Err(wrong(format!(
                "tensor {name} of shape {shape:?} has the bytes {start} to {end}: it is damaged"
            )));
        }
        if end > file_bytes - data_start {
            return Err(wrong(format!("tensor {name} ends behind the file's {file_bytes} bytes: fetch it again")));
        }
        let bytes = end - start;
        tensors.push(Stored { name, format, shape: entry.shape, file: number, start: data_start + start, bytes });
    }
    Ok(())
}

fn format(dtype: &str) -> Option<Format> {
    match dtype {
        "F64" => Some(Format::F64),
        "F32" => Some(Format::F32),
        "F16" => Some(Format::F16),
        "BF16" => Some(Format::BF16),
        _ => None,
    }
}
