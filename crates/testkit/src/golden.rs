//! Tiny models whose logits another program has computed: one for each architecture and each rotary scaling.
//!
//! The expected logits lie in `tests/fixtures`, with the script that made them. Changing a model here, or how
//! `tiny_gguf` makes weights, invalidates them.

use tensor::Format;

use crate::random::Random;
use crate::tiny_gguf::{MetaValue, TinyModel, TinyParts, TinyTensor};

/// Name and parts of each model.
pub fn golden_models() -> Vec<(&'static str, TinyParts)> {
    let plain = |architecture| TinyModel::new(architecture, 7).parts();
    let mut models: Vec<(&'static str, TinyParts)> =
        ["gemma", "gemma2", "gemma3", "llama", "qwen2", "qwen3"].map(|name| (name, plain(name))).into();

    let mut linear = plain("llama");
    linear.set("llama.rope.scaling.type", MetaValue::Text("linear".to_owned()));
    linear.set("llama.rope.scaling.factor", MetaValue::F32(4.0));
    models.push(("llama-linear", linear));

    let mut divisors = plain("llama");
    divisors.tensors.push(TinyTensor {
        name: "rope_freqs.weight".to_owned(),
        format: Format::F32,
        dimensions: vec![8],
        values: Some(vec![1.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 8.0]),
    });
    models.push(("llama-divisors", divisors));

    let mut yarn = plain("qwen2");
    yarn.set("qwen2.rope.scaling.type", MetaValue::Text("yarn".to_owned()));
    yarn.set("qwen2.rope.scaling.factor", MetaValue::F32(4.0));
    yarn.set("qwen2.rope.scaling.original_context_length", MetaValue::U32(1024));
    models.push(("qwen2-yarn", yarn));

    let mut deep = TinyModel { layers: 7, ..TinyModel::new("gemma3", 7) }.parts();
    deep.set("gemma3.rope.scaling.type", MetaValue::Text("linear".to_owned()));
    deep.set("gemma3.rope.scaling.factor", MetaValue::F32(8.0));
    models.push(("gemma3-seven-layers-linear", deep));

    models.push(("llama-untied-no-groups", untied_without_groups()));
    models
}

/// The tokens that every golden model is given, at positions from 0.
pub fn golden_tokens() -> Vec<u32> {
    let mut random = Random::new(11);
    (0..24).map(|_| u32::try_from(random.below(266)).expect("below 266")).collect()
}

fn untied_without_groups() -> TinyParts {
    let mut model = TinyModel::new("llama", 7);
    model.kv_heads = 4;
    model.formats.head = Some(Format::F32);
    model.parts()
}
