//! Every check of metadata and tensor table: the error's variant, and what its message names.

use metallic_models::{ModelError, load};
use tensor::Format;
use testkit::{MetaValue, TinyModel, TinyParts, TinyTensor};

use gguf::ArrayBuf;

fn parts(architecture: &'static str) -> TinyParts {
    TinyModel::new(architecture, 1).parts()
}

fn error_of(parts: &TinyParts) -> ModelError {
    load(&parts.file()).expect_err("a spoiled model must not load")
}

/// Sets one key of a Qwen2 model and returns the error's text.
fn message_with(key: &str, value: MetaValue) -> String {
    let mut parts = parts("qwen2");
    parts.set(key, value);
    error_of(&parts).to_string()
}

fn assert_invalid(key: &str, value: MetaValue, must_be: &str) {
    let message = message_with(key, value);
    assert!(message.starts_with(&format!("metadata key `{key}` is ")), "{message}");
    assert!(message.contains(must_be), "{message}");
}

#[test]
fn unknown_architecture() {
    let message = message_with("general.architecture", MetaValue::Text("qwen2vl".to_owned()));
    assert!(message.contains("`qwen2vl` is not supported (the nearest is `qwen2`)"), "{message}");
    let mut parts = parts("qwen2");
    parts.remove("general.architecture");
    assert!(matches!(error_of(&parts), ModelError::MissingKey { key } if key == "general.architecture"));
}

#[test]
fn every_required_key_is_named_when_missing() {
    let required = [
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "context_length",
        "attention.layer_norm_rms_epsilon",
    ];
    for name in required {
        let mut parts = parts("qwen2");
        let key = format!("qwen2.{name}");
        parts.remove(&key);
        assert!(matches!(error_of(&parts), ModelError::MissingKey { key: missing } if missing == key));
    }
}

#[test]
fn head_counts() {
    assert_invalid("qwen2.attention.head_count", MetaValue::U32(0), "from 1 to 16777216");
    assert_invalid("qwen2.attention.head_count_kv", MetaValue::U32(0), "from 1 to 16777216");
    assert_invalid("qwen2.attention.head_count_kv", MetaValue::U32(3), "a divisor of the 4 heads");
    assert_invalid("qwen2.attention.head_count_kv", MetaValue::U32(8), "a divisor of the 4 heads");
    assert_invalid("qwen2.attention.head_count", MetaValue::Text("4".to_owned()), "an integer");
}

#[test]
fn head_widths() {
    assert_invalid("qwen2.attention.key_length", MetaValue::U32(8192), "at most 4096");
    assert_invalid("qwen2.attention.value_length", MetaValue::U32(8), "16, the width of a key head");
    let mut parts = parts("qwen2");
    parts.remove("qwen2.attention.key_length");
    parts.set("qwen2.attention.head_count", MetaValue::U32(6));
    parts.set("qwen2.attention.head_count_kv", MetaValue::U32(2));
    assert!(error_of(&parts).to_string().contains("a divisor of the width 64"));
}

#[test]
fn rotary_dimensions() {
    const KEY: &str = "qwen2.rope.dimension_count";
    for dimensions in [0, 15, 18, u32::MAX] {
        assert_invalid(KEY, MetaValue::U32(dimensions), "an even number from 2 to the head width 16");
    }
}

#[test]
fn rotary_numbers() {
    assert_invalid("qwen2.rope.freq_base", MetaValue::F32(1.0), "above 1");
    assert_invalid("qwen2.rope.freq_base", MetaValue::F32(f32::NAN), "finite");
    assert_invalid("qwen2.rope.scaling.factor", MetaValue::F32(-2.0), "above 0");
    let longrope = message_with("qwen2.rope.scaling.type", MetaValue::Text("longrope".to_owned()));
    assert!(
        longrope.contains("`qwen2.rope.scaling.type` is longrope: this rotary scaling is not supported"),
        "{longrope}"
    );
}

#[test]
fn epsilon_and_sizes() {
    assert_invalid("qwen2.attention.layer_norm_rms_epsilon", MetaValue::F32(-1.0), "0 or more");
    assert_invalid("qwen2.attention.layer_norm_rms_epsilon", MetaValue::F32(f32::INFINITY), "finite");
    assert_invalid("qwen2.embedding_length", MetaValue::U32(u32::MAX), "from 1 to 16777216");
    assert_invalid("qwen2.context_length", MetaValue::U32(0), "from 1");
    let wrong_type = message_with("qwen2.attention.layer_norm_rms_epsilon", MetaValue::Bool(true));
    assert!(wrong_type.contains("layer_norm_rms_epsilon"), "{wrong_type}");
}

#[test]
fn vocabulary_and_embedding_must_agree() {
    let message = message_with("tokenizer.ggml.tokens", MetaValue::Array(ArrayBuf::texts(["a", "b"])));
    assert_eq!(
        message,
        "the vocabulary of metadata key `tokenizer.ggml.tokens` has 2 tokens, but tensor `token_embd.weight` has 266 rows"
    );
    let mut parts = parts("qwen2");
    parts.remove("tokenizer.ggml.tokens");
    parts.set("qwen2.vocab_size", MetaValue::U32(265));
    assert!(matches!(error_of(&parts), ModelError::VocabularySize { tokens: 265, rows: 266, .. }));
}

#[test]
fn layer_counts_are_bounded_by_the_tensors() {
    assert!(message_with("qwen2.block_count", MetaValue::U32(u32::MAX)).contains("holds only 26 tensors"));
    assert_invalid("qwen2.block_count", MetaValue::U32(0), "from 1");
    let message = message_with("qwen2.block_count", MetaValue::U32(3));
    assert_eq!(message, "tensor `blk.2.attn_norm.weight` is missing, which architecture `qwen2` needs");
    let message = message_with("qwen2.block_count", MetaValue::U32(1));
    assert!(message.starts_with("tensor `blk.1.attn_norm.weight` (12 such in all) is no part"), "{message}");
}

#[test]
fn layers_of_different_sizes_are_refused() {
    const KEY: &str = "qwen2.feed_forward_length";
    let array = |widths: &[u32]| MetaValue::Array(ArrayBuf::scalars(widths));
    let message = message_with(KEY, array(&[96, 48]));
    assert!(message.contains("differs between layers (96 in layer 0, 48 in layer 1)"), "{message}");
    assert_invalid(KEY, array(&[96]), "one integer for each of 2 layers");
    assert_invalid(KEY, array(&[0, 0]), "from 1 to 16777216");
    assert_invalid(KEY, MetaValue::Array(ArrayBuf::texts(["96", "96"])), "one integer for each of 2 layers");

    let mut even = parts("qwen2");
    even.set(KEY, array(&[96, 96]));
    load(&even.file()).unwrap();
}

#[test]
fn mixtures_of_experts_are_refused() {
    let mut parts = parts("llama");
    parts.set("llama.expert_count", MetaValue::U32(0));
    load(&parts.file()).unwrap();
    parts.set("llama.expert_count", MetaValue::U32(8));
    let message = error_of(&parts).to_string();
    assert!(message.contains("`llama.expert_count` is 8: a mixture of experts is not supported"), "{message}");
}

#[test]
fn window_patterns() {
    const PATTERN: &str = "gemma3.attention.sliding_window_pattern";
    let mut parts = parts("gemma3");
    parts.set(PATTERN, MetaValue::Array(ArrayBuf::scalars(&[true])));
    assert!(error_of(&parts).to_string().contains("one flag for each of the 2 layers"));
    parts.set(PATTERN, MetaValue::Array(ArrayBuf::texts(["a", "b"])));
    assert!(matches!(error_of(&parts), ModelError::InvalidValue { .. }));
    parts.set(PATTERN, MetaValue::Text("all".to_owned()));
    assert!(matches!(error_of(&parts), ModelError::InvalidValue { .. }));
}

#[test]
fn soft_caps_are_not_negative() {
    for key in ["gemma2.attn_logit_softcapping", "gemma2.final_logit_softcapping"] {
        let mut parts = parts("gemma2");
        parts.set(key, MetaValue::F32(-1.0));
        assert!(matches!(error_of(&parts), ModelError::InvalidValue { key: named, .. } if named == key));
    }
}

#[test]
fn tensors_of_another_shape_are_refused() {
    let mut parts = parts("qwen2");
    parts.tensor_mut("blk.1.attn_k.weight").dimensions = vec![64, 64];
    assert_eq!(error_of(&parts).to_string(), "tensor blk.1.attn_k.weight is 64 x 64, the model needs 32 x 64");
    parts.tensor_mut("blk.1.attn_k.weight").dimensions = vec![64, 32, 2];
    assert!(matches!(error_of(&parts), ModelError::NoMatrix { tensor, .. } if tensor == "blk.1.attn_k.weight"));
}

#[test]
fn tensors_missing_or_unknown_are_named() {
    let mut missing = parts("gemma3");
    missing.remove_tensor("blk.0.post_ffw_norm.weight");
    assert!(
        matches!(error_of(&missing), ModelError::MissingTensor { tensor, .. } if tensor == "blk.0.post_ffw_norm.weight")
    );

    let mut unknown = parts("qwen3");
    let mut extra = unknown.tensors[1].clone();
    extra.name = "blk.0.attn_sinks.weight".to_owned();
    unknown.tensors.push(extra);
    assert!(
        matches!(error_of(&unknown), ModelError::UnexpectedTensor { tensor, count: 1, .. } if tensor == "blk.0.attn_sinks.weight")
    );

    let mut no_embedding = parts("qwen2");
    no_embedding.remove_tensor("token_embd.weight");
    assert!(matches!(error_of(&no_embedding), ModelError::MissingTensor { .. }));
}

#[test]
fn rotary_divisors_must_fit_and_be_positive() {
    let with = |dimensions: Vec<u64>, values: Vec<f32>| {
        let mut parts = parts("llama");
        let name = "rope_freqs.weight".to_owned();
        parts.tensors.push(TinyTensor { name, format: Format::F32, dimensions, values: Some(values) });
        error_of(&parts).to_string()
    };
    assert!(with(vec![4], vec![1.0; 4]).contains("must hold 8 positive finite numbers"));
    assert!(with(vec![8], vec![0.0; 8]).ends_with("number 0 is 0"));
    assert!(with(vec![8], vec![f32::NAN; 8]).ends_with("number 0 is NaN"));
}
