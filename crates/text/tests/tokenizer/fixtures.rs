//! What other programs make of the same texts.

use std::path::Path;

use metallic_text::{EncodeOptions, TokenId, Tokenizer, TokenizerError, pre_tokenizer_rules};
use serde_json::Value;

const STORYTELLER: &str = "../../models/storyteller/metallic-storyteller-Q8_0.gguf";

fn lines(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(value: &Value) -> Option<Vec<u32>> {
    Some(value.as_array()?.iter().map(|number| number.as_u64().unwrap() as u32).collect())
}

#[test]
fn words_end_where_the_regex_says() {
    let cases = lines("word_ends.jsonl");
    assert!(cases.len() > 80);
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        for name in ["gpt-2", "smollm", "default", "llama-bpe", "qwen2", "qwen35"] {
            let words = pre_tokenizer_rules(name).unwrap().splitter.words(text);
            let ends: Vec<u32> = words.iter().map(|word| word.end as u32).collect();
            assert_eq!(ends, numbers(&case[name]).unwrap(), "{name} {text:?}");
        }
    }
}

fn storyteller() -> Tokenizer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(STORYTELLER);
    let file = gguf::GgufFile::open(path).unwrap();
    Tokenizer::from_gguf(file.metadata(), None).unwrap()
}

#[test]
fn storyteller_tokens_are_llama_cpps() {
    let tokenizer = storyteller();
    assert_eq!(tokenizer.end_ids(), [4093, 4095]);
    let mut encoder = tokenizer.encoder();
    for case in lines("storyteller_ids.jsonl") {
        let text = case["text"].as_str().unwrap();
        let plain = numbers(&case["ids"]).unwrap();
        let parsed = numbers(&case["ids_ps"]).unwrap_or_else(|| plain.clone());
        let added = numbers(&case["ids_add_special"]).unwrap_or_else(|| parsed.clone());
        let mut check = |add_special, parse_special, expected: Vec<TokenId>| {
            let encoding = encoder.encode(text, EncodeOptions { add_special, parse_special });
            assert_eq!(encoding.ids, expected, "{text:?}");
            assert_eq!(encoding.unencodable, []);
        };
        check(false, false, plain);
        check(false, true, parsed);
        check(true, true, added);
    }
}

#[test]
fn an_override_replaces_the_files_pre_tokenizer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(STORYTELLER);
    let file = gguf::GgufFile::open(path).unwrap();
    let error = Tokenizer::from_gguf(file.metadata(), Some("no-such-name")).err().unwrap().to_string();
    assert!(error.contains("no-such-name") && error.contains("qwen2"), "{error}");
    assert!(!storyteller().cleans_spaces(), "qwen2, as the file says, keeps spaces");
    assert!(Tokenizer::from_gguf(file.metadata(), Some("gpt-2")).unwrap().cleans_spaces());
}

#[test]
fn an_override_of_what_is_not_there_is_refused() {
    let mut writer = gguf::Writer::new();
    writer.set("tokenizer.ggml.model", gguf::Value::from("llama")).unwrap();
    writer.set("tokenizer.ggml.tokens", gguf::Value::from(&gguf::ArrayBuf::texts(["<unk>", "<s>", "</s>"]))).unwrap();
    let file = gguf::GgufFile::from_bytes(writer.to_vec(|_, _| Ok(())).unwrap()).unwrap();
    assert!(Tokenizer::from_gguf(file.metadata(), None).is_ok());
    let error = Tokenizer::from_gguf(file.metadata(), Some("qwen2")).err().unwrap();
    assert!(matches!(&error, TokenizerError::NoPreTokenizer { model } if model == "llama"), "{error}");
}
