//! SentencePiece: score order, byte fallback, the space in front.

use metallic_text::{DecodeOptions, StreamDecoder, StreamOptions, StreamStart, Tokenizer};

use crate::vocabularies::{ADDED, Draft, PARSED, PLAIN, USER_DEFINED, pieces};

fn draft() -> Draft {
    Draft::sentence_piece(&[
        ("▁", 1, -1.0),
        ("a", 1, -10.0),
        ("b", 1, -10.0),
        ("c", 1, -10.0),
        ("ab", 1, -2.0),
        ("bc", 1, -1.5),
        ("▁a", 1, -3.0),
        ("aa", 1, -5.0),
        ("c▁a", 1, -0.5),
        ("▁▁", 1, -9.0),
        ("<b>", USER_DEFINED, 0.0),
    ])
}

#[test]
fn the_best_score_merges_first_and_the_leftmost_among_equals() {
    let tokenizer = draft().build();
    assert_eq!(pieces(&tokenizer, "abc", PLAIN), [" a", "bc"]);
    assert_eq!(pieces(&tokenizer, "xaaa", PLAIN), [" ", "x", "aa", "a"]);
    assert_eq!(pieces(&tokenizer, "ab", PLAIN), [" ", "ab"]);
}

#[test]
fn words_that_a_token_spans_are_not_parted() {
    let tokenizer = draft().build();
    assert_eq!(pieces(&tokenizer, "c a", PLAIN), [" ", "c a"]);
    assert_eq!(pieces(&tokenizer, "b a  a", PLAIN), [" ", "b", " a", " ", " a"]);
}

#[test]
fn characters_without_a_token_become_bytes() {
    let draft = draft();
    let tokenizer = draft.build();
    let ids = tokenizer.encode("é", PLAIN).ids;
    assert_eq!(ids, [draft.id("▁"), draft.id("<0xC3>"), draft.id("<0xA9>")]);
    assert_eq!(tokenizer.decode(&ids, DecodeOptions { skip_special: false, clean_spaces: false }), "é");
}

#[test]
fn a_space_comes_first_and_after_special_tokens() {
    let draft = draft();
    let tokenizer = draft.build();
    assert_eq!(pieces(&tokenizer, "a<s>a", PARSED), [" a", "<s>", " a"]);
    assert_eq!(pieces(&tokenizer, "a<b>a", PLAIN), [" a", "<b>", " a"]);
    assert_eq!(pieces(&tokenizer, "a", ADDED), ["<s>", " a"], "llama adds BOS");
    assert_eq!(pieces(&tokenizer, "", ADDED), ["<s>"]);
    let mut source = draft.source();
    source.add_space_prefix = Some(false);
    source.add_bos = Some(false);
    let bare = Tokenizer::from_source(&source).unwrap();
    assert_eq!(pieces(&bare, "a", ADDED), ["a"]);
}

#[test]
fn the_first_space_is_dropped_at_the_start_of_a_text_only() {
    let tokenizer = draft().build();
    let ids = tokenizer.encode("a a", ADDED).ids;
    let shown = |skip_special| tokenizer.decode(&ids, DecodeOptions { skip_special, clean_spaces: false });
    assert_eq!(shown(true), "a a");
    assert_eq!(shown(false), "<s> a a", "llama.cpp's text");
    let mut stream =
        StreamDecoder::new(&tokenizer, StreamOptions { skip_special: true, start: StreamStart::Continuation });
    assert_eq!(stream.push(tokenizer.encode("a", PLAIN).ids[0]), " a");
}

#[test]
fn lost_bytes_are_reported_where_they_stand() {
    let mut draft = draft();
    for text in ["<0xC3>", "<0xA9>"] {
        let id = draft.id(text) as usize;
        draft.tokens[id].0 = format!("gone {id}").into_bytes();
        draft.tokens[id].1 = 1;
    }
    let tokenizer = draft.build();
    let encoding = tokenizer.encode("a▁é a<b>▁▁é", PLAIN);
    let lost: Vec<(usize, u8)> = encoding.unencodable.iter().map(|lost| (lost.offset, lost.byte)).collect();
    assert_eq!(lost, [(4, 0xc3), (5, 0xa9), (17, 0xc3), (18, 0xa9)]);
}
