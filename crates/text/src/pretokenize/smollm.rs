//! SmolLM, StarCoder and others: `\p{N}`, then GPT-2's pattern inside the pieces between. As `stages` would do it, but
//! without calls through pointers, because common models have it.

use crate::char_class::{Classified, NUMBER};
use crate::pretokenize::{WordSink, each, gpt2};

/// `\p{N}` alone, GPT-2 between.
#[inline]
pub(crate) fn split(view: Classified<'_>, sink: &mut impl WordSink) {
    let mut start = 0;
    while start < view.len() {
        let end = view.run_without(start, NUMBER);
        if end > start {
            each(view.part(start, end), start, gpt2::word_end, sink);
        }
        start = end;
        if let Some((_, len)) = view.at(start) {
            sink.word(start, start + len);
            start += len;
        }
    }
}
