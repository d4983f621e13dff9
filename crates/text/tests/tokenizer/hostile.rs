//! Files that no honest program writes: a typed error or a tokenizer that works, never a panic.

use metallic_text::{DecodeOptions, Tokenizer, TokenizerError, Unencodable, VocabularyNote, VocabularySource};
use proptest::prelude::*;

use crate::vocabularies::{ADDED, BYTE, Draft, PLAIN, spell};

fn draft() -> Draft {
    Draft::byte_level(&[("a", "b"), ("ab", "c")], &[("<s>", 3)])
}

fn error(draft: &Draft) -> TokenizerError {
    Tokenizer::from_source(&draft.source()).err().expect("an error")
}

#[test]
fn missing_parts_are_named() {
    let draft = draft();
    let mut source = draft.source();
    source.model = "plamo2";
    let unknown = Tokenizer::from_source(&source).err().unwrap();
    assert!(matches!(&unknown, TokenizerError::UnknownModel { name } if name == "plamo2"));
    source.model = "gpt2";
    source.merges = None;
    let missing = Tokenizer::from_source(&source).err().unwrap();
    assert!(matches!(missing, TokenizerError::MissingKey { key: "tokenizer.ggml.merges" }));
    source.merges = Some(Vec::new());
    source.tokens.clear();
    assert!(matches!(Tokenizer::from_source(&source).err().unwrap(), TokenizerError::NoTokens));
}

#[test]
fn an_unknown_pre_tokenizer_lists_the_known() {
    let draft = draft();
    let mut source = draft.source();
    source.pre = Some("qwen17");
    let text = Tokenizer::from_source(&source).err().unwrap().to_string();
    assert!(text.contains("qwen17") && text.contains("smollm") && text.contains("llama-bpe"), "{text}");
    source.pre = None;
    let tokenizer = Tokenizer::from_source(&source).unwrap();
    assert!(tokenizer.notes().contains(&VocabularyNote::PreTokenizerMissing));
}

#[test]
fn duplicates_are_refused() {
    let mut draft = draft();
    draft.tokens.push((spell(b"ab"), 1));
    assert!(matches!(error(&draft), TokenizerError::DuplicateToken { first: 256, second: 259, .. }));
}

#[test]
fn short_side_tables_are_refused() {
    let draft = draft();
    let mut source = draft.source();
    source.token_types = Some(vec![1; 5]);
    let short = Tokenizer::from_source(&source).err().unwrap();
    assert!(matches!(short, TokenizerError::WrongLength { length: 5, tokens: 259, .. }));
    source.token_types = None;
    assert_eq!(Tokenizer::from_source(&source).unwrap().encode("abc", PLAIN).ids, [257]);
    source.model = "llama";
    source.scores = Some(vec![0.0; 258]);
    assert!(matches!(Tokenizer::from_source(&source).err().unwrap(), TokenizerError::WrongLength { length: 258, .. }));
    source.scores = Some(vec![f32::NAN; 259]);
    assert!(matches!(Tokenizer::from_source(&source).err().unwrap(), TokenizerError::BadScore { id: 0 }));
}

#[test]
fn byte_tokens_must_name_a_byte() {
    for text in ["<0x-1>", "<0xG0>", "<0x>", "", "x", "<0x0A>>", "<0x+1>"] {
        let mut draft = draft();
        draft.tokens.push((text.as_bytes().to_vec(), BYTE));
        assert!(matches!(error(&draft), TokenizerError::BadByteToken { id: 259, .. }), "{text}");
    }
}

#[test]
fn merges_need_two_parts() {
    for text in ["", " ", "ab", " ab", "é"] {
        let mut draft = draft();
        draft.merges.as_mut().unwrap().push(text.as_bytes().to_vec());
        assert!(matches!(error(&draft), TokenizerError::BadMerge { index: 2, .. }), "{text:?}");
    }
}

#[test]
fn merges_of_what_no_text_contains_are_harmless() {
    for text in ["a ", "▁ b", "a  b", "a b c", "\u{1F980} a"] {
        let mut draft = draft();
        draft.merges.as_mut().unwrap().push(text.as_bytes().to_vec());
        assert_eq!(draft.build().encode("abc", PLAIN).ids, [257], "{text:?}");
    }
}

#[test]
fn merges_through_texts_that_are_no_tokens_still_work() {
    let mut draft = draft();
    // `xy` is no token, yet merging it is the only way to `xyz`.
    draft.merges = Some(vec![b"x y".to_vec(), b"xy z".to_vec(), b"p q".to_vec(), "\u{120} q".as_bytes().to_vec()]);
    draft.tokens.push((b"xyz".to_vec(), 1));
    let tokenizer = draft.build();
    assert_eq!(tokenizer.encode("xyz", PLAIN).ids, [259]);
    // A result that is no token falls back to bytes as llama.cpp's does.
    assert_eq!(tokenizer.encode("pq", PLAIN).ids, [u32::from(b'p'), u32::from(b'q')]);
}

#[test]
fn a_merge_never_makes_a_token_that_text_cannot_contain() {
    let mut draft = Draft::byte_level(&[("a", "b")], &[(" x", 1), ("\u{4e00}", 1)]);
    // The next token after that of the merge before, and no spelling of a space: it stands for itself only.
    draft.merges.as_mut().unwrap().push("\u{120} x".as_bytes().to_vec());
    let tokenizer = draft.build();
    assert_eq!(tokenizer.encode("ab x", PLAIN).ids, [256, u32::from(b'x')]);
    draft.tokens.push((spell(b" x"), 1));
    assert_eq!(draft.build().encode("ab x", PLAIN).ids, [256, 259]);
}

#[test]
fn lost_bytes_are_reported() {
    let mut draft = draft();
    draft.tokens[0x04].0 = b"other".to_vec();
    draft.tokens[0xf1].0 = b"more".to_vec();
    let tokenizer = draft.build();
    assert!(tokenizer.notes().contains(&VocabularyNote::MissingBytes { bytes: vec![0x04, 0xf1] }));
    let encoding = tokenizer.encode("a\u{4}b\u{4}c", PLAIN);
    assert_eq!(encoding.ids, [u32::from(b'a'), u32::from(b'b'), u32::from(b'c')]);
    assert_eq!(encoding.unencodable, [Unencodable { offset: 1, byte: 4 }, Unencodable { offset: 3, byte: 4 }]);
    let twice = tokenizer.encoder().encode("\u{4}\u{4}", PLAIN);
    assert_eq!((twice.ids.len(), twice.unencodable.len()), (0, 2));
}

#[test]
fn ids_outside_the_vocabulary_are_noted_and_ignored() {
    let draft = draft();
    let mut source = draft.source();
    source.special_ids.bos = Some(5000);
    source.special_ids.fim_padding = Some(u32::MAX);
    let tokenizer = Tokenizer::from_source(&source).unwrap();
    assert_eq!(tokenizer.special_ids().bos, Some(11), "llama.cpp's default");
    assert_eq!(tokenizer.special_ids().fim_padding, None);
    assert!(tokenizer.notes().contains(&VocabularyNote::SpecialIdOutOfRange { role: "bos", id: 5000 }));
}

proptest! {
    #[test]
    fn noise_never_panics(
        tokens in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..40),
        types in prop::option::of(prop::collection::vec(-2i32..9, 0..50)),
        scores in prop::option::of(prop::collection::vec(any::<f32>(), 0..50)),
        merges in prop::collection::vec("[ab\u{120}\u{2581} ]{0,5}", 0..20),
        add_bos in any::<Option<bool>>(),
        space in any::<Option<bool>>(),
        llama in any::<bool>(),
        text in "[ab \u{2581}\\PC]{0,20}",
    ) {
        let source = VocabularySource {
            model: if llama { "llama" } else { "gpt2" },
            pre: Some("smollm"),
            tokens: tokens.iter().map(Vec::as_slice).collect(),
            token_types: types,
            scores,
            merges: Some(merges.iter().map(String::as_bytes).collect()),
            add_bos,
            add_space_prefix: space,
            model_name: Some("phi-3"),
            ..VocabularySource::default()
        };
        if let Ok(tokenizer) = Tokenizer::from_source(&source) {
            let encoding = tokenizer.encoder().encode(&text, ADDED);
            prop_assert!(encoding.ids.iter().all(|&id| (id as usize) < tokenizer.token_count()));
            prop_assert!(encoding.unencodable.iter().all(|lost| lost.offset <= text.len()));
            let options = DecodeOptions { skip_special: false, clean_spaces: true };
            let bytes = tokenizer.decode_bytes(&encoding.ids, options);
            prop_assert_eq!(tokenizer.decode(&encoding.ids, options), String::from_utf8_lossy(&bytes));
        }
    }
}
