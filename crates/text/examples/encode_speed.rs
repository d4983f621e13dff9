//! Measures encoding on one thread.
//!
//!     cargo run --release -p metallic-text --example encode_speed -- MODEL.gguf TEXT.txt [--json]
//!
//! Cuts the text into documents of 20 KB. Cold: each document once, with an encoder that has seen
//! nothing before the first. Warm: the best of later passes over all documents.

use std::io::Write;
use std::time::{Duration, Instant};

use metallic_text::{EncodeOptions, Encoder, Encoding, Tokenizer};

const DOCUMENT_BYTES: usize = 20_000;
const COLD_RUNS: usize = 5;
const WARM_PASSES: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (model, text, json) = match arguments.as_slice() {
        [_, model, text] => (model, text, false),
        [_, model, text, flag] if flag == "--json" => (model, text, true),
        _ => return Err("usage: encode_speed MODEL.gguf TEXT.txt [--json]".into()),
    };
    let file = gguf::GgufFile::open(model)?;
    let begin = Instant::now();
    let tokenizer = Tokenizer::from_gguf(file.metadata(), None)?;
    let build = begin.elapsed();
    let text = std::fs::read_to_string(text)?;
    let documents = documents(&text);
    let bytes: usize = documents.iter().map(|document| document.len()).sum();
    let (mut cold, mut warm) = (Duration::MAX, Duration::MAX);
    let mut tokens = 0;
    for _ in 0..COLD_RUNS {
        let mut encoder = tokenizer.encoder();
        let (time, count) = pass(&mut encoder, &documents);
        (cold, tokens) = (cold.min(time), count);
        for _ in 0..WARM_PASSES {
            warm = warm.min(pass(&mut encoder, &documents).0);
        }
    }
    if json {
        let report = serde_json::json!({
            "cold": megabytes_per_second(bytes, cold),
            "warm": megabytes_per_second(bytes, warm),
            "memory": peak_mib(),
        });
        return Ok(writeln!(std::io::stdout(), "{report}")?);
    }
    let report = format!(
        "{} documents, {bytes} bytes, {tokens} tokens; build {:.1} ms; cold {:.0} MB/s, warm {:.0} MB/s\n",
        documents.len(),
        build.as_secs_f64() * 1e3,
        megabytes_per_second(bytes, cold),
        megabytes_per_second(bytes, warm),
    );
    std::io::stdout().write_all(report.as_bytes())?;
    Ok(())
}

fn documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (document, after) = rest.split_at(rest.floor_char_boundary(DOCUMENT_BYTES));
        documents.push(document);
        rest = after;
    }
    documents
}

fn pass(encoder: &mut Encoder<'_>, documents: &[&str]) -> (Duration, usize) {
    let options = EncodeOptions { add_special: false, parse_special: false };
    let mut encoding = Encoding::default();
    let mut tokens = 0;
    let begin = Instant::now();
    for document in documents {
        encoder.encode_into(document, options, &mut encoding);
        tokens += encoding.ids.len();
    }
    (begin.elapsed(), tokens)
}

fn megabytes_per_second(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

/// The most memory that this process had, where Linux says so.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024)
}
