//! Findings as tables for people.

use std::fmt::Write;

use metallic::gguf::{Array, GgufFile, Value};
use metallic::text::Tokenizer;

use super::{Findings, Needs, bytes_by_format, missing_bytes, special_ids, token_text};
use crate::options;
use crate::output::table;

/// Characters of a text that is not shown whole.
const TEXT_MAX: usize = 72;
/// Elements of an array that is not shown whole.
const ARRAY_MAX: usize = 6;

pub(super) fn of(findings: &Findings<'_>) -> String {
    let file = findings.file;
    let mut text = format!(
        "{}: GGUF {}, {}, {}, {}\n",
        findings.name,
        file.version(),
        bytes(file.file_bytes()),
        options::count(file.shard_count(), "file"),
        options::count(file.tensors().len(), "tensor"),
    );
    section(&mut text, "Metadata", &metadata(file, findings.args.full));
    if !file.tensors().is_empty() {
        section(&mut text, "Tensors", &tensors(file, findings.args.all));
        section(&mut text, "Sizes by format", &formats(file));
    }
    section(&mut text, "Tokenizer", &tokenizer(findings));
    section(&mut text, "Plan", &plan(findings));
    if findings.args.program {
        let program = findings.program().unwrap_or_else(|error| format!("cannot be run: {error}"));
        section(&mut text, "Program", &program);
    }
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    writeln!(text, "\n{title}\n{}", body.trim_end()).expect("writing to a string");
}

fn metadata(file: &GgufFile, full: bool) -> String {
    let mut entries = table(&["key", "type", "value"]);
    for (key, value) in file.metadata().iter() {
        let kind = match value {
            Value::Array(array) => format!("array of {} {}", array.len(), array.kind()),
            other => other.kind().to_string(),
        };
        entries.add_row([printable(key), kind, shown(&value, full)]);
    }
    entries.to_string()
}

fn shown(value: &Value<'_>, full: bool) -> String {
    match value {
        Value::U8(number) => number.to_string(),
        Value::I8(number) => number.to_string(),
        Value::U16(number) => number.to_string(),
        Value::I16(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::I32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Text(text) if full => printable_lines(&text.to_lossy()),
        Value::Text(text) => shortened(&text.to_lossy()),
        Value::Array(array) => array_shown(*array, full),
    }
}

fn array_shown(array: Array<'_>, full: bool) -> String {
    let count = if full { array.len() } else { ARRAY_MAX };
    let quoted = |element: Value<'_>| match element {
        Value::Text(text) => format!("{:?}", text.to_lossy()),
        other => shown(&other, full),
    };
    let elements: Vec<String> = array.iter().take(count).map(quoted).collect();
    let more = if array.len() > count { ", …" } else { "" };
    let text = format!("[{}{more}]", elements.join(", "));
    if full { text } else { shortened(&text) }
}

/// The beginning of a text, on one line.
fn shortened(text: &str) -> String {
    let plain = printable(text);
    if plain.chars().count() <= TEXT_MAX {
        return plain;
    }
    let start: String = plain.chars().take(TEXT_MAX).collect();
    format!("{start}… ({} bytes)", text.len())
}

/// A file's text must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

fn tensors(file: &GgufFile, all: bool) -> String {
    let mut rows = table(&["name", "type", "shape", "size", "offset"]);
    let mut hidden = 0;
    for tensor in file.tensors() {
        if !all && layer(tensor.name()).is_some_and(|layer| layer != "0") {
            hidden += 1;
            continue;
        }
        let shape: Vec<String> = tensor.shape().dimensions().iter().map(u64::to_string).collect();
        rows.add_row([
            printable(tensor.name()),
            tensor.format().name().to_owned(),
            shape.join(" × "),
            bytes(tensor.byte_count()),
            tensor.offset().to_string(),
        ]);
    }
    match hidden {
        0 => rows.to_string(),
        _ => format!("{rows}\nand {} of further layers: --all shows them", options::count(hidden, "tensor")),
    }
}

/// The number in `blk.7.attn_q.weight`, as it is written.
fn layer(name: &str) -> Option<&str> {
    Some(name.strip_prefix("blk.")?.split_once('.')?.0)
}

fn formats(file: &GgufFile) -> String {
    let formats = bytes_by_format(file);
    let total: u64 = formats.iter().map(|format| format.2).sum();
    let mut rows = table(&["type", "tensors", "size", "share"]);
    for (name, tensors, size) in formats {
        let share = format!("{:.1} %", 100.0 * size as f64 / total.max(1) as f64);
        rows.add_row([name.to_owned(), tensors.to_string(), bytes(size), share]);
    }
    rows.to_string()
}

fn tokenizer(findings: &Findings<'_>) -> String {
    let tokenizer = match &findings.tokenizer {
        Ok(tokenizer) => tokenizer,
        Err(error) => return format!("cannot be used: {error}"),
    };
    let mut rows = table(&["what", "value"]);
    let key = |key: &str| findings.file.metadata().get(key).map(|value| shown(&value, false));
    let absent = || "-".to_owned();
    rows.add_row(["model".to_owned(), key("tokenizer.ggml.model").unwrap_or_else(absent)]);
    rows.add_row(["pre".to_owned(), key("tokenizer.ggml.pre").unwrap_or_else(absent)]);
    rows.add_row(["vocabulary".to_owned(), tokenizer.token_count().to_string()]);
    for (role, id) in special_ids(tokenizer) {
        rows.add_row([role.to_owned(), quoted(tokenizer, id)]);
    }
    let ends: Vec<String> = tokenizer.end_ids().iter().map(|id| quoted(tokenizer, *id)).collect();
    rows.add_row(["ends an answer".to_owned(), if ends.is_empty() { absent() } else { ends.join(", ") }]);
    let added = |id: Option<u32>| id.map_or_else(absent, |id| quoted(tokenizer, id));
    rows.add_row(["added in front".to_owned(), added(tokenizer.added_bos())]);
    rows.add_row(["added behind".to_owned(), added(tokenizer.added_eos())]);
    let lost: Vec<String> = missing_bytes(tokenizer).iter().map(|byte| format!("{byte:02x}")).collect();
    if !lost.is_empty() {
        rows.add_row(["bytes without a token".to_owned(), lost.join(" ")]);
    }
    for note in options::tokenizer_notes(tokenizer) {
        rows.add_row(["note".to_owned(), printable(&note)]);
    }
    rows.to_string()
}

fn quoted(tokenizer: &Tokenizer, id: u32) -> String {
    format!("{id} {:?}", token_text(tokenizer, id))
}

fn plan(findings: &Findings<'_>) -> String {
    let Some(needs) = findings.needs() else {
        let reason = findings.model.as_ref().err().map(ToString::to_string).unwrap_or_default();
        return format!("cannot be run: {reason}");
    };
    let Needs { weight_bytes, weight_bytes_per_token, kv_bytes_per_token, context } = needs;
    let mut rows = table(&["what", "size"]);
    rows.add_row(["weights".to_owned(), bytes(weight_bytes)]);
    rows.add_row(["weights read for a token".to_owned(), bytes(weight_bytes_per_token)]);
    rows.add_row(["keys and values of a token".to_owned(), bytes(kv_bytes_per_token)]);
    let whole = kv_bytes_per_token.saturating_mul(context as u64);
    rows.add_row([format!("keys and values of the whole context, {context}"), bytes(whole)]);
    rows.to_string()
}

/// A size for people, in powers of 1024.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(9_650_336), "9.2 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn texts_of_files_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        let long = "é".repeat(100);
        assert_eq!(shortened(&long), format!("{}… (200 bytes)", "é".repeat(72)));
    }
}
