//! Gemma 3, text only: five local layers to each global one, each kind with its own rotary base.
//!
//! Scaling that the metadata gives belongs to the global layers; local ones rotate with base 10 000, unscaled.

use program::{Activation, Program, RopeKind};

use crate::blocks::{Ends, Layer, decoder};
use crate::config::{Config, Windows};
use crate::error::ModelError;
use crate::source::ModelSource;

/// Layers of the 27B model, whose scores are scaled by the width per head instead of the head width.
const LAYERS_27B: usize = 62;

/// Every sixth layer is global.
const PERIOD: usize = 6;

pub(crate) fn build(source: &ModelSource<'_>) -> Result<Program, ModelError> {
    let config = Config::read(source)?;
    let windows = Windows::read(source, config.layers, None, PERIOD)?;
    let local_base = source.rotary_base("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let local_rope = config.rope.unscaled(local_base).table(RopeKind::Half);
    let global = Layer {
        rope: config.rope.table(RopeKind::Half),
        head_norms: true,
        score_scale: config.gemma_attention_scale(LAYERS_27B),
        score_soft_cap: source.soft_cap("attn_logit_softcapping")?,
        window: None,
        activation: Activation::GeluTanh,
        post_norms: true,
    };
    let ends = Ends {
        embedding_scale: (config.hidden as f32).sqrt(),
        logit_soft_cap: source.soft_cap("final_logit_softcapping")?,
    };
    decoder(source, &config, ends, |index| match windows.as_ref().and_then(|windows| windows.of_layer(index)) {
        Some(window) => Layer { window: Some(window), rope: local_rope.clone(), ..global.clone() },
        None => global.clone(),
    })
}
