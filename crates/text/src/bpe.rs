//! BPE inside one word, from bytes or from characters: which pairs merge, best rank first, leftmost first among
//! equals. Never cuts text into words and knows no special tokens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::byte_level;
use crate::derivations::Derivations;
use crate::error::TokenizerError;
use crate::merge_table::{Merge, MergeTable, NONE, Piece};
use crate::pretokenize::{PreTokenizer, PreTokenizerRules};
use crate::short_merge::{SHORT_WORD, ShortPairs};
use crate::text_table::TextTable;
use crate::vocabulary::{Spelling, TokenId, VISIBLE_SPACE, Vocabulary, lossy, spell_into};

/// Merges that are read together.
const MERGES_TOGETHER: usize = 64;

/// A character that is in no token and no merge.
const UNKNOWN: Piece = u32::MAX - 1;

/// A pair in a long word. The least is the next to merge: by rank, then from the left.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Bigram {
    rank: u32,
    left: u32,
    right: u32,
    right_piece: Piece,
    result: Piece,
}

/// The merge table of a vocabulary.
pub(crate) struct Bpe {
    merges: MergeTable,
    /// The piece of each byte; where words are made of characters, of each ASCII character.
    byte_pieces: [Piece; 256],
    /// The merge of each pair of bytes, where words are made of bytes: the first look at a word stays in a few lines of
    /// the processor's cache.
    byte_merges: Vec<Merge>,
    /// What stands for a byte of a piece that is no token.
    fallback: [Option<TokenId>; 256],
    /// Words are made of characters rather than bytes.
    from_characters: bool,
    /// A word of line breaks that is a token stands for itself.
    whole_line_breaks: bool,
    /// Texts that are no tokens; the number of the first is the vocabulary's size.
    extra: TextTable,
    tokens: usize,
    /// A word that is a token stands for itself.
    pub(crate) ignore_merges: bool,
    /// One bit for each token that merges make of its own bytes: a word that is such a token needs no merging.
    whole: Vec<u64>,
}

/// A word that will be encoded.
struct ExpectedWord {
    /// Where it is in the text.
    place: Range<usize>,
    hash: u64,
    /// The only token that it may be, unless hashes are equal by chance.
    candidate: Option<TokenId>,
}

/// Buffers of one encoder, kept between words.
#[derive(Default)]
pub(crate) struct BpeScratch {
    pieces: Vec<Piece>,
    pairs: ShortPairs,
    expected: Vec<ExpectedWord>,
    /// The next of them.
    next_expected: usize,
    next: Vec<u32>,
    previous: Vec<u32>,
    queue: BinaryHeap<Reverse<Bigram>>,
}

impl BpeScratch {
    /// What was found out about the word at `place`, if it was expected.
    #[inline]
    fn expected_at(&mut self, place: &Range<usize>) -> Option<Option<TokenId>> {
        while let Some(expected) = self.expected.get(self.next_expected) {
            if expected.place.start >= place.start {
                return (expected.place == *place).then_some(expected.candidate);
            }
            self.next_expected += 1;
        }
        None
    }
}

impl Bpe {
    pub(crate) fn build(
        vocabulary: &Vocabulary,
        merges: &[&[u8]],
        rules: &PreTokenizerRules,
    ) -> Result<Self, TokenizerError> {
        let from_characters = vocabulary.spelling != Spelling::ByteLevel;
        let mut bpe = Self {
            merges: MergeTable::with_capacity(merges.len()),
            byte_pieces: [NONE; 256],
            byte_merges: if from_characters { Vec::new() } else { vec![Merge::NONE; 1 << 16] },
            fallback: [None; 256],
            from_characters,
            whole_line_breaks: rules.splitter == PreTokenizer::Gemma4,
            extra: TextTable::with_capacity(0, 0),
            tokens: vocabulary.len(),
            ignore_merges: rules.ignore_merges,
            whole: Vec::new(),
        };
        for byte in 0..=255u8 {
            let piece = bpe.piece_of(vocabulary, &[byte])?;
            bpe.byte_pieces[usize::from(byte)] = piece;
            bpe.fallback[usize::from(byte)] = if from_characters {
                vocabulary.table.find(format!("<0x{byte:02X}>").as_bytes())
            } else {
                // llama.cpp looks such bytes up in their printable spelling, byte by byte, which finds those that
                // print as one ASCII character.
                (byte_level::is_plain_ascii(byte) && bpe.is_token(piece)).then_some(piece)
            };
        }
        bpe.add_merges(vocabulary, merges)?;
        Ok(bpe)
    }

    /// Some merges at a time, and one kind of look-up after the other, so that memory is waited for once and not for each.
    fn add_merges(&mut self, vocabulary: &Vocabulary, merges: &[&[u8]]) -> Result<(), TokenizerError> {
        let bytes = if self.from_characters { &[][..] } else { &self.byte_pieces };
        let mut derivations = Derivations::new(bytes, vocabulary.len());
        let (mut texts, mut spelled, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
        let mut guess = 0;
        for (chunk, first_rank) in merges.chunks(MERGES_TOGETHER).zip((0..).step_by(MERGES_TOGETHER)) {
            texts.clear();
            spelled.clear();
            for (merge, index) in chunk.iter().zip(first_rank..) {
                let start = texts.len();
                if let Some(middle) = spell_merge(index, merge, vocabulary.spelling, &mut texts)? {
                    vocabulary.table.expect(&texts[start..middle]);
                    vocabulary.table.expect(&texts[middle..]);
                    spelled.push((index as u32, start, middle, texts.len()));
                }
            }
            pieces.clear();
            for &(rank, start, middle, end) in &spelled {
                let left = self.piece_of(vocabulary, &texts[start..middle])?;
                let right = self.piece_of(vocabulary, &texts[middle..end])?;
                // Trainers write tokens in the order of their merges.
                let text = &texts[start..end];
                let result = if vocabulary.is_known_as(guess, text) { guess } else { self.piece_of(vocabulary, text)? };
                guess = result.wrapping_add(1);
                let merge = Merge { rank, result };
                if let ([first, second], false) = (text, self.from_characters) {
                    let known = &mut self.byte_merges[pair_of_bytes(*first, *second)];
                    *known = if *known == Merge::NONE { merge } else { *known };
                }
                self.merges.expect(left, right);
                pieces.push((left, right, merge));
            }
            pieces.retain(|&(left, right, merge)| self.merges.insert(left, right, merge));
            if !self.from_characters {
                derivations.add(&self.merges, &pieces);
            }
        }
        self.whole = derivations.made(self.tokens);
        Ok(())
    }

    fn piece_of(&mut self, vocabulary: &Vocabulary, text: &[u8]) -> Result<Piece, TokenizerError> {
        if let Some(id) = vocabulary.table.find(text) {
            return Ok(id);
        }
        let number = match self.extra.insert(text)? {
            Ok(number) | Err(number) => number,
        };
        u32::try_from(self.tokens + number as usize)
            .ok()
            .filter(|&piece| piece < UNKNOWN)
            .ok_or(TokenizerError::VocabularyTooLarge)
    }

    /// Bytes that stand for no token by themselves.
    pub(crate) fn missing_bytes(&self) -> Vec<u8> {
        let piece = |b: u8| self.byte_pieces[usize::from(b)];
        let has_token = |b: u8| match self.from_characters {
            true => self.fallback[usize::from(b)].is_some(),
            false => self.is_token(piece(b)),
        };
        (0..=255).filter(|&b| !has_token(b)).collect()
    }

    /// The token that stands for the whole word at `place` of `text`: because merges come to that, or whatever they say.
    #[inline]
    pub(crate) fn whole_word(
        &self,
        vocabulary: &Vocabulary,
        text: &[u8],
        place: &Range<usize>,
        scratch: &mut BpeScratch,
    ) -> Option<TokenId> {
        let word = &text[place.clone()];
        if self.from_characters && !self.ignore_merges {
            let wanted = self.whole_line_breaks && word.iter().all(|&b| b == b'\n');
            return if wanted { vocabulary.table.find(word) } else { None };
        }
        let is_made = |id: u32| self.whole.get(id as usize / 64).is_some_and(|bits| bits >> (id % 64) & 1 != 0);
        let found = match scratch.expected_at(place) {
            Some(None) => None,
            Some(Some(candidate)) if vocabulary.table.get(candidate) == word => Some(candidate),
            _ => vocabulary.table.find(word),
        };
        found.filter(|&id| self.ignore_merges || is_made(id))
    }

    #[inline]
    pub(crate) fn is_token(&self, piece: Piece) -> bool {
        (piece as usize) < self.tokens
    }

    /// The bytes of a piece that is no token, at the start of what is left of its word.
    fn extra_text<'w>(&'w self, piece: Piece, rest: &'w [u8]) -> &'w [u8] {
        if piece == UNKNOWN {
            let end = rest.iter().skip(1).position(|b| b & 0xc0 != 0x80).map_or(rest.len(), |at| at + 1);
            return &rest[..end];
        }
        self.extra.get(piece - self.tokens as u32)
    }

    /// Appends the tokens of the pieces of `word`; those that are no tokens byte by byte. Calls `missing` with the offset
    /// in the word and the byte where there is no token for that either.
    pub(crate) fn push_tokens(
        &self,
        vocabulary: &Vocabulary,
        word: &[u8],
        pieces: &[Piece],
        out: &mut Vec<TokenId>,
        mut missing: impl FnMut(usize, u8),
    ) {
        let mut at = 0;
        for &piece in pieces {
            if self.is_token(piece) {
                out.push(piece);
                at += vocabulary.table.get(piece).len();
                continue;
            }
            let text = self.extra_text(piece, &word[at..]);
            for (i, byte) in text.iter().enumerate() {
                let is_visible_space = *byte == b' ' && vocabulary.spelling == Spelling::SentencePiece;
                let spelled = if is_visible_space { VISIBLE_SPACE } else { std::slice::from_ref(byte) };
                for &byte in spelled {
                    match self.fallback[usize::from(byte)] {
                        Some(id) => out.push(id),
                        None => missing(at + i, byte),
                    }
                }
            }
            at += text.len();
        }
    }

    /// Asks for the memory that encoding these words of `text` will read, stage by stage for all of them: what a word
    /// waits for does not then depend on the word before.
    pub(crate) fn expect_words(
        &self,
        vocabulary: &Vocabulary,
        text: &[u8],
        words: &[Range<usize>],
        scratch: &mut BpeScratch,
    ) {
        let BpeScratch { expected, next_expected, .. } = scratch;
        *next_expected = 0;
        expected.clear();
        expected.extend(words.iter().map(|word| ExpectedWord {
            place: word.clone(),
            hash: vocabulary.table.expect(&text[word.clone()]),
            candidate: None,
        }));
        for (word, expected) in words.iter().zip(&mut *expected) {
            expected.candidate = vocabulary.table.expect_candidate(expected.hash);
            if expected.candidate.is_none() && !self.from_characters && word.len() <= SHORT_WORD {
                self.expect_first_merges(&text[word.clone()]);
            }
        }
        for candidate in expected.iter().filter_map(|expected| expected.candidate) {
            vocabulary.table.expect_text(candidate);
        }
    }

    /// Asks for the merges of each pair of bytes with its neighbours.
    fn expect_first_merges(&self, word: &[u8]) {
        for (at, pair) in word.windows(2).enumerate() {
            let merge = self.byte_merges[pair_of_bytes(pair[0], pair[1])];
            if merge == Merge::NONE {
                continue;
            }
            if let Some(before) = at.checked_sub(1) {
                self.merges.expect(self.byte_pieces[usize::from(word[before])], merge.result);
            }
            if let Some(&after) = word.get(at + 2) {
                self.merges.expect(merge.result, self.byte_pieces[usize::from(after)]);
            }
        }
    }

    /// The pieces of `word` after all merges.
    #[inline]
    pub(crate) fn merge_word<'s>(
        &self,
        vocabulary: &Vocabulary,
        word: &[u8],
        scratch: &'s mut BpeScratch,
    ) -> &'s [Piece] {
        let BpeScratch { pieces, pairs, .. } = scratch;
        pieces.clear();
        if self.from_characters {
            self.push_characters(vocabulary, word, pieces);
        } else {
            pieces.extend(word.iter().map(|&b| self.byte_pieces[usize::from(b)]));
        }
        if pieces.len() > SHORT_WORD {
            self.merge_long(scratch);
        } else if self.from_characters {
            pairs.merge(pieces, |pieces, at| self.merges.get(pieces[at], pieces[at + 1]), &self.merges);
        } else {
            pairs.merge(pieces, |_, at| self.byte_merges[pair_of_bytes(word[at], word[at + 1])], &self.merges);
        }
        &scratch.pieces
    }

    fn push_characters(&self, vocabulary: &Vocabulary, word: &[u8], pieces: &mut Vec<Piece>) {
        for c in word.utf8_chunks().flat_map(|chunk| chunk.valid().chars()) {
            let mut buffer = [0; 4];
            let text = c.encode_utf8(&mut buffer).as_bytes();
            pieces.push(match text {
                [byte] => self.byte_pieces[usize::from(*byte)],
                _ => {
                    let extra = || self.extra.find(text).map(|number| self.tokens as u32 + number);
                    vocabulary.table.find(text).or_else(extra).unwrap_or(UNKNOWN)
                }
            });
        }
    }

    /// A linked list and a heap: n log n for a word of a megabyte.
    fn merge_long(&self, scratch: &mut BpeScratch) {
        let BpeScratch { pieces, next, previous, queue, .. } = scratch;
        let count = pieces.len();
        next.clear();
        next.extend((1..count as u32).chain([NONE]));
        previous.clear();
        previous.extend([NONE].into_iter().chain(0..count as u32 - 1));
        queue.clear();
        let push = |queue: &mut BinaryHeap<_>, pieces: &[Piece], left: u32, right: u32| {
            if left != NONE && right != NONE {
                let (a, b) = (pieces[left as usize], pieces[right as usize]);
                let merge = self.merges.get(a, b);
                if merge.rank != NONE {
                    let Merge { rank, result } = merge;
                    queue.push(Reverse(Bigram { rank, left, right, right_piece: b, result }));
                }
            }
        };
        for right in 1..count as u32 {
            push(queue, pieces, right - 1, right);
        }
        while let Some(Reverse(bigram)) = queue.pop() {
            let Bigram { left, right, right_piece, result, .. } = bigram;
            // Outdated if the left side was swallowed, swallowed its neighbour, or the right side did.
            let left_gone = pieces[left as usize] == NONE;
            if left_gone || next[left as usize] != right || pieces[right as usize] != right_piece {
                continue;
            }
            pieces[left as usize] = result;
            pieces[right as usize] = NONE;
            let after = next[right as usize];
            next[left as usize] = after;
            if after != NONE {
                previous[after as usize] = left;
            }
            push(queue, pieces, previous[left as usize], left);
            push(queue, pieces, left, after);
        }
        pieces.retain(|&piece| piece != NONE);
    }
}

/// Appends the bytes of both parts of a merge, and tells where the second begins. None where a part spells no bytes: it
/// occurs in no word.
fn spell_merge(
    index: usize,
    merge: &[u8],
    spelling: Spelling,
    texts: &mut Vec<u8>,
) -> Result<Option<usize>, TokenizerError> {
    let Some(space) = merge.iter().skip(1).position(|&b| b == b' ').map(|at| at + 1) else {
        return Err(TokenizerError::BadMerge { index, text: lossy(merge) });
    };
    let start = texts.len();
    let first = spell_into(&merge[..space], spelling, texts);
    let middle = texts.len();
    if first && spell_into(&merge[space + 1..], spelling, texts) {
        return Ok(Some(middle));
    }
    texts.truncate(start);
    Ok(None)
}

fn pair_of_bytes(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}
