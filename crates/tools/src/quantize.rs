//! Quantise a model: choose a format for each tensor, then convert them one after the other.

use std::io::Write;
use std::path::{Path, PathBuf};

use gguf::writer::Staged;
use gguf::{GgufFile, TensorInfo, Value, Writer};
use regex_lite::Regex;
use tensor::Format;

use crate::destination;
use crate::encode::{Conversion, Loss};
use crate::error::ToolError;
use crate::importance::Importance;
use crate::metadata::{SPLIT_KEYS, carry};
use crate::mix::Mix;
use crate::rules::{self, Role, Rules};
use crate::split::shard_path;
use crate::watch::{Meter, Watch};

/// `general.quantization_version`: the block layouts that ggml has had since 2023.
const QUANTIZATION_VERSION: u32 = 2;

/// Bytes of an unchanged tensor that are copied at a time.
const COPY_BYTES: usize = 16 << 20;

/// How to quantise.
#[derive(Clone, Debug)]
pub struct QuantizeOptions<'a> {
    /// The type of file.
    pub mix: Mix,
    /// Give every matrix the mix's main format.
    pub pure: bool,
    /// The format of `output.weight`, or of embeddings that serve as output.
    pub output: OutputFormat,
    /// The format of the token embeddings.
    pub embedding: Option<Format>,
    /// Formats for tensors by name; the first that matches counts.
    pub overrides: Vec<Override>,
    /// How important each column is.
    pub importance: Option<&'a Importance>,
    /// What to call the importance matrix in the file.
    pub importance_name: Option<String>,
    /// Write the shards that the model has, rather than one file.
    pub keep_split: bool,
    /// Threads that encode.
    pub threads: usize,
}

/// What becomes of the output matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// What the mix says.
    ByMix,
    /// What it is.
    Keep,
    /// This.
    Fixed(Format),
}

/// A format for the tensors whose name a regular expression matches.
#[derive(Clone, Debug)]
pub struct Override {
    pattern: Regex,
    format: Format,
}

impl Override {
    /// `pattern` is searched for anywhere in a name; `attn_v` matches `blk.3.attn_v.weight`.
    pub fn new(pattern: &str, format: Format) -> Result<Override, ToolError> {
        let regex = Regex::new(pattern)
            .map_err(|cause| ToolError::Pattern { pattern: pattern.to_owned(), cause: cause.to_string() })?;
        Ok(Override { pattern: regex, format })
    }
}

/// Why a tensor gets its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no matrix that is ever quantised.
    Kept,
    /// The rules of the mix.
    Mix,
    /// It was asked for.
    Asked,
    /// The wanted format's blocks do not divide its rows.
    Fallback {
        /// The format that would have been taken.
        wanted: Format,
    },
}

/// What one tensor becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// Its format now.
    pub from: Format,
    /// Its format then.
    pub to: Format,
    /// Why.
    pub reason: Reason,
    /// Bytes now.
    pub bytes_before: u64,
    /// Bytes then.
    pub bytes_after: u64,
    /// Whether the importance matrix has an entry for it.
    pub importance: bool,
}

impl PlannedTensor {
    /// Quantised weights are decoded and quantised anew: their first loss stays.
    pub fn is_requantised(&self) -> bool {
        self.from.is_quantised() && self.from != self.to
    }

    /// The format is of little use without an importance matrix, and there is none for this tensor.
    pub fn lacks_importance(&self) -> bool {
        let exempt = matches!(rules::role(&self.name), Role::Embedding | Role::Output);
        self.from != self.to && !self.importance && !exempt && self.to.encoder_needs_importances()
    }
}

/// What a tensor became.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedTensor {
    /// What was planned for it.
    pub plan: PlannedTensor,
    /// The root mean square error relative to that of the values; none for a tensor that stayed as it was.
    pub relative_error: Option<f64>,
}

/// What each tensor would become, in the order of the file. Reads no weights.
pub fn plan(file: &GgufFile, options: &QuantizeOptions<'_>) -> Result<Vec<PlannedTensor>, ToolError> {
    for entry in &options.overrides {
        let matches = |tensor: &TensorInfo| rules::may_be_quantised(tensor) && entry.pattern.is_match(tensor.name());
        if !file.tensors().iter().any(matches) {
            return Err(ToolError::UnusedPattern { pattern: entry.pattern.as_str().to_owned() });
        }
    }
    let mut rules = Rules::new(file, options.mix, options.importance.is_some());
    let tied = file.tensor("output.weight").is_none();
    let tensors = file.tensors();
    let mut planned: Vec<Option<PlannedTensor>> = vec![None; tensors.len()];
    for index in rules::order(tensors) {
        planned[index] = Some(plan_tensor(&tensors[index], options, &mut rules, tied)?);
    }
    let planned: Vec<PlannedTensor> = planned.into_iter().flatten().collect();
    if options.importance.is_some() && !planned.iter().any(|tensor| tensor.importance) {
        return Err(ToolError::ForeignImportance);
    }
    Ok(planned)
}

/// Writes the quantised model to `output`: one file, or with `keep_split` files whose names start with `output` without
/// its `.gguf`. Returns what was written and what became of each tensor.
///
/// The same input and options give the same bytes, whatever the threads.
pub fn quantize(
    file: &GgufFile,
    output: &Path,
    options: &QuantizeOptions<'_>,
    watch: &mut Watch<'_>,
) -> Result<(Vec<PathBuf>, Vec<QuantizedTensor>), ToolError> {
    let plan = plan(file, options)?;
    let shards = if options.keep_split { file.shard_count() } else { 1 };
    let paths: Vec<PathBuf> = match shards {
        1 => vec![output.to_path_buf()],
        count => (0..count).map(|number| shard_path(output, number, count)).collect(),
    };
    for path in &paths {
        destination::check_not_input(path, &destination::paths(file))?;
    }
    let total = file.tensors().iter().map(TensorInfo::byte_count).sum();
    let mut meter = Meter::new(watch, total);
    let mut done = Vec::new();
    let mut staged: Vec<Staged> = Vec::new();
    for (shard, path) in paths.iter().enumerate() {
        let mut work: Vec<(&TensorInfo, &PlannedTensor)> = file.tensors().iter().zip(&plan).collect();
        work.retain(|(tensor, _)| shards == 1 || tensor.shard() == shard);
        let writer = writer(file, &work, options, (shard, shards))?;
        let mut next = work.into_iter();
        staged.push(destination::stage(&writer, path, |_, out| {
            let (tensor, plan) = next.next().expect("the writer asks for each tensor once");
            let loss = convert(file, tensor, plan, options, out, &mut meter)?;
            let relative_error = loss.map(|loss| loss.relative_error());
            done.push(QuantizedTensor { plan: plan.clone(), relative_error });
            Ok(())
        })?);
    }
    staged.into_iter().try_for_each(Staged::publish)?;
    Ok((paths, done))
}

fn plan_tensor(
    tensor: &TensorInfo,
    options: &QuantizeOptions<'_>,
    rules: &mut Rules,
    tied: bool,
) -> Result<PlannedTensor, ToolError> {
    let (wanted, reason) = choose(tensor, options, rules, tied);
    let to = rules::fallback(tensor.shape().row_elements(), wanted);
    let reason = if to == wanted { reason } else { Reason::Fallback { wanted } };
    let name = tensor.name();
    if to != tensor.format() {
        if to.codec().is_none() {
            return Err(ToolError::NoEncoder { tensor: name.to_owned(), format: to.name() });
        }
        if tensor.format().codec().is_none() {
            return Err(ToolError::NoDecoder { tensor: name.to_owned(), format: tensor.format().name() });
        }
    }
    let entry = options.importance.and_then(|importance| importance.entries.get(name));
    if let Some(entry) = entry {
        let matrices: u64 = tensor.shape().dimensions().iter().skip(2).product();
        let expected = tensor.shape().row_elements().saturating_mul(matrices);
        if entry.sums.len() as u64 != expected {
            let found = entry.sums.len();
            return Err(ToolError::ImportanceSize { tensor: name.to_owned(), found, expected });
        }
    }
    let row_bytes = to.row_bytes(tensor.shape().row_elements()).expect("the fallback fits any row");
    Ok(PlannedTensor {
        name: name.to_owned(),
        from: tensor.format(),
        to,
        reason,
        bytes_before: tensor.byte_count(),
        bytes_after: tensor.shape().rows().unwrap_or(0).saturating_mul(row_bytes),
        importance: entry.is_some(),
    })
}

/// The format that a tensor should get, whatever its shape. In llama.cpp's order: what was asked for embeddings and
/// output, patterns, then the mix.
fn choose(tensor: &TensorInfo, options: &QuantizeOptions<'_>, rules: &mut Rules, tied: bool) -> (Format, Reason) {
    let kept = (tensor.format(), Reason::Kept);
    let Some(main) = options.mix.info().format else { return kept };
    if !rules::may_be_quantised(tensor) || !rules::is_weight(tensor.format()) {
        return kept;
    }
    let role = rules::role(tensor.name());
    match (role, options.embedding, options.output) {
        (Role::Embedding, Some(format), _) => return (format, Reason::Asked),
        (Role::Output, _, OutputFormat::Keep) => return kept,
        (Role::Output, _, OutputFormat::Fixed(format)) => return (format, Reason::Asked),
        _ => {}
    }
    if let Some(entry) = options.overrides.iter().find(|entry| entry.pattern.is_match(tensor.name())) {
        return (entry.format, Reason::Asked);
    }
    match options.output {
        OutputFormat::Fixed(format) if tied && role == Role::Embedding => (format, Reason::Asked),
        _ if options.pure || !main.is_quantised() => (main, Reason::Mix),
        _ => (rules.format(tensor, main), Reason::Mix),
    }
}

/// The head of one output file: the model's metadata for the first, the shard's place for all of several.
fn writer(
    file: &GgufFile,
    work: &[(&TensorInfo, &PlannedTensor)],
    options: &QuantizeOptions<'_>,
    (shard, shards): (usize, usize),
) -> Result<Writer, ToolError> {
    let mut writer = Writer::new();
    if shard == 0 {
        let mut replaced = vec![("general.quantization_version".to_owned(), Value::U32(QUANTIZATION_VERSION))];
        if let Some(file_type) = options.mix.info().file_type {
            replaced.push(("general.file_type".to_owned(), Value::U32(file_type)));
        }
        if let Some(importance) = options.importance {
            let mut note = |name: &str, value| replaced.push((format!("quantize.imatrix.{name}"), value));
            if let Some(name) = &options.importance_name {
                note("file", Value::from(name.as_str()));
            }
            if let Some(dataset) = importance.datasets.first() {
                note("dataset", Value::from(dataset.as_str()));
            }
            note("entries_count", Value::U32(u32::try_from(importance.entries.len()).unwrap_or(u32::MAX)));
            note("chunks_count", Value::U32(importance.chunks));
        }
        carry(&mut writer, file.metadata(), &replaced, &SPLIT_KEYS)?;
    }
    if shards > 1 {
        crate::split::announce(&mut writer, shard, shards, file.tensors().len())?;
    }
    for (tensor, plan) in work {
        writer.tensor(tensor.name(), plan.to, *tensor.shape())?;
    }
    Ok(writer)
}

/// Writes one tensor; what it lost, if it was converted.
fn convert(
    file: &GgufFile,
    tensor: &TensorInfo,
    plan: &PlannedTensor,
    options: &QuantizeOptions<'_>,
    out: &mut dyn Write,
    meter: &mut Meter<'_, '_>,
) -> Result<Option<Loss>, ToolError> {
    file.check_unchanged()?;
    let source = file.tensor_bytes(tensor);
    let loss = if plan.from == plan.to {
        copy(tensor, source, out, meter)?;
        None
    } else {
        let entry = options.importance.and_then(|importance| importance.entries.get(tensor.name()));
        let means = entry.map(|entry| entry.means());
        let conversion = Conversion {
            name: tensor.name(),
            shape: *tensor.shape(),
            from: plan.from,
            source,
            to: plan.to,
            importances: means.as_deref(),
            threads: options.threads,
        };
        Some(conversion.run(out, meter)?)
    };
    // Advice to the system: where it is refused, the pages stay until memory is short.
    let _ = file.release(tensor);
    Ok(loss)
}

/// Writes a tensor as it is.
pub(crate) fn copy(
    tensor: &TensorInfo,
    source: &[u8],
    out: &mut dyn Write,
    meter: &mut Meter<'_, '_>,
) -> Result<(), ToolError> {
    for piece in source.chunks(COPY_BYTES) {
        out.write_all(piece).map_err(ToolError::Output)?;
        meter.add(tensor.name(), piece.len() as u64)?;
    }
    Ok(())
}
