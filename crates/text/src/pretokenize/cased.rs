//! Patterns that tell capitals from small letters, of GPT-4o, Tekken and their kin:
//! `[^\r\n\p{L}\p{N}]?U*S+T?|[^\r\n\p{L}\p{N}]?U+S*T?|\p{N}{1,DIGITS}|` then
//! ` ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
//!
//! U is a letter that is not `[a-z]`, S one that is not `[A-Z]`: the case of other letters is not looked at. That is
//! llama.cpp's reading; the models' own patterns name Unicode's capitals. T is a contraction, where there is one.

use crate::char_class::{CharClass, Classified, LETTER, MARK, NUMBER};
use crate::pretokenize::patterns::{
    contraction, digits, line_breaks, marks_then, prefixed_run, run, spaces, word_prefix,
};

/// Mistral's Tekken: single digits, no contractions.
pub(crate) fn tekken(view: Classified<'_>, at: usize) -> Option<usize> {
    word(view, at, LETTER).or_else(|| rest(view, at, 1, b"\r\n/"))
}

/// GPT-4o.
pub(crate) fn gpt4o(view: Classified<'_>, at: usize) -> Option<usize> {
    with_contraction(view, word(view, at, LETTER)).or_else(|| rest(view, at, 3, b"\r\n/"))
}

/// GPT-4o with combining marks among the letters.
pub(crate) fn gpt4o_with_marks(view: Classified<'_>, at: usize) -> Option<usize> {
    with_contraction(view, word(view, at, LETTER | MARK)).or_else(|| rest(view, at, 3, b"\r\n/"))
}

/// Tiny Aya, after its digits: capitals are as good as small letters.
pub(crate) fn tiny_aya(view: Classified<'_>, at: usize) -> Option<usize> {
    with_contraction(view, prefixed_run(view, at, LETTER | MARK)).or_else(|| rest(view, at, 3, b"\r\n/"))
}

/// Youtu, after its scripts.
pub(crate) fn youtu(view: Classified<'_>, at: usize) -> Option<usize> {
    with_contraction(view, prefixed_run(view, at, LETTER | MARK)).or_else(|| rest(view, at, 1, b"\r\n/"))
}

/// Kimi K2: Han characters by themselves, other letters whatever their case.
pub(crate) fn kimi_k2(view: Classified<'_>, at: usize) -> Option<usize> {
    let han = |at| view.code_point(at).filter(|&(c, _)| is_han(c)).map(|(_, len)| at + len);
    let letter =
        |at| view.at(at).filter(|(class, _)| class & LETTER != 0 && han(at).is_none()).map(|(_, len)| at + len);
    let run_of = |step: &dyn Fn(usize) -> Option<usize>, mut at: usize| {
        while let Some(next) = step(at) {
            at = next;
        }
        at
    };
    if let Some(end) = han(at) {
        return Some(run_of(&han, end));
    }
    let start = word_prefix(view, at).unwrap_or(at);
    let end = run_of(&letter, start);
    if end > start {
        return with_contraction(view, Some(end));
    }
    rest(view, at, 3, b"\r\n")
}

/// What follows the words in all of these patterns.
fn rest(view: Classified<'_>, at: usize, digits_max: usize, tail: &[u8]) -> Option<usize> {
    digits(view, at, digits_max)
        .or_else(|| marks_then(view, at, tail))
        .or_else(|| line_breaks(view, at))
        .or_else(|| spaces(view, at))
}

fn with_contraction(view: Classified<'_>, word: Option<usize>) -> Option<usize> {
    word.map(|end| contraction(view, end).unwrap_or(end))
}

/// `[^\r\n\p{L}\p{N}]?U*S+|[^\r\n\p{L}\p{N}]?U+S*`, the prefix taken where that works, then without.
fn word(view: Classified<'_>, at: usize, letters: CharClass) -> Option<usize> {
    let prefixed = word_prefix(view, at);
    let small = |start| small_tail(view, start, letters);
    let capital = |start| capitals(view, start, letters).map(|(end, _)| end);
    prefixed.and_then(small).or_else(|| small(at)).or_else(|| prefixed.and_then(capital)).or_else(|| capital(at))
}

/// `U*S+`: the capitals give back as much as leaves one that is a small letter, too.
fn small_tail(view: Classified<'_>, start: usize, letters: CharClass) -> Option<usize> {
    let (end, last_small) = capitals(view, start, letters).unwrap_or((start, None));
    match run_of_small(view, end, letters) {
        after if after > end => Some(after),
        _ => last_small,
    }
}

/// `U+`: its end, and the end of the last character in it that is not `[A-Z]`.
fn capitals(view: Classified<'_>, start: usize, letters: CharClass) -> Option<(usize, Option<usize>)> {
    let (mut end, mut last_small) = (start, None);
    while let Some((class, len)) = view.at(end) {
        let byte = view.byte(end).unwrap_or(0);
        if class & letters == 0 || byte.is_ascii_lowercase() {
            break;
        }
        end += len;
        if !byte.is_ascii_uppercase() {
            last_small = Some(end);
        }
    }
    (end > start).then_some((end, last_small))
}

/// `S*`
fn run_of_small(view: Classified<'_>, mut at: usize, letters: CharClass) -> usize {
    while let Some((class, len)) = view.at(at) {
        if class & letters == 0 || view.byte(at).is_some_and(|b| b.is_ascii_uppercase()) {
            break;
        }
        at += len;
    }
    at
}

/// The blocks of Chinese characters that llama.cpp counts (`unicode_cpt_is_han`).
fn is_han(code_point: u32) -> bool {
    matches!(code_point,
        0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_ebef | 0x2_f800..=0x2_fa1f)
}

/// `\p{N}+` cut into threes from the right, the first group with what stands before it: llama.cpp's digits for AFMoE
/// and Tiny Aya. Later stages part the text from the digits again.
pub(crate) fn thousands(view: Classified<'_>, cut: &mut dyn FnMut(usize)) {
    let mut at = 0;
    while at < view.len() {
        at = view.run_without(at, NUMBER);
        let Some(end) = run(view, at, NUMBER) else {
            break;
        };
        let ends: usize = (at..end).filter(|&i| is_char_start(view, i)).count();
        let mut count = 0;
        while at < end {
            at += view.at(at).map_or(1, |(_, len)| len);
            count += 1;
            if (ends - count).is_multiple_of(3) {
                cut(at);
            }
        }
    }
}

fn is_char_start(view: Classified<'_>, at: usize) -> bool {
    view.byte(at).is_some_and(|b| b & 0xc0 != 0x80)
}
