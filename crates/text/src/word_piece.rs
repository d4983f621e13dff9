//! BERT's WordPiece: the text lower-cased and cut at white space and punctuation, each word the longest tokens from the
//! left, or the unknown token. Vocabularies spell the start of a word with U+2581, here a space.

use crate::char_class::{CONTROL, MARK, PUNCTUATION, SPACE, SYMBOL, class_of};
use crate::error::TokenizerError;
use crate::trie::Trie;
use crate::vocabulary::{TokenId, Vocabulary};

/// The tokens of a vocabulary and what is done to text first.
pub(crate) struct WordPiece {
    tokens: Trie,
    unknown: Option<TokenId>,
    normaliser: Normaliser,
}

/// What is done to each character.
#[derive(Clone, Copy)]
pub(crate) struct Normaliser {
    pub(crate) lowercase: bool,
    pub(crate) strip_accents: bool,
}

impl WordPiece {
    pub(crate) fn build(
        vocabulary: &Vocabulary,
        unknown: Option<TokenId>,
        normaliser: Normaliser,
    ) -> Result<Self, TokenizerError> {
        let texts = (0..vocabulary.len() as TokenId).map(|id| (vocabulary.table.get(id), id));
        Ok(Self { tokens: Trie::new(texts)?, unknown, normaliser })
    }

    /// Appends the tokens of `text`; where a word has none and there is no unknown token, calls `missing` with the
    /// offset and value of each of the word's bytes. `word` is a buffer.
    pub(crate) fn encode(
        &self,
        text: &str,
        word: &mut String,
        out: &mut Vec<TokenId>,
        mut missing: impl FnMut(usize, u8),
    ) {
        let mut start = 0;
        let mut end_word = |word: &mut String, start: usize, end: usize| {
            if word.is_empty() {
                return;
            }
            let before = out.len();
            if !self.push_word(word.as_bytes(), out) {
                out.truncate(before);
                match self.unknown {
                    Some(id) => out.push(id),
                    None => (start..end).for_each(|at| missing(at, text.as_bytes()[at])),
                }
            }
            word.clear();
        };
        word.clear();
        for (at, c) in text.char_indices() {
            let base = if self.normaliser.strip_accents { first_of_decomposition(c) } else { c };
            let class = class_of(base);
            if class & SPACE != 0 {
                end_word(word, start, at);
                continue;
            }
            let dropped = matches!(base, '\0' | char::REPLACEMENT_CHARACTER)
                || class & CONTROL != 0
                || (self.normaliser.strip_accents && class & MARK != 0);
            if dropped {
                continue;
            }
            let alone = class & PUNCTUATION != 0 || (base.is_ascii() && class & SYMBOL != 0) || is_chinese(base);
            if alone {
                end_word(word, start, at);
            }
            if word.is_empty() {
                start = at;
                word.push(' ');
            }
            // In the vocabulary's own spelling here.
            let base = if base == '\u{2581}' { ' ' } else { base };
            word.push(if self.normaliser.lowercase { lower(base) } else { base });
            if alone {
                end_word(word, start, at + c.len_utf8());
            }
        }
        end_word(word, start, text.len());
    }

    fn push_word(&self, word: &[u8], out: &mut Vec<TokenId>) -> bool {
        let mut at = 0;
        while at < word.len() {
            let Some((id, len)) = self.tokens.longest(&word[at..]) else {
                return false;
            };
            out.push(id);
            at += len;
        }
        true
    }
}

/// The first character of the canonical decomposition. llama.cpp takes no more of it, so a Hangul syllable is its first
/// letter; the other parts of most others are accents, which go anyway.
fn first_of_decomposition(c: char) -> char {
    if c.is_ascii() {
        return c;
    }
    let mut first = None;
    unicode_normalization::char::decompose_canonical(c, |part| {
        first.get_or_insert(part);
    });
    first.unwrap_or(c)
}

/// One character for one, whatever the language.
fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// The blocks that BERT's normaliser puts spaces around; with its gap from U+2B820 to U+2B91F.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{2f800}'..='\u{2fa1f}')
}
