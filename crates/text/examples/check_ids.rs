//! Compares this crate's tokens with another program's.
//!
//!     cargo run --release -p metallic-text --example check_ids -- MODEL.gguf CASES.jsonl
//!
//! Each line of the cases is an object with `text`, `ids` (special tokens not parsed) and, where
//! they differ, `ids_ps` (parsed), `ids_add_special` (parsed, with BOS and EOS) and `detok_ps` (the text
//! that the parsed ids decode to). Prints the first differences and `matched N of M`; exits with
//! 1 if there were any.

use std::process::ExitCode;
use std::time::Instant;

use metallic_text::{
    DecodeOptions, EncodeOptions, Encoder, StreamDecoder, StreamOptions, StreamStart, TokenId, Tokenizer,
};
use serde_json::Value;

const SHOWN_DIFFERENCES_MAX: usize = 10;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, cases] = arguments.as_slice() else {
        return Err("usage: check_ids MODEL.gguf CASES.jsonl".into());
    };
    let file = gguf::GgufFile::open(model)?;
    let begin = Instant::now();
    let tokenizer = Tokenizer::from_gguf(file.metadata(), None)?;
    let mut report = format!(
        "{} tokens in {:.1} ms, end ids {:?}",
        tokenizer.token_count(),
        begin.elapsed().as_secs_f64() * 1e3,
        tokenizer.end_ids()
    );
    let mut encoder = tokenizer.encoder();
    let (mut matched, mut total) = (0, 0);
    for line in std::fs::read_to_string(cases)?.lines() {
        total += 1;
        match check(&tokenizer, &mut encoder, &serde_json::from_str(line)?) {
            Ok(()) => matched += 1,
            Err(difference) if total - matched <= SHOWN_DIFFERENCES_MAX => {
                report += &format!("\nline {total}: {difference}");
            }
            Err(_) => {}
        }
    }
    report += &format!("\nmatched {matched} of {total}\n");
    std::io::Write::write_all(&mut std::io::stdout(), report.as_bytes())?;
    Ok(if matched == total { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(tokenizer: &Tokenizer, encoder: &mut Encoder<'_>, case: &Value) -> Result<(), String> {
    let text = case["text"].as_str().ok_or("no text")?;
    let ids = ids_of(&case["ids"]).ok_or("no ids")?;
    let parsed = ids_of(&case["ids_ps"]).unwrap_or_else(|| ids.clone());
    let mut compare = |add_special, parse_special, expected: &[TokenId]| {
        let options = EncodeOptions { add_special, parse_special };
        let kept = encoder.encode(text, options);
        if kept.ids != expected {
            return Err(format!("{options:?} {text:?}: {:?}, expected {expected:?}", kept.ids));
        }
        if kept != tokenizer.encode(text, options) {
            return Err(format!("{options:?} {text:?}: a fresh encoder differs"));
        }
        Ok(())
    };
    compare(false, false, &ids)?;
    compare(false, true, &parsed)?;
    if let Some(expected) = ids_of(&case["ids_add_special"]) {
        compare(true, true, &expected)?;
    }
    let decoded = tokenizer.decode(&parsed, DecodeOptions { skip_special: false, clean_spaces: true });
    let expected = case["detok_ps"].as_str().unwrap_or(text);
    if decoded != expected {
        return Err(format!("decoded {decoded:?}, expected {expected:?}"));
    }
    let whole = tokenizer.decode(&parsed, DecodeOptions { skip_special: true, clean_spaces: false });
    let mut stream = StreamDecoder::new(tokenizer, StreamOptions { skip_special: true, start: StreamStart::Text });
    let mut streamed = String::new();
    for &id in &parsed {
        streamed += stream.push(id);
    }
    streamed += stream.finish();
    if streamed != whole { Err(format!("streamed {streamed:?}, decoded {whole:?}")) } else { Ok(()) }
}

fn ids_of(value: &Value) -> Option<Vec<TokenId>> {
    value.as_array()?.iter().map(|id| id.as_u64()?.try_into().ok()).collect()
}
