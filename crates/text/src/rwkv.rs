//! RWKV's tokenizer: at each place the longest token. Tokens are written with escapes, so that they can be any bytes.

use crate::error::TokenizerError;
use crate::trie::Trie;
use crate::vocabulary::{TokenId, Vocabulary};

/// The tokens as a trie over what they stand for.
pub(crate) struct Rwkv {
    tokens: Trie,
    unknown: Option<TokenId>,
}

impl Rwkv {
    pub(crate) fn build(vocabulary: &Vocabulary, unknown: Option<TokenId>) -> Result<Self, TokenizerError> {
        let texts = (0..vocabulary.len() as TokenId).map(|id| (vocabulary.table.get(id), id));
        Ok(Self { tokens: Trie::new(texts)?, unknown })
    }

    /// Bytes that stand for no token by themselves.
    pub(crate) fn missing_bytes(&self) -> Vec<u8> {
        (0..=255).filter(|&b| self.unknown.is_none() && self.tokens.longest(&[b]).is_none()).collect()
    }

    /// Appends the tokens of `text`; calls `missing` with the offset and the byte where none fits.
    pub(crate) fn encode(&self, text: &[u8], out: &mut Vec<TokenId>, mut missing: impl FnMut(usize, u8)) {
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            match (self.tokens.longest(&text[at..]), self.unknown) {
                (Some((id, len)), _) => {
                    out.push(id);
                    at += len;
                    continue;
                }
                (None, Some(unknown)) => out.push(unknown),
                (None, None) => missing(at, byte),
            }
            at += 1;
        }
    }
}

/// Appends what a token of the file stands for: `\t \n \r \xHH` and `\` before any other character, as llama.cpp reads
/// them (`llama_unescape_rwkv_token`). False, with nothing appended, where a hexadecimal digit is missing.
pub(crate) fn unescape_into(text: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        let Some(plain) = (if byte == b'\\' { escaped(&mut rest) } else { Some(byte) }) else {
            out.truncate(start);
            return false;
        };
        out.push(plain);
    }
    true
}

/// What follows a backslash.
fn escaped(rest: &mut std::slice::Iter<'_, u8>) -> Option<u8> {
    Some(match *rest.next()? {
        b't' => b'\t',
        b'n' => b'\n',
        b'r' => b'\r',
        b'x' => {
            let mut digit = || (*rest.next()? as char).to_digit(16);
            (digit()? << 4 | digit()?) as u8
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_the_files() {
        let plain = |text: &str| {
            let mut out = vec![7];
            unescape_into(text.as_bytes(), &mut out).then(|| out.split_off(1))
        };
        assert_eq!(plain("a\\tb\\n\\r\\\\\\'\\\"").unwrap(), b"a\tb\n\r\\'\"");
        assert_eq!(plain("\\xe2\\x96x").unwrap(), b"\xe2\x96x");
        assert_eq!(plain("é").unwrap(), "é".as_bytes());
        assert_eq!(plain("\\x4"), None, "one digit");
        assert_eq!(plain("\\x-1"), None, "no digit");
        assert_eq!(plain("ab\\"), None, "nothing after the backslash");
    }
}
