//! Importance matrices: run a text through a model, and sum the squared inputs of each weight matrix by column.
//!
//! The program is run one residual sum at a time, and the inputs are read from the backend's buffers in between: it works
//! on any backend, and none knows of it. As in llama.cpp's imatrix, chunks of text are independent and every row counts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use gguf::GgufFile;
use program::sums::split_at_sums;
use program::{Buffer, Norm, Program, Step, Unit};
use session::{Engine, EngineConfig, Sequence, SessionError};
use text::{EncodeOptions, Tokenizer};
use tools::importance::{Entry, Importance};

use crate::device::{self, Device};
use crate::memory::available_bytes;
use crate::model::FileWeights;
use crate::{Error, models};

/// How to collect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportanceOptions {
    /// Where the model runs.
    pub device: Device,
    /// Threads that compute; `None` takes all physical cores this process may use.
    pub threads: Option<usize>,
    /// Tokens of a chunk.
    pub chunk: usize,
    /// Chunks at most; `None` takes the whole text.
    pub chunks_max: Option<usize>,
    /// Collect for the output matrix too.
    pub output: bool,
    /// Replaces the file's `tokenizer.ggml.pre`.
    pub pre_tokenizer: Option<String>,
    /// What to call the text in the matrix.
    pub dataset: String,
}

/// Collects over `text`. `progress` hears chunks done and chunks in all, and ends the work with `Break`: what was collected
/// so far is then the result.
///
/// # Errors
/// A text shorter than a chunk; a model that does not run.
pub fn collect(
    file: &GgufFile,
    text: &str,
    options: &ImportanceOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Importance, Error> {
    let model = models::load(file)?;
    let tokenizer = Tokenizer::from_gguf(file.metadata(), options.pre_tokenizer.as_deref())?;
    let chunk = options.chunk;
    if chunk == 0 || chunk > model.context() {
        let allowed = format!("between 1 and the context of {}", model.context());
        return Err(Error::InvalidSetting { what: "chunk", value: chunk.to_string(), allowed });
    }
    let mut ids = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false }).ids;
    if ids.len() < chunk {
        return Err(Error::TextTooShort { tokens: ids.len(), chunk, needed: chunk });
    }
    let program = Arc::new(split_at_sums(&model.program));
    let config = EngineConfig {
        context: Some(chunk),
        kv_format: options.device.kv_format(),
        rows: chunk,
        rows_least: chunk,
        logit_rows: 1,
        budget_bytes: available_bytes().unwrap_or(u64::MAX),
    };
    let backend = device::open(&options.device, options.threads)?.backend()?;
    let mut engine =
        Engine::load(backend, Arc::clone(&program), &FileWeights { model: &model }, config, &mut |_, _| {})?;
    let mut sums = Sums { program: &program, model: &model, entries: BTreeMap::new(), output: options.output };
    let chunks = (ids.len() / chunk).min(options.chunks_max.unwrap_or(usize::MAX));
    let mut done = 0;
    for tokens in ids.chunks_exact_mut(chunk).take(chunks) {
        if let Some(bos) = tokenizer.added_bos() {
            tokens[0] = bos;
        }
        let mut sequence = Sequence::default();
        let mut hidden = Vec::new();
        let outcome = engine.layer_by_layer(&mut sequence, tokens, &mut |layer, read| {
            if let Some(layer) = layer {
                sums.add_layer(&program.layers[layer], &hidden, read)?;
            }
            hidden = read(Buffer::Hidden)?;
            Ok(())
        });
        engine.truncate(&mut sequence, 0);
        outcome?;
        sums.add_output(&hidden);
        done += 1;
        if progress(done, chunks).is_break() {
            break;
        }
    }
    sums.finish(options, done)
}

/// Sums so far, by the name of the weight.
struct Sums<'a> {
    program: &'a Program,
    model: &'a models::Model,
    entries: BTreeMap<String, (Vec<f64>, usize)>,
    output: bool,
}

impl Sums<'_> {
    /// Adds the inputs of a layer's matrices: `hidden` is what the layer began with, (rows, hidden).
    fn add_layer(
        &mut self,
        unit: &Unit,
        hidden: &[f32],
        read: &mut session::ReadBuffer<'_>,
    ) -> Result<(), SessionError> {
        for (_, step) in &self.program.template(unit).steps {
            let inputs = match step {
                Step::NormLinear(step) => self.normed(unit, &step.norm, hidden),
                Step::NormGatedLinear(step) => self.normed(unit, &step.norm, hidden),
                Step::LinearAdd(step) => read(step.input)?,
                Step::Embed(_)
                | Step::RopeStore(_)
                | Step::Attention(_)
                | Step::Select
                | Step::Norm(_)
                | Step::Head(_) => {
                    continue;
                }
            };
            for slot in step.matrices() {
                let spec = self.program.weight(unit, slot);
                self.add(spec.name.clone(), spec.columns, &inputs);
            }
        }
        Ok(())
    }

    /// Adds the inputs of the output matrix, from the last layer's hidden rows, if they are wanted.
    fn add_output(&mut self, hidden: &[f32]) {
        let unit = &self.program.epilogue;
        let steps = &self.program.template(unit).steps;
        let norm = steps.iter().find_map(|(_, step)| if let Step::Norm(norm) = step { Some(norm) } else { None });
        let (true, Some(norm)) = (self.output, norm) else { return };
        let inputs = self.normed(unit, norm, hidden);
        for slot in steps.iter().flat_map(|(_, step)| step.matrices()) {
            let spec = self.program.weight(unit, slot);
            self.add(spec.name.clone(), spec.columns, &inputs);
        }
    }

    fn add(&mut self, name: String, columns: usize, inputs: &[f32]) {
        let (sums, rows) = self.entries.entry(name).or_insert_with(|| (vec![0.0; columns], 0));
        for row in inputs.chunks_exact(columns) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value) * f64::from(*value);
            }
            *rows += 1;
        }
    }

    /// RMSNorm of each row, as the program's step has it.
    fn normed(&self, unit: &Unit, norm: &Norm, hidden: &[f32]) -> Vec<f32> {
        let index = unit.weights[norm.weight.0 as usize];
        let spec = self.program.tensor(index);
        let mut weight = vec![0.0; spec.columns];
        let codec = spec.format.codec().expect("the program's formats were checked when it was built");
        (codec.decode)(&self.model.tensor_bytes(index), &mut weight);
        let mut normed = Vec::with_capacity(hidden.len());
        for row in hidden.chunks_exact(spec.columns) {
            let squares: f64 = row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
            let scale = 1.0 / (squares / row.len() as f64 + f64::from(norm.epsilon)).sqrt();
            normed.extend(row.iter().zip(&weight).map(|(value, weight)| value * scale as f32 * weight));
        }
        normed
    }

    fn finish(self, options: &ImportanceOptions, chunks: usize) -> Result<Importance, Error> {
        let mut entries = BTreeMap::new();
        for (name, (sums, rows)) in self.entries {
            let sums: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
            if let Some(value) = sums.iter().find(|sum| !sum.is_finite()) {
                return Err(tools::ToolError::BadImportance { tensor: name, value: *value }.into());
            }
            entries.insert(name, Entry { sums, counts: vec![rows as f32] });
        }
        Ok(Importance {
            entries,
            datasets: vec![options.dataset.clone()],
            chunks: u32::try_from(chunks).unwrap_or(u32::MAX),
            chunk_tokens: u32::try_from(options.chunk).unwrap_or(u32::MAX),
        })
    }
}
