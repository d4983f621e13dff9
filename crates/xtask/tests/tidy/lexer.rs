//! Just enough of Rust's grammar to tell code from comments and literals. It never parses expressions.

/// The source with every comment and literal replaced by spaces; line breaks and lengths in bytes stay.
pub(crate) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match skipped(bytes, at) {
            Some(end) => end,
            None => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole literals were replaced by spaces")
}

/// Where the comment or literal that starts at `at` ends.
fn skipped(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(rest.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length));
    }
    if rest.starts_with(b"/*") {
        return Some(block_comment(bytes, at));
    }
    let after_word = at > 0 && is_word(bytes[at - 1]);
    match rest[0] {
        b'"' => Some(quoted(bytes, at, b'"')),
        b'r' | b'b' | b'c' if !after_word => prefixed(bytes, at),
        b'\'' if is_character(rest) => Some(quoted(bytes, at, b'\'')),
        _ => None,
    }
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `b'…'`, `c"…"`; a raw identifier or a plain word is none of them.
fn prefixed(bytes: &[u8], start: usize) -> Option<usize> {
    let letters = bytes[start..].iter().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let raw = bytes[start..start + letters].contains(&b'r');
    let mut at = start + letters;
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    at += hashes;
    match (bytes.get(at)?, raw, hashes) {
        (b'"', true, _) => {
            let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let length = bytes[at + 1..].windows(close.len()).position(|window| window == close);
            Some(length.map_or(bytes.len(), |length| at + 1 + length + close.len()))
        }
        (quote @ (b'"' | b'\''), false, 0) => Some(quoted(bytes, at, *quote)),
        _ => None,
    }
}

/// The end of a literal with backslash escapes whose opening quote is at `start`.
fn quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whether a quote opens a character and not a lifetime: `'\n'`, or one character and a quote.
fn is_character(rest: &[u8]) -> bool {
    let Some(first) = rest.get(1) else {
        return false;
    };
    let width = match first {
        b'\\' => return true,
        0x00..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    rest.get(1 + width) == Some(&b'\'')
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Byte offsets at which `word` stands in `code` with no letter, digit or underscore beside it.
pub(crate) fn word_offsets<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let end = at + word.len();
        let before = *at == 0 || !is_word(bytes[at - 1]);
        let after = end == bytes.len() || !is_word(bytes[end]) || !is_word(bytes[end - 1]);
        before && after
    })
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The offset after the brace that closes the one at `open`.
pub(crate) fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[test]
fn comments_and_literals_vanish() {
    let source = "let a = \"x // \\\" unsafe\"; // unsafe\nlet b = r#\"unsafe \" \"#; /* un /* in */ safe */ fn f<'a>(c: &'a u8) { '\\'' }";
    let code = code_only(source);
    assert_eq!(code.len(), source.len());
    assert_eq!(
        code.split_whitespace().collect::<Vec<_>>(),
        ["let", "a", "=", ";", "let", "b", "=", ";", "fn", "f<'a>(c:", "&'a", "u8)", "{", "}"]
    );
}

#[test]
fn words_have_edges() {
    let code = "unsafe_code unsafe { } my_unsafe gguf::x from_gguf::y";
    assert_eq!(word_offsets(code, "unsafe").collect::<Vec<_>>(), [12]);
    assert_eq!(word_offsets(code, "gguf::").count(), 1);
}
