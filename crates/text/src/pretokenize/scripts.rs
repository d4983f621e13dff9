//! Rules that look at scripts or at single code points, of DeepSeek, AFMoE, Youtu, BLOOM and Chameleon. Ranges of code
//! points are those of llama.cpp (0c1e57098, `llama-vocab.cpp`), oddities included: files are made and checked with it.

use crate::char_class::{Classified, LETTER, MARK, NUMBER, PUNCTUATION, SPACE, SYMBOL};
use crate::pretokenize::gpt2;
use crate::pretokenize::patterns::{
    after_space, after_white_space, digits, is_line_break, line_breaks, run, run_in, run_of_bytes, spaces,
};
use crate::pretokenize::stages::Stage::{self, Cut, Match};

/// DeepSeek-LLM: line breaks, cased alphabets, punctuation, scripts, numbers.
pub(crate) const DEEPSEEK_LLM: &[Stage] = &[
    Match(line_break),
    Match(deepseek_letters),
    Match(deepseek_marks),
    Cut(trailing_space),
    Match(deepseek_scripts),
    Match(number),
];

/// DeepSeek Coder: line breaks, letters, punctuation, scripts, digits.
pub(crate) const DEEPSEEK_CODER: &[Stage] =
    &[Match(line_break), Match(spaced_letters), Match(spaced_punctuation), Match(deepseek_scripts), Match(digit)];

/// Chameleon: image tokens, white space, digits, punctuation, GPT-2.
pub(crate) const CHAMELEON: &[Stage] = &[
    Match(chameleon_sentinel),
    Match(chameleon_image),
    Match(chameleon_space),
    Match(digit),
    Match(chameleon_mark),
    Match(|view, at| Some(gpt2::word_end(view, at))),
];

/// `[\r\n]`
pub(crate) fn line_break(view: Classified<'_>, at: usize) -> Option<usize> {
    is_line_break(view, at).then_some(at + 1)
}

/// `\p{N}`
pub(crate) fn digit(view: Classified<'_>, at: usize) -> Option<usize> {
    digits(view, at, 1)
}

/// `\p{N}{1,3}`
pub(crate) fn three_digits(view: Classified<'_>, at: usize) -> Option<usize> {
    digits(view, at, 3)
}

/// `\p{N}+`
pub(crate) fn number(view: Classified<'_>, at: usize) -> Option<usize> {
    run(view, at, NUMBER)
}

/// `[0-9][0-9][0-9]`
pub(crate) fn ascii_triple(view: Classified<'_>, at: usize) -> Option<usize> {
    (at..at + 3).all(|i| view.byte(i).is_some_and(|b| b.is_ascii_digit())).then_some(at + 3)
}

/// `\s+$`. As a pattern it would look at a long run once for every character in it.
pub(crate) fn trailing_space(view: Classified<'_>, cut: &mut dyn FnMut(usize)) {
    let mut at = 0;
    while let Some((class, len)) = view.at(at) {
        let end = view.run_with(at, SPACE);
        if end == view.len() {
            cut(at);
        }
        at = if class & SPACE != 0 { end } else { at + len };
    }
}

/// DeepSeek-LLM's letters: `\s?[…]+` over the cased alphabets.
pub(crate) fn deepseek_letters(view: Classified<'_>, at: usize) -> Option<usize> {
    run_in(view, after_white_space(view, at), DEEPSEEK_LETTERS)
}

/// DeepSeek-LLM's punctuation: `\s?[!-/:-~…]+`. The second range holds letters as well.
pub(crate) fn deepseek_marks(view: Classified<'_>, at: usize) -> Option<usize> {
    const MARKS: &[(u32, u32)] =
        &[(0x21, 0x2f), (0x3a, 0x7e), (0x2018, 0x201f), (0x3000, 0x3002), (0xff01, 0xff0f), (0xff1a, 0xff5e)];
    run_in(view, after_white_space(view, at), MARKS)
}

/// DeepSeek's scripts without case: U+0800 to U+9FA5 and Hangul.
pub(crate) fn deepseek_scripts(view: Classified<'_>, at: usize) -> Option<usize> {
    run_in(view, at, &[(0x800, 0x9fa5), (0xac00, 0xd7ff)])
}

/// `\s?\p{L}+`
pub(crate) fn spaced_letters(view: Classified<'_>, at: usize) -> Option<usize> {
    run(view, after_white_space(view, at), LETTER)
}

/// `\s?\p{P}+`
pub(crate) fn spaced_punctuation(view: Classified<'_>, at: usize) -> Option<usize> {
    run(view, after_white_space(view, at), PUNCTUATION)
}

/// Chinese characters and kana.
pub(crate) fn han_and_kana(view: Classified<'_>, at: usize) -> Option<usize> {
    run_in(view, at, &[(0x3040, 0x30ff), (0x4e00, 0x9fa5)])
}

/// DeepSeek V3's last pattern: an ASCII mark with ASCII letters, a word with its marks, punctuation, space.
pub(crate) fn deepseek3(view: Classified<'_>, at: usize) -> Option<usize> {
    deepseek3_word(view, at)
        .or_else(|| deepseek3_marks(view, at).map(|end| run_of_bytes(view, end, b"\r\n")))
        .or_else(|| line_breaks(view, at))
        .or_else(|| spaces(view, at))
}

/// Spark's: the same, with each line break by itself.
pub(crate) fn spark(view: Classified<'_>, at: usize) -> Option<usize> {
    deepseek3_word(view, at)
        .or_else(|| deepseek3_marks(view, at))
        .or_else(|| line_break(view, at))
        .or_else(|| spaces(view, at))
}

/// AFMoE's scripts without spaces between words.
pub(crate) fn afmoe_scripts(view: Classified<'_>, at: usize) -> Option<usize> {
    const SCRIPTS: &[(u32, u32)] = &[
        (0x0e40, 0x0eff),
        (0x1000, 0x109f),
        (0x1100, 0x11ff),
        (0x1780, 0x17ff),
        (0x2f00, 0x2fdf),
        (0x3040, 0x30ff),
        (0x3400, 0x4dbf),
        // U+8C48 begins the compatibility ideographs in llama.cpp's pattern, where U+F900 was meant.
        (0x4e00, 0xfaff),
        (0xff65, 0xff9f),
    ];
    run_in(view, at, SCRIPTS)
}

/// Youtu's scripts: Hangul, full-width punctuation, Bopomofo, Chinese characters and kana, each a run of its own.
pub(crate) fn youtu_scripts(view: Classified<'_>, at: usize) -> Option<usize> {
    const PUNCTUATION: &[(u32, u32)] = &[
        (0x2014, 0x2014),
        (0x2018, 0x2019),
        (0x201c, 0x201d),
        (0x2026, 0x2026),
        (0x3001, 0x303f),
        (0xfe30, 0xfe4f),
        (0xff01, 0xff01),
        (0xff0c, 0xff0c),
        (0xff1a, 0xff1b),
    ];
    run_in(view, at, &[(0x3131, 0x318e), (0xac00, 0xd7a3)])
        .or_else(|| run_in(view, at, PUNCTUATION))
        .or_else(|| run_in(view, at, &[(0x3105, 0x312f)]))
        .or_else(|| han_and_kana(view, at))
}

/// BLOOM's words: ` ?[^(\s|.,!?…。，、।۔،)]+`.
pub(crate) fn bloom(view: Classified<'_>, at: usize) -> Option<usize> {
    const STOPS: &[u32] = &[0x60c, 0x6d4, 0x964, 0x2026, 0x3001, 0x3002, 0xff0c];
    let start = after_space(view, at);
    let mut end = start;
    while let Some((code_point, len)) = view.code_point(end) {
        let stops = view.at(end).is_some_and(|(class, _)| class & SPACE != 0)
            || matches!(view.byte(end), Some(b'(' | b')' | b'|' | b'.' | b',' | b'!' | b'?'))
            || STOPS.contains(&code_point);
        if stops {
            break;
        }
        end += len;
    }
    (end > start).then_some(end)
}

/// The marks of llama.cpp's default: `[\p{P}\$\+<=>\^~\|]+`.
pub(crate) fn default_marks(view: Classified<'_>, at: usize) -> Option<usize> {
    let mut end = at;
    while let Some((class, len)) = view.at(end) {
        let mark = class & PUNCTUATION != 0 || (class & SYMBOL != 0 && len == 1 && view.byte(end) != Some(b'`'));
        if !mark {
            break;
        }
        end += len;
    }
    (end > at).then_some(end)
}

/// Falcon's marks: ``[\p{P}\$\+<=>\^~\|`]+``.
pub(crate) fn falcon_marks(view: Classified<'_>, at: usize) -> Option<usize> {
    let mut end = at;
    while let Some((class, len)) = view.at(end) {
        let mark = class & PUNCTUATION != 0 || (class & SYMBOL != 0 && len == 1);
        if !mark {
            break;
        }
        end += len;
    }
    (end > at).then_some(end)
}

/// Chameleon's `<sentinel:[0-9]+>`.
pub(crate) fn chameleon_sentinel(view: Classified<'_>, at: usize) -> Option<usize> {
    let digits = after_text(view, at, b"<sentinel:")?;
    let end = run_of_bytes(view, digits, b"0123456789");
    (end > digits && view.byte(end) == Some(b'>')).then_some(end + 1)
}

/// Chameleon's `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`.
pub(crate) fn chameleon_image(view: Classified<'_>, at: usize) -> Option<usize> {
    let letters = after_text(view, at, b"IMGIMG")?;
    let end = run_of_bytes(view, letters, b"ABCDEFGHI");
    ((1..=4).contains(&(end - letters)) && view.byte(end) == Some(b'Z')).then_some(end + 1)
}

/// Chameleon's `([\t\n]|    |  )`.
pub(crate) fn chameleon_space(view: Classified<'_>, at: usize) -> Option<usize> {
    match view.byte(at)? {
        b'\t' | b'\n' => Some(at + 1),
        b' ' => after_text(view, at, b"    ").or_else(|| after_text(view, at, b"  ")),
        _ => None,
    }
}

/// Chameleon's single marks: `[\p{P}!-/:-@\[-`{-~]`.
pub(crate) fn chameleon_mark(view: Classified<'_>, at: usize) -> Option<usize> {
    let (class, len) = view.at(at)?;
    (class & PUNCTUATION != 0 || (class & SYMBOL != 0 && len == 1)).then_some(at + len)
}

/// `[^\n]+|[\n]+`
pub(crate) fn lines(view: Classified<'_>, at: usize) -> Option<usize> {
    let is_break = view.byte(at)? == b'\n';
    let end = (at..view.len()).find(|&i| (view.byte(i) == Some(b'\n')) != is_break);
    Some(end.unwrap_or(view.len()))
}

/// `\S+`
pub(crate) fn not_space(view: Classified<'_>, at: usize) -> Option<usize> {
    let end = view.run_without(at, SPACE);
    (end > at).then_some(end)
}

/// SuperBPE's `(?=(\d{3})+(?!\d))`: cuts a run of ASCII digits into threes from the right.
pub(crate) fn ascii_thousands(view: Classified<'_>, cut: &mut dyn FnMut(usize)) {
    let is_digit = |i: usize| view.byte(i).is_some_and(|b| b.is_ascii_digit());
    let mut at = 0;
    while at < view.len() {
        if !is_digit(at) {
            at += 1;
            continue;
        }
        let end = (at..view.len()).find(|&i| !is_digit(i)).unwrap_or(view.len());
        for start in (at..end).filter(|start| (end - start).is_multiple_of(3)) {
            cut(start);
        }
        at = end;
    }
}

fn after_text(view: Classified<'_>, at: usize, text: &[u8]) -> Option<usize> {
    text.iter().enumerate().all(|(i, &b)| view.byte(at + i) == Some(b)).then_some(at + text.len())
}

/// ``[!"#…~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+``
fn deepseek3_word(view: Classified<'_>, at: usize) -> Option<usize> {
    let ascii_letters_end = |mut end: usize| {
        while view.byte(end).is_some_and(|b| b.is_ascii_alphabetic()) {
            end += 1;
        }
        end
    };
    if view.byte(at)?.is_ascii_punctuation() {
        let end = ascii_letters_end(at + 1);
        if end > at + 1 {
            return Some(end);
        }
    }
    let (class, len) = view.at(at)?;
    let is_prefix = class & (LETTER | PUNCTUATION | SYMBOL) == 0 && !is_line_break(view, at);
    let prefixed = if is_prefix { run(view, at + len, LETTER | MARK) } else { None };
    prefixed.or_else(|| run(view, at, LETTER | MARK))
}

/// ` ?[\p{P}\p{S}]+`
fn deepseek3_marks(view: Classified<'_>, at: usize) -> Option<usize> {
    run(view, after_space(view, at), PUNCTUATION | SYMBOL)
}

/// Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and the other cased alphabets of Unicode 12.
#[rustfmt::skip]
const DEEPSEEK_LETTERS: &[(u32, u32)] = &[
    (0x41, 0x5a), (0x61, 0x7a), (0xb5, 0xb5), (0xc0, 0xd6), (0xd8, 0xf6), (0xf8, 0x1ba), (0x1bc, 0x1bf),
    (0x1c4, 0x293), (0x295, 0x2af), (0x370, 0x373), (0x376, 0x376), (0x377, 0x377), (0x37b, 0x37d), (0x37f, 0x37f),
    (0x386, 0x386), (0x388, 0x38a), (0x38c, 0x38c), (0x38e, 0x3a1), (0x3a3, 0x3f5), (0x3f7, 0x481), (0x48a, 0x52f),
    (0x531, 0x556), (0x10a0, 0x10c5), (0x13a0, 0x13f5), (0x13f8, 0x13fd), (0x1c90, 0x1cba), (0x1cbd, 0x1cbf),
    (0x1d00, 0x1d2b), (0x1d6b, 0x1d77), (0x1d79, 0x1d9a), (0x1e00, 0x1f15), (0x1f18, 0x1f1d), (0x1f20, 0x1f45),
    (0x1f48, 0x1f4d), (0x1f50, 0x1f57), (0x1f59, 0x1f59), (0x1f5b, 0x1f5b), (0x1f5d, 0x1f5d), (0x1f5f, 0x1f7d),
    (0x1f80, 0x1fb4), (0x1fb6, 0x1fbc), (0x1fbe, 0x1fbe), (0x1fc2, 0x1fc4), (0x1fc6, 0x1fcc), (0x1fd0, 0x1fd3),
    (0x1fd6, 0x1fdb), (0x1fe0, 0x1fec), (0x1ff2, 0x1ff4), (0x1ff6, 0x1ffc), (0x2102, 0x2102), (0x2107, 0x2107),
    (0x210a, 0x2113), (0x2115, 0x2115), (0x2119, 0x211d), (0x2124, 0x2124), (0x2126, 0x2126), (0x2128, 0x2128),
    (0x212a, 0x212d), (0x212f, 0x2134), (0x2139, 0x2139), (0x213c, 0x213f), (0x2145, 0x2149), (0x214e, 0x214e),
    (0x2183, 0x2183), (0x2184, 0x2184), (0x2c00, 0x2c7b), (0x2c7e, 0x2ce4), (0x2ceb, 0x2cee), (0x2cf2, 0x2cf2),
    (0x2cf3, 0x2cf3), (0xa640, 0xa66d), (0xa680, 0xa69b), (0xa722, 0xa76f), (0xa771, 0xa787), (0xa78b, 0xa78e),
    (0xab70, 0xabbf), (0xfb00, 0xfb06), (0xfb13, 0xfb17), (0xff21, 0xff3a), (0xff41, 0xff5a), (0x10400, 0x1044f),
    (0x104b0, 0x104d3), (0x104d8, 0x104fb), (0x10c80, 0x10cb2), (0x10cc0, 0x10cf2), (0x118a0, 0x118df),
    (0x1e900, 0x1e943),
];
