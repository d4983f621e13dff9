//! Encodes many texts, for comparison with other programs (`scripts/compare-tokenizers.py`).
//!
//!     cargo run --release -p metallic-text --example encode_lines -- MODEL.gguf [PRE] < TEXTS.jsonl > IDS.jsonl
//!
//! Each line in is a JSON string. Each line out is an object with `ids` (special tokens not parsed), `ids_special`
//! (parsed, with BOS and EOS where the file wants them) and `text` (what `ids` decode to).

use std::io::{BufRead, Write};

use metallic_text::{DecodeOptions, EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, pre) = match arguments.as_slice() {
        [model] => (model, None),
        [model, pre] => (model, Some(pre.as_str())),
        _ => return Err("usage: encode_lines MODEL.gguf [PRE] < TEXTS.jsonl".into()),
    };
    let file = gguf::GgufFile::open(model)?;
    let tokenizer = Tokenizer::from_gguf(file.metadata(), pre)?;
    let mut encoder = tokenizer.encoder();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        let ids = encoder.encode(&text, EncodeOptions { add_special: false, parse_special: false }).ids;
        let special = encoder.encode(&text, EncodeOptions { add_special: true, parse_special: true }).ids;
        let decoded = tokenizer.decode(&ids, DecodeOptions { skip_special: false, clean_spaces: true });
        writeln!(out, "{}", serde_json::json!({ "ids": ids, "ids_special": special, "text": decoded }))?;
    }
    Ok(())
}
