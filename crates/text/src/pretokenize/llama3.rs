//! The words of Llama 3, Qwen2 and their kin:
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}|` then
//! ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
//! DIGITS is 3 for Llama 3 and 1 for Qwen2; Qwen3.5 has `[\p{L}\p{M}]` for `\p{L}`, except in the
//! optional first character. The rarer kin at the end are written part by part.

use crate::char_class::{CharClass, Classified, LETTER, MARK, NUMBER, SPACE};
use crate::pretokenize::patterns::{
    contraction, digits, is_line_break, line_breaks, marks, marks_then, prefixed_run, run, spaces, word_prefix,
};

/// What counts as a letter in most of the family.
pub(crate) const WITHOUT_MARKS: CharClass = LETTER;
/// What counts as a letter for Qwen3.5.
pub(crate) const WITH_MARKS: CharClass = LETTER | MARK;

/// The end of the word that starts at `start`, which lies inside the text.
#[inline(always)]
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
        && let Some(end) = contraction(view, start)
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
#[inline(never)]
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

/// Seed-Coder: Qwen2, with no line breaks after punctuation.
pub(crate) fn seed_coder(view: Classified<'_>, at: usize) -> Option<usize> {
    contraction(view, at)
        .or_else(|| prefixed_run(view, at, LETTER))
        .or_else(|| digits(view, at, 1))
        .or_else(|| marks(view, at))
        .or_else(|| line_breaks(view, at))
        .or_else(|| spaces(view, at))
}

/// UfakZeka: Qwen2 without contractions, so that Turkish suffixes stay with their apostrophe.
pub(crate) fn ufakzeka(view: Classified<'_>, at: usize) -> Option<usize> {
    prefixed_run(view, at, LETTER)
        .or_else(|| digits(view, at, 1))
        .or_else(|| marks_then(view, at, b"\r\n"))
        .or_else(|| line_breaks(view, at))
        .or_else(|| spaces(view, at))
}

/// EXAONE MoE: words run on over single spaces, `(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`; punctuation takes one of `[\r\n/]`.
pub(crate) fn exaone_moe(view: Classified<'_>, at: usize) -> Option<usize> {
    contraction(view, at)
        .or_else(|| word_prefix(view, at).and_then(|start| spaced_words(view, start)))
        .or_else(|| spaced_words(view, at))
        .or_else(|| digits(view, at, 1))
        .or_else(|| {
            let end = marks(view, at)?;
            Some(end + usize::from(matches!(view.byte(end), Some(b'\r' | b'\n' | b'/'))))
        })
        .or_else(|| line_breaks(view, at))
        .or_else(|| spaces(view, at))
}

/// MiniCPM5, after its groups of digits: Llama 3 with whole numbers.
pub(crate) fn minicpm5(view: Classified<'_>, at: usize) -> Option<usize> {
    contraction(view, at)
        .or_else(|| prefixed_run(view, at, LETTER))
        .or_else(|| run(view, at, NUMBER))
        .or_else(|| marks_then(view, at, b"\r\n"))
        .or_else(|| line_breaks(view, at))
        .or_else(|| spaces(view, at))
}

/// Jais 2 after Llama 3's pattern: a run of white space without line breaks in powers of two, 512 first. With the
/// pattern's look ahead, `\s{512}(?!\S)|\s{256}(?!\S)|…|\s{1}` comes to that.
pub(crate) fn space_powers(view: Classified<'_>, cut: &mut dyn FnMut(usize)) {
    let ends_in_break = view.len() > 0 && is_line_break(view, view.len() - 1);
    if ends_in_break || view.run_with(0, SPACE) < view.len() {
        return;
    }
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some((_, len)) = view.at(at) {
        at += len;
        ends.push(at);
    }
    let mut done = 0;
    while done < ends.len() {
        let left = ends.len() - done;
        done += if left >= 512 { 512 } else { 1 << left.ilog2() };
        cut(ends[done - 1]);
    }
}

fn spaced_words(view: Classified<'_>, at: usize) -> Option<usize> {
    let letter = |at| view.at(at).filter(|(class, _)| class & LETTER != 0).map(|(_, len)| at + len);
    let mut end = letter(at)?;
    loop {
        end = view.run_with(end, MARK);
        let next = letter(end).or_else(|| if view.byte(end) == Some(b' ') { letter(end + 1) } else { None });
        match next {
            Some(after) => end = after,
            None => return Some(end),
        }
    }
}
