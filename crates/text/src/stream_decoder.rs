//! Tokens to text. Text comes out in whole characters, however the tokens cut them; bytes that
//! are no UTF-8 come out as U+FFFD, never silently lost.

use crate::tokenizer::Tokenizer;
use crate::vocabulary::TokenId;

/// What to show of a sequence of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Leave out control and unknown tokens.
    pub skip_special: bool,
    /// Where the vocabulary asks for it (`Tokenizer::cleans_spaces`), drop the space before
    /// `? ! . ,`, around a lone apostrophe and before `'s 'm 're 've`, as llama.cpp's detokeniser
    /// does. The text is then no longer what was encoded.
    pub clean_spaces: bool,
}

/// What a stream of tokens shows, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Leave out control and unknown tokens.
    pub skip_special: bool,
    /// Where the stream starts.
    pub start: StreamStart,
}

/// Where a stream of tokens starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStart {
    /// At the start of a text: the space that SentencePiece put before it is dropped.
    Text,
    /// In the middle, such as after a prompt: every space counts.
    Continuation,
}

impl Tokenizer {
    /// The bytes of a sequence of tokens. An id outside the vocabulary gives U+FFFD.
    #[must_use]
    pub fn decode_bytes(&self, ids: &[TokenId], options: DecodeOptions) -> Vec<u8> {
        let mut bytes = Vec::new();
        let from_start = StreamOptions { skip_special: options.skip_special, start: StreamStart::Text };
        let mut pieces = Pieces::new(self, from_start);
        for &id in ids {
            bytes.extend_from_slice(pieces.next(id));
        }
        if options.clean_spaces && self.cleans_spaces() {
            clean_spaces(&mut bytes);
        }
        bytes
    }

    /// `decode_bytes` as text, with U+FFFD for what is no UTF-8.
    #[must_use]
    pub fn decode(&self, ids: &[TokenId], options: DecodeOptions) -> String {
        let bytes = self.decode_bytes(ids, options);
        String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// Turns tokens into text one at a time.
pub struct StreamDecoder<'t> {
    pieces: Pieces<'t>,
    /// Bytes of a character that is not complete yet: at most three between calls.
    held: Vec<u8>,
    text: String,
}

impl<'t> StreamDecoder<'t> {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(tokenizer: &'t Tokenizer, options: StreamOptions) -> Self {
        Self { pieces: Pieces::new(tokenizer, options), held: Vec::new(), text: String::new() }
    }

    /// The text that `id` completes; empty while a character is unfinished.
    pub fn push(&mut self, id: TokenId) -> &str {
        self.text.clear();
        self.held.extend_from_slice(self.pieces.next(id));
        let unfinished = push_whole_characters(&self.held, &mut self.text);
        let complete = self.held.len() - unfinished;
        self.held.drain(..complete);
        &self.text
    }

    /// The end of the text: U+FFFD if it stops inside a character. The decoder then starts afresh
    /// as a continuation.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.held.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.held.clear();
        }
        &self.text
    }
}

/// Appends what is complete of `bytes`; returns how many bytes at the end may still become a character.
fn push_whole_characters(bytes: &[u8], text: &mut String) -> usize {
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return 0;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(valid).expect("valid up to here"));
                let Some(bad) = error.error_len() else {
                    return after.len();
                };
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &after[bad..];
            }
        }
    }
}

/// The bytes to show of one token after the other.
struct Pieces<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    /// The next token may start with the space that encoding put before the text.
    drop_space: bool,
}

impl<'t> Pieces<'t> {
    fn new(tokenizer: &'t Tokenizer, options: StreamOptions) -> Self {
        let drop_space = options.start == StreamStart::Text && tokenizer.rules.add_space_prefix;
        Self { tokenizer, skip_special: options.skip_special, drop_space }
    }

    fn next(&mut self, id: TokenId) -> &'t [u8] {
        if self.skip_special && self.tokenizer.is_special(id) {
            return &[];
        }
        let piece = self.tokenizer.token_bytes(id).unwrap_or("\u{fffd}".as_bytes());
        let dropped = std::mem::replace(&mut self.drop_space, false);
        if dropped { piece.strip_prefix(b" ").unwrap_or(piece) } else { piece }
    }
}

/// Three passes over the bytes, as in llama.cpp's `detokenize`; each looks at the bytes before
/// its own changes.
fn clean_spaces(bytes: &mut Vec<u8>) {
    rewrite(bytes, |before, rest| match (before, rest) {
        (b' ', [b'?' | b'!' | b'.' | b',', ..]) => Rewrite::DropBefore,
        _ => Rewrite::Keep,
    });
    rewrite(bytes, |before, rest| match (before, rest) {
        (b' ', [b'\'', b' ', ..]) => Rewrite::DropAround,
        _ => Rewrite::Keep,
    });
    rewrite(bytes, |before, rest| match (before, rest) {
        (b' ', [b'\'', b's' | b'm', ..] | [b'\'', b'r' | b'v', b'e', ..]) => Rewrite::DropBefore,
        _ => Rewrite::Keep,
    });
}

enum Rewrite {
    Keep,
    /// Drop the byte before this one.
    DropBefore,
    /// Drop the bytes before and after this one.
    DropAround,
}

fn rewrite(bytes: &mut Vec<u8>, rule: impl Fn(u8, &[u8]) -> Rewrite) {
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend(bytes.first());
    // 0 after a dropped byte: it is no space to the next one.
    let mut before = bytes.first().copied().unwrap_or(0);
    let mut at = 1;
    while at < bytes.len() {
        let current = bytes[at];
        before = match rule(before, &bytes[at..]) {
            Rewrite::Keep => current,
            Rewrite::DropBefore => {
                kept.pop();
                current
            }
            Rewrite::DropAround => {
                kept.pop();
                at += 1;
                0
            }
        };
        kept.push(current);
        at += 1;
    }
    *bytes = kept;
}
