//! `metallic inspect`: what is in a file. Reads no weights, and stops at nothing that only running would need.

mod json;
mod text;

use metallic::Error;
use metallic::gguf::GgufFile;
use metallic::models::{self, Model};
use metallic::program::KvFormat;
use metallic::program::cost::{kv_bytes_per_position, weight_bytes_per_token};
use metallic::program::describe::describe;
use metallic::text::Tokenizer;

use crate::args::InspectArgs;
use crate::options;
use crate::output::Output;

/// Everything that is shown, before it takes a form.
struct Findings<'a> {
    args: &'a InspectArgs,
    name: String,
    file: &'a GgufFile,
    tokenizer: Result<Tokenizer, Error>,
    model: Result<Model, Error>,
}

/// What running would take.
struct Needs {
    /// Every weight once.
    weight_bytes: u64,
    /// Weights that one decoded token reads.
    weight_bytes_per_token: u64,
    /// Keys and values of one position.
    kv_bytes_per_token: u64,
    /// Positions the model was made for.
    context: usize,
}

pub(crate) fn inspect(args: &InspectArgs, out: &Output) -> anyhow::Result<()> {
    let file = options::open(&args.file)?;
    let findings = Findings {
        args,
        name: options::name(&args.file),
        tokenizer: Tokenizer::from_gguf(file.metadata(), args.pre.as_deref()).map_err(Error::from),
        model: models::load(&file).map_err(Error::from),
        file: &file,
    };
    if out.json() { out.print_json(&json::of(&findings)) } else { out.print(&text::of(&findings)) }
}

impl Findings<'_> {
    fn needs(&self) -> Option<Needs> {
        let program = &self.model.as_ref().ok()?.program;
        Some(Needs {
            weight_bytes: program.tensors.iter().map(|tensor| tensor.bytes() as u64).sum(),
            weight_bytes_per_token: weight_bytes_per_token(program),
            kv_bytes_per_token: kv_bytes_per_position(program, KvFormat::F16),
            context: program.sizes.context,
        })
    }

    /// The steps as text, or why there are none.
    fn program(&self) -> Result<String, &Error> {
        self.model.as_ref().map(|model| describe(&model.program, self.args.all))
    }
}

/// Name and id of each role that a token has.
fn special_ids(tokenizer: &Tokenizer) -> Vec<(&'static str, u32)> {
    let ids = tokenizer.special_ids();
    let roles = [
        ("bos", ids.bos),
        ("eos", ids.eos),
        ("eot", ids.eot),
        ("eom", ids.eom),
        ("unknown", ids.unknown),
        ("separator", ids.separator),
        ("padding", ids.padding),
        ("mask", ids.mask),
        ("fim_prefix", ids.fim_prefix),
        ("fim_suffix", ids.fim_suffix),
        ("fim_middle", ids.fim_middle),
        ("fim_padding", ids.fim_padding),
        ("fim_repository", ids.fim_repository),
        ("fim_separator", ids.fim_separator),
    ];
    roles.into_iter().filter_map(|(role, id)| Some((role, id?))).collect()
}

/// The text of a token as the file's bytes say it.
fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap_or_default()).into_owned()
}

/// Bytes that no token stands for.
fn missing_bytes(tokenizer: &Tokenizer) -> Vec<u8> {
    let missing = |note: &metallic::text::VocabularyNote| match note {
        metallic::text::VocabularyNote::MissingBytes { bytes } => Some(bytes.clone()),
        _ => None,
    };
    tokenizer.notes().iter().find_map(missing).unwrap_or_default()
}

/// Tensors and bytes of each format, most bytes first.
fn bytes_by_format(file: &GgufFile) -> Vec<(&'static str, usize, u64)> {
    let mut formats: Vec<(&'static str, usize, u64)> = Vec::new();
    for tensor in file.tensors() {
        let name = tensor.format().name();
        match formats.iter_mut().find(|known| known.0 == name) {
            Some((_, tensors, bytes)) => {
                *tensors += 1;
                *bytes += tensor.byte_count();
            }
            None => formats.push((name, 1, tensor.byte_count())),
        }
    }
    formats.sort_by_key(|format| std::cmp::Reverse(format.2));
    formats
}
