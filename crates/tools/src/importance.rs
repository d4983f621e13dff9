//! Importance matrices: for each weight matrix, how large its inputs are, column by column.
//!
//! The file is GGUF with `NAME.in_sum2` (columns, matrices), sums of squared inputs, and `NAME.counts` (1, matrices), how
//! many rows were summed, as llama.cpp writes and reads it (`tools/imatrix`, `common/imatrix-loader.cpp`). Its older format,
//! usually called `.dat`, is read too and never written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use gguf::{ArrayBuf, GgufError, GgufFile, TensorInfo, Writer};
use tensor::{Format, Shape};

use crate::destination;
use crate::error::ToolError;

const TYPE_KEY: &str = "general.type";
const TYPE: &str = "imatrix";
const DATASETS_KEY: &str = "imatrix.datasets";
const CHUNK_COUNT_KEY: &str = "imatrix.chunk_count";
const CHUNK_SIZE_KEY: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// An older file over this size is none: the largest models' matrices have some hundred MB.
const LEGACY_BYTES_MAX: u64 = 4 << 30;

/// The importances of a model's matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// By the name of the weight.
    pub entries: BTreeMap<String, Entry>,
    /// The texts it was made from.
    pub datasets: Vec<String>,
    /// How many chunks of text.
    pub chunks: u32,
    /// Tokens of a chunk; 0 where the file does not say.
    pub chunk_tokens: u32,
}

/// One matrix, or a stack of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Sums of squared inputs: (matrices, columns).
    pub sums: Vec<f32>,
    /// Rows summed, for each matrix.
    pub counts: Vec<f32>,
}

impl Entry {
    /// Mean squared inputs, (matrices, columns). A matrix that was never used has 1 everywhere, as in llama.cpp.
    pub fn means(&self) -> Vec<f32> {
        let columns = self.sums.len() / self.counts.len().max(1);
        let means = |(sums, count): (&[f32], &f32)| -> Vec<f32> {
            sums.iter().map(|sum| if *count > 0.0 { sum / count } else { 1.0 }).collect()
        };
        self.sums.chunks_exact(columns.max(1)).zip(&self.counts).flat_map(means).collect()
    }
}

impl Importance {
    /// Reads a file of either format.
    pub fn read(path: &Path) -> Result<Importance, ToolError> {
        match GgufFile::open(path) {
            Ok(file) => Self::of_gguf(&file, path),
            Err(error) if matches!(error.root(), GgufError::NotGguf { .. }) => legacy(path),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the file that llama.cpp reads.
    pub fn write(&self, path: &Path) -> Result<(), ToolError> {
        let mut writer = Writer::new();
        writer.set(TYPE_KEY, TYPE)?;
        writer.set(DATASETS_KEY, &ArrayBuf::texts(&self.datasets))?;
        writer.set(CHUNK_COUNT_KEY, self.chunks)?.set(CHUNK_SIZE_KEY, self.chunk_tokens)?;
        let mut data: Vec<&[f32]> = Vec::new();
        for (name, entry) in &self.entries {
            let matrices = entry.counts.len() as u64;
            let columns = entry.sums.len() as u64 / matrices.max(1);
            for (suffix, columns, values) in [(SUMS, columns, &entry.sums), (COUNTS, 1, &entry.counts)] {
                let shape = Shape::new(&[columns, matrices]).expect("two dimensions are few");
                writer.tensor(&format!("{name}{suffix}"), Format::F32, shape)?;
                data.push(values);
            }
        }
        let mut next = data.into_iter();
        let staged = destination::stage(&writer, path, |_, out| {
            let values = next.next().unwrap_or_default();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.write_all(&bytes).map_err(ToolError::Output)
        })?;
        Ok(staged.publish()?)
    }

    fn of_gguf(file: &GgufFile, path: &Path) -> Result<Importance, ToolError> {
        let wrong = |reason: String| ToolError::NotImportance { path: path.to_path_buf(), reason };
        let metadata = file.metadata();
        let kind = metadata.str(TYPE_KEY)?.unwrap_or("missing");
        if kind != TYPE {
            return Err(wrong(format!("{TYPE_KEY} is {kind}, it should be {TYPE}")));
        }
        let mut entries = BTreeMap::new();
        for sums in file.tensors() {
            let Some(name) = sums.name().strip_suffix(SUMS) else { continue };
            let counts = file.tensor(&format!("{name}{COUNTS}"));
            let counts = counts.ok_or_else(|| wrong(format!("it has sums but no counts for {name}")))?;
            let entry = Entry { sums: floats(file, sums, path)?, counts: floats(file, counts, path)? };
            if entry.counts.is_empty() || !entry.sums.len().is_multiple_of(entry.counts.len()) {
                let (sums, counts) = (entry.sums.len(), entry.counts.len());
                return Err(wrong(format!("it has {sums} sums and {counts} counts for {name}")));
            }
            entries.insert(name.to_owned(), entry);
        }
        if entries.is_empty() {
            return Err(wrong(format!("it has no tensor called NAME{SUMS}")));
        }
        let datasets = metadata.array(DATASETS_KEY)?.and_then(|array| array.texts());
        let datasets = datasets.into_iter().flatten().map(|text| text.to_lossy().into_owned()).collect();
        Ok(Importance {
            entries,
            datasets,
            chunks: metadata.u32(CHUNK_COUNT_KEY)?.unwrap_or(0),
            chunk_tokens: metadata.u32(CHUNK_SIZE_KEY)?.unwrap_or(0),
        })
    }
}

/// A tensor of a matrix file, checked: what is not finite or negative is no square.
fn floats(file: &GgufFile, tensor: &TensorInfo, path: &Path) -> Result<Vec<f32>, ToolError> {
    if tensor.format() != Format::F32 {
        let reason = format!("tensor {} is {}, it should be F32", tensor.name(), tensor.format());
        return Err(ToolError::NotImportance { path: path.to_path_buf(), reason });
    }
    checked(tensor.name(), file.tensor_bytes(tensor))
}

fn checked(name: &str, bytes: &[u8]) -> Result<Vec<f32>, ToolError> {
    let (words, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    match values.iter().find(|value| !value.is_finite() || **value < 0.0) {
        None => Ok(values),
        Some(value) => Err(ToolError::BadImportance { tensor: name.to_owned(), value: *value }),
    }
}

/// The older format: a count of entries; for each the length of its name, the name, how many chunks went into it, how many
/// values, and mean squares times chunks; then the number of chunks and the name of the text. Numbers are `i32` and `f32`.
fn legacy(path: &Path) -> Result<Importance, ToolError> {
    let unreadable = |cause| ToolError::Read { path: path.to_path_buf(), cause };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(LEGACY_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    let wrong = || ToolError::NotImportance {
        path: path.to_path_buf(),
        reason: "it is neither GGUF nor the older .dat format".to_owned(),
    };
    let mut rest = Legacy(&bytes);
    let count = rest.count().ok_or_else(wrong)?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let name = rest.text().ok_or_else(wrong)?;
        let chunks = rest.count().ok_or_else(wrong)?;
        let values = rest.count().ok_or_else(wrong)?;
        let values = rest.take(values.checked_mul(4).ok_or_else(wrong)?).ok_or_else(wrong)?;
        let sums = checked(&name, values)?;
        entries.insert(name, Entry { sums, counts: vec![chunks.max(1) as f32] });
    }
    if entries.is_empty() {
        return Err(wrong());
    }
    let chunks = rest.count().and_then(|chunks| u32::try_from(chunks).ok()).unwrap_or(0);
    let datasets = rest.text().into_iter().filter(|name| !name.is_empty()).collect();
    Ok(Importance { entries, datasets, chunks, chunk_tokens: 0 })
}

/// What is left of a file of the older format.
struct Legacy<'a>(&'a [u8]);

impl<'a> Legacy<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number that is not negative.
    fn count(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.first_chunk().copied()?;
        usize::try_from(i32::from_le_bytes(bytes)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.count()?;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}
