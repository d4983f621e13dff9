//! WordPiece, unigram, RWKV and BPE from characters, over vocabularies small enough to encode by hand.

use metallic_text::{DecodeOptions, SpecialIds, Tokenizer, TokenizerError, VocabularySource};

use crate::vocabularies::{ADDED, BYTE, CONTROL, NORMAL, PLAIN, UNKNOWN, USER_DEFINED, pieces};

fn source<'a>(model: &'a str, tokens: &[(&'a str, i32)]) -> VocabularySource<'a> {
    VocabularySource {
        model,
        tokens: tokens.iter().map(|(text, _)| text.as_bytes()).collect(),
        token_types: Some(tokens.iter().map(|(_, kind)| *kind).collect()),
        ..VocabularySource::default()
    }
}

fn decoded(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    tokenizer.decode(ids, DecodeOptions { skip_special: true, clean_spaces: true })
}

fn word_piece() -> VocabularySource<'static> {
    let special_ids = SpecialIds {
        bos: Some(2),
        separator: Some(3),
        unknown: Some(1),
        padding: Some(0),
        mask: None,
        ..SpecialIds::default()
    };
    let tokens = [
        ("[PAD]", CONTROL),
        ("[UNK]", CONTROL),
        ("[CLS]", CONTROL),
        ("[SEP]", CONTROL),
        ("▁un", NORMAL),
        ("aff", NORMAL),
        ("able", NORMAL),
        ("▁,", NORMAL),
        ("▁resume", NORMAL),
        ("▁中", NORMAL),
        ("▁u", NORMAL),
    ];
    VocabularySource { special_ids, ..source("bert", &tokens) }
}

#[test]
fn word_piece_takes_the_longest_token_from_the_left() {
    let tokenizer = Tokenizer::from_source(&word_piece()).unwrap();
    assert_eq!(tokenizer.encode("UNaffable,\tunaff", ADDED).ids, [2, 4, 5, 6, 7, 4, 5, 3]);
    assert_eq!(tokenizer.encode("resume Résumé 中u", PLAIN).ids, [8, 8, 9, 10]);
    assert_eq!(tokenizer.encode("unx, \u{7}u\u{200b}", PLAIN).ids, [1, 7, 10], "one [UNK] for the word, no controls");
    assert_eq!(tokenizer.encode(" \n ", ADDED).ids, [2, 3]);
    assert_eq!(decoded(&tokenizer, &[2, 4, 5, 7, 10, 3]), " unaff, u");
    let mut cased = word_piece();
    cased.lowercase = Some(false);
    let cased = Tokenizer::from_source(&cased).unwrap();
    assert_eq!(cased.encode("Unaff resumé", PLAIN).ids, [1, 1], "neither capitals nor accents go");
}

#[test]
fn word_piece_without_unknown_reports_the_bytes() {
    let mut source = word_piece();
    source.special_ids.unknown = Some(99);
    source.tokens.truncate(50);
    let encoding = Tokenizer::from_source(&source).unwrap().encode("un é!", PLAIN);
    assert_eq!(encoding.ids, [4]);
    let lost: Vec<(usize, u8)> = encoding.unencodable.iter().map(|lost| (lost.offset, lost.byte)).collect();
    assert_eq!(lost, [(3, 0xc3), (4, 0xa9), (5, b'!')]);
}

fn unigram() -> VocabularySource<'static> {
    let tokens = [
        ("<pad>", CONTROL),
        ("</s>", CONTROL),
        ("<unk>", UNKNOWN),
        ("▁", NORMAL),
        ("▁a", NORMAL),
        ("▁ab", NORMAL),
        ("b", NORMAL),
        ("c", NORMAL),
        ("bc", NORMAL),
        ("<x>", USER_DEFINED),
    ];
    let scores = vec![0.0, 0.0, 0.0, -1.0, -2.0, -5.0, -2.5, -3.0, -4.0, -50.0];
    VocabularySource { scores: Some(scores), add_space_prefix: Some(true), ..source("t5", &tokens) }
}

#[test]
fn a_unigram_model_takes_the_best_sum() {
    let tokenizer = Tokenizer::from_source(&unigram()).unwrap();
    assert_eq!(pieces(&tokenizer, "abc", PLAIN), [" a", "bc"], "-6 is better than -8 and -7.5");
    assert_eq!(pieces(&tokenizer, "ab", PLAIN), [" a", "b"]);
    assert_eq!(tokenizer.encode("b", ADDED).ids, [3, 6, 1], "EOS is added unless the file says otherwise");
    assert_eq!(pieces(&tokenizer, "azzéb", PLAIN), [" a", "<unk>", "b"], "neighbouring unknown characters are one");
    assert_eq!(tokenizer.encode("", ADDED).ids, [1]);
    assert_eq!(pieces(&tokenizer, "b  b ", PLAIN), [" ", "b", " ", " ", "b", " "]);
    let mut merging = unigram();
    merging.remove_extra_spaces = Some(true);
    let merging = Tokenizer::from_source(&merging).unwrap();
    assert_eq!(pieces(&merging, "b  b ", PLAIN), [" ", "b", " ", "b"]);
}

#[test]
fn broken_unigram_tables_are_refused() {
    let error = |change: &dyn Fn(&mut VocabularySource<'_>)| {
        let mut source = unigram();
        change(&mut source);
        Tokenizer::from_source(&source).err().unwrap()
    };
    let scores = |scores: Vec<f32>| error(&move |source| source.scores = Some(scores.clone()));
    assert!(matches!(scores(vec![0.0; 9]), TokenizerError::WrongLength { length: 9, tokens: 10, .. }));
    assert!(matches!(scores(vec![f32::NAN; 10]), TokenizerError::BadScore { id: 0 }));
    for map in [&b""[..], b"\x04\0\0\0", b"\xff\xff\xff\xff\0", b"\x02\0\0\0ab\0", b"\0\0\0\0abc"] {
        let error = error(&|source| source.precompiled_charsmap = Some(map.to_vec()));
        assert!(matches!(error, TokenizerError::BadCharsmap { .. }), "{map:?}: {error}");
    }
    let mut infinite = unigram();
    infinite.scores = Some(vec![f32::NEG_INFINITY; 10]);
    let encoding = Tokenizer::from_source(&infinite).unwrap().encode("abc", PLAIN);
    assert!(!encoding.ids.is_empty(), "the worst of scores still reach the end");
}

#[test]
fn tokens_are_not_looked_for_without_end() {
    let long = "a".repeat(1025);
    for model in ["bert", "t5", "rwkv"] {
        let tokens = [("a", NORMAL), ("b", NORMAL), ("c", NORMAL), (&long[..], NORMAL)];
        let mut source = source(model, &tokens);
        let [bos, eos, separator, unknown] = [Some(0), Some(0), Some(0), Some(2)];
        source.special_ids = SpecialIds { bos, eos, separator, unknown, ..SpecialIds::default() };
        let error = Tokenizer::from_source(&source).err().unwrap();
        assert!(matches!(error, TokenizerError::TokenTooLong { id: 3, bytes: 1025, .. }), "{error}");
        source.tokens[3] = &long.as_bytes()[1..];
        let begin = std::time::Instant::now();
        let text = "a".repeat(1 << 16) + "b";
        assert!(!Tokenizer::from_source(&source).unwrap().encode(&text, PLAIN).ids.is_empty());
        // 2^26 steps at most.
        assert!(begin.elapsed().as_secs() < 20);
    }
}

#[test]
fn rwkv_takes_the_longest_token() {
    let tokens =
        [("<s>", CONTROL), ("a", NORMAL), ("ab", NORMAL), (r"\n", NORMAL), (r"\xe2\x96", NORMAL), (r"b\'c", NORMAL)];
    let tokenizer = Tokenizer::from_source(&source("rwkv", &tokens)).unwrap();
    assert_eq!(tokenizer.encode("aab\nab'c", ADDED).ids, [1, 2, 3, 2]);
    let encoding = tokenizer.encode("a▁", PLAIN);
    assert_eq!(encoding.ids, [1, 4]);
    assert_eq!((encoding.unencodable[0].offset, encoding.unencodable[0].byte), (3, 0x81));
    assert_eq!(decoded(&tokenizer, &[2, 3, 5]), "ab\nb'c");
    let broken = Tokenizer::from_source(&source("rwkv", &[("a", NORMAL), (r"\x-1", NORMAL)])).unwrap();
    assert_eq!(broken.encode("x-1a", PLAIN).ids, [0], "a token that spells nothing is never found");
}

fn gemma4(bytes: &[String]) -> VocabularySource<'_> {
    let mut tokens = vec![
        ("<pad>", CONTROL),
        ("<bos>", CONTROL),
        ("▁", NORMAL),
        ("t", NORMAL),
        ("é", NORMAL),
        ("▁t", NORMAL),
        ("▁té", NORMAL),
        ("\n", NORMAL),
        ("\n\n", NORMAL),
    ];
    tokens.extend(bytes.iter().map(|text| (text.as_str(), BYTE)));
    let merges = ["▁ t", "▁t é", "t q"].map(str::as_bytes).to_vec();
    let special_ids = SpecialIds { bos: Some(1), ..SpecialIds::default() };
    VocabularySource { merges: Some(merges), special_ids, add_bos: Some(false), ..source("gemma4", &tokens) }
}

#[test]
fn gemma4_merges_characters() {
    let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    let tokenizer = Tokenizer::from_source(&gemma4(&bytes)).unwrap();
    assert_eq!(pieces(&tokenizer, " té t", PLAIN), [" té", " t"]);
    assert_eq!(tokenizer.encode("t", ADDED).ids, [1, 3], "BOS comes first whatever the file says");
    assert_eq!(tokenizer.encode("\n\n", PLAIN).ids, [8], "line breaks are one token without a merge");
    assert_eq!(tokenizer.encode("\n\n\n", PLAIN).ids, [7, 7, 7]);
    let byte = |byte: u32| 9 + byte;
    assert_eq!(tokenizer.encode("漢", PLAIN).ids, [byte(0xe6), byte(0xbc), byte(0xa2)]);
    assert_eq!(
        tokenizer.encode("tq", PLAIN).ids,
        [byte(u32::from(b't')), byte(u32::from(b'q'))],
        "no token for the merge"
    );
    assert_eq!(decoded(&tokenizer, &tokenizer.encode(" t漢\n", PLAIN).ids), " t漢\n");
    let none = Tokenizer::from_source(&gemma4(&[])).unwrap();
    let encoding = none.encode("t ▁漢", PLAIN);
    assert_eq!(encoding.ids, [3, 2, 2]);
    let lost: Vec<(usize, u8)> = encoding.unencodable.iter().map(|lost| (lost.offset, lost.byte)).collect();
    assert_eq!(lost, [(5, 0xe6), (6, 0xbc), (7, 0xa2)]);
}
