//! `metallic run`: goes on with a text, or answers one message.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use metallic::{Event, FinishReason, GenerateOptions, Generation, Message, Placement, Prompt, Timings};
use serde_json::{Value, json};

use crate::args::{RunArgs, usage_error};
use crate::input::read_text;
use crate::interrupt::Answering;
use crate::options;
use crate::output::{Interrupted, Output};
use crate::progress::Progress;
use crate::tokenize::tell_lost;

/// Raw text rarely ends by itself; the built-in model's stories do.
const RAW_TOKENS_MAX: usize = 256;

pub(crate) fn run(args: &RunArgs, out: &Output) -> anyhow::Result<()> {
    let text = if args.tokens.is_some() { String::new() } else { prompt_text(args)? };
    let mut load = options::load_options(&args.load, options::context(&args.context))?;
    load.chat_template = options::chat_template(&args.generate)?;
    let ends_by_itself = args.chat || options::is_built_in(&args.file);
    let tokens_max = (!ends_by_itself).then_some(RAW_TOKENS_MAX);
    let generate = options::generate_options(&args.generate, &args.sampling, tokens_max);
    let mut loaded = options::load(&args.file, &load, out)?;
    let messages = conversation(args.generate.system.as_deref(), &text);
    let prompt = match &args.tokens {
        Some(ids) => Prompt::Tokens(ids),
        None if args.chat => Prompt::Messages(&messages),
        None => Prompt::Text(&text),
    };
    if args.chat {
        options::tell_about_template(&loaded.model, out);
    } else if args.generate.system.is_some() {
        out.note("note: --system has no effect without --chat");
    }
    if !args.chat && out.notes() && out.stdout_terminal() && !out.json() {
        out.tell_part(out.dim(&text));
    }
    if out.json() {
        let generation = loaded.model.generate(&prompt, &generate)?;
        tell_lost(generation.unencodable(), "prompt", out);
        let answer = collect(generation)?;
        let load_ms = milliseconds(loaded.time);
        return out.print_json(&answer.to_json(load_ms, loaded.model.placement()));
    }
    stream(&mut loaded.model, &prompt, &generate, out)
}

/// Milliseconds with three decimals.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// One line about where the time went.
pub(crate) fn timings_line(timings: &Timings) -> String {
    let rate = |tokens: usize, time: Duration| match time.as_secs_f64() {
        seconds if seconds > 0.0 => format!("{:.1} tokens/s", tokens as f64 / seconds),
        _ => "-".to_owned(),
    };
    format!(
        "prompt: {}, {}; answer: {}, {}",
        options::count(timings.prefill_tokens, "token"),
        rate(timings.prefill_tokens, timings.prefill),
        options::count(timings.decode_tokens, "token"),
        rate(timings.decode_tokens, timings.decode)
    )
}

fn prompt_text(args: &RunArgs) -> anyhow::Result<String> {
    match (&args.prompt, &args.prompt_file) {
        (Some(text), _) => Ok(text.clone()),
        (None, Some(path)) => read_text(path),
        (None, None) if !std::io::stdin().is_terminal() => read_text(Path::new("-")),
        (None, None) => usage_error(
            "run",
            "there is no prompt: give one with -p, -f or --tokens, or on stdin\n\n  \
             Example: metallic run -p \"Once upon a time\"",
        ),
    }
}

fn conversation(system: Option<&str>, text: &str) -> Vec<Message> {
    let system = system.map(|system| Message::text("system", system));
    system.into_iter().chain([Message::text("user", text)]).collect()
}

/// Writes text as it comes.
fn stream(
    model: &mut metallic::Model,
    prompt: &Prompt<'_>,
    options: &GenerateOptions,
    out: &Output,
) -> anyhow::Result<()> {
    let answering = Answering::begin();
    let mut progress = Some(Progress::of_items(out));
    let mut told = None;
    let generation = model.generate(prompt, options)?;
    tell_lost(generation.unencodable(), "prompt", out);
    for event in generation {
        match event? {
            Event::Prefill { done, total } => {
                if let Some(progress) = &mut progress {
                    progress.set("prompt", done as u64, total as u64);
                }
            }
            Event::Token { text, .. } => {
                progress = None;
                out.print(&text)?;
            }
            Event::Finish { text, timings, .. } => {
                progress = None;
                out.print(&text)?;
                told = Some(timings);
            }
        }
        if answering.stopped() {
            break;
        }
    }
    drop(progress);
    if out.stdout_terminal() {
        out.print("\n")?;
    }
    match told {
        Some(timings) => out.note(timings_line(&timings)),
        None => return Err(Interrupted.into()),
    }
    Ok(())
}

/// An answer, whole.
struct Answer {
    prompt: Vec<u32>,
    seed: u64,
    tokens: Vec<u32>,
    text: String,
    reason: FinishReason,
    timings: Timings,
}

/// Reads a generation to its end.
fn collect(generation: Generation<'_>) -> anyhow::Result<Answer> {
    let answering = Answering::begin();
    let prompt = generation.prompt_tokens().to_vec();
    let seed = generation.seed();
    let (mut tokens, mut answer) = (Vec::new(), String::new());
    for event in generation {
        match event? {
            Event::Prefill { .. } => {}
            Event::Token { id, text } => {
                tokens.push(id);
                answer.push_str(&text);
            }
            Event::Finish { reason, text, timings } => {
                answer.push_str(&text);
                return Ok(Answer { prompt, seed, tokens, text: answer, reason, timings });
            }
        }
        if answering.stopped() {
            break;
        }
    }
    Err(Interrupted.into())
}

impl Answer {
    fn to_json(&self, load_ms: f64, placement: &Placement) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "tokens": self.tokens,
            "text": self.text,
            "finish_reason": reason_word(self.reason),
            "seed": self.seed,
            "device": placement.to_string(),
            "timings": {
                "load_ms": load_ms,
                "prefill_ms": milliseconds(self.timings.prefill),
                "prefill_tokens": self.timings.prefill_tokens,
                "decode_ms": milliseconds(self.timings.decode),
                "decode_tokens": self.timings.decode_tokens,
                "decode_passes": self.timings.decode_passes,
            },
        })
    }
}

fn reason_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}
