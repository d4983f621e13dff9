//! Which `tokenizer.ggml.pre` stands for the rules by which a `tokenizer.json` cuts text into words.
//!
//! The rules are regular expressions, known by their text. A name is only given where it means just these rules
//! (`llama-vocab.cpp` of llama.cpp).

use serde_json::Value;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The rules of one step of cutting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Matches of a regular expression are words.
    Pattern(String),
    /// Each digit is a word.
    Digits,
}

/// The steps of cutting that `pre_tokenizer` describes; an unknown kind gives its name.
pub(super) fn rules(pre_tokenizer: &Value) -> Result<Vec<Rule>, String> {
    let kind = pre_tokenizer.get("type").and_then(Value::as_str).unwrap_or("none");
    match kind {
        "Sequence" => {
            let parts = pre_tokenizer.get("pretokenizers").and_then(Value::as_array);
            let rules: Result<Vec<Vec<Rule>>, String> = parts.into_iter().flatten().map(rules).collect();
            Ok(rules?.concat())
        }
        "Split" => match pre_tokenizer.get("pattern").and_then(|pattern| pattern.get("Regex")?.as_str()) {
            Some(pattern) => Ok(vec![Rule::Pattern(pattern.to_owned())]),
            None => Err("a split at a fixed text".to_owned()),
        },
        "Digits" if pre_tokenizer.get("individual_digits").and_then(Value::as_bool) == Some(true) => {
            Ok(vec![Rule::Digits])
        }
        // The step that spells bytes as letters cuts like GPT-2 unless told not to.
        "ByteLevel" if pre_tokenizer.get("use_regex").and_then(Value::as_bool) == Some(false) => Ok(Vec::new()),
        "ByteLevel" => Ok(vec![Rule::Pattern(GPT2.to_owned())]),
        other => Err(format!("a step of the kind {other}")),
    }
}

/// The name for these rules, if there is one. `ignore_merges` says that a word which is a token stands for itself.
pub(super) fn name(rules: &[Rule], ignore_merges: bool) -> Option<&'static str> {
    let pattern = |rule: &Rule, text: &str| *rule == Rule::Pattern(text.to_owned());
    match rules {
        [one] if pattern(one, LLAMA3) => Some(if ignore_merges { "llama-bpe" } else { "smaug-bpe" }),
        [one] if pattern(one, TEKKEN) && ignore_merges => Some("tekken"),
        _ if ignore_merges => None,
        [one] if pattern(one, QWEN2) => Some("qwen2"),
        [one] if pattern(one, QWEN35) => Some("qwen35"),
        [one] if pattern(one, GPT2) => Some("gpt-2"),
        [Rule::Digits, one] if pattern(one, GPT2) => Some("smollm"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_known_by_their_text() {
        let qwen = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
        ]});
        assert_eq!(name(&rules(&qwen).unwrap(), false), Some("qwen2"));
        let smollm = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "use_regex": true},
        ]});
        assert_eq!(name(&rules(&smollm).unwrap(), false), Some("smollm"));
        assert_eq!(name(&rules(&json!({"type": "ByteLevel"})).unwrap(), false), Some("gpt-2"));
    }

    #[test]
    fn other_rules_have_no_name() {
        let other = json!({"type": "Split", "pattern": {"Regex": "x+"}});
        assert_eq!(name(&rules(&other).unwrap(), false), None);
        assert!(rules(&json!({"type": "Whitespace"})).is_err());
    }
}
