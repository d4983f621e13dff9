//! Flags of `bench`; names and short forms follow llama-bench.

use clap::Args;

use super::{FileArgs, LoadArgs};

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Tokens of the prompt; 0 measures no prefill.
    #[arg(short = 'p', long, value_name = "N", default_value = "512",
          value_parser = clap::value_parser!(u32).range(0..=1 << 24))]
    pub(crate) n_prompt: u32,
    /// Tokens to decode, one each pass; 0 measures no decoding.
    #[arg(short = 'n', long, value_name = "N", default_value = "128",
          value_parser = clap::value_parser!(u32).range(0..=1 << 24))]
    pub(crate) n_gen: u32,
    /// Tokens of context before the first that is decoded, not measured themselves.
    #[arg(short = 'd', long, value_name = "N", default_value = "0",
          value_parser = clap::value_parser!(u32).range(0..=1 << 24))]
    pub(crate) n_depth: u32,
    /// Sequences that are decoded side by side, one token of each in a pass.
    #[arg(short = 's', long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) sequences: u32,
    /// Repetitions, after one to warm up.
    #[arg(short, long, value_name = "N", default_value = "5",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repetitions: u32,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}
