//! Properties that hold for every text.

use metallic_text::{DecodeOptions, PRE_TOKENIZERS, StreamDecoder, StreamOptions, StreamStart, Tokenizer};
use proptest::prelude::*;

use crate::vocabularies::{Draft, PARSED, PLAIN};

const EXACT: DecodeOptions = DecodeOptions { skip_special: false, clean_spaces: false };

fn byte_level() -> Draft {
    let merges =
        [("t", "h"), ("th", "e"), (" ", "the"), (" ", " "), ("  ", "  "), ("a", "a"), ("aa", "aa"), ("\n", "\n")];
    Draft::byte_level(
        &merges,
        &[("<|end|>", crate::vocabularies::CONTROL), ("<tool>", crate::vocabularies::USER_DEFINED)],
    )
}

fn sentence_piece() -> Draft {
    Draft::sentence_piece(&[
        ("▁", 1, -1.0),
        ("▁▁", 1, -2.0),
        ("t", 1, -9.0),
        ("h", 1, -9.0),
        ("e", 1, -9.0),
        ("th", 1, -3.0),
        ("the", 1, -4.0),
        ("▁the", 1, -2.5),
        (".▁", 1, -8.0),
        ("é", 1, -8.0),
    ])
}

/// Text that tokenizers find hard: spaces, digits, quotes, special texts, every kind of character.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[ -~]{0,8}",
        "[ \\n\\r\\t\u{a0}\u{3000}]{0,6}",
        "\\PC{0,6}",
        any::<char>().prop_map(String::from),
        prop::sample::select(vec!["the", " the the", "'s", "<|end|>", "<tool>", "aaaa", "1234", "é", "🦀", "<0x0A>"])
            .prop_map(String::from),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32], start: StreamStart) -> String {
    let mut decoder = StreamDecoder::new(tokenizer, StreamOptions { skip_special: false, start });
    let mut whole = String::new();
    for &id in ids {
        whole += decoder.push(id);
    }
    whole += decoder.finish();
    whole
}

proptest! {
    #[test]
    fn words_cover_the_text(text in text()) {
        for rules in PRE_TOKENIZERS {
            let mut at = 0;
            for word in rules.splitter.words(&text) {
                prop_assert_eq!(word.start, at);
                prop_assert!(word.end > at && text.is_char_boundary(word.end));
                at = word.end;
            }
            prop_assert_eq!(at, text.len());
        }
    }

    #[test]
    fn byte_level_round_trip(text in text()) {
        let draft = byte_level();
        // The last rows' vocabularies are not spelled in bytes; of names with the same rule one is enough.
        let from_bytes = PRE_TOKENIZERS.iter().take_while(|rules| rules.name != "gemma4");
        let mut seen = Vec::new();
        for rules in from_bytes {
            if seen.contains(&rules.splitter) {
                continue;
            }
            seen.push(rules.splitter);
            let mut source = draft.source();
            source.pre = Some(rules.name);
            let tokenizer = Tokenizer::from_source(&source).unwrap();
            let mut encoder = tokenizer.encoder();
            for options in [PLAIN, PARSED] {
                let encoding = encoder.encode(&text, options);
                prop_assert_eq!(&encoding.unencodable, &[]);
                prop_assert_eq!(&tokenizer.decode(&encoding.ids, EXACT), &text);
                prop_assert_eq!(&streamed(&tokenizer, &encoding.ids, StreamStart::Text), &text);
                prop_assert_eq!(encoder.encode(&text, options), encoding, "the cache changes nothing");
            }
        }
    }

    #[test]
    fn sentence_piece_round_trip(text in text()) {
        // U+2581 is SentencePiece's own space and cannot survive.
        let text = text.replace('\u{2581}', "_");
        let tokenizer = sentence_piece().build();
        let encoding = tokenizer.encode(&text, PLAIN);
        prop_assert_eq!(&encoding.unencodable, &[]);
        prop_assert_eq!(&tokenizer.decode(&encoding.ids, EXACT), &text);
        prop_assert_eq!(&streamed(&tokenizer, &encoding.ids, StreamStart::Text), &text);
        prop_assert_eq!(tokenizer.encoder().encode(&text, PLAIN), encoding);
    }

    #[test]
    fn any_tokens_stream_to_the_same_text(ids in prop::collection::vec(0u32..300, 0..40)) {
        for tokenizer in [byte_level().build(), sentence_piece().build()] {
            let bytes = tokenizer.decode_bytes(&ids, EXACT);
            prop_assert_eq!(streamed(&tokenizer, &ids, StreamStart::Text), String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn a_stream_holds_half_characters_back() {
    let draft = byte_level();
    let tokenizer = draft.build();
    let options = StreamOptions { skip_special: false, start: StreamStart::Continuation };
    let mut decoder = StreamDecoder::new(&tokenizer, options);
    let crab: Vec<u32> = tokenizer.encode("🦀", PLAIN).ids;
    assert_eq!(crab.len(), 4);
    for &id in &crab[..3] {
        assert_eq!(decoder.push(id), "");
    }
    assert_eq!(decoder.push(crab[3]), "🦀");
    assert_eq!(decoder.push(crab[0]), "");
    assert_eq!(
        decoder.push(tokenizer.encode("a", PLAIN).ids[0]),
        "\u{fffd}a",
        "what cannot be completed is shown at once"
    );
    assert_eq!(decoder.push(crab[0]), "");
    assert_eq!(decoder.finish(), "\u{fffd}");
    assert_eq!(decoder.finish(), "");
    assert_eq!(decoder.push(99_999), "\u{fffd}", "an id outside the vocabulary is visible");
}

#[test]
fn a_word_of_a_megabyte_is_not_quadratic() {
    let tokenizer = byte_level().build();
    let text = "a".repeat(1 << 20) + &"th".repeat(1 << 18);
    let begin = std::time::Instant::now();
    let encoding = tokenizer.encode(&text, PLAIN);
    assert_eq!(tokenizer.decode(&encoding.ids, EXACT), text);
    assert_eq!(encoding.ids.len(), (1 << 18) + (1 << 18));
    // Quadratic work on 2^20 pieces would take minutes.
    assert!(begin.elapsed().as_secs() < 20);
}

#[test]
fn long_words_merge_like_short_ones() {
    let tokenizer = byte_level().build();
    // The heap's result for a long word, cut at a place no merge crosses, is that of its halves.
    let half = "thethaaaaa".repeat(4) + "x";
    let mut expected = tokenizer.encode(&half, PLAIN).ids;
    expected.extend_from_within(..);
    assert_eq!(tokenizer.encode(&half.repeat(2), PLAIN).ids, expected);
}
