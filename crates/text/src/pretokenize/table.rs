//! Every name in `tokenizer.ggml.pre` that is known, and what it means. Cuts no text.

use crate::pretokenize::PreTokenizer;

/// What a name in `tokenizer.ggml.pre` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreTokenizerRules {
    /// The name in the file.
    pub name: &'static str,
    /// How text is cut into words.
    pub splitter: PreTokenizer,
    /// A word that is a token stands for itself, whatever the merges say.
    pub ignore_merges: bool,
    /// Prompts start with BOS unless the file says otherwise.
    pub add_bos: AddBos,
    /// Decoding removes the space before `? ! . ,` and some contractions.
    pub clean_spaces: bool,
    /// The vocabulary has no BOS unless the file names one.
    pub no_default_bos: bool,
}

/// Whether prompts start with BOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddBos {
    /// Not even if the file says so.
    Never,
    /// Only if the file says so.
    IfAsked,
    /// Unless the file says no.
    UnlessRefused,
    /// Whatever the file says: many of the family's files are wrong about it.
    Always,
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
    row("jina-v1-en", PreTokenizer::Gpt2),
    row("jina-v2-code", PreTokenizer::Gpt2),
    row("roberta-bpe", PreTokenizer::Gpt2),
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
    row("bailingmoe", PreTokenizer::Qwen2).exact_spaces(),
    row("bailingmoe2", PreTokenizer::Qwen2).exact_spaces(),
    row("llada-moe", PreTokenizer::Qwen2).exact_spaces(),
    row("qwen35", PreTokenizer::Qwen35).exact_spaces(),
    row("jais-2", PreTokenizer::Jais2),
    row("seed-coder", PreTokenizer::SeedCoder).exact_spaces(),
    row("ufakzeka", PreTokenizer::Ufakzeka).exact_spaces(),
    row("exaone-moe", PreTokenizer::ExaoneMoe),
    row("minicpm5", PreTokenizer::Minicpm5).ignore_merges(),
    row("laguna", PreTokenizer::Laguna).exact_spaces(),
    row("deepseek-llm", PreTokenizer::DeepseekLlm).exact_spaces(),
    row("deepseek-coder", PreTokenizer::DeepseekCoder).exact_spaces(),
    row("deepseek-v3", PreTokenizer::DeepseekV3).exact_spaces(),
    row("hunyuan-dense", PreTokenizer::DeepseekV3).exact_spaces(),
    row("hy_v4", PreTokenizer::DeepseekV3).exact_spaces(),
    row("joyai-llm", PreTokenizer::DeepseekV3).exact_spaces(),
    row("spark2_5", PreTokenizer::Spark).exact_spaces(),
    row("afmoe", PreTokenizer::Afmoe).exact_spaces(),
    row("youtu", PreTokenizer::Youtu).exact_spaces().ignore_merges(),
    row("gpt-4o", PreTokenizer::Gpt4o).exact_spaces(),
    row("llama4", PreTokenizer::Gpt4o).exact_spaces(),
    row("kanana2", PreTokenizer::Gpt4o).exact_spaces(),
    row("talkie", PreTokenizer::Gpt4o).exact_spaces(),
    row("minimax-m2", PreTokenizer::Gpt4o).exact_spaces(),
    row("granite-embed-multi-97m", PreTokenizer::Gpt4oMarks).exact_spaces().ignore_merges(),
    row("tiny_aya", PreTokenizer::TinyAya).exact_spaces(),
    row("cohere2moe", PreTokenizer::TinyAya).exact_spaces(),
    row("tekken", PreTokenizer::Tekken).exact_spaces().ignore_merges().add_bos(),
    row("kimi-k2", PreTokenizer::KimiK2).exact_spaces(),
    row("falcon", PreTokenizer::Falcon),
    row("bloom", PreTokenizer::Bloom),
    row("gpt3-finnish", PreTokenizer::Bloom),
    row("poro-chat", PreTokenizer::Bloom).exact_spaces(),
    row("viking", PreTokenizer::Viking).exact_spaces(),
    row("chameleon", PreTokenizer::Chameleon).exact_spaces().add_bos(),
    row("superbpe", PreTokenizer::Superbpe).exact_spaces(),
    row("gemma4", PreTokenizer::Gemma4).always_bos(),
    row("granite-embed-multi-311m", PreTokenizer::Gemma4).always_bos(),
    row("sarvam-moe", PreTokenizer::SarvamMoe).exact_spaces(),
    row("whitespace", PreTokenizer::Whitespace),
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
        add_bos: AddBos::IfAsked,
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
        self.add_bos = AddBos::UnlessRefused;
        self
    }

    const fn always_bos(mut self) -> Self {
        self.add_bos = AddBos::Always;
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
