//! The words of Llama 3, Qwen2 and Qwen3.5 in 64 bytes of ASCII at once: where words start is worked out on masks with
//! one bit a byte, so that no branch depends on how long a word is. The pattern looks behind at nothing, so a window
//! may begin at any start of a word and needs nothing from the one before. What masks cannot tell (characters beyond
//! ASCII, words that a window does not hold, the text's end) is left to the scanner of `llama3`.

use crate::ascii_masks::{AsciiMasks, Classify, Portable, WINDOW};
use crate::char_class::{CharClass, Classified};
use crate::pretokenize::{WordSink, llama3};

/// Between windows, so many words at most are looked for one by one.
const WORDS_BY_SCANNER: usize = 16;

/// All words of `view`.
pub(crate) fn split<const DIGITS: usize, const LETTERS: CharClass>(view: Classified<'_>, sink: &mut impl WordSink) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = crate::ascii_masks::Avx2::detect() {
        return avx2.run(|| split_by::<DIGITS, LETTERS>(avx2, view, sink));
    }
    split_by::<DIGITS, LETTERS>(Portable, view, sink);
}

#[inline(always)]
fn split_by<const DIGITS: usize, const LETTERS: CharClass>(
    classify: impl Classify,
    view: Classified<'_>,
    sink: &mut impl WordSink,
) {
    let mut at = 0;
    let mut by_scanner = 1;
    while at < view.len() {
        let begin = at;
        while let Some(window) = view.window(at) {
            let mut ends = starts::<DIGITS>(&classify.masks(window), window) & !1;
            if ends == 0 {
                break;
            }
            let mut start = 0;
            while ends != 0 {
                let end = ends.trailing_zeros() as usize;
                sink.word(at + start, at + end);
                start = end;
                ends &= ends - 1;
            }
            // The last word goes on behind the window, for all that is known.
            at += start;
        }
        // Where windows hold no words they are not tried after each.
        by_scanner = if at > begin { 1 } else { (by_scanner * 2).min(WORDS_BY_SCANNER) };
        for _ in 0..by_scanner {
            if at == view.len() {
                break;
            }
            let end = llama3::word_end::<DIGITS, LETTERS>(view, at);
            sink.word(at, end);
            at = end;
        }
    }
}

/// One bit for each place where a word starts, in a window that begins with a word. Starts that what follows the window
/// could move are left out, and all behind the first character beyond ASCII.
#[inline(always)]
fn starts<const DIGITS: usize>(masks: &AsciiMasks, window: &[u8; WINDOW]) -> u64 {
    // All from the first character beyond ASCII on. It is taken for white space that reaches the window's end: what
    // such a run becomes is known only when its end is.
    let unknown = masks.beyond | masks.beyond.wrapping_neg();
    let letters = masks.letters & !unknown;
    let digits = masks.digits & !unknown;
    let breaks = masks.breaks & !unknown;
    let spaces = masks.spaces & !unknown;
    let white = masks.white | unknown;
    let blank = white & !breaks;
    let marks = !(letters | digits | white);

    // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
    let mark_starts = marks & !(marks << 1) & !(spaces << 1);
    // `[^\r\n\p{L}\p{N}]?\p{L}+`: a mark by itself with no space before it comes along, and so does any blank.
    let letter_starts = letters & !(letters << 1) & !((blank | mark_starts) << 1);
    let digit_starts = if DIGITS == 1 { digits } else { digit_groups::<DIGITS>(digits) };
    // The line breaks that the marks before them take: a sum carries through a run of ones.
    let taken = breaks & !breaks.wrapping_add(breaks & (marks << 1));
    let white_starts = white_starts(white, breaks & !taken, blank);
    let starts = mark_starts | letter_starts | digit_starts | white_starts;
    contractions(starts & !unknown, mark_starts & masks.apostrophes, unknown, window)
}

/// Groups of `DIGITS` digits, from the start of each run.
#[inline(always)]
fn digit_groups<const DIGITS: usize>(digits: u64) -> u64 {
    let mut next = digits & !(digits << 1);
    let in_full_group = (1..DIGITS).fold(digits, |all, back| all & digits << back);
    let mut starts = 0;
    while next != 0 {
        starts |= next;
        next = next << DIGITS & in_full_group;
    }
    starts
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`: the run's start, what follows its last line break, and its last character if that is
/// no line break. `breaks` are those that no mark takes; a run may start with others.
#[inline(always)]
fn white_starts(white: u64, breaks: u64, blank: u64) -> u64 {
    let left = blank | breaks;
    let run_starts = left & !(left << 1);
    let next_is_white = white >> 1 | 1 << (WINDOW - 1);
    let last = blank & !next_is_white;
    let mut after_breaks = blank & (breaks << 1);
    let (sum, reaches_end) = blank.overflowing_add(after_breaks);
    if reaches_end {
        after_breaks &= !(1 << after_breaks.ilog2());
    }
    // Blanks between line breaks belong to the word that ends with the last.
    let mut between = sum & !blank & breaks;
    while between != 0 {
        let end = between.trailing_zeros();
        let before = after_breaks & ((1 << end) - 1);
        after_breaks &= !(1 << before.ilog2());
        between &= between - 1;
    }
    run_starts | last | after_breaks
}

/// Adds the ends of contractions, whose apostrophes are words' starts.
#[inline(always)]
fn contractions(mut starts: u64, mut apostrophes: u64, unknown: u64, window: &[u8; WINDOW]) -> u64 {
    while apostrophes != 0 {
        let at = apostrophes.trailing_zeros() as usize;
        apostrophes &= apostrophes - 1;
        let (second, third) = match window.get(at..at + 4) {
            Some(&[_, second, third, _]) if unknown >> at & 0b1111 == 0 => (second, third),
            // It may end behind what is known, and what follows it then starts elsewhere.
            _ => return starts & (u64::MAX >> (WINDOW - 1 - at)),
        };
        let end = match (second | 0x20, third | 0x20) {
            (b's' | b't' | b'm' | b'd', _) => at + 2,
            (b'r' | b'v', b'e') | (b'l', b'l') => at + 3,
            _ => continue,
        };
        starts |= 1 << end;
    }
    starts
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;
    use crate::pretokenize::each;
    use crate::pretokenize::llama3::{WITH_MARKS, WITHOUT_MARKS};

    /// Both ways of making masks, and the splitter that is chosen, against the scanner.
    fn assert_as_scanned<const DIGITS: usize, const LETTERS: CharClass>(text: &str) {
        let view = Classified::new(text);
        let mut expected: Vec<Range<usize>> = Vec::new();
        each(view, 0, llama3::word_end::<DIGITS, LETTERS>, &mut expected);
        let mut portable: Vec<Range<usize>> = Vec::new();
        split_by::<DIGITS, LETTERS>(Portable, view, &mut portable);
        assert_eq!(portable, expected, "{text:?}");
        let mut chosen: Vec<Range<usize>> = Vec::new();
        split::<DIGITS, LETTERS>(view, &mut chosen);
        assert_eq!(chosen, expected, "{text:?}");
    }

    fn assert_all_as_scanned(text: &str) {
        assert_as_scanned::<1, WITHOUT_MARKS>(text);
        assert_as_scanned::<1, WITH_MARKS>(text);
        assert_as_scanned::<3, WITHOUT_MARKS>(text);
    }

    const PARTS: &[&str] = &[
        "a",
        "Word",
        " the",
        "don't",
        "'S",
        "'ll",
        "'rE",
        "'v",
        "'",
        "''s",
        "it's'",
        "x'd1",
        " 't",
        "!'m",
        "7",
        "1234567",
        "89",
        " ",
        "  ",
        "       ",
        "\t",
        "\n",
        "\r\n",
        "\n\n  \n",
        " \n",
        "\n ",
        "\r",
        "\u{b}",
        "\u{c}",
        "\u{1f}",
        "\0",
        "\u{7f}",
        ".",
        "...",
        "!\n",
        "?!\r\n\r\n ",
        " //",
        "_x",
        "$a",
        "#",
        "é",
        "naïve",
        "漢字",
        "\u{a0}",
        "\u{3000}\n",
        "\u{85}",
        "٣",
        "²3",
        "🦀",
        "\u{301}",
        "e\u{301}x",
        "ſ",
        "'ſ",
    ];

    #[test]
    fn two_parts_at_every_place_of_a_window() {
        for before in ["a", " ", "\n", "-", "1", "ab ", "x\n", "é"] {
            for first in PARTS {
                for second in ["", " ", "\n", "a", "s", "1", "!", "é", "'t", "\u{a0}x"] {
                    for count in [0, 1, 2, 31, 58, 59, 60, 61, 62, 63, 64, 65, 66, 127] {
                        let text = before.repeat(count) + first + second;
                        assert_all_as_scanned(&text);
                        assert_all_as_scanned(
                            &(text + " of what follows there is enough to fill another window, isn't there?\n"),
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn runs_longer_than_windows() {
        for run in ["a", " ", "\n", "-", "1", "\t", "é", "'", " \n", "'s", "a ", "- "] {
            for count in [63, 64, 65, 200, 1000] {
                for (before, after) in [("", ""), ("x", "y"), ("!", "!"), ("\n", "\n"), (" ", " z")] {
                    assert_all_as_scanned(&format!("{before}{}{after}", run.repeat(count)));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn random_texts(parts in prop::collection::vec((prop::sample::select(PARTS), 1..4usize), 0..120)) {
            let text: String = parts.iter().map(|(part, times)| part.repeat(*times)).collect();
            assert_all_as_scanned(&text);
        }

        #[test]
        fn random_ascii(bytes in prop::collection::vec(0..128u8, 0..300)) {
            assert_all_as_scanned(std::str::from_utf8(&bytes).expect("ASCII"));
        }
    }
}
