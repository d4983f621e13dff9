//! Rules made of several patterns, each applied inside the pieces that the one before left:
//! SmolLM and StarCoder (`\p{N}`, then GPT-2) and llama.cpp's `default`
//! (`[\p{P}\$\+<=>\^~\|]+`, GPT-2, `\p{N}+`, `[0-9][0-9][0-9]`). A later pattern cannot see
//! beyond its piece, so that a space run before a digit keeps its last space.

use crate::char_class::{Classified, NUMBER, PUNCTUATION};
use crate::pretokenize::{each, gpt2};

/// `\p{N}` alone, GPT-2 between.
#[inline]
pub(crate) fn split_smollm(view: Classified<'_>, word: &mut impl FnMut(usize, usize)) {
    let mut start = 0;
    while start < view.len() {
        let end = view.run_without(start, NUMBER);
        if end > start {
            each(view.part(start, end), gpt2::word_end, &mut |a, b| word(start + a, start + b));
        }
        start = end;
        if let Some((_, len)) = view.at(start) {
            word(start, start + len);
            start += len;
        }
    }
}

/// llama.cpp's rule for files that name none.
#[inline]
pub(crate) fn split_default(view: Classified<'_>, word: &mut impl FnMut(usize, usize)) {
    let mut start = 0;
    while start < view.len() {
        let is_mark = is_punctuation_at(view, start);
        let mut end = start;
        while let Some((_, len)) = view.at(end) {
            if is_punctuation_at(view, end) != is_mark {
                break;
            }
            end += len;
        }
        each(view.part(start, end), gpt2::word_end, &mut |a, b| {
            split_numbers(view.part(start + a, start + b), &mut |c, d| word(start + a + c, start + a + d));
        });
        start = end;
    }
}

fn is_punctuation_at(view: Classified<'_>, at: usize) -> bool {
    view.at(at).is_some_and(|(class, _)| class & PUNCTUATION != 0)
        || matches!(view.byte(at), Some(b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'~' | b'|'))
}

/// `\p{N}+`, then `[0-9][0-9][0-9]`, inside one piece.
fn split_numbers(piece: Classified<'_>, word: &mut impl FnMut(usize, usize)) {
    let mut start = 0;
    while start < piece.len() {
        let is_number = piece.at(start).is_some_and(|(class, _)| class & NUMBER != 0);
        let end = if is_number { piece.run_with(start, NUMBER) } else { piece.run_without(start, NUMBER) };
        split_triples(piece.part(start, end), &mut |a, b| word(start + a, start + b));
        start = end;
    }
}

fn split_triples(piece: Classified<'_>, word: &mut impl FnMut(usize, usize)) {
    let is_digit = |at| piece.byte(at).is_some_and(|b| b.is_ascii_digit());
    let (mut start, mut at) = (0, 0);
    while at < piece.len() {
        if is_digit(at) && is_digit(at + 1) && is_digit(at + 2) {
            if at > start {
                word(start, at);
            }
            word(at, at + 3);
            at += 3;
            start = at;
        } else {
            at += 1;
        }
    }
    if piece.len() > start {
        word(start, piece.len());
    }
}
