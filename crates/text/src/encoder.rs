//! Text to tokens: cuts at special tokens, then into words, then merges. An encoder belongs to
//! one thread and remembers words; what it returns never depends on what it has seen before.

use std::ops::Range;

use crate::bpe::{Bpe, BpeScratch};
use crate::pretokenize::{PreTokenizer, WordSink};
use crate::special::Fragment;
use crate::spm::{Spm, SpmScratch};
use crate::tokenizer::{Model, Tokenizer};
use crate::unigram::UnigramScratch;
use crate::vocabulary::{Spelling, TokenId, Vocabulary};
use crate::word_cache::{WordCache, WordKey};

/// What to do with special tokens while encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add BOS and EOS where the file says that prompts have them.
    pub add_special: bool,
    /// Take text that is written like a control token for that token. Leave it off for text from
    /// people. User-defined tokens are matched either way.
    pub parse_special: bool,
}

/// A part of a text; see [`Encoder::encode_parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextPart<'a> {
    /// The text.
    pub text: &'a str,
    /// As [`EncodeOptions::parse_special`].
    pub parse_special: bool,
}

/// A text as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The tokens, in order.
    pub ids: Vec<TokenId>,
    /// Bytes of the text for which the vocabulary has no token, in order. They are not in `ids`:
    /// there is nothing that would stand for them, and other programs drop them too. Usually empty.
    pub unencodable: Vec<Unencodable>,
}

/// One byte that is lost in encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unencodable {
    /// Where in the text, in bytes. For a space that SentencePiece would write as U+2581, the
    /// offset of the space.
    pub offset: usize,
    /// The byte that has no token.
    pub byte: u8,
}

/// Two words for each of these in the cache of a kept encoder: two megabytes.
const CACHE_BITS: u32 = 15;
/// The same for a single text.
const SMALL_CACHE_BITS: u32 = 7;
/// Words whose places in the cache are looked at together.
const BATCH_WORDS: usize = 64;
/// Longer words are cut here, so that positions fit 32 bits.
const WORD_BYTES_MAX: usize = 1 << 30;

/// Encodes texts, one after the other, reusing buffers and a bounded cache of words.
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    cache: WordCache,
    bpe: BpeScratch,
    spm: SpmScratch,
    batch: Box<Batch>,
    fragments: Vec<Fragment>,
    unigram: UnigramScratch,
    /// A SentencePiece fragment with its prefix and without U+2581; a word of WordPiece.
    spaced: String,
}

impl<'t> Encoder<'t> {
    /// An encoder with a cache for many texts.
    #[must_use]
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self::with_cache_bits(tokenizer, CACHE_BITS)
    }

    pub(crate) fn with_small_cache(tokenizer: &'t Tokenizer) -> Self {
        Self::with_cache_bits(tokenizer, SMALL_CACHE_BITS)
    }

    fn with_cache_bits(tokenizer: &'t Tokenizer, bits: u32) -> Self {
        Self {
            tokenizer,
            cache: WordCache::new(bits),
            bpe: BpeScratch::default(),
            spm: SpmScratch::default(),
            unigram: UnigramScratch::default(),
            batch: Box::new(Batch::new()),
            fragments: Vec::new(),
            spaced: String::new(),
        }
    }

    /// The tokens of `text`.
    pub fn encode(&mut self, text: &str, options: EncodeOptions) -> Encoding {
        let mut encoding = Encoding::default();
        self.encode_into(text, options, &mut encoding);
        encoding
    }

    /// The tokens of `text`, in buffers that are kept.
    pub fn encode_into(&mut self, text: &str, options: EncodeOptions, out: &mut Encoding) {
        let mut fragments = std::mem::take(&mut self.fragments);
        self.tokenizer.special.partition(text, options.parse_special, &mut fragments);
        self.encode_fragments(text, &fragments, options.add_special, out);
        self.fragments = fragments;
    }

    /// The tokens of a text that comes in parts, each with its own word on whether control tokens are recognised in
    /// it. Words run across the parts' borders, control tokens do not.
    pub fn encode_parts(&mut self, parts: &[TextPart<'_>], add_special: bool) -> Encoding {
        let mut text = String::with_capacity(parts.iter().map(|part| part.text.len()).sum());
        let (mut fragments, mut of_part) = (Vec::new(), Vec::new());
        for part in parts {
            let base = text.len();
            text.push_str(part.text);
            self.tokenizer.special.partition(part.text, part.parse_special, &mut of_part);
            for fragment in of_part.drain(..) {
                match (fragment, fragments.last_mut()) {
                    (Fragment::Text(range), Some(Fragment::Text(before))) if before.end == base + range.start => {
                        before.end = base + range.end;
                    }
                    (Fragment::Text(range), _) => fragments.push(Fragment::Text(base + range.start..base + range.end)),
                    (token, _) => fragments.push(token),
                }
            }
        }
        let mut encoding = Encoding::default();
        self.encode_fragments(&text, &fragments, add_special, &mut encoding);
        encoding
    }

    fn encode_fragments(&mut self, text: &str, fragments: &[Fragment], add_special: bool, out: &mut Encoding) {
        out.ids.clear();
        out.unencodable.clear();
        let tokenizer = self.tokenizer;
        if add_special {
            out.ids.extend(tokenizer.rules.bos);
        }
        let mut after_special = true;
        for fragment in fragments {
            match fragment {
                Fragment::Token(id) => out.ids.push(*id),
                Fragment::Text(range) => match &tokenizer.model {
                    Model::Bpe(bpe, splitter) if splitter.spelling() == Spelling::SentencePiece => {
                        self.encode_spaced_bpe(bpe, *splitter, text, range.clone(), out);
                    }
                    Model::Bpe(bpe, splitter) => self.encode_bpe(bpe, *splitter, text, range.clone(), out),
                    Model::Spm(spm) => self.encode_spm(spm, text, range.clone(), after_special, out),
                    Model::WordPiece(words) => {
                        let missing = push_lost(&mut out.unencodable, range.start);
                        words.encode(&text[range.clone()], &mut self.spaced, &mut out.ids, missing);
                    }
                    Model::Rwkv(rwkv) => {
                        let missing = push_lost(&mut out.unencodable, range.start);
                        rwkv.encode(&text.as_bytes()[range.clone()], &mut out.ids, missing);
                    }
                    Model::Unigram(unigram) => {
                        let mut rest = &text[range.clone()];
                        while !rest.is_empty() {
                            let (part, after) = rest.split_at(rest.floor_char_boundary(WORD_BYTES_MAX));
                            unigram.encode(part, &mut self.unigram, &mut out.ids);
                            rest = after;
                        }
                    }
                },
            }
            after_special = matches!(fragment, Fragment::Token(_));
        }
        if add_special {
            out.ids.extend(tokenizer.rules.eos);
        }
    }

    fn encode_bpe(&mut self, bpe: &Bpe, splitter: PreTokenizer, text: &str, range: Range<usize>, out: &mut Encoding) {
        let vocabulary = &self.tokenizer.vocabulary;
        let Self { cache, bpe: scratch, batch, .. } = self;
        let base = range.start;
        let text = &text[range];
        let mut encode = BpeWords { bpe, vocabulary, text, base, scratch };
        let mut words = Words { batch, cache, text: text.as_bytes(), out, encode: &mut encode };
        splitter.for_each_word(text, &mut words);
        words.batch.flush(words.cache, words.text, words.out, words.encode);
    }

    /// BPE over text whose spaces are U+2581 in the vocabulary.
    fn encode_spaced_bpe(
        &mut self,
        bpe: &Bpe,
        splitter: PreTokenizer,
        text: &str,
        range: Range<usize>,
        out: &mut Encoding,
    ) {
        let mut spaced = std::mem::take(&mut self.spaced);
        spaced.clear();
        push_spaced(&text[range.clone()], &mut spaced);
        let missing_from = out.unencodable.len();
        self.encode_bpe(bpe, splitter, &spaced, 0..spaced.len(), out);
        self.spaced = spaced;
        offsets_in_text(&mut out.unencodable[missing_from..], text, range, 0);
    }

    fn encode_spm(&mut self, spm: &Spm, text: &str, range: Range<usize>, after_special: bool, out: &mut Encoding) {
        let vocabulary = &self.tokenizer.vocabulary;
        let Self { cache, spm: scratch, spaced, batch, .. } = self;
        let has_prefix = self.tokenizer.rules.add_space_prefix && after_special;
        spaced.clear();
        if has_prefix {
            spaced.push(' ');
        }
        push_spaced(&text[range.clone()], spaced);
        let missing_from = out.unencodable.len();
        let bytes = spaced.as_bytes();
        let mut encode = SpmWords { spm, vocabulary, spaced, scratch };
        let mut start = 0;
        while start < bytes.len() {
            let most = spaced.floor_char_boundary(start + WORD_BYTES_MAX);
            let end = spm.word_end(&bytes[..most], start);
            if batch.add(cache, bytes, start, end) {
                batch.flush(cache, bytes, out, &mut encode);
            }
            start = end;
        }
        batch.flush(cache, bytes, out, &mut encode);
        offsets_in_text(&mut out.unencodable[missing_from..], text, range, usize::from(has_prefix));
    }
}

/// Encodes words that are not in the cache.
trait EncodeWord {
    /// Says which words will soon be encoded, so that their memory can be on its way.
    fn expect(&mut self, _words: &[Range<usize>]) {}

    fn encode(&mut self, word: Range<usize>, out: &mut Encoding);
}

struct BpeWords<'a> {
    bpe: &'a Bpe,
    vocabulary: &'a Vocabulary,
    text: &'a str,
    /// Where `text` starts in the whole text.
    base: usize,
    scratch: &'a mut BpeScratch,
}

impl EncodeWord for BpeWords<'_> {
    fn expect(&mut self, words: &[Range<usize>]) {
        self.bpe.expect_words(self.vocabulary, self.text.as_bytes(), words, self.scratch);
    }

    fn encode(&mut self, word: Range<usize>, out: &mut Encoding) {
        let Self { bpe, vocabulary, text, base, scratch } = self;
        let mut at = word.start;
        while at < word.end {
            let cut = text.floor_char_boundary(word.end.min(at + WORD_BYTES_MAX));
            match bpe.whole_word(vocabulary, text.as_bytes(), &(at..cut), scratch) {
                Some(id) => out.ids.push(id),
                None => encode_by_merges(bpe, vocabulary, &text.as_bytes()[at..cut], *base + at, scratch, out),
            }
            at = cut;
        }
    }
}

struct SpmWords<'a> {
    spm: &'a Spm,
    vocabulary: &'a Vocabulary,
    spaced: &'a str,
    scratch: &'a mut SpmScratch,
}

impl EncodeWord for SpmWords<'_> {
    fn encode(&mut self, word: Range<usize>, out: &mut Encoding) {
        let start = word.start;
        self.spm.merge_word(self.vocabulary, &self.spaced[word], self.scratch, &mut out.ids, |offset, byte| {
            out.unencodable.push(Unencodable { offset: start + offset, byte });
        });
    }
}

/// Fills a batch, and encodes it when it is full.
struct Words<'a, E> {
    batch: &'a mut Batch,
    cache: &'a mut WordCache,
    text: &'a [u8],
    out: &'a mut Encoding,
    encode: &'a mut E,
}

impl<E: EncodeWord> WordSink for Words<'_, E> {
    #[inline(always)]
    fn word(&mut self, start: usize, end: usize) {
        if self.batch.add(self.cache, self.text, start, end) {
            self.batch.flush(self.cache, self.text, self.out, self.encode);
        }
    }
}

/// Words found but not yet encoded. Their places in the cache are known some time before they are
/// looked at, and they are looked at together, so that the processor waits for several at once.
struct Batch {
    looks: [Look; BATCH_WORDS],
    filled: usize,
    /// Those of them that the cache does not have.
    unknown: Vec<Range<usize>>,
}

#[derive(Clone, Copy)]
struct Look {
    key: WordKey,
    place: usize,
    start: usize,
    end: usize,
}

impl Batch {
    fn new() -> Self {
        let none = Look { key: WordKey::TOO_LONG, place: 0, start: 0, end: 0 };
        Self { looks: [none; BATCH_WORDS], filled: 0, unknown: Vec::with_capacity(BATCH_WORDS) }
    }

    /// Adds the word `text[start..end]`; true once the batch is full and must be flushed.
    #[inline(always)]
    fn add(&mut self, cache: &WordCache, text: &[u8], start: usize, end: usize) -> bool {
        let key = WordKey::new(text, start, end);
        self.looks[self.filled] = Look { key, place: cache.place(key), start, end };
        self.filled += 1;
        self.filled == BATCH_WORDS
    }

    /// Encodes the words of `text`, from the cache where it has them.
    #[inline(never)]
    fn flush(&mut self, cache: &mut WordCache, text: &[u8], out: &mut Encoding, encode: &mut impl EncodeWord) {
        let looks = &self.looks[..self.filled];
        let mut expected = false;
        for (i, &Look { key, place, start, end }) in looks.iter().enumerate() {
            if cache.push_known(place, key, &mut out.ids) {
                continue;
            }
            let word = &text[start..end];
            if cache.push_other(place, word, &mut out.ids) {
                continue;
            }
            if !expected {
                expect_unknown(cache, &looks[i..], &mut self.unknown, encode);
                expected = true;
            }
            let before = (out.ids.len(), out.unencodable.len());
            encode.encode(start..end, out);
            if out.unencodable.len() == before.1 {
                cache.insert(place, key, word, &out.ids[before.0..]);
            }
        }
        self.filled = 0;
    }
}

/// Expects those of the words that the cache does not have; which they are comes first, as bits, since no branch foresees it.
fn expect_unknown(cache: &WordCache, looks: &[Look], unknown: &mut Vec<Range<usize>>, encode: &mut impl EncodeWord) {
    let mut bits = 0u64;
    for (i, look) in looks.iter().enumerate() {
        bits |= u64::from(!cache.knows(look.place, look.key)) << i;
    }
    unknown.clear();
    while bits != 0 {
        let look = &looks[bits.trailing_zeros() as usize];
        unknown.push(look.start..look.end);
        bits &= bits - 1;
    }
    encode.expect(unknown);
}

/// Merges one word of at most `WORD_BYTES_MAX` bytes, which starts at `offset` of the text.
#[inline(never)]
fn encode_by_merges(
    bpe: &Bpe,
    vocabulary: &Vocabulary,
    word: &[u8],
    offset: usize,
    scratch: &mut BpeScratch,
    out: &mut Encoding,
) {
    let pieces = bpe.merge_word(vocabulary, word, scratch);
    if pieces.iter().all(|&piece| bpe.is_token(piece)) {
        out.ids.extend_from_slice(pieces);
        return;
    }
    bpe.push_tokens(vocabulary, word, pieces, &mut out.ids, |at, byte| {
        out.unencodable.push(Unencodable { offset: offset + at, byte });
    });
}

/// Takes offsets in a part of the text that starts at `base`.
fn push_lost(unencodable: &mut Vec<Unencodable>, base: usize) -> impl FnMut(usize, u8) {
    move |at, byte| unencodable.push(Unencodable { offset: base + at, byte })
}

/// Appends `text` with a space for each U+2581.
fn push_spaced(text: &str, spaced: &mut String) {
    for (i, part) in text.split('\u{2581}').enumerate() {
        if i > 0 {
            spaced.push(' ');
        }
        spaced.push_str(part);
    }
}

/// Turns ascending offsets in a spaced fragment into offsets in the text it was made from.
fn offsets_in_text(missing: &mut [Unencodable], text: &str, range: Range<usize>, prefix: usize) {
    let mut spaced_at = prefix;
    let mut chars = text[range.clone()].char_indices().peekable();
    for lost in missing {
        while let Some((_, c)) = chars.peek() {
            let len = if *c == '\u{2581}' { 1 } else { c.len_utf8() };
            if spaced_at + len > lost.offset {
                break;
            }
            spaced_at += len;
            chars.next();
        }
        let char_start = range.start + chars.peek().map_or(range.len(), |(at, _)| *at);
        lost.offset = char_start + lost.offset.saturating_sub(spaced_at);
    }
}
