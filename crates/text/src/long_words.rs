//! A bounded memory of words for which the word cache has no room: longer ones, and ones of more tokens. Texts and
//! tokens lie one after the other; when there is no room left, all are forgotten.

use crate::text_table::hash_bytes;
use crate::vocabulary::TokenId;

/// Longer words are not remembered.
const WORD_BYTES_MAX: usize = 256;
const BYTES_PER_PLACE: usize = 32;
const TOKENS_PER_PLACE: usize = 8;

/// Where a word and its tokens lie. Without bytes it is no word.
#[derive(Clone, Copy, Default)]
struct Place {
    hash: u64,
    bytes_start: u32,
    bytes: u32,
    tokens_start: u32,
    tokens: u32,
}

pub(crate) struct LongWords {
    /// One for each value of the hash's low bits; empty until there is a word.
    places: Vec<Place>,
    places_max: usize,
    bytes: Vec<u8>,
    tokens: Vec<TokenId>,
}

impl LongWords {
    /// Room for `2^bits` words at most.
    pub(crate) fn new(bits: u32) -> Self {
        Self { places: Vec::new(), places_max: 1 << bits, bytes: Vec::new(), tokens: Vec::new() }
    }

    /// Appends the tokens of a word that is remembered; false, with nothing appended, if it is not.
    pub(crate) fn push_known(&self, word: &[u8], out: &mut Vec<TokenId>) -> bool {
        let hash = hash(word);
        let Some(place) = self.places.get(hash as usize & (self.places_max - 1)) else {
            return false;
        };
        let start = place.bytes_start as usize;
        if place.hash != hash || self.bytes[start..start + place.bytes as usize] != *word {
            return false;
        }
        let start = place.tokens_start as usize;
        out.extend_from_slice(&self.tokens[start..start + place.tokens as usize]);
        true
    }

    pub(crate) fn insert(&mut self, word: &[u8], tokens: &[TokenId]) {
        if word.len() > WORD_BYTES_MAX {
            return;
        }
        let is_full = self.bytes.len() + word.len() > self.places_max * BYTES_PER_PLACE
            || self.tokens.len() + tokens.len() > self.places_max * TOKENS_PER_PLACE;
        if is_full || self.places.is_empty() {
            self.places.clear();
            self.places.resize(self.places_max, Place::default());
            self.bytes.clear();
            self.tokens.clear();
        }
        let hash = hash(word);
        self.places[hash as usize & (self.places_max - 1)] = Place {
            hash,
            bytes_start: self.bytes.len() as u32,
            bytes: word.len() as u32,
            tokens_start: self.tokens.len() as u32,
            tokens: tokens.len() as u32,
        };
        self.bytes.extend_from_slice(word);
        self.tokens.extend_from_slice(tokens);
    }
}

fn hash(word: &[u8]) -> u64 {
    hash_bytes(word, 0x243f_6a88_85a3_08d3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_words_and_forgets_all_when_full() {
        let mut words = LongWords::new(2);
        let mut out = Vec::new();
        assert!(!words.push_known(b"a", &mut out));
        words.insert(b"a long word", &[1, 2, 3, 4]);
        words.insert(&[b'x'; 64], &[5; 20]);
        assert!(words.push_known(b"a long word", &mut out));
        assert!(words.push_known(&[b'x'; 64], &mut out));
        assert_eq!(out.len(), 24);
        words.insert(&[b'y'; 64], &[6; 9]);
        assert!(!words.push_known(b"a long word", &mut out), "nine tokens had no room");
        assert!(words.push_known(&[b'y'; 64], &mut out));
        words.insert(&[b'z'; 300], &[7]);
        assert!(!words.push_known(&[b'z'; 300], &mut out));
        assert!(!words.push_known(b"", &mut out));
    }
}
