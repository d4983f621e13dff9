//! A bounded memory of words already encoded: up to 15 bytes, or one byte repeated, and three
//! tokens; two places per hash, the newest stay. Others, and words that take turns at a place, go to `LongWords`, and the line
//! remembers that. Holds no exact set; a miss only costs time.

use crate::long_words::LongWords;
use crate::prefetch::prefetch;
use crate::text_table::fold;
use crate::vocabulary::TokenId;

const WORD_BYTES_MAX: usize = 15;
const TOKENS_MAX: usize = 3;

/// By a number of bytes: ones in so many low bytes.
static LOW_BYTES: [u128; WORD_BYTES_MAX + 1] = {
    let mut masks = [0; WORD_BYTES_MAX + 1];
    let mut len = 1;
    while len <= WORD_BYTES_MAX {
        masks[len] = masks[len - 1] << 8 | 0xff;
        len += 1;
    }
    masks
};

/// The top byte of the key of one byte repeated.
const REPEATED: u128 = 0xfe << 120;

/// 32 bytes.
#[derive(Clone, Copy)]
struct Slot {
    /// The word, zero-padded, its length in the top byte; 0 is no word.
    key: u128,
    ids: [TokenId; TOKENS_MAX],
    count: u8,
    /// Of the newest slot: whether a word of this line was ever put into `LongWords`.
    has_others: bool,
}

/// One cache line: the newest first.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([Slot; 2]);

/// So many times fewer words in `LongWords`, as a power of two.
const FEWER_LONG_WORDS: u32 = 2;

pub(crate) struct WordCache {
    lines: Vec<Line>,
    others: LongWords,
}

/// A word as the cache compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordKey(u128);

impl WordKey {
    /// The key of words that are too long to be remembered; it is in no slot.
    pub(crate) const TOO_LONG: Self = Self(u128::MAX);

    /// The key of `text[start..end]`, which is not empty.
    #[inline]
    pub(crate) fn new(text: &[u8], start: usize, end: usize) -> Self {
        let len = end - start;
        if len > WORD_BYTES_MAX {
            return Self::long(&text[start..end]);
        }
        let bytes = match text.get(start..start + 16) {
            Some(window) => {
                let all = u128::from_le_bytes(window.try_into().expect("a slice of sixteen bytes"));
                all & LOW_BYTES[len]
            }
            None => {
                let mut padded = [0; 16];
                padded[..len].copy_from_slice(&text[start..end]);
                u128::from_le_bytes(padded)
            }
        };
        Self(bytes | (len as u128) << 120)
    }

    /// Indentation and ruled lines are long, but simple.
    #[inline(never)]
    fn long(word: &[u8]) -> Self {
        let first = word[0];
        if word.iter().all(|&b| b == first) {
            Self(REPEATED | u128::from(first) << 64 | word.len() as u128)
        } else {
            Self::TOO_LONG
        }
    }
}

impl WordCache {
    /// A cache with two times `2^bits` places.
    pub(crate) fn new(bits: u32) -> Self {
        let empty = Slot { key: 0, ids: [0; TOKENS_MAX], count: 0, has_others: false };
        Self { lines: vec![Line([empty; 2]); 1 << bits], others: LongWords::new(bits - FEWER_LONG_WORDS) }
    }

    /// Where a word would be; what `push_known` and `insert` take. The memory there is on its way.
    #[inline]
    pub(crate) fn place(&self, key: WordKey) -> usize {
        let mixed = fold(key.0 as u64 ^ 0xa076_1d64_78bd_642f, (key.0 >> 64) as u64 ^ 0xe703_7ed1_a0b4_28db);
        let place = mixed as usize & (self.lines.len() - 1);
        prefetch(&self.lines, place);
        place
    }

    /// Appends the tokens of a word that is in the cache; false, with nothing appended, if it is not.
    #[inline]
    pub(crate) fn push_known(&self, place: usize, key: WordKey, out: &mut Vec<TokenId>) -> bool {
        let Line([newest, older]) = &self.lines[place];
        let slot = if newest.key == key.0 { newest } else { older };
        if slot.key != key.0 {
            return false;
        }
        let len = out.len() + slot.count as usize;
        // Copying all three and cutting is cheaper than copying a number that is not known.
        out.extend_from_slice(&slot.ids);
        out.truncate(len);
        true
    }

    /// Whether `push_known` would append something. Without a branch: nothing foresees the answer.
    #[inline(always)]
    pub(crate) fn knows(&self, place: usize, key: WordKey) -> bool {
        let Line([newest, older]) = &self.lines[place];
        (newest.key == key.0) | (older.key == key.0)
    }

    /// `push_known` for words that are not at their place.
    #[inline]
    pub(crate) fn push_other(&self, place: usize, word: &[u8], out: &mut Vec<TokenId>) -> bool {
        self.lines[place].0[0].has_others && self.others.push_known(word, out)
    }

    pub(crate) fn insert(&mut self, place: usize, key: WordKey, word: &[u8], tokens: &[TokenId]) {
        let line = &mut self.lines[place].0;
        if tokens.len() > TOKENS_MAX || key == WordKey::TOO_LONG {
            line[0].has_others = true;
            self.others.insert(word, tokens);
            return;
        }
        let mut ids = [0; TOKENS_MAX];
        ids[..tokens.len()].copy_from_slice(tokens);
        // Three words that take turns here would never be found.
        let is_full = line[1].key != 0;
        if is_full {
            self.others.insert(word, tokens);
        }
        let has_others = line[0].has_others || is_full;
        line[1] = line[0];
        line[0] = Slot { key: key.0, ids, count: tokens.len() as u8, has_others };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_depend_on_what_follows() {
        let key = |text: &str, start: usize, end: usize| WordKey::new(text.as_bytes(), start, end);
        assert_eq!(key("abc", 0, 3), key("xxabcdefghijklmnopqrstuvw", 2, 5));
        assert_ne!(key("ab", 0, 2), key("ab\0", 0, 3), "padding is told from a zero byte");
        assert_eq!(key("123456789012345", 0, 15), key("0123456789012345zzzzzz", 1, 16));
        assert_eq!(key("1234567890123456", 0, 16), WordKey::TOO_LONG);
        assert_eq!(key("                ", 0, 16), key("x                 ", 1, 17));
        assert_ne!(key("                 ", 0, 16), key("                 ", 0, 17));
    }

    #[test]
    fn remembers_three_tokens_at_the_place_and_more_elsewhere() {
        let mut cache = WordCache::new(4);
        let key = WordKey::new(b"word", 0, 4);
        let place = cache.place(key);
        let mut out = vec![9];
        cache.insert(place, key, b"word", &[1, 2, 3, 4]);
        assert!(!cache.push_known(place, key, &mut out));
        assert!(cache.push_other(place, b"word", &mut out));
        assert_eq!(out, [9, 1, 2, 3, 4]);
        cache.insert(place, key, b"word", &[1, 2]);
        assert!(cache.push_known(place, key, &mut out));
        assert_eq!(out, [9, 1, 2, 3, 4, 1, 2]);
    }

    #[test]
    fn words_that_take_turns_at_a_place_are_all_found() {
        let mut cache = WordCache::new(6);
        let mut out = Vec::new();
        let words = [b"one", b"two", b"six"];
        for round in 0..3 {
            out.clear();
            for (id, word) in words.iter().enumerate() {
                let key = WordKey::new(*word, 0, 3);
                if !cache.push_known(5, key, &mut out) && !cache.push_other(5, *word, &mut out) {
                    assert!(round < 2, "found for good");
                    cache.insert(5, key, *word, &[id as TokenId]);
                    out.push(id as TokenId);
                }
            }
            assert_eq!(out, [0, 1, 2]);
        }
    }

    #[test]
    fn a_long_word_is_never_at_its_place() {
        let mut cache = WordCache::new(4);
        let place = cache.place(WordKey::TOO_LONG);
        cache.insert(place, WordKey::TOO_LONG, b"one", &[1]);
        assert!(!cache.push_known(place, WordKey::TOO_LONG, &mut Vec::new()));
        assert!(cache.push_other(place, b"one", &mut Vec::new()));
        assert!(!cache.push_other(place, b"two", &mut Vec::new()));
    }
}
