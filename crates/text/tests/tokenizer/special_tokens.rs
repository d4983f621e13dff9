//! Special tokens: what is matched when, what is added, what ends a generation.

use metallic_text::{DecodeOptions, SpecialIds, Tokenizer, TokenizerError, VocabularyNote};

use crate::vocabularies::{ADDED, CONTROL, Draft, NORMAL, PARSED, PLAIN, UNUSED, USER_DEFINED, pieces};

fn draft() -> Draft {
    Draft::byte_level(
        &[("h", "i")],
        &[
            ("<|im_start|>", CONTROL),
            ("<|im_end|>", CONTROL),
            ("<tool>", USER_DEFINED),
            ("<tool><tool>", USER_DEFINED),
            ("l><t", USER_DEFINED),
            ("[PAD]x", UNUSED),
        ],
    )
}

#[test]
fn control_tokens_are_matched_only_on_request() {
    let tokenizer = draft().build();
    assert_eq!(pieces(&tokenizer, "<|im_end|>hi", PARSED), ["<|im_end|>", "hi"]);
    let plain = pieces(&tokenizer, "<|im_end|>hi", PLAIN);
    assert_eq!((plain.len(), plain.concat()), (11, "<|im_end|>hi".to_owned()));
}

#[test]
fn user_defined_tokens_are_always_matched_the_longest_first() {
    let tokenizer = draft().build();
    assert_eq!(pieces(&tokenizer, "hi<tool>hi", PLAIN), ["hi", "<tool>", "hi"]);
    assert_eq!(pieces(&tokenizer, "<tool><tool><tool>", PLAIN), ["<tool><tool>", "<tool>"]);
    // `<tool>` is longer than `l><t` and wins although `l><t` would also fit.
    assert_eq!(pieces(&tokenizer, "<tool><ta", PLAIN), ["<tool>", "<", "t", "a"]);
    assert_eq!(pieces(&tokenizer, "xl><ta", PLAIN), ["x", "l><t", "a"]);
}

#[test]
fn bos_and_eos_follow_the_file() {
    let draft = draft();
    let bos = draft.id("<|im_start|>");
    let eos = draft.id("<|im_end|>");
    let mut source = draft.source();
    source.special_ids = SpecialIds { bos: Some(bos), eos: Some(eos), ..SpecialIds::default() };
    let bare = Tokenizer::from_source(&source).unwrap();
    assert_eq!(pieces(&bare, "hi", ADDED), ["hi"], "qwen2 adds nothing by itself");
    source.add_bos = Some(true);
    source.add_eos = Some(true);
    let both = Tokenizer::from_source(&source).unwrap();
    assert_eq!(pieces(&both, "hi", ADDED), ["<|im_start|>", "hi", "<|im_end|>"]);
    assert_eq!(pieces(&both, "", ADDED), ["<|im_start|>", "<|im_end|>"]);
    assert_eq!(pieces(&both, "hi", PLAIN), ["hi"]);
    let ids = both.encode("hi", ADDED).ids;
    let shown = |skip_special| both.decode(&ids, DecodeOptions { skip_special, clean_spaces: false });
    assert_eq!((shown(true).as_str(), shown(false).as_str()), ("hi", "<|im_start|>hi<|im_end|>"));
}

#[test]
fn an_added_token_must_exist() {
    let draft = Draft::byte_level(&[], &[]);
    let mut source = draft.source();
    source.pre = Some("glm4");
    source.add_bos = Some(true);
    let error = Tokenizer::from_source(&source).err().unwrap();
    assert!(matches!(error, TokenizerError::MissingAddedToken { flag: "tokenizer.ggml.add_bos_token" }), "{error}");
}

#[test]
fn well_known_texts_end_a_generation_whatever_their_type() {
    let draft = Draft::byte_level(&[], &[("<|im_end|>", NORMAL), ("<|endoftext|>", CONTROL), ("<|fim_pad|>", CONTROL)]);
    let mut source = draft.source();
    source.special_ids.eos = Some(7);
    let tokenizer = Tokenizer::from_source(&source).unwrap();
    assert_eq!(tokenizer.end_ids(), [7, 256, 257, 258]);
    assert!(tokenizer.is_end(256) && !tokenizer.is_end(0) && !tokenizer.is_end(u32::MAX));
    assert!(tokenizer.is_special(256));
    assert_eq!(tokenizer.special_ids().eot, Some(256));
    assert!(tokenizer.notes().contains(&VocabularyNote::TreatedAsControl { id: 256 }));
}

#[test]
fn unused_tokens_show_nothing() {
    let draft = draft();
    let tokenizer = draft.build();
    assert_eq!(tokenizer.token_bytes(draft.id("[PAD]x")), Some(&b""[..]));
    assert_eq!(tokenizer.token_bytes(1 << 20), None);
    assert_eq!(tokenizer.find_token("[PAD]x"), Some(draft.id("[PAD]x")));
    assert_eq!(tokenizer.find_token("nothing"), None);
}

#[test]
fn phi_3_tokens_swallow_the_white_space_after_them() {
    let draft = Draft::byte_level(&[("h", "i")], &[("<|user|>", CONTROL)]);
    let mut source = draft.source();
    source.model_name = Some("Phi-3 mini");
    let tokenizer = Tokenizer::from_source(&source).unwrap();
    assert_eq!(pieces(&tokenizer, "hi <|user|> \n hi", PARSED), ["hi", " ", "<|user|>", "hi"]);
    assert_eq!(pieces(&tokenizer, "<|user|> \n", PARSED), ["<|user|>"]);
}

#[test]
fn cleaning_follows_llama_cpp() {
    let draft = Draft::byte_level(&[], &[]);
    let mut source = draft.source();
    source.pre = Some("gpt-2");
    let tokenizer = Tokenizer::from_source(&source).unwrap();
    let cleaned = |text: &str| {
        let ids = tokenizer.encode(text, PLAIN).ids;
        tokenizer.decode(&ids, DecodeOptions { skip_special: false, clean_spaces: true })
    };
    assert_eq!(cleaned("Well , I 'm here ! ?"), "Well, I'm here!?");
    assert_eq!(cleaned("a ' b 's 've 'll 't"), "a'b's've 'll 't");
    assert_eq!(cleaned(" .x"), ".x");
    assert_eq!(cleaned(""), "");
    assert!(!draft.build().cleans_spaces(), "qwen2 keeps its spaces");
}
