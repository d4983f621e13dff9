//! SentencePiece's unigram model, of T5 and its kin: of all ways to cut a normalised text into tokens, the one with the
//! highest sum of scores (Kudo 2018, <https://arxiv.org/abs/1804.10959>). Works on the spelling of the file, with U+2581
//! for spaces, in parts of at most a gigabyte.

use crate::error::TokenizerError;
use crate::trie::Trie;
use crate::unigram::charsmap::Charsmap;
use crate::vocabulary::{TokenId, VISIBLE_SPACE, Vocabulary, VocabularySource, attr};

mod charsmap;

/// How far below the worst token an unknown character scores.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The model of a vocabulary.
pub(crate) struct Unigram {
    tokens: Trie,
    /// Matched before anything is normalised.
    user_defined: Trie,
    /// By token; 0 for those that are the user's.
    scores: Vec<f64>,
    unknown: TokenId,
    unknown_score: f64,
    charsmap: Option<Charsmap>,
    spaces: Spaces,
}

/// What happens to spaces before the search.
#[derive(Clone, Copy)]
pub(crate) struct Spaces {
    /// One is put before the first word.
    pub(crate) prefix: bool,
    /// Runs become one, and ends none.
    pub(crate) merge: bool,
}

/// Buffers of one encoder, kept between texts.
#[derive(Default)]
pub(crate) struct UnigramScratch {
    normalised: Vec<u8>,
    best: Vec<Best>,
}

/// The best way found to reach an offset: by which token, and from where.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    token: TokenId,
    start: u32,
}

impl Unigram {
    pub(crate) fn build(
        vocabulary: &Vocabulary,
        source: &VocabularySource<'_>,
        unknown: TokenId,
        spaces: Spaces,
    ) -> Result<Self, TokenizerError> {
        let count = vocabulary.len();
        let kinds = |wanted: u8| (0..count as TokenId).filter(move |&id| vocabulary.attrs[id as usize] & wanted != 0);
        let texts = |wanted| kinds(wanted).map(|id| (source.tokens[id as usize], id));
        let mut scores = vec![0.0; count];
        if let Some(given) = &source.scores {
            if given.len() < count {
                let key = "tokenizer.ggml.scores";
                return Err(TokenizerError::WrongLength { key, length: given.len(), tokens: count });
            }
            for (id, &score) in given[..count].iter().enumerate() {
                if score.is_nan() {
                    return Err(TokenizerError::BadScore { id: id as TokenId });
                }
                // Finite, so that every character can be reached.
                scores[id] = f64::from(score.clamp(f32::MIN, f32::MAX));
            }
        }
        let worst = kinds(attr::NORMAL).map(|id| scores[id as usize] as f32).fold(f32::MAX, f32::min);
        for id in kinds(attr::USER_DEFINED) {
            scores[id as usize] = 0.0;
        }
        Ok(Self {
            tokens: Trie::new(texts(attr::NORMAL | attr::USER_DEFINED | attr::UNUSED))?,
            user_defined: Trie::new(texts(attr::USER_DEFINED))?,
            scores,
            unknown,
            unknown_score: f64::from(worst - UNKNOWN_PENALTY),
            charsmap: source.precompiled_charsmap.as_deref().map(Charsmap::new).transpose()?,
            spaces,
        })
    }

    /// Appends the tokens of `text`.
    pub(crate) fn encode(&self, text: &str, scratch: &mut UnigramScratch, out: &mut Vec<TokenId>) {
        self.normalise(text, &mut scratch.normalised);
        let before = out.len();
        self.search(&scratch.normalised, &mut scratch.best);
        let mut at = scratch.normalised.len();
        while at > 0 {
            let Best { token, start, .. } = scratch.best[at];
            // Neighbouring unknown characters are one token.
            if token != self.unknown || out.len() == before || out.last() != Some(&token) {
                out.push(token);
            }
            at = start as usize;
        }
        out[before..].reverse();
    }

    /// Fills in the best way to each offset that begins a character.
    fn search(&self, text: &[u8], best: &mut Vec<Best>) {
        best.clear();
        best.resize(text.len() + 1, Best { score: -f64::MAX, token: self.unknown, start: 0 });
        best[0].score = 0.0;
        let mut start = 0;
        while start < text.len() {
            let char_end = (start + char_len(text[start])).min(text.len());
            let here = best[start].score;
            let mut offer = |end: usize, token: TokenId, score: f64| {
                if here + score > best[end].score {
                    best[end] = Best { score: here + score, token, start: start as u32 };
                }
            };
            let (mut node, mut whole_char) = (Trie::ROOT, false);
            for (end, &byte) in (start + 1..).zip(&text[start..]) {
                let Some(next) = self.tokens.step(node, byte) else {
                    break;
                };
                node = next;
                if let Some(id) = self.tokens.value(node) {
                    whole_char |= end == char_end;
                    offer(end, id, self.scores[id as usize]);
                }
            }
            if !whole_char {
                offer(char_end, self.unknown, self.unknown_score);
            }
            start = char_end;
        }
    }

    /// SentencePiece's normaliser: the character map, and what the vocabulary asks for with spaces.
    fn normalise(&self, text: &str, out: &mut Vec<u8>) {
        out.clear();
        let (mut prefixed, mut in_word) = (false, false);
        let mut at = 0;
        while at < text.len() {
            let (replacement, consumed) = self.normalise_prefix(&text.as_bytes()[at..]);
            for &byte in replacement {
                if byte == b' ' {
                    in_word = false;
                    if !self.spaces.merge {
                        out.extend_from_slice(VISIBLE_SPACE);
                    }
                    continue;
                }
                if !in_word {
                    in_word = true;
                    if self.spaces.merge || (self.spaces.prefix && !prefixed) {
                        out.extend_from_slice(VISIBLE_SPACE);
                        prefixed = true;
                    }
                }
                out.push(byte);
            }
            at += consumed;
        }
    }

    /// What the text starts with, normalised, and how many of its bytes that were.
    fn normalise_prefix<'a>(&'a self, text: &'a [u8]) -> (&'a [u8], usize) {
        if let Some((_, len)) = self.user_defined.longest(text) {
            return (&text[..len], len);
        }
        if let Some(mapped) = self.charsmap.as_ref().and_then(|map| map.longest(text)) {
            return mapped;
        }
        let len = char_len(text[0]).min(text.len());
        (&text[..len], len)
    }
}

/// The length that the first byte of a character announces; 1 for a byte that begins none.
fn char_len(first: u8) -> usize {
    match first {
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
        _ => 1,
    }
}
