//! GPT-2's printable spelling of bytes: the 188 bytes that print as themselves in Latin-1 stand
//! for themselves, the other 68, in order, are U+0100 to U+0143. Vocabulary files use it; inside
//! this crate tokens are plain bytes.

/// First code point past the spelling.
const SPELLINGS: usize = 0x144;
const NONE: u16 = u16::MAX;

const fn prints_as_itself(byte: usize) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// Code point to byte.
const BYTE_OF: [u16; SPELLINGS] = {
    let mut table = [NONE; SPELLINGS];
    let (mut byte, mut extra) = (0, 0);
    while byte < 256 {
        if prints_as_itself(byte) {
            table[byte] = byte as u16;
        } else {
            table[256 + extra] = byte as u16;
            extra += 1;
        }
        byte += 1;
    }
    table
};

/// Appends the bytes that `spelled` stands for. False, with nothing appended, where a character
/// is no spelling of a byte.
pub(crate) fn decode_into(spelled: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut rest = spelled;
    while let [first, tail @ ..] = rest {
        let (code_point, len) = match (*first, tail) {
            (0..0x80, _) => (usize::from(*first), 1),
            (0xc2..0xe0, [second @ 0x80..0xc0, ..]) => (usize::from(first & 0x1f) << 6 | usize::from(second & 0x3f), 2),
            _ => (SPELLINGS, 1),
        };
        match BYTE_OF.get(code_point) {
            Some(&byte) if byte != NONE => out.push(byte as u8),
            _ => {
                out.truncate(start);
                return false;
            }
        }
        rest = &rest[len..];
    }
    true
}

/// Whether the spelling of `byte` is the byte itself and ASCII.
pub(crate) fn is_plain_ascii(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(spelled: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode_into(spelled.as_bytes(), &mut out).then_some(out)
    }

    #[test]
    fn known_spellings() {
        assert_eq!(decoded("Ġthe").unwrap(), b" the");
        assert_eq!(decoded("ĊĊ").unwrap(), b"\n\n");
        assert_eq!(decoded("Ã©").unwrap(), "é".as_bytes());
        assert_eq!(decoded("Ń").unwrap(), [0xad]);
        assert_eq!(decoded("a b"), None, "a raw space is no spelling");
        assert_eq!(decoded("▁"), None);
    }

    #[test]
    fn every_byte_has_one_spelling() {
        let mut seen = [false; 256];
        for byte in BYTE_OF.iter().filter(|&&b| b != NONE) {
            assert!(!std::mem::replace(&mut seen[usize::from(*byte)], true));
        }
        assert!(seen.iter().all(|&s| s));
    }

    #[test]
    fn broken_utf8_is_no_spelling() {
        let mut out = vec![7];
        assert!(!decode_into(b"ab\xc4", &mut out));
        assert!(!decode_into(b"\xff", &mut out));
        assert_eq!(out, [7]);
    }
}
