//! What the supported families call their tensors and settings, and what must be done to the weights.

use std::f64::consts::PI;

use gguf::{ArrayBuf, Writer};
use tensor::Shape;

use super::config::Config;
use crate::error::ToolError;

/// A family of models.
#[derive(Debug)]
pub(super) struct Family {
    /// `general.architecture`.
    pub(super) name: &'static str,
    /// `architectures[0]` of `config.json`.
    classes: &'static [&'static str],
    /// Rows of queries and keys are stored for the other way of pairing what is rotated together.
    paired_rows: bool,
    /// Norms multiply by one more than what is stored.
    norms_from_one: bool,
    /// Norms on both sides of attention and feed-forward.
    sandwich_norms: bool,
    /// The output is always the embedding table.
    pub(super) always_tied: bool,
    /// Names of the activation that the architecture computes.
    activations: &'static [&'static str],
}

const SILU: &[&str] = &["silu", "swish"];
/// Gemma 1's files say `gelu` and mean the approximation by tanh.
const GELU: &[&str] = &["gelu_pytorch_tanh", "gelu_new", "gelu"];

const FAMILIES: &[Family] = &[
    Family {
        name: "llama",
        classes: &["LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM"],
        paired_rows: true,
        norms_from_one: false,
        sandwich_norms: false,
        always_tied: false,
        activations: SILU,
    },
    plain("qwen2", &["Qwen2ForCausalLM"]),
    plain("qwen3", &["Qwen3ForCausalLM"]),
    gemma("gemma", &["GemmaForCausalLM"], false),
    gemma("gemma2", &["Gemma2ForCausalLM"], true),
    gemma("gemma3", &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"], true),
];

const fn plain(name: &'static str, classes: &'static [&'static str]) -> Family {
    Family {
        name,
        classes,
        paired_rows: false,
        norms_from_one: false,
        sandwich_norms: false,
        always_tied: false,
        activations: SILU,
    }
}

const fn gemma(name: &'static str, classes: &'static [&'static str], sandwich_norms: bool) -> Family {
    Family {
        name,
        classes,
        paired_rows: false,
        norms_from_one: true,
        sandwich_norms,
        always_tied: true,
        activations: GELU,
    }
}

/// What is done to a tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// One is added to each.
    AddOne,
    /// In each of `heads` heads, rows `i` and `i + half` become neighbours.
    PairRows {
        /// Heads.
        heads: u64,
    },
}

impl Change {
    /// Whether the change makes sense for a tensor of this shape.
    pub(super) fn check(self, shape: &Shape) -> Result<(), String> {
        match self {
            Change::None | Change::AddOne => Ok(()),
            Change::PairRows { heads } => {
                let rows = rows(shape);
                if rows.is_multiple_of(2 * heads) {
                    return Ok(());
                }
                Err(format!("its {rows} rows do not divide into {heads} heads of an even width"))
            }
        }
    }

    /// The bytes of a tensor of this shape with their rows in order.
    pub(super) fn rows(self, bytes: Vec<u8>, shape: &Shape) -> Vec<u8> {
        let Change::PairRows { heads } = self else { return bytes };
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let rows = size(rows(shape));
        let row_bytes = bytes.len() / rows.max(1);
        let half = rows / size(heads) / 2;
        let mut paired = Vec::with_capacity(bytes.len());
        for row in 0..rows {
            let (head, at) = (row / (2 * half), row % (2 * half));
            let source = head * 2 * half + at % 2 * half + at / 2;
            paired.extend_from_slice(&bytes[source * row_bytes..][..row_bytes]);
        }
        paired
    }
}

/// What moves as a whole: rows of a matrix, elements of a bias.
fn rows(shape: &Shape) -> u64 {
    let counted = if shape.dimensions().len() < 2 { shape.elements() } else { shape.rows() };
    counted.unwrap_or(0)
}

impl Family {
    /// The family of the class that `config.json` names.
    pub(super) fn of(config: &Config) -> Result<&'static Family, ToolError> {
        let class = config.class()?;
        FAMILIES.iter().find(|family| family.classes.contains(&class)).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().flat_map(|family| family.classes).copied().collect();
            config.wrong("architectures", &format!("{class} cannot be converted; these can: {}", known.join(", ")))
        })
    }

    /// What a tensor is called in GGUF; none for one that does not belong to the language model.
    pub(super) fn name_of(&self, name: &str, config: &Config) -> Result<Option<String>, ToolError> {
        // Models that see wrap the language model, and did so in two ways.
        let name = name.strip_prefix("language_model.").unwrap_or(name);
        let language = name.strip_prefix("model.language_model.").map(|rest| format!("model.{rest}"));
        let name = language.as_deref().unwrap_or(name);
        let foreign =
            ["vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."];
        if foreign.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with("rotary_emb.inv_freq") {
            return Ok(None);
        }
        let known = match name {
            "model.embed_tokens.weight" => Some("token_embd.weight".to_owned()),
            "model.norm.weight" => Some("output_norm.weight".to_owned()),
            "lm_head.weight" => Some("output.weight".to_owned()),
            _ => self.name_in_layer(name),
        };
        match known {
            Some(known) => Ok(Some(known)),
            None => Err(config.wrong("architectures", &format!("{} has no place for the tensor {name}", self.name))),
        }
    }

    fn name_in_layer(&self, name: &str) -> Option<String> {
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        let (part, suffix) = rest.rsplit_once('.')?;
        if !matches!(suffix, "weight" | "bias") {
            return None;
        }
        let part = match part {
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            "input_layernorm" => "attn_norm",
            "post_attention_layernorm" if self.sandwich_norms => "post_attention_norm",
            "post_attention_layernorm" => "ffn_norm",
            "pre_feedforward_layernorm" if self.sandwich_norms => "ffn_norm",
            "post_feedforward_layernorm" if self.sandwich_norms => "post_ffw_norm",
            _ => return None,
        };
        Some(format!("blk.{layer}.{part}.{suffix}"))
    }

    /// What is done to the tensor called `name` in GGUF.
    pub(super) fn change(&self, name: &str, config: &Config) -> Result<Change, ToolError> {
        let (heads, kv_heads) = config.heads()?;
        let part = name.rsplit('.').nth(1).unwrap_or_default();
        Ok(match part {
            "attn_q" if self.paired_rows => Change::PairRows { heads: heads.into() },
            "attn_k" if self.paired_rows => Change::PairRows { heads: kv_heads.into() },
            _ if self.norms_from_one && part.ends_with("norm") => Change::AddOne,
            _ => Change::None,
        })
    }

    /// Sets the keys that describe the model.
    pub(super) fn describe(
        &self,
        config: &Config,
        writer: &mut Writer,
        notes: &mut Vec<String>,
    ) -> Result<(), ToolError> {
        self.check(config, notes)?;
        let key = |name: &str| format!("{}.{name}", self.name);
        let (heads, kv_heads) = config.heads()?;
        let layers = config.width("num_hidden_layers")?;
        writer.set(&key("block_count"), layers)?;
        writer.set(&key("context_length"), config.width("max_position_embeddings")?)?;
        writer.set(&key("embedding_length"), config.width("hidden_size")?)?;
        writer.set(&key("feed_forward_length"), config.width("intermediate_size")?)?;
        writer.set(&key("attention.head_count"), heads)?.set(&key("attention.head_count_kv"), kv_heads)?;
        let epsilon = config.number("rms_norm_eps")?.unwrap_or(1e-6);
        writer.set(&key("attention.layer_norm_rms_epsilon"), epsilon as f32)?;
        let head_width = config.head_width()?;
        let head_width =
            u32::try_from(head_width).map_err(|_| config.wrong("head_dim", &format!("{head_width} is too much")))?;
        writer.set(&key("attention.key_length"), head_width)?.set(&key("attention.value_length"), head_width)?;
        if self.name == "llama" {
            writer.set(&key("rope.dimension_count"), head_width)?;
            writer.set(&key("vocab_size"), config.width("vocab_size")?)?;
        }
        self.describe_rope(config, writer)?;
        if self.sandwich_norms {
            self.describe_windows(config, layers, writer)?;
        }
        Ok(())
    }

    fn describe_rope(&self, config: &Config, writer: &mut Writer) -> Result<(), ToolError> {
        let key = |name: &str| format!("{}.{name}", self.name);
        let number = |name: &str| config.rope(FULL, name).and_then(|value| value.as_f64());
        let default = if self.name == "gemma3" { 1_000_000.0 } else { 10_000.0 };
        writer.set(&key("rope.freq_base"), number("rope_theta").unwrap_or(default) as f32)?;
        if self.name == "gemma3" {
            let own = config.get("rope_parameters").and_then(|group| group.get(SLIDING)?.get("rope_theta")?.as_f64());
            let local = own.or_else(|| config.get("rope_local_base_freq")?.as_f64()).unwrap_or(10_000.0);
            writer.set(&key("rope.freq_base_swa"), local as f32)?;
        }
        let kind = config.rope(FULL, "rope_type").or_else(|| config.rope(FULL, "type"));
        let factor = number("factor").unwrap_or(1.0) as f32;
        match kind.and_then(|kind| kind.as_str()).unwrap_or("default") {
            "default" | "llama3" => {}
            "linear" => {
                writer.set(&key("rope.scaling.type"), "linear")?.set(&key("rope.scaling.factor"), factor)?;
            }
            "yarn" => {
                writer.set(&key("rope.scaling.type"), "yarn")?.set(&key("rope.scaling.factor"), factor)?;
                let original = config.rope(FULL, "original_max_position_embeddings").and_then(|value| value.as_u64());
                let original = original.and_then(|value| u32::try_from(value).ok());
                let original = original.map_or_else(|| config.width("max_position_embeddings"), Ok)?;
                writer.set(&key("rope.scaling.original_context_length"), original)?;
                for (theirs, ours) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                    if let Some(value) = number(theirs) {
                        writer.set(&key(&format!("rope.scaling.{ours}")), value as f32)?;
                    }
                }
                if let Some(value) = number("attention_factor") {
                    writer.set(&key("rope.scaling.attn_factor"), value as f32)?;
                }
            }
            other => {
                let reason =
                    format!("the rotary scaling {other:?} cannot be converted; default, linear, yarn and llama3 can");
                return Err(config.wrong("rope_scaling", &reason));
            }
        }
        Ok(())
    }

    /// Windows and caps of Gemma 2 and 3.
    fn describe_windows(&self, config: &Config, layers: u32, writer: &mut Writer) -> Result<(), ToolError> {
        let key = |name: &str| format!("{}.{name}", self.name);
        for (theirs, ours) in [
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ] {
            // Gemma 2 has caps where the key is missing, so that "none" must be said.
            match (config.number(theirs)?, self.name) {
                (Some(cap), _) => writer.set(&key(ours), cap as f32)?,
                (None, "gemma2") => writer.set(&key(ours), 0.0_f32)?,
                (None, _) => continue,
            };
        }
        let usual = if self.name == "gemma2" { 2 } else { 6 };
        let local = match config.get("layer_types").and_then(|kinds| kinds.as_array()) {
            Some(kinds) => kinds.iter().map(|kind| kind.as_str() == Some(SLIDING)).collect(),
            None => {
                let period = config.integer("sliding_window_pattern")?.unwrap_or(usual).max(1);
                (0..u64::from(layers)).map(|layer| (layer + 1) % period != 0).collect::<Vec<bool>>()
            }
        };
        if local.len() != layers as usize {
            return Err(config.wrong("layer_types", &format!("it has {} entries for {layers} layers", local.len())));
        }
        if local.iter().any(|local| *local) {
            writer.set(&key("attention.sliding_window"), config.width("sliding_window")?)?;
        } else {
            writer.set(&key("attention.sliding_window"), 0_u32)?;
        }
        let as_usual = (1_u64..).zip(&local).all(|(number, local)| *local == (number % usual != 0));
        if !as_usual {
            writer.set(&key("attention.sliding_window_pattern"), &ArrayBuf::scalars(&local))?;
        }
        Ok(())
    }

    /// Refuses what the architecture would compute otherwise than the checkpoint's own code does.
    fn check(&self, config: &Config, notes: &mut Vec<String>) -> Result<(), ToolError> {
        let activation = config.text("hidden_activation").or_else(|| config.text("hidden_act"));
        if let Some(activation) = activation.filter(|name| !self.activations.contains(name)) {
            let reason = format!("{activation} is not what {} computes: {}", self.name, self.activations.join(", "));
            return Err(config.wrong("hidden_act", &reason));
        }
        if config.get("quantization_config").is_some() {
            let reason = "the checkpoint is quantised; convert the original, then use `metallic quantize`";
            return Err(config.wrong("quantization_config", reason));
        }
        if config.flag("use_bidirectional_attention") == Some(true) {
            return Err(config.wrong("use_bidirectional_attention", "it is true; only causal models can be converted"));
        }
        if let Some(part) = config.number("partial_rotary_factor")?.filter(|part| *part != 1.0) {
            return Err(config.wrong("partial_rotary_factor", &format!("it is {part}, only 1 can be converted")));
        }
        self.check_scale(config)?;
        let windowed = match self.name {
            "llama" => config.get("sliding_window").is_some(),
            "qwen2" | "qwen3" => config.flag("use_sliding_window") == Some(true),
            _ => false,
        };
        if windowed {
            let window = config.integer("sliding_window")?.unwrap_or(0);
            notes.push(format!(
                "the window of {window} positions is left out: with longer texts the model sees more than it was trained to"
            ));
        }
        Ok(())
    }

    /// Gemma 2 and 3 scale scores by a setting of their own, of which GGUF knows two values.
    fn check_scale(&self, config: &Config) -> Result<(), ToolError> {
        let Some(scalar) = config.number("query_pre_attn_scalar")?.filter(|_| self.sandwich_norms) else {
            return Ok(());
        };
        let layers_27b = if self.name == "gemma2" { 46 } else { 62 };
        let expected = if config.width("num_hidden_layers")? == layers_27b {
            f64::from(config.width("hidden_size")? / config.width("num_attention_heads")?)
        } else {
            config.head_width()? as f64
        };
        if scalar == expected {
            return Ok(());
        }
        Err(config.wrong("query_pre_attn_scalar", &format!("it is {scalar}; a file can only say {expected}")))
    }
}

/// Names of the kinds of layers in `layer_types` and `rope_parameters`.
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// What Llama 3.1's scaling divides each frequency by; none where another scaling or none is used.
///
/// Slow rotations are slowed by `factor`, fast ones stay, and between is a ramp over the wavelength (the file
/// `modeling_rope_utils.py` of transformers, `_compute_llama3_parameters`).
pub(super) fn rotary_divisors(config: &Config) -> Result<Option<Vec<f32>>, ToolError> {
    let kind = config.rope(FULL, "rope_type").or_else(|| config.rope(FULL, "type"));
    if kind.and_then(|kind| kind.as_str()) != Some("llama3") {
        return Ok(None);
    }
    let number = |name: &str, default: f64| config.rope(FULL, name).and_then(|value| value.as_f64()).unwrap_or(default);
    let (base, factor) = (number("rope_theta", 10_000.0), number("factor", 8.0));
    let (low, high) = (number("low_freq_factor", 1.0), number("high_freq_factor", 4.0));
    let context = number("original_max_position_embeddings", 8192.0);
    let positive = [base, factor, low, high, context].iter().all(|value| *value > 0.0 && value.is_finite());
    if !positive || low >= high {
        return Err(config.wrong("rope_scaling", "its factors should be positive, and the low below the high one"));
    }
    let width = config.head_width()?;
    // Above every model known; the tensor that is made here has half as many values.
    if width > 1 << 16 {
        return Err(config.wrong("head_dim", &format!("{width} is too much")));
    }
    let divisor = |pair: u64| {
        let wavelength = 2.0 * PI * base.powf(2.0 * pair as f64 / width as f64);
        if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            factor
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok(Some((0..width / 2).map(|pair| divisor(pair) as f32).collect()))
}
