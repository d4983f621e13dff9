//! The `metallic` command: flags in, text or JSON out. It computes nothing itself; `metallic`, the library, does.

#![deny(unsafe_code)]

mod args;
mod bench;
mod chat;
mod doctor;
mod embedded;
mod environment;
mod files;
mod input;
mod inspect;
mod interrupt;
mod logits;
#[cfg(unix)]
#[expect(unsafe_code, reason = "a signal's handler cannot be set without it")]
mod lost_file;
mod options;
mod output;
mod perplexity;
mod progress;
mod run;
mod selftest;
mod tokenize;

use std::process::ExitCode;

use args::Command;
use output::Output;

fn main() -> ExitCode {
    environment::quiet_drivers();
    let cli = args::parse();
    interrupt::install();
    let out = Output::new(cli.verbosity(), cli.command.json());
    #[cfg(unix)]
    lost_file::install(&out);
    let outcome = match &cli.command {
        Command::Run(args) => run::run(args, &out),
        Command::Chat(args) => chat::chat(args, &out),
        Command::Inspect(args) => inspect::inspect(args, &out),
        Command::Tokenize(args) => tokenize::tokenize(args, &out),
        Command::Logits(args) => logits::logits(args, &out),
        Command::Perplexity(args) => perplexity::perplexity(args, &out),
        Command::Bench(args) => bench::bench(args, &out),
        Command::Convert(args) => files::convert::convert(args, &out),
        Command::Quantize(args) => files::quantize::quantize(args, &out),
        Command::Imatrix(args) => files::imatrix::imatrix(args, &out),
        Command::Split(args) => files::split::split(args, &out),
        Command::Merge(args) => files::split::merge(args, &out),
        Command::Set(args) => files::set::set(args, &out),
        Command::Verify(args) => files::verify::verify(args, &out),
        Command::Doctor(args) => doctor::doctor(args, &out),
        Command::Selftest(args) => selftest::selftest(args, &out),
    };
    out.end(outcome)
}
