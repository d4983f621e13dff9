//! Hyperparameters, read with a check for each: what leaves here can be multiplied and divided without surprises.

use gguf::{Array, Value};

use crate::error::ModelError;
use crate::rope::{RopeConfig, RopeScaling};
use crate::source::ModelSource;

/// Above every model known, and small enough that no product of two overflows.
const WIDTH_MAX: usize = 1 << 24;

/// Above every model known; rotary tables are allocated by it before a tensor's shape confirms it.
const HEAD_WIDTH_MAX: usize = 4096;

/// The hyperparameters that all architectures share.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) feed_forward: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) context: usize,
    pub(crate) vocabulary: usize,
    /// Of every RMSNorm.
    pub(crate) epsilon: f32,
    pub(crate) rope: RopeConfig,
}

impl Config {
    /// Reads and checks everything. Keys are those that llama.cpp's converters write.
    pub(crate) fn read(source: &ModelSource<'_>) -> Result<Config, ModelError> {
        refuse_mixtures(source)?;
        let layers = read_layers(source)?;
        let hidden = source.width("embedding_length")?;
        let feed_forward = source.uniform_width("feed_forward_length", layers)?;
        let heads = source.uniform_width("attention.head_count", layers)?;
        let kv_heads = match source.has("attention.head_count_kv") {
            true => source.uniform_width("attention.head_count_kv", layers)?,
            false => heads,
        };
        if !heads.is_multiple_of(kv_heads) {
            let must_be = format!("a divisor of the {heads} heads in `{}`", source.key("attention.head_count"));
            return Err(source.invalid("attention.head_count_kv", kv_heads, must_be));
        }
        let head_width = read_head_width(source, hidden, heads)?;
        let context = source.integer("context_length", 1..=u32::MAX as usize)?;
        let epsilon = source.number("attention.layer_norm_rms_epsilon")?;
        let epsilon = epsilon.ok_or_else(|| source.missing("attention.layer_norm_rms_epsilon"))?;
        if epsilon < 0.0 {
            return Err(source.invalid("attention.layer_norm_rms_epsilon", epsilon, "0 or more".to_owned()));
        }
        let vocabulary = read_vocabulary(source)?;
        let rope = read_rope(source, head_width, context)?;
        Ok(Config { layers, hidden, feed_forward, heads, kv_heads, head_width, context, vocabulary, epsilon, rope })
    }

    /// `1 / √head_width`, the scale of scores since Vaswani et al. 2017 (arXiv 1706.03762).
    pub(crate) fn attention_scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }

    /// [`Config::attention_scale`], except that Gemma's 27B models, known by their layer count as in llama.cpp, scale
    /// by the width per head.
    pub(crate) fn gemma_attention_scale(&self, layers_27b: usize) -> f32 {
        match self.layers == layers_27b {
            true => 1.0 / ((self.hidden / self.heads) as f32).sqrt(),
            false => self.attention_scale(),
        }
    }

    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }
}

/// Which layers see only a window of positions.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    /// Positions that a local layer sees, its own included.
    width: u32,
    /// (layers)
    local: Vec<bool>,
}

impl Windows {
    /// Reads `attention.sliding_window` and its pattern; `None` where no layer has a window.
    ///
    /// The pattern is an array with one flag for each layer, or a period `n`: then every `n`-th layer is global and
    /// the others are local, and 0 makes all of them local.
    pub(crate) fn read(
        source: &ModelSource<'_>,
        layers: usize,
        default_width: Option<u32>,
        default_period: usize,
    ) -> Result<Option<Windows>, ModelError> {
        let width = match (source.has("attention.sliding_window"), default_width) {
            (true, _) => source.integer("attention.sliding_window", 0..=u32::MAX as usize)?,
            (false, Some(width)) => width as usize,
            (false, None) => return Ok(None),
        };
        if width == 0 {
            return Ok(None);
        }
        let width = u32::try_from(width).expect("bounded above");
        const PATTERN: &str = "attention.sliding_window_pattern";
        if let Some(Value::Array(flags)) = source.value(PATTERN) {
            return Ok(Some(Windows { width, local: read_flags(source, PATTERN, flags, layers)? }));
        }
        let period = match source.has(PATTERN) {
            true => source.integer(PATTERN, 0..=WIDTH_MAX)?,
            false => default_period,
        };
        let local = (0..layers).map(|layer| period == 0 || layer % period < period - 1).collect();
        Ok(Some(Windows { width, local }))
    }

    /// The window of a layer, or `None` where it sees everything.
    pub(crate) fn of_layer(&self, layer: usize) -> Option<u32> {
        self.local[layer].then_some(self.width)
    }
}

fn read_flags(source: &ModelSource<'_>, name: &str, flags: Array<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    let flag = |value: Value<'_>| match value {
        Value::Bool(flag) => Some(flag),
        other => other.to_integer().map(|number| number != 0),
    };
    let count = flags.len();
    let flags: Option<Vec<bool>> = flags.iter().take(layers).map(flag).collect();
    match flags {
        Some(flags) if flags.len() == layers && count == layers => Ok(flags),
        _ => Err(source.invalid(
            name,
            format!("an array of {count}"),
            format!("one flag for each of the {layers} layers"),
        )),
    }
}

/// A feature that llama.cpp computes under the same architecture name, and that has no step here.
fn refuse_mixtures(source: &ModelSource<'_>) -> Result<(), ModelError> {
    if source.has("expert_count") {
        let experts = source.integer("expert_count", 0..=WIDTH_MAX)?;
        if experts > 0 {
            return Err(source.unsupported("expert_count", experts, "a mixture of experts"));
        }
    }
    Ok(())
}

/// Layers are allocated one by one, so their number may not exceed what the file can hold.
fn read_layers(source: &ModelSource<'_>) -> Result<usize, ModelError> {
    let layers = source.integer("block_count", 1..=usize::MAX)?;
    let tensors = source.tensor_count();
    if layers > tensors {
        return Err(ModelError::TooManyLayers { key: source.key("block_count"), layers, tensors });
    }
    Ok(layers)
}

fn read_head_width(source: &ModelSource<'_>, hidden: usize, heads: usize) -> Result<usize, ModelError> {
    let head_width = if source.has("attention.key_length") {
        source.width("attention.key_length")?
    } else if hidden.is_multiple_of(heads) {
        hidden / heads
    } else {
        let must_be = format!("a divisor of the width {hidden}, or `{}` given", source.key("attention.key_length"));
        return Err(source.invalid("attention.head_count", heads, must_be));
    };
    if head_width > HEAD_WIDTH_MAX {
        return Err(source.invalid("attention.key_length", head_width, format!("at most {HEAD_WIDTH_MAX}")));
    }
    if source.has("attention.value_length") {
        let value_width = source.width("attention.value_length")?;
        if value_width != head_width {
            let must_be = format!("{head_width}, the width of a key head");
            return Err(source.invalid("attention.value_length", value_width, must_be));
        }
    }
    Ok(head_width)
}

fn read_vocabulary(source: &ModelSource<'_>) -> Result<usize, ModelError> {
    let rows = source.tensor("token_embd.weight")?.rows;
    let (key, tokens) = match source.metadata_array("tokenizer.ggml.tokens")? {
        Some(tokens) => ("tokenizer.ggml.tokens".to_owned(), tokens.len()),
        None if source.has("vocab_size") => (source.key("vocab_size"), source.integer("vocab_size", 0..=usize::MAX)?),
        None => return Ok(rows),
    };
    if tokens != rows {
        return Err(ModelError::VocabularySize { key, tokens: tokens as u64, rows });
    }
    Ok(rows)
}

fn read_rope(source: &ModelSource<'_>, head_width: usize, context: usize) -> Result<RopeConfig, ModelError> {
    const DIMENSIONS: &str = "rope.dimension_count";
    let dimensions = match source.has(DIMENSIONS) {
        true => source.integer(DIMENSIONS, 0..=usize::MAX)?,
        false => head_width,
    };
    if dimensions == 0 || dimensions > head_width || !dimensions.is_multiple_of(2) {
        let must_be = format!("an even number from 2 to the head width {head_width}");
        return Err(source.invalid(DIMENSIONS, dimensions, must_be));
    }
    let base = source.rotary_base("rope.freq_base")?.unwrap_or(10_000.0);
    Ok(RopeConfig {
        dimensions,
        base,
        scaling: read_scaling(source, context)?,
        magnitude: source.positive_number("rope.scaling.attn_factor")?.unwrap_or(1.0) as f32,
        divisors: source.rotary_divisors(dimensions / 2)?,
    })
}

/// The factor counts as linear where no type is given, and `scale_linear` is its older name; 0 means none.
fn read_scaling(source: &ModelSource<'_>, context: usize) -> Result<RopeScaling, ModelError> {
    const TYPE: &str = "rope.scaling.type";
    let mut factor = None;
    for name in ["rope.scaling.factor", "rope.scale_linear"] {
        if factor.is_none() && source.number(name)?.is_some_and(|factor| factor != 0.0) {
            factor = source.positive_number(name)?;
        }
    }
    let factor = factor.unwrap_or(1.0);
    match source.text(TYPE)?.unwrap_or("linear") {
        "none" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor }),
        "yarn" => {
            const ORIGINAL: &str = "rope.scaling.original_context_length";
            let original_context = match source.has(ORIGINAL) {
                true => source.integer(ORIGINAL, 1..=u32::MAX as usize)?,
                false => context,
            };
            if let Some(multiplier) = source.number("rope.scaling.yarn_log_multiplier")? {
                return Err(source.unsupported(
                    "rope.scaling.yarn_log_multiplier",
                    multiplier,
                    "YaRN with its own attention temperature",
                ));
            }
            Ok(RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast: source.positive_number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: source.positive_number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            })
        }
        other => Err(source.unsupported(TYPE, other, "this rotary scaling")),
    }
}

impl ModelSource<'_> {
    /// A width or count: from 1 to [`WIDTH_MAX`].
    fn width(&self, name: &str) -> Result<usize, ModelError> {
        self.integer(name, 1..=WIDTH_MAX)
    }

    /// A width given once, or once for each layer with the same value.
    fn uniform_width(&self, name: &str, layers: usize) -> Result<usize, ModelError> {
        let Some(Value::Array(values)) = self.value(name) else { return self.width(name) };
        let count = values.len();
        let wrong =
            || self.invalid(name, format!("an array of {count}"), format!("one integer for each of {layers} layers"));
        if count != layers {
            return Err(wrong());
        }
        let mut first = None;
        for (layer, value) in values.iter().enumerate() {
            let value = value.to_integer().and_then(|value| u64::try_from(value).ok()).ok_or_else(wrong)?;
            let first = *first.get_or_insert(value);
            if value != first {
                return Err(ModelError::UnevenLayers { key: self.key(name), first, other: value, layer });
            }
        }
        let value = first.and_then(|value| usize::try_from(value).ok()).filter(|value| (1..=WIDTH_MAX).contains(value));
        value.ok_or_else(|| self.invalid(name, format!("{first:?}"), format!("from 1 to {WIDTH_MAX}")))
    }

    /// A base of rotary frequencies, if the key is there. It is above 1: at 1 all pairs would turn alike.
    pub(crate) fn rotary_base(&self, name: &str) -> Result<Option<f64>, ModelError> {
        match self.number(name)? {
            Some(base) if base <= 1.0 => Err(self.invalid(name, base, "above 1".to_owned())),
            other => Ok(other.map(f64::from)),
        }
    }

    /// A cap of scores or logits, if the key is there and not 0.
    pub(crate) fn soft_cap(&self, name: &str) -> Result<Option<f32>, ModelError> {
        match self.number(name)? {
            Some(cap) if cap < 0.0 => Err(self.invalid(name, cap, "0 (no cap) or above".to_owned())),
            other => Ok(other.filter(|cap| *cap != 0.0)),
        }
    }

    /// A number above 0, if the key is there.
    fn positive_number(&self, name: &str) -> Result<Option<f64>, ModelError> {
        match self.number(name)? {
            Some(value) if value <= 0.0 => Err(self.invalid(name, value, "above 0".to_owned())),
            other => Ok(other.map(f64::from)),
        }
    }
}
