//! Cuts text into the words inside which byte-level BPE merges, and knows which rule
//! `tokenizer.ggml.pre` names. Every byte of the text is in exactly one word. Never looks at a
//! vocabulary and uses no regex engine: each rule is a hand-written scanner for the pattern in
//! its module documentation.

mod cased;
mod gpt2;
mod llama3;
mod patterns;
mod scripts;
mod smollm;
mod stages;
mod table;
mod windows;

use std::ops::Range;

use crate::char_class::Classified;
use crate::pretokenize::llama3::{WITH_MARKS, WITHOUT_MARKS};
use crate::pretokenize::stages::Stage::{self, Cut, Match};
use crate::vocabulary::Spelling;

pub use table::{AddBos, PRE_TOKENIZERS, PreTokenizerRules, pre_tokenizer_rules};

/// A way of cutting text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreTokenizer {
    /// Punctuation runs, then GPT-2, then number runs, then groups of three ASCII digits.
    Default,
    /// GPT-2's pattern.
    Gpt2,
    /// Each number character alone, then GPT-2.
    Smollm,
    /// Llama 3's pattern: up to three digits.
    Llama3,
    /// Qwen2's pattern: Llama 3's with single digits.
    Qwen2,
    /// Qwen3.5's pattern: Qwen2's with combining marks among the letters.
    Qwen35,
    /// Llama 3's pattern, then white space in powers of two.
    Jais2,
    /// Qwen2's pattern without line breaks after punctuation.
    SeedCoder,
    /// Qwen2's pattern without contractions.
    Ufakzeka,
    /// Words with single spaces between them.
    ExaoneMoe,
    /// Three digits from the left, then Llama 3's pattern.
    Minicpm5,
    /// Lines, then Qwen2's pattern.
    Laguna,
    /// Line breaks, cased alphabets, punctuation, scripts, numbers.
    DeepseekLlm,
    /// Line breaks, letters, punctuation, scripts, digits.
    DeepseekCoder,
    /// Three digits, Chinese and kana, words with an ASCII mark before them.
    DeepseekV3,
    /// DeepSeek V3's with single digits and line breaks.
    Spark,
    /// Digits in threes from the right, scripts, DeepSeek V3's words.
    Afmoe,
    /// Scripts, then GPT-4o's words with single digits.
    Youtu,
    /// GPT-4o's words.
    Gpt4o,
    /// GPT-4o's words with combining marks among the letters.
    Gpt4oMarks,
    /// Digits in threes from the right, then GPT-4o's words.
    TinyAya,
    /// GPT-4o's words with single digits and without contractions.
    Tekken,
    /// Chinese characters, then GPT-4o's words.
    KimiK2,
    /// Punctuation runs, GPT-2, groups of three ASCII digits.
    Falcon,
    /// Everything between white space and a few stops.
    Bloom,
    /// BLOOM's, with single digits.
    Viking,
    /// Image tokens, white space, digits, punctuation, GPT-2.
    Chameleon,
    /// Numbers, ASCII digits in threes from the right; all else is one word.
    Superbpe,
    /// Lines, over text whose spaces are U+2581; a run of line breaks may be one token.
    Gemma4,
    /// Lines, over text whose spaces are U+2581.
    SarvamMoe,
    /// Everything between white space, over tokens spelled as they are.
    Whitespace,
}

/// Takes words as they are found. A trait rather than a closure, so that the frequent rules can have it inlined.
pub(crate) trait WordSink {
    /// The next word's start and end (byte offsets).
    fn word(&mut self, start: usize, end: usize);
}

impl WordSink for Vec<Range<usize>> {
    fn word(&mut self, start: usize, end: usize) {
        self.push(start..end);
    }
}

impl PreTokenizer {
    /// Gives `sink` each word, in order.
    pub(crate) fn for_each_word(self, text: &str, sink: &mut impl WordSink) {
        let view = Classified::new(text);
        match self {
            Self::Gpt2 => each(view, 0, gpt2::word_end, sink),
            Self::Smollm => smollm::split(view, sink),
            Self::Llama3 => windows::split::<3, WITHOUT_MARKS>(view, sink),
            Self::Qwen2 => windows::split::<1, WITHOUT_MARKS>(view, sink),
            Self::Qwen35 => windows::split::<1, WITH_MARKS>(view, sink),
            rarer => stages::split(view, rarer.stages(), &mut |start, end| sink.word(start, end)),
        }
    }

    /// The rule as patterns one after the other: for rules that have no loop of their own.
    fn stages(self) -> &'static [Stage] {
        const QWEN2: Stage = Match(|view, at| Some(llama3::word_end::<1, WITHOUT_MARKS>(view, at)));
        const LLAMA3: Stage = Match(|view, at| Some(llama3::word_end::<3, WITHOUT_MARKS>(view, at)));
        const GPT2: Stage = Match(|view, at| Some(gpt2::word_end(view, at)));
        const DIGIT: Stage = Match(scripts::digit);
        const THREE_DIGITS: Stage = Match(scripts::three_digits);
        const HAN_AND_KANA: Stage = Match(scripts::han_and_kana);
        const DEEPSEEK3: Stage = Match(scripts::deepseek3);
        match self {
            Self::Default => {
                const { &[Match(scripts::default_marks), GPT2, Match(scripts::number), Match(scripts::ascii_triple)] }
            }
            Self::Gpt2 => const { &[GPT2] },
            Self::Smollm => const { &[DIGIT, GPT2] },
            Self::Llama3 => const { &[LLAMA3] },
            Self::Qwen2 => const { &[QWEN2] },
            Self::Qwen35 => const { &[Match(|view, at| Some(llama3::word_end::<1, WITH_MARKS>(view, at)))] },
            Self::Jais2 => const { &[LLAMA3, Cut(llama3::space_powers)] },
            Self::SeedCoder => const { &[Match(llama3::seed_coder)] },
            Self::Ufakzeka => const { &[Match(llama3::ufakzeka)] },
            Self::ExaoneMoe => const { &[Match(llama3::exaone_moe)] },
            Self::Minicpm5 => const { &[THREE_DIGITS, Match(llama3::minicpm5)] },
            Self::Laguna => const { &[Match(scripts::lines), QWEN2] },
            Self::DeepseekLlm => scripts::DEEPSEEK_LLM,
            Self::DeepseekCoder => scripts::DEEPSEEK_CODER,
            Self::DeepseekV3 => const { &[THREE_DIGITS, HAN_AND_KANA, DEEPSEEK3] },
            Self::Spark => const { &[THREE_DIGITS, HAN_AND_KANA, Match(scripts::spark), DIGIT] },
            Self::Afmoe => const { &[Cut(cased::thousands), Match(scripts::afmoe_scripts), DEEPSEEK3] },
            Self::Youtu => const { &[Match(scripts::youtu_scripts), Match(cased::youtu)] },
            Self::Gpt4o => const { &[Match(cased::gpt4o)] },
            Self::Gpt4oMarks => const { &[Match(cased::gpt4o_with_marks)] },
            Self::TinyAya => const { &[Cut(cased::thousands), Match(cased::tiny_aya)] },
            Self::Tekken => const { &[Match(cased::tekken)] },
            Self::KimiK2 => const { &[Match(cased::kimi_k2)] },
            Self::Falcon => const { &[Match(scripts::falcon_marks), GPT2, Match(scripts::ascii_triple)] },
            Self::Bloom => const { &[Match(scripts::bloom)] },
            Self::Viking => const { &[Match(scripts::bloom), DIGIT] },
            Self::Chameleon => scripts::CHAMELEON,
            Self::Superbpe => const { &[Match(scripts::number), Cut(scripts::ascii_thousands)] },
            Self::Gemma4 | Self::SarvamMoe => const { &[Match(scripts::lines)] },
            Self::Whitespace => const { &[Match(scripts::not_space)] },
        }
    }

    /// How this family's vocabularies spell their tokens.
    pub(crate) fn spelling(self) -> Spelling {
        match self {
            Self::Gemma4 | Self::SarvamMoe => Spelling::SentencePiece,
            Self::Whitespace => Spelling::Plain,
            _ => Spelling::ByteLevel,
        }
    }

    /// The words of `text` as byte ranges, in order and without gaps.
    #[must_use]
    pub fn words(self, text: &str) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        self.for_each_word(text, &mut words);
        words
    }
}

/// Walks `view`, which starts at `base` of the text, word by word; `word_end` returns an end past the start it is given.
#[inline(always)]
fn each(
    view: Classified<'_>,
    base: usize,
    word_end: impl Fn(Classified<'_>, usize) -> usize,
    sink: &mut impl WordSink,
) {
    let mut start = 0;
    while start < view.len() {
        let end = word_end(view, start);
        sink.word(base + start, base + end);
        start = end;
    }
}
