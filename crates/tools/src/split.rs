//! Split a model into several files, and merge them again. Tensors keep their order, formats and bytes.
//!
//! Names and `split.*` keys are those of llama.cpp's gguf-split; the first file has all metadata.

use std::path::{Path, PathBuf};

use gguf::writer::Staged;
use gguf::{GgufFile, TensorInfo, Writer, shard_suffix};

use crate::destination;
use crate::error::ToolError;
use crate::metadata::{SPLIT_KEYS, carry};
use crate::quantize::copy;
use crate::watch::{Meter, Watch};

/// `split.count` is a `u16`.
const SHARDS_MAX: usize = u16::MAX as usize;

/// When a file is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitLimit {
    /// It has this many tensors.
    Tensors(usize),
    /// The next tensor's bytes would not fit. A larger tensor gets a file of its own.
    Bytes(u64),
}

/// How to split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitOptions {
    /// When a file is full.
    pub limit: SplitLimit,
    /// Put only metadata into the first file.
    pub empty_first: bool,
}

/// One file of a split model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedShard {
    /// Its path.
    pub path: PathBuf,
    /// Which tensors it has, as indices into the model's.
    pub tensors: std::ops::Range<usize>,
    /// Bytes of these tensors.
    pub tensor_bytes: u64,
}

/// Which files a split would give. Reads no weights.
pub fn plan(file: &GgufFile, output: &Path, options: SplitOptions) -> Result<Vec<PlannedShard>, ToolError> {
    let tensors = file.tensors();
    let mut ends = Vec::new();
    let (mut count, mut bytes) = (0_usize, 0_u64);
    for (index, tensor) in tensors.iter().enumerate() {
        let next = tensor.byte_count().next_multiple_of(u64::from(file.alignment()));
        let full = match options.limit {
            SplitLimit::Tensors(limit) => count >= limit.max(1),
            SplitLimit::Bytes(limit) => count > 0 && bytes.saturating_add(next) > limit,
        };
        if full {
            ends.push(index);
            (count, bytes) = (0, 0);
        }
        count += 1;
        bytes = bytes.saturating_add(next);
    }
    ends.push(tensors.len());
    if options.empty_first {
        ends.insert(0, 0);
    }
    let shards = ends.len();
    if shards > SHARDS_MAX {
        return Err(ToolError::TooManyShards { shards, limit: SHARDS_MAX });
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let ranges = starts.zip(&ends).map(|(start, end)| start..*end);
    let shard = |(number, range): (usize, std::ops::Range<usize>)| PlannedShard {
        path: shard_path(output, number, shards),
        tensor_bytes: tensors[range.clone()].iter().map(TensorInfo::byte_count).sum(),
        tensors: range,
    };
    Ok(ranges.enumerate().map(shard).collect())
}

/// Splits a model into the files that [`plan`] names. They appear together, once all are written.
pub fn split(
    file: &GgufFile,
    output: &Path,
    options: SplitOptions,
    watch: &mut Watch<'_>,
) -> Result<Vec<PlannedShard>, ToolError> {
    let plan = plan(file, output, options)?;
    for shard in &plan {
        destination::check_not_input(&shard.path, &destination::paths(file))?;
    }
    let mut meter = Meter::new(watch, plan.iter().map(|shard| shard.tensor_bytes).sum());
    let mut staged = Vec::new();
    for (number, shard) in plan.iter().enumerate() {
        let mut writer = Writer::new();
        if number == 0 {
            carry(&mut writer, file.metadata(), &[], &SPLIT_KEYS)?;
        } else if file.metadata().get(ALIGNMENT_KEY).is_some() {
            // Each file is aligned by its own word.
            writer.set(ALIGNMENT_KEY, file.alignment())?;
        }
        announce(&mut writer, number, plan.len(), file.tensors().len())?;
        staged.push(write(file, &mut writer, shard.tensors.clone(), &shard.path, &mut meter)?);
    }
    staged.into_iter().try_for_each(Staged::publish)?;
    Ok(plan)
}

/// Writes a split model as one file.
pub fn merge(file: &GgufFile, output: &Path, watch: &mut Watch<'_>) -> Result<(), ToolError> {
    if file.shard_count() < 2 {
        return Err(ToolError::NotSplit);
    }
    destination::check_not_input(output, &destination::paths(file))?;
    let mut meter = Meter::new(watch, file.tensors().iter().map(TensorInfo::byte_count).sum());
    let mut writer = Writer::new();
    carry(&mut writer, file.metadata(), &[], &SPLIT_KEYS)?;
    Ok(write(file, &mut writer, 0..file.tensors().len(), output, &mut meter)?.publish()?)
}

const ALIGNMENT_KEY: &str = "general.alignment";

/// The path of a shard: `output`, without `.gguf` if it ends so, and the number.
pub(crate) fn shard_path(output: &Path, number: usize, count: usize) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    output.with_file_name(format!("{stem}{}", shard_suffix(number as u64, count as u64)))
}

/// Sets the keys by which a shard says which it is.
pub(crate) fn announce(writer: &mut Writer, number: usize, count: usize, tensors: usize) -> Result<(), ToolError> {
    let word = |number: usize| {
        u16::try_from(number).map_err(|_| ToolError::TooManyShards { shards: count, limit: SHARDS_MAX })
    };
    let [number_key, count_key, tensors_key] = SPLIT_KEYS;
    writer.set(number_key, word(number)?)?.set(count_key, word(count)?)?;
    // The reader allows fewer tensors than an `i32` counts.
    writer.set(tensors_key, i32::try_from(tensors).unwrap_or(i32::MAX))?;
    Ok(())
}

/// Writes some of a model's tensors behind the writer's metadata.
pub(crate) fn write(
    file: &GgufFile,
    writer: &mut Writer,
    tensors: std::ops::Range<usize>,
    path: &Path,
    meter: &mut Meter<'_, '_>,
) -> Result<Staged, ToolError> {
    let tensors = &file.tensors()[tensors];
    for tensor in tensors {
        writer.tensor(tensor.name(), tensor.format(), *tensor.shape())?;
    }
    let mut next = tensors.iter();
    destination::stage(writer, path, |_, out| {
        let tensor = next.next().expect("the writer asks for each tensor once");
        file.check_unchanged()?;
        copy(tensor, file.tensor_bytes(tensor), out, meter)?;
        // Advice to the system: where it is refused, the pages stay until memory is short.
        let _ = file.release(tensor);
        Ok(())
    })
}
