//! Flags of the commands that write and check files. Names follow llama-quantize and llama-gguf-split.

use std::path::PathBuf;

use clap::Args;
use metallic::Device;

use super::{FileArgs, THREADS_MAX};

/// What to read and what to write.
#[derive(Args, Debug)]
pub(crate) struct InOutArgs {
    /// The GGUF file to read, any shard of a split one.
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// The file to write; it appears when it is whole. Not IN.
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
}

#[derive(Args, Debug)]
#[command(after_long_help = types_help())]
pub(crate) struct QuantizeArgs {
    #[command(flatten)]
    pub(crate) files: InOutArgs,
    /// The type of file, such as Q4_K_M; --help lists them.
    #[arg(value_name = "TYPE")]
    pub(crate) mix: String,
    /// An importance matrix, as `metallic imatrix` or llama.cpp makes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Give tensors whose name a regular expression matches this format; may be repeated, the first match counts.
    #[arg(long, value_name = "PATTERN=TYPE")]
    pub(crate) tensor_type: Vec<String>,
    /// The format of output.weight, or of embeddings that serve as output.
    #[arg(long, value_name = "TYPE", conflicts_with = "leave_output_tensor")]
    pub(crate) output_tensor_type: Option<String>,
    /// Leave output.weight as it is.
    #[arg(long)]
    pub(crate) leave_output_tensor: bool,
    /// The format of the token embeddings.
    #[arg(long, value_name = "TYPE")]
    pub(crate) token_embedding_type: Option<String>,
    /// The same format for all matrices, without the type's rules for sensitive ones.
    #[arg(long)]
    pub(crate) pure: bool,
    /// Write the shards that IN has.
    #[arg(long)]
    pub(crate) keep_split: bool,
    /// Say nothing about weights that were quantised before.
    #[arg(long)]
    pub(crate) allow_requantize: bool,
    /// Show what would be written.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Threads that encode [default: the physical cores].
    #[arg(short, long, value_name = "N", env = "METALLIC_THREADS",
          value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: Option<u32>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    pub(crate) files: InOutArgs,
    /// Tensors of a file.
    #[arg(long, value_name = "N", default_value = "128", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) split_max_tensors: u32,
    /// Bytes of a file's tensors, such as 500M or 2G (decimal).
    #[arg(long, value_name = "SIZE", conflicts_with = "split_max_tensors", value_parser = size)]
    pub(crate) split_max_size: Option<u64>,
    /// Only metadata in the first file.
    #[arg(long)]
    pub(crate) no_tensor_first_split: bool,
    /// Show what would be written.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    pub(crate) files: InOutArgs,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    pub(crate) files: InOutArgs,
    /// KEY=VALUE keeps the key's type; KEY=TYPE:VALUE gives one: str, bool, u32, i32, f32, …, or with [] and a JSON array.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) edits: Vec<String>,
    /// Set a key to the text of a file, such as a chat template; may be repeated.
    #[arg(long, value_name = "KEY=FILE")]
    pub(crate) text_file: Vec<String>,
    /// Remove a key; may be repeated.
    #[arg(long, value_name = "KEY")]
    pub(crate) remove: Vec<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The GGUF file, any shard of a split one.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Hash each tensor too.
    #[arg(long)]
    pub(crate) tensor_hashes: bool,
    /// Hash nothing, which is faster.
    #[arg(long, conflicts_with = "tensor_hashes")]
    pub(crate) no_hashes: bool,
    /// Read the file into memory instead of mapping it.
    #[arg(long)]
    pub(crate) no_mmap: bool,
    /// Use these pre-tokenizer rules instead of the file's.
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// Threads that decode [default: the physical cores].
    #[arg(short, long, value_name = "N", env = "METALLIC_THREADS",
          value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: Option<u32>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// The folder with config.json, *.safetensors and the tokenizer's files.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The file to write; it appears when it is whole.
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// The format of matrices, such as F16 or Q8_0 [default: as they are stored]. Vectors become F32.
    #[arg(long = "type", visible_alias = "outtype", value_name = "TYPE")]
    pub(crate) format: Option<String>,
    /// The name of the rules by which text is cut into words, where they are not recognised.
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// The model's name [default: the folder's].
    #[arg(long, visible_alias = "model-name", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Threads that encode [default: the physical cores].
    #[arg(short, long, value_name = "N", env = "METALLIC_THREADS",
          value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: Option<u32>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ImatrixArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// The text, like what the model will be used for; - is stdin.
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub(crate) text_file: PathBuf,
    /// The file to write.
    #[arg(short, long, visible_alias = "output-file", value_name = "OUT", required = true)]
    pub(crate) output: PathBuf,
    /// Tokens of a chunk.
    #[arg(short, long, value_name = "N", default_value = "512", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub(crate) ctx_size: u32,
    /// Chunks at most [default: the whole text].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunks: Option<u32>,
    /// Collect for the output matrix too.
    #[arg(long)]
    pub(crate) process_output: bool,
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", env = "METALLIC_THREADS",
          value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: Option<u32>,
    /// Where to compute: cpu, or the slow readable reference.
    #[arg(long, visible_alias = "backend", value_name = "NAME", env = "METALLIC_DEVICE", default_value = "cpu",
          value_parser = super::devices::device)]
    pub(crate) device: Device,
    /// Use these pre-tokenizer rules instead of the file's.
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The list of types under `quantize --help`.
fn types_help() -> String {
    let mut help = "Types:\n".to_owned();
    for info in metallic::tools::MIXES {
        help.push_str(&format!("  {:<10} {}\n", info.name, info.description));
    }
    help
}

/// `500M`, `2G` or bytes; the letters count in thousands, as llama.cpp's do.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a size such as 500M or 2G".to_owned();
    let (digits, unit) = match text.to_ascii_uppercase().chars().last() {
        Some('K') => (&text[..text.len() - 1], 1_000),
        Some('M') => (&text[..text.len() - 1], 1_000_000),
        Some('G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_count_in_thousands() {
        assert_eq!(size("500M"), Ok(500_000_000));
        assert_eq!(size("2g"), Ok(2_000_000_000));
        assert_eq!(size("7"), Ok(7));
        for wrong in ["", "M", "0", "-1M", "1.5G", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
