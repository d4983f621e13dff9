//! The hand-written splitters against a regex engine with the patterns that they stand for, as llama.cpp (0c1e57098)
//! has them, on random text. Rules that llama.cpp itself has no pattern for are left to `scripts/compare-tokenizers.py`.

use fancy_regex::Regex;
use metallic_text::{PRE_TOKENIZERS, pre_tokenizer_rules};
use proptest::prelude::*;

const CONTRACTION: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const SPACES: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_SCRIPTS: &str = r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}&&\S]+";
const HAN_AND_KANA: &str = r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+";
const ASCII_MARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"##;

/// `tokenizer.ggml.pre` and its patterns, each applied to the pieces that the one before left.
fn rules() -> Vec<(&'static str, Vec<String>)> {
    let family = |letters: &str, others: &str, digits: &str| {
        format!(r"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{digits}| ?{others}+[\r\n]*|{SPACES}")
    };
    let not_word = r"[^\s\p{L}\p{N}]";
    let llama3 = family(r"\p{L}", not_word, r"\p{N}{1,3}");
    let qwen2 = family(r"\p{L}", not_word, r"\p{N}");
    let cased = |set: &str, suffix: &str, digits: &str| {
        let (capital, small) = (format!("((?=[{set}])([^a-z]))"), format!("((?=[{set}])([^A-Z]))"));
        let prefix = r"[^\r\n\p{L}\p{N}]?";
        format!(
            r"{prefix}{capital}*{small}+{suffix}|{prefix}{capital}+{small}*{suffix}|{digits}| ?{not_word}+[\r\n/]*|{SPACES}"
        )
    };
    let maybe = format!("(?:{CONTRACTION})?");
    let uncased = |digits: &str| {
        format!(r"[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+{maybe}|{digits}| ?{not_word}+[\r\n/]*|{SPACES}")
    };
    let deepseek3_words = format!(r"{ASCII_MARK}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+");
    let mut cascade: Vec<String> = [512, 256, 128, 64, 32, 16, 8, 4].map(|n| format!(r"\s{{{n}}}(?!\S)")).into();
    cascade.push(r"\s{1,2}(?!\S)|\s{1}".into());
    let jais2 = llama3.replace(r"\s+(?!\S)|\s+", &cascade.join("|"));
    let youtu_scripts =
        r"[\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|".to_owned() + HAN_AND_KANA;
    let exaone_words = r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+";
    let bloom = r" ?[^(\s|.,!?…。，、।۔،)]+";
    let named = |name, patterns: &[&str]| (name, patterns.iter().map(|&p| p.to_owned()).collect());
    vec![
        named("default", &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        named("gpt-2", &[GPT2]),
        named("smollm", &[r"\p{N}", GPT2]),
        named("llama-bpe", &[&llama3]),
        named("qwen2", &[&qwen2]),
        named("qwen35", &[&family(r"[\p{L}\p{M}]", r"[^\s\p{L}\p{M}\p{N}]", r"\p{N}")]),
        named("jais-2", &[&jais2]),
        named(
            "seed-coder",
            &[&format!(r"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}")],
        ),
        named("ufakzeka", &[&qwen2[CONTRACTION.len() + 1..]]),
        named("bailingmoe", &[&qwen2.replace(r"|\s*[\r\n]+|", r"|\s*[\r\n]|")]),
        named(
            "exaone-moe",
            &[&format!(r"{CONTRACTION}|{exaone_words}|\p{{N}}| ?{not_word}+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+")],
        ),
        named("minicpm5", &[r"\p{N}{1,3}", &family(r"\p{L}", not_word, r"\p{N}+")]),
        named("laguna", &[r"[^\n]+|[\n]+", &qwen2]),
        named("deepseek-coder", &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_SCRIPTS, r"\p{N}"]),
        named(
            "deepseek-v3",
            &[r"\p{N}{1,3}", HAN_AND_KANA, &format!(r"{deepseek3_words}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}")],
        ),
        named(
            "spark2_5",
            &[
                r"\p{N}{1,3}",
                HAN_AND_KANA,
                &format!(r"{deepseek3_words}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+"),
                r"\p{N}",
            ],
        ),
        named("youtu", &[&youtu_scripts, &uncased(r"\p{N}")]),
        named("gpt-4o", &[&cased(r"\p{L}", &maybe, r"\p{N}{1,3}")]),
        named("granite-embed-multi-97m", &[&cased(r"\p{L}\p{M}", &maybe, r"\p{N}{1,3}")]),
        named("tekken", &[&cased(r"\p{L}", "", r"\p{N}")]),
        named("falcon", &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
        named("bloom", &[bloom]),
        named("viking", &[bloom, r"\p{N}"]),
        named(
            "chameleon",
            &[
                "<sentinel:[0-9]+>",
                "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                "([\\t\\n]|    |  )",
                r"\p{N}",
                r"[\p{P}!-/:-@\[-`{-~]",
                GPT2,
            ],
        ),
        named("superbpe", &[r"\p{N}+", "(?=([0-9]{3})+(?![0-9]))"]),
        named("gemma4", &[r"[^\n]+|[\n]+"]),
        named("whitespace", &[r"\S+"]),
    ]
}

fn split<'t>(text: &'t str, patterns: &[Regex]) -> Vec<&'t str> {
    let mut pieces = vec![text];
    for pattern in patterns {
        let mut parts = Vec::new();
        for piece in pieces {
            let mut at = 0;
            for found in pattern.find_iter(piece) {
                let found = found.unwrap();
                parts.extend([&piece[at..found.start()], found.as_str()]);
                at = found.end();
            }
            parts.push(&piece[at..]);
        }
        parts.retain(|part| !part.is_empty());
        pieces = parts;
    }
    pieces
}

/// Text of characters whose class has not changed since Unicode 15, near the places where rules change their mind.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-zA-Z]{1,4}",
        "[ \\n\\r\\t\u{a0}\u{3000}\u{85}]{1,4}",
        "[0-9٣½Ⅷ²]{1,7}",
        "[!-/:-@\\[-`{-~]{1,3}",
        "[àéÀÉßμΑβЖжאبनखाิ日漢あア한ㅎ\u{300}\u{93f}\u{20d0}]{1,4}",
        "[、。，！…“’—؟।€™²←√🦀\u{200d}\u{ad}\u{1f}\u{e000}]{1,3}",
        prop::sample::select(vec!["'s", "'LL", " the", "don't", "IMGIMGABZ", "<sentinel:12>", "    ", "HelloWORLD"])
            .prop_map(String::from),
        prop::collection::vec(prop::sample::select(vec![' ', '\u{2003}']), 1..700).prop_map(String::from_iter),
    ];
    prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat())
}

#[test]
fn splitters_do_what_their_patterns_say() {
    let rules: Vec<_> = rules()
        .into_iter()
        .map(|(name, patterns)| {
            let patterns: Vec<Regex> = patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect();
            (name, pre_tokenizer_rules(name).unwrap().splitter, patterns)
        })
        .collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 500, ..Default::default() });
    runner
        .run(&text(), |text| {
            for (name, splitter, patterns) in &rules {
                let ours: Vec<&str> = splitter.words(&text).into_iter().map(|word| &text[word]).collect();
                prop_assert_eq!(ours, split(&text, patterns), "{}", name);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_name_of_the_formats_list_is_known_once() {
    let mut names: Vec<&str> = PRE_TOKENIZERS.iter().map(|rules| rules.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PRE_TOKENIZERS.len());
    assert_eq!(names.len(), 91, "as many as llama.cpp 0c1e57098 knows");
}
