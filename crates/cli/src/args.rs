//! Flags. Names and short forms follow llama.cpp where it has the same; what they mean is settled in `options`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use metallic::Device;

use crate::output::Verbosity;

mod bench;
mod devices;
mod files;

pub(crate) use bench::BenchArgs;
pub(crate) use devices::{CacheType, DoctorArgs, SelftestArgs};
pub(crate) use files::{ConvertArgs, ImatrixArgs, MergeArgs, QuantizeArgs, SetArgs, SplitArgs, VerifyArgs};

/// Rows of a pass beyond this only cost memory.
const ROWS_MAX: i64 = 1 << 16;
/// More threads than this is a slip of the finger.
const THREADS_MAX: i64 = 1 << 12;

/// Run language models from GGUF files on this machine.
#[derive(Debug, Parser)]
#[command(name = "metallic", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Without MODEL, commands use a small built-in model that tells stories.\n\
                        Example: metallic run -p \"Once upon a time\"")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Notes on stderr also where it is no terminal.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// No notes and no progress bars.
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl Cli {
    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Go on with a text, or answer it with --chat.
    Run(RunArgs),
    /// Talk with a model.
    Chat(ChatArgs),
    /// Show what is in a file: metadata, tensors, tokenizer, memory needs, steps.
    Inspect(InspectArgs),
    /// Turn text into token ids, or back.
    Tokenize(TokenizeArgs),
    /// Show what the model thinks comes next.
    Logits(LogitsArgs),
    /// Measure how well the model predicts a text.
    Perplexity(PerplexityArgs),
    /// Measure speed, and the share of the memory's speed that is used.
    Bench(BenchArgs),
    /// Write a Hugging Face model as a GGUF file.
    Convert(ConvertArgs),
    /// Write a model with smaller weights.
    Quantize(QuantizeArgs),
    /// Measure how important each column of each weight is, for `quantize`.
    Imatrix(ImatrixArgs),
    /// Write a model as several files.
    Split(SplitArgs),
    /// Write a split model as one file.
    Merge(MergeArgs),
    /// Write a model with other metadata.
    Set(SetArgs),
    /// Check every byte of a model: structure, values, tokenizer, hashes.
    Verify(VerifyArgs),
    /// Show the devices of this machine, and which one is taken.
    Doctor(DoctorArgs),
    /// Check that a device computes what the readable reference computes.
    Selftest(SelftestArgs),
}

impl Command {
    pub(crate) fn json(&self) -> bool {
        match self {
            Command::Run(args) => args.json,
            Command::Chat(_) => false,
            Command::Inspect(args) => args.json,
            Command::Tokenize(args) => args.json,
            Command::Logits(args) => args.json,
            Command::Perplexity(args) => args.json,
            Command::Bench(args) => args.json,
            Command::Convert(args) => args.json,
            Command::Quantize(args) => args.json,
            Command::Imatrix(args) => args.json,
            Command::Split(args) => args.json,
            Command::Merge(args) => args.json,
            Command::Set(args) => args.json,
            Command::Verify(args) => args.json,
            Command::Doctor(args) => args.json,
            Command::Selftest(args) => args.json,
        }
    }
}

/// Which file.
#[derive(Args, Debug)]
pub(crate) struct FileArgs {
    /// The GGUF file, any shard of a split one. Without it: the built-in model.
    #[arg(value_name = "MODEL")]
    pub(crate) path: Option<PathBuf>,
    /// The same as MODEL.
    #[arg(short, long = "model", value_name = "MODEL", env = "METALLIC_MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Read the file into memory instead of mapping it.
    #[arg(long)]
    pub(crate) no_mmap: bool,
}

/// How to load a model.
#[derive(Args, Debug)]
#[command(next_help_heading = "Loading")]
pub(crate) struct LoadArgs {
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", env = "METALLIC_THREADS",
          value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: Option<u32>,
    /// Where to compute: auto (a GPU if there is one), cpu, gpu, a part of a GPU's name, or the slow readable reference.
    #[arg(long, visible_alias = "backend", value_name = "NAME", env = "METALLIC_DEVICE", default_value = "auto",
          value_parser = devices::device)]
    pub(crate) device: Device,
    /// Fail rather than compute on a processor, or in software that plays a GPU.
    #[arg(long)]
    pub(crate) require_gpu: bool,
    /// Memory to use at most, in MiB [default: what the system has available].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=u64::MAX >> 20))]
    pub(crate) memory: Option<u64>,
    /// How keys and values are stored; q8_0 needs 53 % of f16's memory [default: f16, on the reference f32].
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) cache_type: Option<CacheType>,
    /// Rows of a prefill pass [default: 512, up to 2048 on a GPU with memory of its own].
    #[arg(short, long, value_name = "ROWS",
          value_parser = clap::value_parser!(u32).range(1..=ROWS_MAX))]
    pub(crate) batch_size: Option<u32>,
    /// Use these pre-tokenizer rules instead of the file's.
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
}

/// How many positions.
#[derive(Args, Debug)]
#[command(next_help_heading = "Loading")]
pub(crate) struct ContextArgs {
    /// Tokens of context; 0 takes the model's own [default: the model's own, or as many as fit].
    #[arg(short, long, value_name = "N")]
    pub(crate) ctx_size: Option<u32>,
}

/// How to generate.
#[derive(Args, Debug)]
#[command(next_help_heading = "Generation", allow_negative_numbers = true)]
pub(crate) struct GenerateArgs {
    /// Tokens to generate at most; -1 until the model or the context ends [default: 256 for raw text to a model file, else -1].
    #[arg(short = 'n', long = "n-predict", visible_alias = "predict", value_name = "N",
          value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)))]
    pub(crate) n_predict: Option<i64>,
    /// The same seed gives the same tokens; -1 takes a random one.
    #[arg(short, long, value_name = "SEED", value_parser = seed, default_value = "-1")]
    pub(crate) seed: Seed,
    /// End the answer before this text; may be repeated.
    #[arg(short = 'r', long, visible_alias = "reverse-prompt", value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Go on past the model's end tokens.
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Show control tokens in the text.
    #[arg(long)]
    pub(crate) special: bool,
    /// Guess tokens ahead from the text so far: auto does at temperature 0. The tokens are the same either way.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) speculation: SpeculationArg,
    /// Use this Jinja chat template instead of the file's.
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template_file: Option<PathBuf>,
    /// System message, in front of a conversation.
    #[arg(long, visible_alias = "system-prompt", value_name = "TEXT")]
    pub(crate) system: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SpeculationArg {
    Auto,
    Off,
    Lookup,
}

/// How to choose tokens.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sampling", allow_negative_numbers = true)]
pub(crate) struct SamplingArgs {
    /// Temperature; 0 always takes the most likely token [default: 0.8].
    #[arg(long, visible_alias = "temperature", value_name = "T")]
    pub(crate) temp: Option<f32>,
    /// Choose among the N most likely tokens; 0 is off [default: 40].
    #[arg(long, value_name = "N")]
    pub(crate) top_k: Option<i32>,
    /// Choose among the most likely tokens that have probability P together; 1 is off [default: 0.95].
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// Drop tokens less than P times as likely as the most likely; 0 is off [default: 0.05].
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f32>,
    /// Choose among the most typical tokens; 1 is off [default: 1].
    #[arg(long, visible_alias = "typical-p", value_name = "P")]
    pub(crate) typical: Option<f32>,
    /// Keep tokens within N standard deviations of the highest logit; -1 is off [default: -1].
    #[arg(long, visible_alias = "top-nsigma", value_name = "N")]
    pub(crate) top_n_sigma: Option<f32>,
    /// Penalty on tokens seen lately; 1 is off [default: 1].
    #[arg(long, value_name = "X")]
    pub(crate) repeat_penalty: Option<f32>,
    /// How many of the latest tokens the penalties look at; -1 is all [default: 64].
    #[arg(long, value_name = "N")]
    pub(crate) repeat_last_n: Option<i32>,
    /// Penalty on tokens present [default: 0].
    #[arg(long, value_name = "X")]
    pub(crate) presence_penalty: Option<f32>,
    /// Penalty for each time a token was used [default: 0].
    #[arg(long, value_name = "X")]
    pub(crate) frequency_penalty: Option<f32>,
    /// DRY: scale of the penalty on repeated runs; 0 is off [default: 0].
    #[arg(long, value_name = "X")]
    pub(crate) dry_multiplier: Option<f32>,
    /// DRY: growth with each repeated token [default: 1.75].
    #[arg(long, value_name = "X")]
    pub(crate) dry_base: Option<f32>,
    /// DRY: runs up to this length are free [default: 2].
    #[arg(long, value_name = "N")]
    pub(crate) dry_allowed_length: Option<i32>,
    /// DRY: how many of the latest tokens it looks at; -1 is all [default: 64].
    #[arg(long, value_name = "N")]
    pub(crate) dry_penalty_last_n: Option<i32>,
    /// DRY: a text that ends a run; may be repeated, `none` for none [default: newline : \" *].
    #[arg(long, value_name = "TEXT")]
    pub(crate) dry_sequence_breaker: Vec<String>,
    /// XTC: how often the top choices are dropped; 0 is off [default: 0].
    #[arg(long, value_name = "P")]
    pub(crate) xtc_probability: Option<f32>,
    /// XTC: how likely a top choice is at least [default: 0.1].
    #[arg(long, value_name = "P")]
    pub(crate) xtc_threshold: Option<f32>,
    /// Dynamic temperature: range around --temp; 0 is off [default: 0].
    #[arg(long, value_name = "X")]
    pub(crate) dynatemp_range: Option<f32>,
    /// Dynamic temperature: exponent [default: 1].
    #[arg(long, value_name = "X")]
    pub(crate) dynatemp_exp: Option<f32>,
    /// 2 for Mirostat 2.0 instead of the other samplers, 0 is off.
    #[arg(long, value_name = "V", default_value = "0", value_parser = ["0", "2"])]
    pub(crate) mirostat: String,
    /// Mirostat: target surprise in bits.
    #[arg(long, value_name = "X", default_value_t = 5.0)]
    pub(crate) mirostat_ent: f32,
    /// Mirostat: learning rate.
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub(crate) mirostat_lr: f32,
    /// Add to a token's logit, such as 15043+1 or 15043-inf; may be repeated.
    #[arg(long, value_name = "ID(+|-)X", value_parser = logit_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// The prompt.
    #[arg(short, long, value_name = "TEXT", group = "input")]
    pub(crate) prompt: Option<String>,
    /// Read the prompt from a file; - is stdin.
    #[arg(short = 'f', long = "prompt-file", visible_alias = "file", value_name = "FILE", group = "input")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// The prompt as token ids.
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "input", conflicts_with = "chat")]
    pub(crate) tokens: Option<Vec<u32>>,
    /// The prompt is a message: answer it.
    #[arg(long)]
    pub(crate) chat: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Show the steps that the model computes.
    #[arg(long)]
    pub(crate) program: bool,
    /// Show all layers rather than one of each kind.
    #[arg(long)]
    pub(crate) all: bool,
    /// Show long arrays and texts whole.
    #[arg(long)]
    pub(crate) full: bool,
    /// Use these pre-tokenizer rules instead of the file's.
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// A text.
    #[arg(short, long, value_name = "TEXT", group = "input")]
    pub(crate) prompt: Option<String>,
    /// A file of JSON strings, one a line (with --decode: arrays of ids); - is stdin. Answers with one line for each.
    #[arg(long, value_name = "FILE", group = "input")]
    pub(crate) jsonl: Option<PathBuf>,
    /// From ids to text.
    #[arg(long, requires = "jsonl", conflicts_with_all = ["parse_special", "add_bos"])]
    pub(crate) decode: bool,
    /// Take text that is written like a control token for that token.
    #[arg(long)]
    pub(crate) parse_special: bool,
    /// Add the tokens that the file asks for around a prompt, usually BOS.
    #[arg(long)]
    pub(crate) add_bos: bool,
    /// Use these pre-tokenizer rules instead of the file's.
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// JSON on stdout instead of a table, and errors as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Token ids.
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "input", required_unless_present = "tokens_file")]
    pub(crate) tokens: Option<Vec<u32>>,
    /// A file with a JSON array of token ids; - is stdin.
    #[arg(long, value_name = "FILE", group = "input")]
    pub(crate) tokens_file: Option<PathBuf>,
    /// How many of the highest logits to show.
    #[arg(long, value_name = "K", default_value = "10")]
    pub(crate) top: usize,
    /// Every position rather than the last.
    #[arg(long)]
    pub(crate) all: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// The text; - is stdin.
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub(crate) text_file: PathBuf,
    /// Tokens of a chunk.
    #[arg(short, long, value_name = "N", default_value = "512",
          value_parser = clap::value_parser!(u32).range(4..=ROWS_MAX))]
    pub(crate) ctx_size: u32,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// A random seed, or this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) Option<u64>);

/// Parses the command line; ends the process with 2 where it makes no sense, and with 0 after help.
pub(crate) fn parse() -> Cli {
    match try_parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    }
}

/// A usage error of `subcommand`, found after parsing: tells and ends the process with 2.
pub(crate) fn usage_error(subcommand: &str, message: &str) -> ! {
    let mut command = Cli::command();
    command.build();
    let command = command.find_subcommand_mut(subcommand).expect("the caller is a subcommand");
    command.error(ErrorKind::MissingRequiredArgument, message).exit()
}

fn try_parse(words: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let words: Vec<OsString> = words.collect();
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(&words).map_err(|error| with_hint(error, &words))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    match matches.subcommand() {
        Some((_, matches)) if names_two_models(matches) => {
            let message = "the model is named twice, as MODEL and with --model";
            Err(command.error(ErrorKind::ArgumentConflict, message))
        }
        _ => Ok(cli),
    }
}

/// From the environment, `--model` is a default that MODEL replaces; from the command line it is a contradiction.
fn names_two_models(matches: &ArgMatches) -> bool {
    // Commands that write files have other arguments.
    let known = |id| matches.try_contains_id(id).is_ok();
    let given = |id| known(id) && matches.value_source(id) == Some(ValueSource::CommandLine);
    given("path") && given("model")
}

/// `metallic model.gguf` has forgotten the command.
fn with_hint(error: clap::Error, words: &[OsString]) -> clap::Error {
    let file = words.get(1).filter(|word| word.to_string_lossy().ends_with(".gguf"));
    match (error.kind(), file) {
        (ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument, Some(file)) => {
            let file = file.to_string_lossy();
            let message = format!("a command is missing: try `metallic chat {file}` or `metallic run {file} -p TEXT`");
            Cli::command().error(ErrorKind::InvalidSubcommand, message)
        }
        _ => error,
    }
}

fn seed(text: &str) -> Result<Seed, String> {
    match text {
        "-1" => Ok(Seed(None)),
        _ => {
            text.parse().map(|seed| Seed(Some(seed))).map_err(|_| "a whole number from 0, or -1 for random".to_owned())
        }
    }
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let wrong = || "should be ID+X or ID-X, such as 15043+1 or 15043-inf".to_owned();
    let sign = text.find(['+', '-']).ok_or_else(wrong)?;
    let id = text[..sign].parse().map_err(|_| wrong())?;
    let bias: f32 = text[sign..].parse().map_err(|_| wrong())?;
    if bias.is_nan() { Err(wrong()) } else { Ok((id, bias)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn biases_have_an_id_a_sign_and_a_number() {
        assert_eq!(logit_bias("15+1.5"), Ok((15, 1.5)));
        assert_eq!(logit_bias("15-inf"), Ok((15, f32::NEG_INFINITY)));
        for wrong in ["", "15", "+1", "x+1", "15+", "15+x", "15+nan", "99999999999+1"] {
            assert!(logit_bias(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds_are_whole_numbers_or_random() {
        assert_eq!(seed("-1"), Ok(Seed(None)));
        assert_eq!(seed("18446744073709551615"), Ok(Seed(Some(u64::MAX))));
        assert!(seed("-2").is_err() && seed("x").is_err());
    }
}
