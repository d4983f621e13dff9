//! SentencePiece's greedy merge over characters, the best score first, leftmost first among
//! equals, with bytes for characters that are no token. Here a space stands for U+2581: the
//! vocabulary's bytes are spelled so, and the caller has replaced U+2581 in the text.

use std::collections::BinaryHeap;

use crate::error::TokenizerError;
use crate::vocabulary::{TokenId, VISIBLE_SPACE, Vocabulary, VocabularySource};

const NONE: u32 = u32::MAX;

/// What SentencePiece needs beside the tokens.
pub(crate) struct Spm {
    /// Scores as integers of the same order.
    ranks: Vec<u32>,
    byte_tokens: [Option<TokenId>; 256],
    /// By a character: the characters that some token has right after it.
    joins: [CharSet; CHARACTERS],
}

/// A character's number here: its code in ASCII, 128 for all others.
const CHARACTERS: usize = 129;

/// A set of such numbers, one bit each.
type CharSet = [u64; CHARACTERS.div_ceil(64)];

/// Buffers of one encoder, kept between words.
#[derive(Default)]
pub(crate) struct SpmScratch {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Bigram>,
}

#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    /// 0 once merged into its left neighbour.
    len: u32,
    previous: u32,
    next: u32,
}

/// Ordered by rank, then by position from the right, so that the greatest is the next to merge.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Bigram {
    rank: u32,
    left_reversed: u32,
    right: u32,
    len: u32,
}

impl Spm {
    pub(crate) fn build(vocabulary: &Vocabulary, source: &VocabularySource<'_>) -> Result<Self, TokenizerError> {
        let count = vocabulary.len();
        let ranks = match &source.scores {
            None => vec![0; count],
            Some(scores) if scores.len() < count => {
                return Err(TokenizerError::WrongLength {
                    key: "tokenizer.ggml.scores",
                    length: scores.len(),
                    tokens: count,
                });
            }
            Some(scores) => ranks_of(&scores[..count])?,
        };
        let mut spm = Self { ranks, byte_tokens: [None; 256], joins: [[0; _]; _] };
        // The bytes of one character are never parted.
        add_join(&mut spm.joins, 0x80, 0x80);
        for byte in 0..=255u8 {
            let written = format!("<0x{byte:02X}>");
            let found = vocabulary.table.find(written.as_bytes());
            spm.byte_tokens[usize::from(byte)] = found.or_else(|| vocabulary.table.find(&[byte]));
        }
        for id in 0..count as TokenId {
            for pair in vocabulary.table.get(id).windows(2) {
                add_join(&mut spm.joins, pair[0], pair[1]);
            }
        }
        Ok(spm)
    }

    /// Bytes that stand for no token.
    pub(crate) fn missing_bytes(&self) -> Vec<u8> {
        (0..=255).filter(|&b| self.byte_tokens[usize::from(b)].is_none()).collect()
    }

    /// The end of the part of `text` from `start` on that merges cannot leave: it lies between two
    /// characters that stand side by side in no token.
    #[inline]
    pub(crate) fn word_end(&self, text: &[u8], start: usize) -> usize {
        let after_first = start + 1;
        let sides = text[start..].iter().zip(&text[after_first..]);
        sides
            .enumerate()
            .find(|(_, (left, right))| !self.joined(**left, **right))
            .map_or(text.len(), |(i, _)| after_first + i)
    }

    #[inline]
    fn joined(&self, left: u8, right: u8) -> bool {
        let right = usize::from(right.min(0x80));
        self.joins[usize::from(left.min(0x80))][right / 64] >> (right % 64) & 1 != 0
    }

    /// Appends the tokens of `word`; calls `missing` with the offset in `word` and the byte for
    /// every byte that has no token.
    pub(crate) fn merge_word(
        &self,
        vocabulary: &Vocabulary,
        word: &str,
        scratch: &mut SpmScratch,
        out: &mut Vec<TokenId>,
        mut missing: impl FnMut(usize, u8),
    ) {
        let bytes = word.as_bytes();
        let SpmScratch { symbols, queue } = scratch;
        symbols.clear();
        queue.clear();
        for (i, (start, c)) in word.char_indices().enumerate() {
            let i = i as u32;
            symbols.push(Symbol {
                start: start as u32,
                len: c.len_utf8() as u32,
                previous: i.wrapping_sub(1),
                next: i + 1,
            });
        }
        let Some(last) = symbols.last_mut() else {
            return;
        };
        last.next = NONE;
        for right in 1..symbols.len() as u32 {
            self.push(vocabulary, bytes, symbols, queue, right - 1, right);
        }
        while let Some(bigram) = queue.pop() {
            let (left, right) = (!bigram.left_reversed as usize, bigram.right as usize);
            let (left_len, right_len) = (symbols[left].len, symbols[right].len);
            // Outdated: either side was merged since.
            if left_len == 0 || right_len == 0 || left_len + right_len != bigram.len {
                continue;
            }
            let after = symbols[right].next;
            symbols[left].len = bigram.len;
            symbols[left].next = after;
            symbols[right].len = 0;
            if after != NONE {
                symbols[after as usize].previous = left as u32;
            }
            let before = symbols[left].previous;
            self.push(vocabulary, bytes, symbols, queue, before, left as u32);
            self.push(vocabulary, bytes, symbols, queue, left as u32, after);
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let (start, end) = (symbol.start as usize, (symbol.start + symbol.len) as usize);
            match vocabulary.table.find(&bytes[start..end]) {
                Some(id) => out.push(id),
                None => self.push_bytes(&bytes[start..end], start, out, &mut missing),
            }
        }
    }

    fn push(
        &self,
        vocabulary: &Vocabulary,
        bytes: &[u8],
        symbols: &[Symbol],
        queue: &mut BinaryHeap<Bigram>,
        left: u32,
        right: u32,
    ) {
        if left == NONE || right == NONE {
            return;
        }
        let start = symbols[left as usize].start;
        let len = symbols[left as usize].len + symbols[right as usize].len;
        if let Some(id) = vocabulary.table.find(&bytes[start as usize..(start + len) as usize]) {
            queue.push(Bigram { rank: self.ranks[id as usize], left_reversed: !left, right, len });
        }
    }

    fn push_bytes(&self, symbol: &[u8], start: usize, out: &mut Vec<TokenId>, missing: &mut impl FnMut(usize, u8)) {
        let spelled = if symbol == b" " { VISIBLE_SPACE } else { symbol };
        for (i, &byte) in spelled.iter().enumerate() {
            match self.byte_tokens[usize::from(byte)] {
                Some(id) => out.push(id),
                None => missing(start + i.min(symbol.len() - 1), byte),
            }
        }
    }
}

fn add_join(joins: &mut [CharSet; CHARACTERS], left: u8, right: u8) {
    let right = usize::from(right.min(0x80));
    joins[usize::from(left.min(0x80))][right / 64] |= 1 << (right % 64);
}

/// Integers in the order of the scores.
fn ranks_of(scores: &[f32]) -> Result<Vec<u32>, TokenizerError> {
    let rank = |(id, score): (usize, &f32)| {
        if score.is_nan() {
            return Err(TokenizerError::BadScore { id: id as TokenId });
        }
        // Adding zero makes -0 into 0, which is equal to it.
        let bits = (score + 0.0).to_bits();
        Ok(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
    };
    scores.iter().enumerate().map(rank).collect()
}
