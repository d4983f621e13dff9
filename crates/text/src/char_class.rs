//! The class of a character: letter, number, white space, punctuation, mark, symbol, control or none of these.
//! Holds no splitting rule; those are in `pretokenize`.

use std::sync::LazyLock;

use crate::ascii_masks::WINDOW;
use crate::unicode_tables::CLASS_CHANGES;

/// Class bits of one character; 0 is "none of these" (unassigned).
pub(crate) type CharClass = u8;

/// General category L*.
pub(crate) const LETTER: CharClass = 1;
/// General category N*.
pub(crate) const NUMBER: CharClass = 2;
/// The property `White_Space`.
pub(crate) const SPACE: CharClass = 4;
/// General category P*.
pub(crate) const PUNCTUATION: CharClass = 8;
/// General category M*.
pub(crate) const MARK: CharClass = 16;
/// General category S*.
pub(crate) const SYMBOL: CharClass = 32;
/// General categories Cc, Cf and Co, less white space.
pub(crate) const CONTROL: CharClass = 64;

const CODE_POINTS: usize = 0x11_0000;

/// One class per code point. A flat megabyte costs one load per character; pages of unassigned
/// planes stay untouched zeros.
static CLASSES: LazyLock<Box<[CharClass]>> = LazyLock::new(|| {
    let mut classes = vec![0; CODE_POINTS].into_boxed_slice();
    for (i, change) in CLASS_CHANGES.iter().enumerate() {
        let class = (change & 0xff) as CharClass;
        if class == 0 {
            continue;
        }
        let first = (change >> 8) as usize;
        let end = CLASS_CHANGES.get(i + 1).map_or(CODE_POINTS, |next| (next >> 8) as usize);
        classes[first..end].fill(class);
    }
    classes
});

/// The class of one character.
pub(crate) fn class_of(c: char) -> CharClass {
    CLASSES[c as usize]
}

/// Text with the class of each of its characters at hand.
#[derive(Clone, Copy)]
pub(crate) struct Classified<'t> {
    bytes: &'t [u8],
    classes: &'static [CharClass],
}

impl<'t> Classified<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { bytes: text.as_bytes(), classes: &CLASSES }
    }

    /// The same view of a part of the text; offsets then count from `start`.
    /// Both ends must lie on character boundaries.
    pub(crate) fn part(self, start: usize, end: usize) -> Self {
        Self { bytes: &self.bytes[start..end], classes: self.classes }
    }

    #[inline]
    pub(crate) fn len(self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn byte(self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The bytes from `at` on; none where the text has not so many.
    #[inline]
    pub(crate) fn window(self, at: usize) -> Option<&'t [u8; WINDOW]> {
        self.bytes.get(at..)?.first_chunk()
    }

    /// Class and length in bytes of the character that starts at `at`; at the end there is none.
    #[inline]
    pub(crate) fn at(self, at: usize) -> Option<(CharClass, usize)> {
        let first = *self.bytes.get(at)?;
        if first < 0x80 {
            return Some((self.classes[usize::from(first)], 1));
        }
        Some(self.at_multibyte(at, first))
    }

    fn at_multibyte(self, at: usize, first: u8) -> (CharClass, usize) {
        let (code_point, len) = self.code_point_of(at, first);
        (self.classes.get(code_point as usize).copied().unwrap_or(0), len)
    }

    /// The character that starts at `at` as a code point, and its length in bytes; at the end there is none.
    #[inline]
    pub(crate) fn code_point(self, at: usize) -> Option<(u32, usize)> {
        let first = *self.bytes.get(at)?;
        Some(if first < 0x80 { (u32::from(first), 1) } else { self.code_point_of(at, first) })
    }

    /// `first` is the byte at `at`, and no ASCII.
    #[inline(always)]
    fn code_point_of(self, at: usize, first: u8) -> (u32, usize) {
        let tail = |i: usize| u32::from(self.bytes.get(at + i).copied().unwrap_or(0) & 0x3f);
        let first = u32::from(first);
        let (code_point, len) = match first {
            0..0xe0 => ((first & 0x1f) << 6 | tail(1), 2),
            0xe0..0xf0 => ((first & 0x0f) << 12 | tail(1) << 6 | tail(2), 3),
            _ => ((first & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4),
        };
        (code_point, len)
    }

    /// The end of the run of characters from `at` on whose class has a bit of `wanted`.
    #[inline]
    pub(crate) fn run_with(self, mut at: usize, wanted: CharClass) -> usize {
        while let Some((class, len)) = self.at(at) {
            if class & wanted == 0 {
                break;
            }
            at += len;
        }
        at
    }

    /// The end of the run of characters from `at` on whose class has no bit of `unwanted`.
    #[inline]
    pub(crate) fn run_without(self, mut at: usize, unwanted: CharClass) -> usize {
        while let Some((class, len)) = self.at(at) {
            if class & unwanted != 0 {
                break;
            }
            at += len;
        }
        at
    }

    /// The end of the run of plain spaces from `at` on: eight a step.
    #[inline]
    pub(crate) fn run_of_plain_spaces(self, mut at: usize) -> usize {
        while let Some(eight) = self.bytes.get(at..at + 8) {
            let word = u64::from_le_bytes(eight.try_into().expect("a slice of eight bytes"));
            let others = word ^ 0x2020_2020_2020_2020;
            if others != 0 {
                return at + (others.trailing_zeros() >> 3) as usize;
            }
            at += 8;
        }
        while self.byte(at) == Some(b' ') {
            at += 1;
        }
        at
    }

    /// `run_with` for a set that contains the letters. Most words are ASCII, end within eight
    /// bytes, and are done here without a loop.
    #[inline(always)]
    pub(crate) fn run_of_letters(self, at: usize, letters: CharClass) -> usize {
        if let Some(eight) = self.bytes.get(at..at + 8) {
            let others = not_ascii_letters(u64::from_le_bytes(eight.try_into().expect("a slice of eight bytes")));
            let end = at + (others.trailing_zeros() >> 3) as usize;
            if others != 0 && self.bytes[end].is_ascii() && letters == LETTER {
                return end;
            }
        }
        self.long_run_of_letters(at, letters)
    }

    #[inline(never)]
    fn long_run_of_letters(self, mut at: usize, letters: CharClass) -> usize {
        loop {
            while let Some(eight) = self.bytes.get(at..at + 8) {
                let others = not_ascii_letters(u64::from_le_bytes(eight.try_into().expect("a slice of eight bytes")));
                if others != 0 {
                    at += (others.trailing_zeros() >> 3) as usize;
                    break;
                }
                at += 8;
            }
            match self.at(at) {
                Some((class, len)) if class & letters != 0 => at += len,
                _ => return at,
            }
        }
    }
}

/// The high bit of each byte that is no ASCII letter.
#[inline]
fn not_ascii_letters(word: u64) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const EACH: u64 = 0x0101_0101_0101_0101;
    let lower = (word | (EACH * 0x20)) & !HIGH;
    let from_a = lower + EACH * (0x80 - b'a' as u64);
    let past_z = lower + EACH * (0x80 - (b'z' as u64 + 1));
    !(from_a & !past_z & !word) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_known_characters() {
        let class = |c: char| {
            let mut buffer = [0; 4];
            let text: &str = c.encode_utf8(&mut buffer);
            Classified::new(text).at(0)
        };
        assert_eq!(class('a'), Some((LETTER, 1)));
        assert_eq!(class('7'), Some((NUMBER, 1)));
        assert_eq!(class('\u{a0}'), Some((SPACE, 2)));
        assert_eq!(class('\u{1f}'), Some((CONTROL, 1)), "not white space");
        assert_eq!(class('$'), Some((SYMBOL, 1)));
        assert_eq!(class('_'), Some((PUNCTUATION, 1)));
        assert_eq!(class('\u{301}'), Some((MARK, 2)));
        assert_eq!(class('中'), Some((LETTER, 3)));
        assert_eq!(class('²'), Some((NUMBER, 2)));
        assert_eq!(class('🦀'), Some((SYMBOL, 4)));
        assert_eq!(class('\u{2ebf0}'), Some((LETTER, 4)), "a letter since Unicode 15.1");
        assert_eq!(class('\u{e000}'), Some((CONTROL, 3)), "for private use");
        assert_eq!(class('\u{10ffff}'), Some((0, 4)));
    }

    #[test]
    fn eight_spaces_a_step() {
        for count in 0..20 {
            let text = " ".repeat(count) + "x               ";
            assert_eq!(Classified::new(&text).run_of_plain_spaces(0), count);
            assert_eq!(Classified::new(&text[..count]).run_of_plain_spaces(0), count);
        }
    }

    #[test]
    fn eight_letters_a_step_agrees_with_one_at_a_time() {
        for b in 0..=127u8 {
            let text = format!("abcdefgXYZ{}zz", b as char);
            let view = Classified::new(&text);
            assert_eq!(view.run_of_letters(0, LETTER), view.run_with(0, LETTER), "byte {b}");
        }
        let text = "naïveté漢字abcdefghijklmnop1";
        let view = Classified::new(text);
        assert_eq!(view.run_of_letters(0, LETTER), text.len() - 1);
    }
}
