//! From flags to settings of the library: opens files, loads models, says what is worth knowing about them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use metallic::gguf::{Access, GgufError, GgufFile, OpenConfig};
use metallic::text::{Tokenizer, VocabularyNote};
use metallic::{
    Device, Error, GenerateOptions, LoadOptions, LoadStage, Mirostat, Model, Placement, SamplerConfig, Speculation,
    TemplateOrigin,
};

use crate::args::{CacheType, ContextArgs, FileArgs, GenerateArgs, LoadArgs, SamplingArgs, SpeculationArg};
use crate::embedded;
use crate::input::read_text;
use crate::output::Output;
use crate::progress::Progress;

/// Files named when the one asked for is not there.
const SUGGESTIONS_MAX: usize = 3;

/// A loaded model, and what loading took.
pub(crate) struct Loaded {
    pub(crate) model: Model,
    /// What to call it.
    pub(crate) name: String,
    pub(crate) time: Duration,
}

/// Opens the file that was named, or the built-in one.
pub(crate) fn open(args: &FileArgs) -> anyhow::Result<GgufFile> {
    let Some(path) = path(args) else {
        return Ok(embedded::open().map_err(Error::from)?);
    };
    let access = if args.no_mmap { Access::Read } else { Access::Map };
    GgufFile::open_with(path, OpenConfig { access }).map_err(|error| {
        let advice = match error.root() {
            GgufError::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => advice(path),
            _ => None,
        };
        let error = Error::from(error);
        match advice {
            None => error.into(),
            Some(advice) => {
                let message = format!("{error}; {advice}");
                anyhow::Error::from(error).context(message)
            }
        }
    })
}

/// What to call the model that `args` name.
pub(crate) fn name(args: &FileArgs) -> String {
    match path(args) {
        Some(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        None => embedded::NAME.to_owned(),
    }
}

/// How to load, as the flags say. `context` `None` takes the model's own.
///
/// # Errors
/// Where a GPU is required and none would be used.
pub(crate) fn load_options(args: &LoadArgs, context: Option<usize>) -> anyhow::Result<LoadOptions> {
    let mut device = args.device.clone();
    if args.require_gpu {
        device.require_gpu()?;
        // From here on, a model that does not fit the GPU is a failure too.
        if device == Device::Auto {
            device = Device::Gpu;
        }
    }
    Ok(LoadOptions {
        device,
        threads: args.threads.map(|threads| threads as usize),
        context,
        kv_format: args.cache_type.map(CacheType::format),
        memory_bytes: args.memory.map(|mib| mib << 20),
        rows: args.batch_size.map(|rows| rows as usize),
        pre_tokenizer: args.pre.clone(),
        ..LoadOptions::new()
    })
}

/// The context asked for.
pub(crate) fn context(args: &ContextArgs) -> Option<usize> {
    args.ctx_size.map(|size| size as usize).filter(|size| *size > 0)
}

/// Opens and loads, with a progress bar, and tells what a person should know.
pub(crate) fn load(file: &FileArgs, options: &LoadOptions, out: &Output) -> anyhow::Result<Loaded> {
    let started = Instant::now();
    let opened = open(file)?;
    let mut progress = Progress::of_bytes(out);
    let model = Model::load(opened, options, &mut |stage| match stage {
        LoadStage::Vocabulary => progress.set("vocabulary", 0, 0),
        LoadStage::Weights { done, total } => progress.set("weights", done, total),
    })?;
    drop(progress);
    let loaded = Loaded { model, name: name(file), time: started.elapsed() };
    tell_about(&loaded, out);
    Ok(loaded)
}

/// How to generate, as the flags say; `tokens_max` holds where no number is given.
pub(crate) fn generate_options(
    args: &GenerateArgs,
    sampling: &SamplingArgs,
    tokens_max: Option<usize>,
) -> GenerateOptions {
    let defaults = GenerateOptions::new();
    let dry_breakers = match sampling.dry_sequence_breaker.as_slice() {
        [] => defaults.dry_breakers.clone(),
        [none] if none == "none" => Vec::new(),
        given => given.iter().map(|text| unescape(text)).collect(),
    };
    GenerateOptions {
        tokens_max: match args.n_predict {
            None => tokens_max,
            // The flag's range leaves -1, no limit, as the only negative number.
            Some(count) => usize::try_from(count).ok(),
        },
        sampler: sampler(sampling),
        seed: args.seed.0,
        stop: args.stop.iter().map(|text| unescape(text)).collect(),
        dry_breakers,
        ignore_end: args.ignore_eos,
        show_special: args.special,
        speculation: match args.speculation {
            SpeculationArg::Auto => None,
            SpeculationArg::Off => Some(Speculation::Off),
            SpeculationArg::Lookup => Some(Speculation::PromptLookup),
        },
    }
}

/// The text of the template that replaces the file's.
pub(crate) fn chat_template(args: &GenerateArgs) -> anyhow::Result<Option<String>> {
    args.chat_template_file.as_deref().map(read_text).transpose()
}

/// Says that a conversation is rendered by a guess.
pub(crate) fn tell_about_template(model: &Model, out: &Output) {
    if *model.template_origin() == TemplateOrigin::ChatMlFallback {
        out.note("note: the file has no chat template; ChatML is a guess (--chat-template-file gives another)");
    }
}

/// A line for each note of the tokenizer.
pub(crate) fn tokenizer_notes(tokenizer: &Tokenizer) -> Vec<String> {
    let line = |note: &VocabularyNote| match note {
        VocabularyNote::PreTokenizerMissing => {
            "the file names no pre-tokenizer; `default` is used, which is rarely right (--pre names another)".to_owned()
        }
        VocabularyNote::SpecialIdOutOfRange { role, id } => {
            format!("the {role} id {id} lies outside the vocabulary and is ignored")
        }
        VocabularyNote::TreatedAsControl { id } => {
            let text = tokenizer.token_bytes(*id).map(String::from_utf8_lossy).unwrap_or_default();
            format!("token {id} {text:?} is written like a control token and is taken for one")
        }
        VocabularyNote::MissingBytes { bytes } => {
            format!("{} have no token; text with them loses them", count(bytes.len(), "byte value"))
        }
        other => format!("{other:?}"),
    };
    tokenizer.notes().iter().map(line).collect()
}

/// `1 thing`, `2 things`.
pub(crate) fn count(count: usize, thing: &str) -> String {
    if count == 1 { format!("{count} {thing}") } else { format!("{count} {thing}s") }
}

/// Whether no file is named and the built-in model speaks.
pub(crate) fn is_built_in(args: &FileArgs) -> bool {
    path(args).is_none()
}

fn path(args: &FileArgs) -> Option<&PathBuf> {
    args.path.as_ref().or(args.model.as_ref())
}

fn sampler(args: &SamplingArgs) -> SamplerConfig {
    let d = SamplerConfig::llama_cpp_defaults();
    SamplerConfig {
        logit_bias: args.logit_bias.clone(),
        penalty_last_n: args.repeat_last_n.unwrap_or(d.penalty_last_n),
        repeat_penalty: args.repeat_penalty.unwrap_or(d.repeat_penalty),
        frequency_penalty: args.frequency_penalty.unwrap_or(d.frequency_penalty),
        presence_penalty: args.presence_penalty.unwrap_or(d.presence_penalty),
        dry_multiplier: args.dry_multiplier.unwrap_or(d.dry_multiplier),
        dry_base: args.dry_base.unwrap_or(d.dry_base),
        dry_allowed_length: args.dry_allowed_length.unwrap_or(d.dry_allowed_length),
        dry_penalty_last_n: args.dry_penalty_last_n.unwrap_or(d.dry_penalty_last_n),
        dry_sequence_breakers: d.dry_sequence_breakers,
        top_n_sigma: args.top_n_sigma.unwrap_or(d.top_n_sigma),
        top_k: args.top_k.unwrap_or(d.top_k),
        typical_p: args.typical.unwrap_or(d.typical_p),
        top_p: args.top_p.unwrap_or(d.top_p),
        min_p: args.min_p.unwrap_or(d.min_p),
        xtc_probability: args.xtc_probability.unwrap_or(d.xtc_probability),
        xtc_threshold: args.xtc_threshold.unwrap_or(d.xtc_threshold),
        temperature: args.temp.unwrap_or(d.temperature),
        dynatemp_range: args.dynatemp_range.unwrap_or(d.dynatemp_range),
        dynatemp_exponent: args.dynatemp_exp.unwrap_or(d.dynatemp_exponent),
        mirostat: match args.mirostat.as_str() {
            "2" => Mirostat::V2 { tau: args.mirostat_ent, eta: args.mirostat_lr },
            _ => Mirostat::Off,
        },
    }
}

/// Shells make it hard to type a line break, so `\n`, `\t` and `\\` stand for what they do elsewhere.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letters.as_str().chars().next()) {
            ('\\', Some(escaped @ ('n' | 't' | '\\'))) => {
                plain.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
                letters.next();
            }
            _ => plain.push(letter),
        }
    }
    plain
}

/// The device, formats without kernels, and what the tokenizer found.
fn tell_about(loaded: &Loaded, out: &Output) {
    let engine = loaded.model.engine_info();
    let device = engine.backend().capabilities();
    let context = engine.context();
    tell_placement(loaded.model.placement(), out);
    out.note(format_args!("{} on {}: {}, context {context}", loaded.name, device.name, device.description));
    for step in engine.decoded_steps() {
        let tensors = count(step.tensors, "tensor");
        out.note(format_args!("note: {tensors} in {} are decoded as they are used, which is slow", step.format));
    }
    for note in tokenizer_notes(loaded.model.tokenizer()) {
        out.note(format_args!("note: {note}"));
    }
}

/// Which device, and why. A GPU is news, and one that was passed over is too; that there is none is not.
fn tell_placement(placement: &Placement, out: &Output) {
    let news = placement.gpu.is_some() || placement.reason.is_second_choice();
    if news && !out.json() { out.warn(placement) } else { out.note(placement) }
}

/// What may have been meant by a path where there is no file.
fn advice(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Some(format!("the folder {} cannot be read either", folder.display()));
    };
    let wanted = path.file_name().map(OsStr::to_ascii_lowercase).unwrap_or_default();
    let wanted = wanted.to_string_lossy();
    let shared = |name: &str| name.to_ascii_lowercase().chars().zip(wanted.chars()).take_while(|(a, b)| a == b).count();
    let mut models: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")))
        .collect();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    models.sort_by_key(|path| (usize::MAX - shared(&name(path)), name(path)));
    models.truncate(SUGGESTIONS_MAX);
    let names: Vec<String> = models.iter().map(|path| path.display().to_string()).collect();
    (!names.is_empty()).then(|| format!("there is {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_what_they_do_elsewhere() {
        assert_eq!(unescape(r"a\nb\tc\\n\x\"), "a\nb\tc\\n\\x\\");
    }
}
