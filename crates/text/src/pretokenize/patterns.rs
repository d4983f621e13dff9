//! The parts that the patterns of different models share. Each gives the end of its match at an offset, none where it
//! does not match there. Knows no model; those are in the files beside this one.

use crate::char_class::{CharClass, Classified, LETTER, NUMBER, SPACE};
use crate::pretokenize::gpt2;

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
pub(crate) fn contraction(view: Classified<'_>, at: usize) -> Option<usize> {
    if view.byte(at)? != b'\'' {
        return None;
    }
    let second = view.byte(at + 2).map(|b| b.to_ascii_lowercase());
    match (view.byte(at + 1)?.to_ascii_lowercase(), second) {
        (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 3),
        _ => None,
    }
}

/// `[^\r\n\p{L}\p{N}]`
pub(crate) fn word_prefix(view: Classified<'_>, at: usize) -> Option<usize> {
    let (class, len) = view.at(at)?;
    let fits = class & (LETTER | NUMBER) == 0 && !is_line_break(view, at);
    fits.then_some(at + len)
}

/// `[^\r\n\p{L}\p{N}]?X+` for the characters with a bit of `letters`.
pub(crate) fn prefixed_run(view: Classified<'_>, at: usize, letters: CharClass) -> Option<usize> {
    word_prefix(view, at).and_then(|start| run(view, start, letters)).or_else(|| run(view, at, letters))
}

/// `X+` for the characters with a bit of `wanted`.
pub(crate) fn run(view: Classified<'_>, at: usize, wanted: CharClass) -> Option<usize> {
    let end = view.run_with(at, wanted);
    (end > at).then_some(end)
}

/// `\p{N}{1,most}`
pub(crate) fn digits(view: Classified<'_>, at: usize, most: usize) -> Option<usize> {
    let mut end = at;
    for _ in 0..most {
        match view.at(end) {
            Some((class, len)) if class & NUMBER != 0 => end += len,
            _ => break,
        }
    }
    (end > at).then_some(end)
}

/// ` ?[^\s\p{L}\p{N}]+`
pub(crate) fn marks(view: Classified<'_>, at: usize) -> Option<usize> {
    let start = after_space(view, at);
    let end = view.run_without(start, SPACE | LETTER | NUMBER);
    (end > start).then_some(end)
}

/// ` ?[^\s\p{L}\p{N}]+[TAIL]*`
pub(crate) fn marks_then(view: Classified<'_>, at: usize, tail: &[u8]) -> Option<usize> {
    marks(view, at).map(|end| run_of_bytes(view, end, tail))
}

/// `[TAIL]*`
pub(crate) fn run_of_bytes(view: Classified<'_>, mut at: usize, tail: &[u8]) -> usize {
    while view.byte(at).is_some_and(|b| tail.contains(&b)) {
        at += 1;
    }
    at
}

/// ` ?`
pub(crate) fn after_space(view: Classified<'_>, at: usize) -> usize {
    at + usize::from(view.byte(at) == Some(b' '))
}

/// `\s?`
pub(crate) fn after_white_space(view: Classified<'_>, at: usize) -> usize {
    match view.at(at) {
        Some((class, len)) if class & SPACE != 0 => at + len,
        _ => at,
    }
}

/// `\s*[\r\n]+`
pub(crate) fn line_breaks(view: Classified<'_>, at: usize) -> Option<usize> {
    let end = view.run_with(at, SPACE);
    // Line breaks are one byte each, and no other character's last byte.
    let last = (at..end).rev().find(|&i| is_line_break(view, i))?;
    Some(last + 1)
}

/// `\s+(?!\S)|\s+`
pub(crate) fn spaces(view: Classified<'_>, at: usize) -> Option<usize> {
    let end = gpt2::space_run_end(view, at);
    (end > at).then_some(end)
}

pub(crate) fn is_line_break(view: Classified<'_>, at: usize) -> bool {
    matches!(view.byte(at), Some(b'\r' | b'\n'))
}

/// `[…]+` over ranges of code points, ascending, where white space beyond ASCII is in no range: llama.cpp hides it from
/// patterns that name code points.
pub(crate) fn run_in(view: Classified<'_>, at: usize, ranges: &[(u32, u32)]) -> Option<usize> {
    let mut end = at;
    while let Some((code_point, len)) = view.code_point(end) {
        let after = ranges.partition_point(|&(first, _)| first <= code_point);
        let inside = after.checked_sub(1).is_some_and(|i| code_point <= ranges[i].1);
        if !inside || view.at(end).is_some_and(|(class, _)| class & SPACE != 0) {
            break;
        }
        end += len;
    }
    (end > at).then_some(end)
}
