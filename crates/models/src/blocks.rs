//! The pieces that decoder architectures are put together from: embedding, attention, gated feed-forward, head.
//!
//! Tensor names are llama.cpp's. A bias is used wherever the file has one.

use program::{
    Activation, Attention, Buffer, Embed, Head, LinearAdd, Norm, NormGatedLinear, NormLinear, Program, ProgramBuilder,
    Projection, RopeStore, RopeTable, Sizes, Step, Unit, UnitBuilder,
};

use crate::config::Config;
use crate::error::ModelError;
use crate::source::ModelSource;

/// What decoder architectures differ in outside their layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// Multiplies looked-up embeddings.
    pub(crate) embedding_scale: f32,
    /// Caps the logits.
    pub(crate) logit_soft_cap: Option<f32>,
}

/// What decoder layers differ in.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) rope: RopeTable,
    /// Norms over each query and key head (`attn_q_norm`, `attn_k_norm`).
    pub(crate) head_norms: bool,
    /// Multiplies the scores.
    pub(crate) score_scale: f32,
    /// Caps the scores.
    pub(crate) score_soft_cap: Option<f32>,
    /// Positions that a row sees, its own included; all where there is none.
    pub(crate) window: Option<u32>,
    pub(crate) activation: Activation,
    /// Norms of what attention and feed-forward add (`post_attention_norm`, `post_ffw_norm`).
    pub(crate) post_norms: bool,
}

/// The program of a decoder: embedding, `layer(index)` for each layer, final norm and head.
pub(crate) fn decoder(
    source: &ModelSource<'_>,
    config: &Config,
    ends: Ends,
    layer: impl Fn(usize) -> Layer,
) -> Result<Program, ModelError> {
    let sizes = Sizes {
        hidden: config.hidden,
        vocabulary: config.vocabulary,
        context: config.context,
        qkv: config.query_width() + 2 * config.kv_width(),
        attention: config.query_width(),
        gated: config.feed_forward,
    };
    let mut builder = ProgramBuilder::new(source.architecture, sizes);
    let prologue = prologue(source, config, ends, &mut builder)?;
    let mut layers = Vec::new();
    for index in 0..config.layers {
        let name = format!("blk.{index}");
        let mut block = Block { source, config, unit: builder.unit(&name), prefix: format!("{name}.") };
        let layer = layer(index);
        block.attention(&layer)?;
        block.feed_forward(&layer)?;
        layers.push(block.unit.finish());
    }
    let epilogue = epilogue(source, config, ends, &mut builder)?;
    Ok(builder.finish(prologue, layers, epilogue))
}

fn prologue(
    source: &ModelSource<'_>,
    config: &Config,
    ends: Ends,
    builder: &mut ProgramBuilder,
) -> Result<Unit, ModelError> {
    let mut unit = builder.unit("prologue");
    let table = unit.weight(source.tensor("token_embd.weight")?, config.vocabulary, config.hidden)?;
    unit.step("embed", Step::Embed(Embed { table, scale: ends.embedding_scale }));
    Ok(unit.finish())
}

/// A file without `output.weight` has tied embeddings: the head is the embedding table.
fn epilogue(
    source: &ModelSource<'_>,
    config: &Config,
    ends: Ends,
    builder: &mut ProgramBuilder,
) -> Result<Unit, ModelError> {
    let mut block = Block { source, config, unit: builder.unit("epilogue"), prefix: String::new() };
    let norm = block.norm("output_norm", config.hidden)?;
    let name = if source.optional_tensor("output.weight")?.is_some() { "output" } else { "token_embd" };
    let projection = block.projection(name, config.vocabulary, config.hidden)?;
    block.unit.step("select", Step::Select);
    block.unit.step("norm", Step::Norm(norm));
    block.unit.step("head", Step::Head(Head { projection, soft_cap: ends.logit_soft_cap }));
    Ok(block.unit.finish())
}

/// A unit under construction whose tensors share a prefix such as `blk.3.`.
struct Block<'s, 'b> {
    source: &'s ModelSource<'s>,
    config: &'s Config,
    unit: UnitBuilder<'b>,
    prefix: String,
}

impl Block<'_, '_> {
    fn attention(&mut self, layer: &Layer) -> Result<(), ModelError> {
        let &Config { hidden, heads, kv_heads, head_width, .. } = self.config;
        let (query_width, kv_width) = (self.config.query_width(), self.config.kv_width());

        let norm = self.norm("attn_norm", hidden)?;
        let projections = vec![
            self.projection("attn_q", query_width, hidden)?,
            self.projection("attn_k", kv_width, hidden)?,
            self.projection("attn_v", kv_width, hidden)?,
        ];
        self.unit.step("qkv", Step::NormLinear(NormLinear { norm, projections }));

        let query_norm = self.norm_if(layer.head_norms, "attn_q_norm", head_width)?;
        let key_norm = self.norm_if(layer.head_norms, "attn_k_norm", head_width)?;
        let rope = layer.rope.clone();
        let store = RopeStore { heads, kv_heads, head_width, query_norm, key_norm, rope };
        self.unit.step("rope", Step::RopeStore(store));

        let attention = Attention {
            heads,
            kv_heads,
            head_width,
            scale: layer.score_scale,
            window: layer.window,
            soft_cap: layer.score_soft_cap,
        };
        self.unit.step("attn", Step::Attention(attention));

        let projection = self.projection("attn_output", hidden, query_width)?;
        let post_norm = self.norm_if(layer.post_norms, "post_attention_norm", hidden)?;
        self.unit.step("attn_out", Step::LinearAdd(LinearAdd { input: Buffer::Attention, projection, post_norm }));
        Ok(())
    }

    fn feed_forward(&mut self, layer: &Layer) -> Result<(), ModelError> {
        let &Config { hidden, feed_forward, .. } = self.config;
        let norm = self.norm("ffn_norm", hidden)?;
        let gate = self.projection("ffn_gate", feed_forward, hidden)?;
        let up = self.projection("ffn_up", feed_forward, hidden)?;
        let gated = NormGatedLinear { norm, gate, up, activation: layer.activation };
        self.unit.step("gate_up", Step::NormGatedLinear(gated));

        let projection = self.projection("ffn_down", hidden, feed_forward)?;
        let post_norm = self.norm_if(layer.post_norms, "post_ffw_norm", hidden)?;
        self.unit.step("down", Step::LinearAdd(LinearAdd { input: Buffer::Gated, projection, post_norm }));
        Ok(())
    }

    /// `NAME.weight` of `outputs` × `inputs`, and `NAME.bias` where there is one.
    fn projection(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Projection, ModelError> {
        let prefix = &self.prefix;
        let weight = self.unit.weight(self.source.tensor(&format!("{prefix}{name}.weight"))?, outputs, inputs)?;
        let bias = match self.source.optional_tensor(&format!("{prefix}{name}.bias"))? {
            Some(spec) => Some(self.unit.weight(spec, 1, outputs)?),
            None => None,
        };
        Ok(Projection { weight, bias, outputs })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm, ModelError> {
        let spec = self.source.tensor(&format!("{}{name}.weight", self.prefix))?;
        Ok(Norm { weight: self.unit.weight(spec, 1, width)?, epsilon: self.config.epsilon })
    }

    fn norm_if(&mut self, wanted: bool, name: &str, width: usize) -> Result<Option<Norm>, ModelError> {
        wanted.then(|| self.norm(name, width)).transpose()
    }
}
