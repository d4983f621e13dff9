//! Qwen3 without experts: norms over query and key heads in place of Qwen2's biases.

use program::{Activation, Program, RopeKind};

use crate::blocks::{Ends, Layer, decoder};
use crate::config::Config;
use crate::error::ModelError;
use crate::source::ModelSource;

pub(crate) fn build(source: &ModelSource<'_>) -> Result<Program, ModelError> {
    let config = Config::read(source)?;
    let layer = Layer {
        rope: config.rope.table(RopeKind::Half),
        head_norms: true,
        score_scale: config.attention_scale(),
        score_soft_cap: None,
        window: None,
        activation: Activation::Silu,
        post_norms: false,
    };
    let ends = Ends { embedding_scale: 1.0, logit_soft_cap: None };
    decoder(source, &config, ends, |_| layer.clone())
}
