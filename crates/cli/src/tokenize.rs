//! `metallic tokenize`: text to ids and back. Needs no weights.

use std::io::IsTerminal;
use std::path::Path;

use metallic::Error;
use metallic::text::{DecodeOptions, EncodeOptions, Tokenizer, Unencodable};

use crate::args::{TokenizeArgs, usage_error};
use crate::input::{read_text, shown};
use crate::options;
use crate::output::{Output, Problem};

/// Lost bytes told for each text.
const LOST_MAX: usize = 8;

pub(crate) fn tokenize(args: &TokenizeArgs, out: &Output) -> anyhow::Result<()> {
    let source = match (&args.jsonl, &args.prompt) {
        (Some(_), _) => None,
        (None, Some(text)) => Some(text.clone()),
        (None, None) if !std::io::stdin().is_terminal() => Some(read_text(Path::new("-"))?),
        (None, None) => usage_error(
            "tokenize",
            "there is no text: give one with -p or --jsonl, or on stdin\n\n  \
             Example: metallic tokenize -p \"Once upon a time\"",
        ),
    };
    let file = options::open(&args.file)?;
    let tokenizer = Tokenizer::from_gguf(file.metadata(), args.pre.as_deref()).map_err(Error::from)?;
    for note in options::tokenizer_notes(&tokenizer) {
        out.note(format_args!("note: {note}"));
    }
    match (source, &args.jsonl) {
        (Some(text), _) => one(args, &tokenizer, &text, out),
        (None, Some(path)) if args.decode => decode_lines(&tokenizer, path, out),
        (None, Some(path)) => encode_lines(args, &tokenizer, path, out),
        (None, None) => Ok(()),
    }
}

/// The text of a token for a table: quoted where that makes it clearer.
pub(crate) fn piece(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => bytes.iter().map(|byte| format!("<{byte:02X}>")).collect(),
    }
}

fn encode_options(args: &TokenizeArgs) -> EncodeOptions {
    EncodeOptions { add_special: args.add_bos, parse_special: args.parse_special }
}

fn one(args: &TokenizeArgs, tokenizer: &Tokenizer, text: &str, out: &Output) -> anyhow::Result<()> {
    let encoding = tokenizer.encode(text, encode_options(args));
    tell_lost(&encoding.unencodable, "the text", out);
    if args.json {
        return out.print_json(&encoding.ids);
    }
    let mut table = crate::output::table(&["id", "piece"]);
    for id in &encoding.ids {
        table.add_row([id.to_string(), piece(tokenizer, *id)]);
    }
    out.print(&format!("{table}\n{}\n", options::count(encoding.ids.len(), "token")))
}

fn encode_lines(args: &TokenizeArgs, tokenizer: &Tokenizer, path: &Path, out: &Output) -> anyhow::Result<()> {
    let mut encoder = tokenizer.encoder();
    let mut lines = String::new();
    for (number, line) in (1..).zip(read_text(path)?.lines()) {
        let text: String = serde_json::from_str(line).map_err(|error| not_json(path, number, "a string", &error))?;
        let encoding = encoder.encode(&text, encode_options(args));
        tell_lost(&encoding.unencodable, &format!("line {number}"), out);
        push_line(&mut lines, &serde_json::to_string(&encoding.ids)?, out)?;
    }
    out.print(&lines)
}

fn decode_lines(tokenizer: &Tokenizer, path: &Path, out: &Output) -> anyhow::Result<()> {
    let options = DecodeOptions { skip_special: false, clean_spaces: false };
    let mut lines = String::new();
    for (number, line) in (1..).zip(read_text(path)?.lines()) {
        let ids: Vec<u32> =
            serde_json::from_str(line).map_err(|error| not_json(path, number, "an array of ids", &error))?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= tokenizer.token_count()) {
            let message = format!(
                "{}, line {number}: id {id} is outside the vocabulary of {}",
                shown(path),
                tokenizer.token_count()
            );
            return Err(Problem { kind: "unknown_token", message }.into());
        }
        push_line(&mut lines, &serde_json::to_string(&tokenizer.decode(&ids, options))?, out)?;
    }
    out.print(&lines)
}

/// Collects lines and writes many at once.
fn push_line(lines: &mut String, line: &str, out: &Output) -> anyhow::Result<()> {
    const BYTES_AT_ONCE: usize = 1 << 16;
    lines.push_str(line);
    lines.push('\n');
    if lines.len() >= BYTES_AT_ONCE {
        out.print(lines)?;
        lines.clear();
    }
    Ok(())
}

fn not_json(path: &Path, number: usize, expected: &str, error: &serde_json::Error) -> anyhow::Error {
    Problem::input(format!("{}, line {number} is not {expected} in JSON: {error}", shown(path)))
}

/// Bytes that the vocabulary cannot say are lost, which people must know.
pub(crate) fn tell_lost(lost: &[Unencodable], what: &str, out: &Output) {
    if lost.is_empty() {
        return;
    }
    let shown: Vec<String> =
        lost.iter().take(LOST_MAX).map(|lost| format!("{:#04x} at byte {}", lost.byte, lost.offset)).collect();
    let more = if lost.len() > LOST_MAX { ", …" } else { "" };
    let count = options::count(lost.len(), "byte");
    out.warn(format_args!("{what}: {count} without a token, left out: {}{more}", shown.join(", ")));
}
