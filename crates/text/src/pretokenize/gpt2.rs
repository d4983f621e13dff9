//! GPT-2's words: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
//! Case-sensitive contractions; a space joins what follows it.

use crate::char_class::{Classified, LETTER, NUMBER, SPACE};

/// The end of the word that starts at `start`, which lies inside the text.
#[inline]
pub(crate) fn word_end(view: Classified<'_>, start: usize) -> usize {
    let body = match view.byte(start) {
        // Two branches rather than a sum, so that the next load does not wait for this one.
        Some(b' ') => body_end(view, start + 1),
        Some(b'\'') => contraction_end(view, start).or_else(|| body_end(view, start)),
        _ => body_end(view, start),
    };
    body.unwrap_or_else(|| space_run_end(view, start))
}

/// The end of the run of letters, of numbers or of neither from `at` on; none at white space.
#[inline(always)]
fn body_end(view: Classified<'_>, at: usize) -> Option<usize> {
    let (class, len) = view.at(at)?;
    if class & LETTER != 0 {
        Some(view.run_of_letters(at + len, LETTER))
    } else if class & NUMBER != 0 {
        Some(view.run_with(at + len, NUMBER))
    } else if class & SPACE == 0 {
        Some(view.run_without(at + len, LETTER | NUMBER | SPACE))
    } else {
        None
    }
}

/// `\s+(?!\S)|\s+`: the run of white space, less its last character where a word follows.
#[inline]
pub(crate) fn space_run_end(view: Classified<'_>, start: usize) -> usize {
    let (mut end, mut last) = (start, start);
    while let Some((class, len)) = view.at(end) {
        if class & SPACE == 0 {
            break;
        }
        last = end;
        end += len;
        if view.byte(last) == Some(b' ') {
            end = view.run_of_plain_spaces(end);
            last = end - 1;
        }
    }
    if end < view.len() && last > start { last } else { end }
}

fn contraction_end(view: Classified<'_>, start: usize) -> Option<usize> {
    match (view.byte(start + 1)?, view.byte(start + 2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(start + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(start + 3),
        _ => None,
    }
}
