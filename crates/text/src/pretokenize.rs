//! Cuts text into the words inside which byte-level BPE merges, and knows which rule
//! `tokenizer.ggml.pre` names. Every byte of the text is in exactly one word. Never looks at a
//! vocabulary and uses no regex engine: each rule is a hand-written scanner for the pattern in
//! its module documentation.

mod gpt2;
mod llama3;
mod stacked;

use std::ops::Range;

use crate::char_class::Classified;
use crate::pretokenize::llama3::{WITH_MARKS, WITHOUT_MARKS};

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
}

impl PreTokenizer {
    /// Calls `word` with the start and end (byte offsets) of each word, in order.
    #[inline]
    pub(crate) fn for_each_word(self, text: &str, mut word: impl FnMut(usize, usize)) {
        let view = Classified::new(text);
        match self {
            Self::Default => stacked::split_default(view, &mut word),
            Self::Gpt2 => each(view, gpt2::word_end, &mut word),
            Self::Smollm => stacked::split_smollm(view, &mut word),
            Self::Llama3 => each(view, llama3::word_end::<3, WITHOUT_MARKS>, &mut word),
            Self::Qwen2 => each(view, llama3::word_end::<1, WITHOUT_MARKS>, &mut word),
            Self::Qwen35 => each(view, llama3::word_end::<1, WITH_MARKS>, &mut word),
        }
    }

    /// The words of `text` as byte ranges, in order and without gaps.
    #[must_use]
    pub fn words(self, text: &str) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        self.for_each_word(text, |start, end| words.push(start..end));
        words
    }
}

/// What a name in `tokenizer.ggml.pre` means besides the cutting rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreTokenizerRules {
    /// The name in the file.
    pub name: &'static str,
    /// How text is cut into words.
    pub splitter: PreTokenizer,
    /// A word that is a token stands for itself, whatever the merges say.
    pub ignore_merges: bool,
    /// Prompts start with BOS unless the file says otherwise.
    pub add_bos: bool,
    /// Decoding removes the space before `? ! . ,` and some contractions.
    pub clean_spaces: bool,
    /// The vocabulary has no BOS unless the file names one.
    pub no_default_bos: bool,
}

/// Every known name, with what llama.cpp (0c1e57098, `llama-vocab.cpp`) does for it.
pub const PRE_TOKENIZERS: &[PreTokenizerRules] = &[
    row("default", PreTokenizer::Default),
    row("gpt-2", PreTokenizer::Gpt2),
    row("phi-2", PreTokenizer::Gpt2),
    row("jina-es", PreTokenizer::Gpt2),
    row("jina-de", PreTokenizer::Gpt2),
    row("jina-v2-es", PreTokenizer::Gpt2),
    row("jina-v2-de", PreTokenizer::Gpt2),
    row("gigachat", PreTokenizer::Gpt2),
    row("a.x-4.0", PreTokenizer::Gpt2),
    row("mellum", PreTokenizer::Gpt2),
    row("modern-bert", PreTokenizer::Gpt2),
    row("exaone4", PreTokenizer::Gpt2),
    row("mpt", PreTokenizer::Gpt2),
    row("olmo", PreTokenizer::Gpt2),
    row("jais", PreTokenizer::Gpt2),
    row("trillion", PreTokenizer::Gpt2).exact_spaces(),
    row("granite-docling", PreTokenizer::Gpt2).exact_spaces(),
    row("smollm", PreTokenizer::Smollm).exact_spaces(),
    row("command-r", PreTokenizer::Smollm).exact_spaces(),
    row("starcoder", PreTokenizer::Smollm),
    row("refact", PreTokenizer::Smollm),
    row("codeshell", PreTokenizer::Smollm),
    row("exaone", PreTokenizer::Smollm),
    row("minerva-7b", PreTokenizer::Smollm),
    row("mellum2", PreTokenizer::Smollm),
    row("llama-bpe", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("llama3", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("llama-v3", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("falcon3", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("falcon-h1", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("pixtral", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("midm-2.0", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("lfm2", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("jina-v5-nano", PreTokenizer::Llama3).ignore_merges().add_bos(),
    row("dbrx", PreTokenizer::Llama3),
    row("smaug-bpe", PreTokenizer::Llama3),
    row("chatglm-bpe", PreTokenizer::Llama3).no_default_bos(),
    row("glm4", PreTokenizer::Llama3).no_default_bos().ignore_merges(),
    row("glm5", PreTokenizer::Llama3).no_default_bos().ignore_merges(),
    row("qwen2", PreTokenizer::Qwen2).exact_spaces(),
    row("deepseek-r1-qwen", PreTokenizer::Qwen2).exact_spaces(),
    row("kormo", PreTokenizer::Qwen2).exact_spaces(),
    row("f2llmv2", PreTokenizer::Qwen2).exact_spaces(),
    row("megrez", PreTokenizer::Qwen2),
    row("stablelm2", PreTokenizer::Qwen2),
    row("hunyuan", PreTokenizer::Qwen2).exact_spaces(),
    row("solar-open", PreTokenizer::Qwen2).exact_spaces(),
    row("grok-2", PreTokenizer::Qwen2).exact_spaces(),
    row("qwen35", PreTokenizer::Qwen35).exact_spaces(),
];

/// The rules that `tokenizer.ggml.pre` names, if they are known.
#[must_use]
pub fn pre_tokenizer_rules(name: &str) -> Option<&'static PreTokenizerRules> {
    PRE_TOKENIZERS.iter().find(|rules| rules.name == name)
}

const fn row(name: &'static str, splitter: PreTokenizer) -> PreTokenizerRules {
    PreTokenizerRules {
        name,
        splitter,
        ignore_merges: false,
        add_bos: false,
        clean_spaces: true,
        no_default_bos: false,
    }
}

impl PreTokenizerRules {
    const fn ignore_merges(mut self) -> Self {
        self.ignore_merges = true;
        self
    }

    const fn add_bos(mut self) -> Self {
        self.add_bos = true;
        self
    }

    const fn exact_spaces(mut self) -> Self {
        self.clean_spaces = false;
        self
    }

    const fn no_default_bos(mut self) -> Self {
        self.no_default_bos = true;
        self
    }
}

/// Walks `view` word by word; `word_end` returns an end past the start it is given.
#[inline(always)]
fn each(view: Classified<'_>, word_end: impl Fn(Classified<'_>, usize) -> usize, word: &mut impl FnMut(usize, usize)) {
    let mut start = 0;
    while start < view.len() {
        let end = word_end(view, start);
        word(start, end);
        start = end;
    }
}
