//! Gemma 2: Gemma with norms after attention and feed-forward, soft caps, and a window in every other layer.
//!
//! Defaults for keys that old files lack are those of the released models: window 4096, caps 50 and 30.

use program::{Activation, Program, RopeKind};

use crate::blocks::{Ends, Layer, decoder};
use crate::config::{Config, Windows};
use crate::error::ModelError;
use crate::source::ModelSource;

/// Layers of the 27B model, whose scores are scaled by the width per head instead of the head width.
const LAYERS_27B: usize = 46;

pub(crate) fn build(source: &ModelSource<'_>) -> Result<Program, ModelError> {
    let config = Config::read(source)?;
    let windows = Windows::read(source, config.layers, Some(4096), 2)?;
    let cap = |name: &str, default: f32| match source.has(name) {
        true => source.soft_cap(name),
        false => Ok(Some(default)),
    };
    let score_soft_cap = cap("attn_logit_softcapping", 50.0)?;
    let logit_soft_cap = cap("final_logit_softcapping", 30.0)?;
    let layer = Layer {
        rope: config.rope.table(RopeKind::Half),
        head_norms: false,
        score_scale: config.gemma_attention_scale(LAYERS_27B),
        score_soft_cap,
        window: None,
        activation: Activation::GeluTanh,
        post_norms: true,
    };
    let ends = Ends { embedding_scale: (config.hidden as f32).sqrt(), logit_soft_cap };
    decoder(source, &config, ends, |index| Layer {
        window: windows.as_ref().and_then(|windows| windows.of_layer(index)),
        ..layer.clone()
    })
}
