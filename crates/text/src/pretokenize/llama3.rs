//! The words of Llama 3, Qwen2 and their kin:
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}|` then
//! ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
//! DIGITS is 3 for Llama 3 and 1 for Qwen2; Qwen3.5 has `[\p{L}\p{M}]` for `\p{L}`, except in the
//! optional first character.

use crate::char_class::{CharClass, Classified, LETTER, MARK, NUMBER, SPACE};

/// What counts as a letter in most of the family.
pub(crate) const WITHOUT_MARKS: CharClass = LETTER;
/// What counts as a letter for Qwen3.5.
pub(crate) const WITH_MARKS: CharClass = LETTER | MARK;

/// The end of the word that starts at `start`, which lies inside the text.
#[inline]
pub(crate) fn word_end<const DIGITS: usize, const LETTERS: CharClass>(view: Classified<'_>, start: usize) -> usize {
    let Some((class, len)) = view.at(start) else {
        return view.len();
    };
    if class & LETTERS != 0 {
        return view.run_of_letters(start + len, LETTERS);
    }
    if class & NUMBER != 0 {
        return digits_end::<DIGITS>(view, start + len);
    }
    let first = view.byte(start).unwrap_or(0);
    if first == b'\''
        && let Some(end) = contraction_end(view, start)
    {
        return end;
    }
    let next = view.at(start + len);
    if let Some((next_class, next_len)) = next
        && next_class & LETTERS != 0
        && first != b'\r'
        && first != b'\n'
    {
        return view.run_of_letters(start + len + next_len, LETTERS);
    }
    let body =
        if first == b' ' { next.map(|(class, len)| (class, start + 1 + len)) } else { Some((class, start + len)) };
    if let Some((class, end)) = body
        && class & (LETTERS | NUMBER | SPACE) == 0
    {
        return newlines_end(view, view.run_without(end, LETTERS | NUMBER | SPACE));
    }
    space_end(view, start)
}

/// The end of a number whose first digit ends at `at`.
#[inline]
fn digits_end<const DIGITS: usize>(view: Classified<'_>, mut at: usize) -> usize {
    for _ in 1..DIGITS {
        match view.at(at) {
            Some((class, len)) if class & NUMBER != 0 => at += len,
            _ => break,
        }
    }
    at
}

#[inline]
fn newlines_end(view: Classified<'_>, mut at: usize) -> usize {
    while let Some(b'\r' | b'\n') = view.byte(at) {
        at += 1;
    }
    at
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the run's last line break; else the run, less its last
/// character where a word follows.
#[inline]
fn space_end(view: Classified<'_>, start: usize) -> usize {
    let (mut end, mut last, mut after_break) = (start, start, start);
    while let Some((class, len)) = view.at(end) {
        if class & SPACE == 0 {
            break;
        }
        last = end;
        end += len;
        if view.byte(last) == Some(b' ') {
            end = view.run_of_plain_spaces(end);
            last = end - 1;
            continue;
        }
        if let Some(b'\r' | b'\n') = view.byte(last) {
            after_break = end;
        }
    }
    if after_break > start {
        after_break
    } else if end < view.len() && last > start {
        last
    } else {
        end
    }
}

fn contraction_end(view: Classified<'_>, start: usize) -> Option<usize> {
    let second = view.byte(start + 2).map(|b| b.to_ascii_lowercase());
    match (view.byte(start + 1)?.to_ascii_lowercase(), second) {
        (b's' | b't' | b'm' | b'd', _) => Some(start + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(start + 3),
        _ => None,
    }
}
