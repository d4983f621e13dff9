//! Rules made of several patterns, each applied inside the pieces that the one before left, matches and gaps alike.
//! A later pattern cannot see beyond its piece, so that a space run before a digit may keep its last space.

use crate::char_class::Classified;

/// One step of a rule.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// A regex: the end of its match at an offset, where it matches something there.
    Match(fn(Classified<'_>, usize) -> Option<usize>),
    /// Cuts that no regex describes: calls the function with the ends of all parts of the piece, in order.
    Cut(fn(Classified<'_>, &mut dyn FnMut(usize))),
}

/// Calls `word` with the pieces of `view` after all stages; offsets count from the start of `view`.
pub(crate) fn split(view: Classified<'_>, stages: &[Stage], word: &mut dyn FnMut(usize, usize)) {
    split_from(view, 0, stages, word);
}

fn split_from(view: Classified<'_>, base: usize, stages: &[Stage], word: &mut dyn FnMut(usize, usize)) {
    let Some((stage, rest)) = stages.split_first() else {
        word(base, base + view.len());
        return;
    };
    let mut done = 0;
    let mut piece = |end: usize| {
        if end > done {
            split_from(view.part(done, end), base + done, rest, word);
            done = end;
        }
    };
    match stage {
        Stage::Match(matched) => {
            let mut at = 0;
            while let Some((_, len)) = view.at(at) {
                match matched(view, at) {
                    Some(end) => {
                        piece(at);
                        piece(end);
                        at = end;
                    }
                    None => at += len,
                }
            }
        }
        Stage::Cut(cut) => cut(view, &mut piece),
    }
    piece(view.len());
}
