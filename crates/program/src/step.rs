//! The closed vocabulary of steps. A step is one coarse action on the rows of a pass; backends may split it, never guess it.
//!
//! Shapes are written (rows, width): rows are the rows of the pass. A weight is (outputs, inputs), stored row by row as
//! in GGUF, so that output `o` is the dot product of weight row `o` with the input row.

use std::sync::Arc;

/// Position of a weight in the row of the weight table that a unit carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u16);

/// A named activation buffer of a pass. Each has one fixed width in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Buffer {
    /// The residual stream: (rows, hidden).
    Hidden,
    /// Queries, keys and values side by side: (rows, query width + 2 × key/value width).
    Qkv,
    /// Attention output: (rows, heads × head width).
    Attention,
    /// The gated product between the two halves of the feed-forward network: (rows, feed-forward width).
    Gated,
    /// The rows that want logits, gathered from `Hidden`: (logit rows, hidden).
    Selected,
    /// (logit rows, vocabulary).
    Logits,
}

/// One step. The order of the variants is the order of a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Token ids to hidden rows.
    Embed(Embed),
    /// Norm, then one or more projections of the normed rows side by side: `Hidden` to `Qkv`.
    NormLinear(NormLinear),
    /// Norms and rotates queries and keys in `Qkv`, then stores keys and values in the row's page.
    RopeStore(RopeStore),
    /// Attention of each row over the pages of its sequence: `Qkv` and pages to `Attention`.
    Attention(Attention),
    /// A projection added to the residual stream.
    LinearAdd(LinearAdd),
    /// Norm, then `activation(gate · x) ⊙ (up · x)`: `Hidden` to `Gated`.
    NormGatedLinear(NormGatedLinear),
    /// Gathers the rows that want logits: `Hidden` to `Selected`.
    Select,
    /// Normalises `Selected` in place.
    Norm(Norm),
    /// `Selected` to `Logits`.
    Head(Head),
}

/// Looks rows up in the embedding table.
#[derive(Clone, Debug, PartialEq)]
pub struct Embed {
    /// (vocabulary, hidden).
    pub table: Slot,
    /// Multiplies each looked-up row; Gemma uses √hidden.
    pub scale: f32,
}

/// RMSNorm: `x / √(mean(x²) + epsilon) ⊙ weight` (Zhang and Sennrich 2019, arXiv 1910.07467).
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// (1, width), always read as f32.
    pub weight: Slot,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// A weight matrix with an optional bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// (outputs, inputs).
    pub weight: Slot,
    /// (1, outputs), always read as f32.
    pub bias: Option<Slot>,
    /// Number of outputs.
    pub outputs: usize,
}

/// See [`Step::NormLinear`].
#[derive(Clone, Debug, PartialEq)]
pub struct NormLinear {
    /// Applied to `Hidden` first.
    pub norm: Norm,
    /// Written side by side into `Qkv`, in this order: queries, keys, values.
    pub projections: Vec<Projection>,
}

/// Which two elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeKind {
    /// Element `i` with element `i + dims / 2` (GPT-NeoX, Qwen, Gemma).
    Half,
    /// Element `2i` with element `2i + 1` (Llama as GGUF stores it).
    Interleaved,
}

/// Rotary embedding with all scaling resolved into a table (Su et al. 2021, arXiv 2104.09864).
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Which elements pair up.
    pub kind: RopeKind,
    /// Radians per position for each pair: (dims / 2). Base, linear, YaRN and per-frequency factors are in here.
    pub frequencies: Arc<[f64]>,
    /// Multiplies sine and cosine; 1 unless YaRN asks otherwise.
    pub magnitude: f32,
}

/// See [`Step::RopeStore`].
#[derive(Clone, Debug, PartialEq)]
pub struct RopeStore {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_width: usize,
    /// Norm over each query head before rotation; its weight is (1, head_width).
    pub query_norm: Option<Norm>,
    /// Norm over each key head before rotation; its weight is (1, head_width).
    pub key_norm: Option<Norm>,
    /// Rotation of queries and keys; elements beyond `2 × frequencies` pass unchanged.
    pub rope: RopeTable,
}

/// See [`Step::Attention`]. Causal: a row sees positions up to its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads; query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_width: usize,
    /// Multiplies the scores, usually `1 / √head_width`.
    pub scale: f32,
    /// Sliding window: a row at position `p` sees positions `p - window + 1 ..= p`.
    pub window: Option<u32>,
    /// Scores become `cap · tanh(score / cap)` (Gemma 2).
    pub soft_cap: Option<f32>,
}

/// See [`Step::LinearAdd`].
#[derive(Clone, Debug, PartialEq)]
pub struct LinearAdd {
    /// `Attention` or `Gated`.
    pub input: Buffer,
    /// The projection back to the hidden width.
    pub projection: Projection,
    /// Norm of the projected row before it is added (Gemma 2 and 3).
    pub post_norm: Option<Norm>,
}

/// The gate's non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// GELU in its tanh form: `½x(1 + tanh(√(2/π)(x + 0.044715x³)))`.
    GeluTanh,
}

/// See [`Step::NormGatedLinear`].
#[derive(Clone, Debug, PartialEq)]
pub struct NormGatedLinear {
    /// Applied to `Hidden` first.
    pub norm: Norm,
    /// The gate's projection.
    pub gate: Projection,
    /// The projection that is gated.
    pub up: Projection,
    /// Applied to the gate.
    pub activation: Activation,
}

/// See [`Step::Head`].
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// (vocabulary, hidden); the embedding table itself in tied models.
    pub projection: Projection,
    /// Logits become `cap · tanh(logit / cap)` (Gemma 2).
    pub soft_cap: Option<f32>,
}

impl Step {
    /// The variant's name, as `inspect --program` prints it.
    pub fn kind(&self) -> &'static str {
        match self {
            Step::Embed(_) => "Embed",
            Step::NormLinear(_) => "NormLinear",
            Step::RopeStore(_) => "RopeStore",
            Step::Attention(_) => "Attention",
            Step::LinearAdd(_) => "LinearAdd",
            Step::NormGatedLinear(_) => "NormGatedLinear",
            Step::Select => "Select",
            Step::Norm(_) => "Norm",
            Step::Head(_) => "Head",
        }
    }

    /// The weight matrices this step multiplies with, in order. Norm weights and biases are not among them.
    pub fn matrices(&self) -> Vec<Slot> {
        match self {
            Step::NormLinear(s) => s.projections.iter().map(|p| p.weight).collect(),
            Step::LinearAdd(s) => vec![s.projection.weight],
            Step::NormGatedLinear(s) => vec![s.gate.weight, s.up.weight],
            Step::Head(s) => vec![s.projection.weight],
            Step::Embed(_) | Step::RopeStore(_) | Step::Attention(_) | Step::Select | Step::Norm(_) => Vec::new(),
        }
    }

    /// Norm weights and biases: small vectors that every backend reads as f32.
    pub fn vectors(&self) -> Vec<Slot> {
        fn projection(p: &Projection) -> Option<Slot> {
            p.bias
        }
        match self {
            Step::Embed(_) | Step::Attention(_) | Step::Select => Vec::new(),
            Step::NormLinear(s) => {
                std::iter::once(s.norm.weight).chain(s.projections.iter().filter_map(projection)).collect()
            }
            Step::RopeStore(s) => s.query_norm.iter().chain(&s.key_norm).map(|n| n.weight).collect(),
            Step::LinearAdd(s) => {
                projection(&s.projection).into_iter().chain(s.post_norm.as_ref().map(|n| n.weight)).collect()
            }
            Step::NormGatedLinear(s) => {
                [Some(s.norm.weight), projection(&s.gate), projection(&s.up)].into_iter().flatten().collect()
            }
            Step::Norm(n) => vec![n.weight],
            Step::Head(s) => projection(&s.projection).into_iter().collect(),
        }
    }
}
