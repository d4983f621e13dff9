//! SentencePiece's `precompiled_charsmap`: a double-array trie of texts and what they become. The layout is that of
//! darts-clone, <https://github.com/s-yata/darts-clone>: a 32-bit size in bytes, the units of the trie, and the
//! replacements, each ended by a zero byte. A walk that a broken map leads out of bounds matches nothing.

use crate::error::TokenizerError;

/// Replacements are a few characters long; a map that turns one character into a novel is an attack.
const REPLACEMENT_BYTES_MAX: usize = 256;

pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let bad = |what| Err(TokenizerError::BadCharsmap { what });
        let Some((size, rest)) = bytes.split_first_chunk() else {
            return bad("it is shorter than its size field");
        };
        let Some((units, replacements)) = rest.split_at_checked(u32::from_le_bytes(*size) as usize) else {
            return bad("its trie ends past its end");
        };
        if replacements.last() != Some(&0) {
            return bad("its last replacement has no end");
        }
        if replacements.split(|&b| b == 0).any(|text| text.len() > REPLACEMENT_BYTES_MAX) {
            return bad("a replacement is longer than 256 bytes");
        }
        let (units, odd) = units.as_chunks();
        if !odd.is_empty() {
            return bad("its trie is no whole number of units");
        }
        let units = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { units, replacements: replacements.to_vec() })
    }

    /// The replacement of the longest text in the map that `text` starts with, and the length of that text.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(&[u8], usize)> {
        let mut longest = None;
        let mut node = offset(*self.units.first()?);
        for (i, &byte) in text.iter().enumerate() {
            // A zero byte would read the value of the node before as a node.
            if byte == 0 {
                break;
            }
            node ^= u32::from(byte);
            let Some(&unit) = self.units.get(node as usize) else {
                break;
            };
            if unit & LABEL != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            if unit & HAS_LEAF != 0
                && let Some(value) = self.units.get(node as usize)
            {
                longest = self.replacement(value & !(1 << 31)).map(|text| (text, i + 1)).or(longest);
            }
        }
        longest
    }

    fn replacement(&self, start: u32) -> Option<&[u8]> {
        let rest = self.replacements.get(start as usize..)?;
        Some(&rest[..rest.iter().position(|&b| b == 0)?])
    }
}

const HAS_LEAF: u32 = 1 << 8;
/// The byte, and the bit that marks a value.
const LABEL: u32 = 1 << 31 | 0xff;

/// Distance to the children: 21 bits, in units of 256 if bit 9 is set.
fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units by index, and replacements.
    fn map(units: &[(usize, u32)], replacements: &[u8]) -> Charsmap {
        let mut table = [0u32; 256];
        units.iter().for_each(|&(index, unit)| table[index] = unit);
        let bytes: Vec<u8> = table.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        Charsmap::new(&[&1024u32.to_le_bytes(), &bytes[..], replacements].concat()).unwrap()
    }

    #[test]
    fn the_longest_text_counts() {
        // The root's children begin at 1: `A` at 1 ^ 0x41 = 0x40, whose children begin at 0x40 ^ 0x80 = 0xc0, the value
        // there; `B` after it at 0xc0 ^ 0x42 = 0x82, with its value at 0x82 ^ 0x01 = 0x83.
        let a = 0x41 | HAS_LEAF | 0x80 << 10;
        let b = 0x42 | HAS_LEAF | 0x01 << 10;
        let units = [(0, 1 << 10), (0x40, a), (0xc0, 1 << 31), (0x82, b), (0x83, 1 << 31 | 2)];
        let map = map(&units, b"a\0xyz\0");
        assert_eq!(map.longest(b"AAB"), Some((&b"a"[..], 1)));
        assert_eq!(map.longest(b"ABC"), Some((&b"xyz"[..], 2)));
        assert_eq!(map.longest(b"BA"), None);
        assert_eq!(map.longest(b"\0"), None);
        assert_eq!(map.longest(b""), None);
    }

    #[test]
    fn walks_out_of_bounds_match_nothing() {
        let far = 0x41 | HAS_LEAF | 0x1f_ffff << 10;
        assert_eq!(map(&[(0, 1 << 10), (0x40, far)], b"a\0").longest(b"AA"), None);
        let past_end = [(0, 1 << 10), (0x40, 0x41 | HAS_LEAF | 0x80 << 10), (0xc0, 1 << 31 | 99)];
        assert_eq!(map(&past_end, b"a\0").longest(b"A"), None);
        assert_eq!(Charsmap::new(&[0, 0, 0, 0, 0]).unwrap().longest(b"A"), None);
        assert!(Charsmap::new(&[&[0, 0, 0, 0][..], &[b'x'; 300], &[0]].concat()).is_err());
    }
}
