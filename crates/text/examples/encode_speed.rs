//! Measures encoding on one thread.
//!
//!     cargo run --release -p metallic-text --example encode_speed -- MODEL.gguf TEXT.txt
//!
//! Cuts the text into documents of 20 KB. Cold: each document once, with an encoder that has seen
//! nothing before the first. Warm: the best of later passes over all documents.

use std::time::{Duration, Instant};

use metallic_text::{EncodeOptions, Encoder, Encoding, Tokenizer};

const DOCUMENT_BYTES: usize = 20_000;
const COLD_RUNS: usize = 5;
const WARM_PASSES: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, text] = arguments.as_slice() else {
        return Err("usage: encode_speed MODEL.gguf TEXT.txt".into());
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
    let report = format!(
        "{} documents, {bytes} bytes, {tokens} tokens; build {:.1} ms; cold {:.0} MB/s, warm {:.0} MB/s\n",
        documents.len(),
        build.as_secs_f64() * 1e3,
        megabytes_per_second(bytes, cold),
        megabytes_per_second(bytes, warm),
    );
    std::io::Write::write_all(&mut std::io::stdout(), report.as_bytes())?;
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
