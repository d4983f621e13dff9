//! From a folder as Hugging Face's libraries write it to a GGUF file: `config.json`, `*.safetensors`, and `tokenizer.json`
//! or `tokenizer.model`.
//!
//! Names, keys and the few changes to weights are those of llama.cpp's converter, so that its files and ours are alike.
//! Nothing is fetched, and no code from the folder runs.

mod architecture;
mod config;
mod pre;
mod safetensors;
mod sentencepiece;
mod tokenizer;

use std::io::Write;
use std::path::{Path, PathBuf};

use gguf::{TensorInfo, Writer};
use tensor::{Format, Shape};

use crate::destination;
use crate::encode::Conversion;
use crate::error::ToolError;
use crate::mix::Mix;
use crate::rules::fallback;
use crate::watch::{Meter, Watch};

use architecture::{Change, Family};
use config::Config;
use safetensors::{Checkpoint, Stored};

/// How to convert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// The format of matrices; none keeps each as it is stored. Vectors become F32.
    pub format: Option<Format>,
    /// `tokenizer.ggml.pre`, where the rules are not recognised or are to be others.
    pub pre_tokenizer: Option<String>,
    /// `general.name`; none takes the folder's.
    pub name: Option<String>,
    /// Threads that encode.
    pub threads: usize,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// How many tensors.
    pub tensors: usize,
    /// How many tokens.
    pub tokens: usize,
    /// What a person should know: parts left out, tokens that were added to fill the table.
    pub notes: Vec<String>,
}

/// Converts the model in `folder` to `output`.
pub fn convert(
    folder: &Path,
    output: &Path,
    options: &ConvertOptions,
    watch: &mut Watch<'_>,
) -> Result<Converted, ToolError> {
    let mut notes = Vec::new();
    let config = Config::read(folder)?;
    let family = Family::of(&config)?;
    let checkpoint = Checkpoint::open(folder)?;
    destination::check_not_input(output, checkpoint.files())?;
    let mut tensors = plan(&checkpoint, family, &config, options, &mut notes)?;
    let rows = tensors.iter().find(|tensor| tensor.name == "token_embd.weight").map_or(0, |tensor| tensor.rows());
    let divisors = architecture::rotary_divisors(&config)?;

    let mut writer = Writer::new();
    let folder_name =
        folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let name = options.name.clone().or(folder_name).unwrap_or_else(|| "model".to_owned());
    writer
        .set("general.architecture", family.name)?
        .set("general.type", "model")?
        .set("general.name", name.as_str())?;
    writer.set("general.file_type", file_type(&tensors))?.set("general.quantization_version", 2_u32)?;
    family.describe(&config, &mut writer, &mut notes)?;
    let tokens = tokenizer::write(folder, &config, family, rows, options, &mut writer, &mut notes)?;

    if divisors.is_some() {
        let name = "rope_freqs.weight".to_owned();
        let shape = Shape::new(&[config.head_width()? / 2]).expect("one dimension is few");
        tensors.push(Planned { name, stored: None, shape, to: Format::F32, change: Change::None });
    }
    for tensor in &tensors {
        writer.tensor(&tensor.name, tensor.to, tensor.shape)?;
    }
    let total = tensors.iter().filter_map(|tensor| tensor.stored.as_ref()).map(Stored::byte_count).sum();
    let mut meter = Meter::new(watch, total);
    let mut next = tensors.iter();
    destination::stage(&writer, output, |_: &TensorInfo, out| {
        let tensor = next.next().expect("the writer asks for each tensor once");
        match &tensor.stored {
            None => write_floats(divisors.as_deref().unwrap_or_default(), out),
            Some(stored) => write_tensor(&checkpoint, tensor, stored, options.threads, out, &mut meter),
        }
    })?
    .publish()?;
    Ok(Converted { architecture: family.name, tensors: tensors.len(), tokens, notes })
}

/// A tensor of the result.
struct Planned {
    name: String,
    /// Where its values come from; none for those that are computed.
    stored: Option<Stored>,
    shape: Shape,
    to: Format,
    change: Change,
}

impl Planned {
    fn rows(&self) -> u64 {
        self.shape.rows().unwrap_or(0)
    }
}

/// Every tensor of the checkpoint, in the order of the result: embedding, layers, output.
fn plan(
    checkpoint: &Checkpoint,
    family: &Family,
    config: &Config,
    options: &ConvertOptions,
    notes: &mut Vec<String>,
) -> Result<Vec<Planned>, ToolError> {
    let mut tensors = Vec::new();
    let mut skipped = 0;
    let tied = config.is_tied(family, checkpoint.has_head())?;
    for stored in checkpoint.tensors() {
        let Some(name) = family.name_of(&stored.name, config)? else {
            skipped += 1;
            continue;
        };
        if name == "output.weight" && tied {
            continue;
        }
        let shape: Vec<u64> = stored.shape.iter().rev().copied().collect();
        let wrong = |reason: &str| checkpoint.wrong(&stored.name, reason);
        let shape = Shape::new(&shape).ok_or_else(|| wrong("it has more than four dimensions"))?;
        let change = family.change(&name, config)?;
        change.check(&shape).map_err(|reason| wrong(&reason))?;
        let vector = shape.dimensions().len() < 2 || name.ends_with("_norm.weight");
        let wanted = if vector { Format::F32 } else { options.format.unwrap_or(stored.format) };
        let to = fallback(shape.row_elements(), wanted);
        if to != wanted {
            notes.push(format!("{name} becomes {to}: its rows are no whole number of {wanted} blocks"));
        }
        tensors.push(Planned { name, stored: Some(stored.clone()), shape, to, change });
    }
    if skipped > 0 {
        notes.push(format!("{skipped} tensors of parts other than the language model were left out"));
    }
    tensors.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    Ok(tensors)
}

/// Embedding first, then layers by number, then what is left.
fn order(name: &str) -> (u8, u64, &str) {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
    match (name, layer) {
        ("token_embd.weight", _) => (0, 0, name),
        (_, Some(layer)) => (1, layer, name),
        _ => (2, 0, name),
    }
}

/// `general.file_type` by the format that most matrices have.
fn file_type(tensors: &[Planned]) -> u32 {
    let main = tensors.iter().find(|tensor| tensor.shape.dimensions().len() > 1 && tensor.name.starts_with("blk."));
    let mix = match main.map(|tensor| tensor.to) {
        None | Some(Format::F32) => Mix::F32,
        Some(format) => Mix::from_name(format.name()).unwrap_or(Mix::F32),
    };
    mix.info().file_type.unwrap_or(0)
}

/// Reads a tensor, makes its change and writes it. The tensor is in memory for that time.
fn write_tensor(
    checkpoint: &Checkpoint,
    tensor: &Planned,
    stored: &Stored,
    threads: usize,
    out: &mut dyn Write,
    meter: &mut Meter<'_, '_>,
) -> Result<(), ToolError> {
    let bytes = tensor.change.rows(checkpoint.read(stored)?, &tensor.shape);
    if tensor.change == Change::AddOne {
        let mut values = vec![0.0; usize::try_from(tensor.shape.elements().unwrap_or(0)).unwrap_or(0)];
        let codec = stored.format.codec().ok_or_else(|| checkpoint.wrong(&stored.name, "it is of an unknown type"))?;
        (codec.decode)(&bytes, &mut values);
        values.iter_mut().for_each(|value| *value += 1.0);
        write_floats(&values, out)?;
        return meter.add(&tensor.name, stored.byte_count());
    }
    if tensor.to == stored.format {
        out.write_all(&bytes).map_err(ToolError::Output)?;
        return meter.add(&tensor.name, stored.byte_count());
    }
    let conversion = Conversion {
        name: &tensor.name,
        shape: tensor.shape,
        from: stored.format,
        source: &bytes,
        to: tensor.to,
        importances: None,
        threads,
    };
    conversion.run(out, meter).map(|_| ())
}

fn write_floats(values: &[f32], out: &mut dyn Write) -> Result<(), ToolError> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    out.write_all(&bytes).map_err(ToolError::Output)
}

/// A small text file of the folder; none where there is no such file.
fn read_text(folder: &Path, name: &str) -> Result<Option<String>, ToolError> {
    let path: PathBuf = folder.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(ToolError::Checkpoint { path, reason: "it is no UTF-8 text".to_owned() }),
        },
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(ToolError::Read { path, cause }),
    }
}

/// A JSON file of the folder; none where there is no such file.
fn read_json(folder: &Path, name: &str) -> Result<Option<serde_json::Value>, ToolError> {
    let Some(text) = read_text(folder, name)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| ToolError::Checkpoint { path: folder.join(name), reason: format!("it is no JSON: {error}") })
}
