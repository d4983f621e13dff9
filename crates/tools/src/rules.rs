//! Which format a tensor of a mix gets: llama.cpp's rules (`llama-quant.cpp`, 0c1e57098), so that a file of a given name
//! holds what people expect of it. The rules know names and counts, never values.

use gguf::{GgufFile, Metadata, TensorInfo, Value};
use tensor::Format;

use crate::mix::Mix;

/// What a tensor does in its model, as far as the rules tell tensors apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    Output,
    Query,
    Key,
    /// Values, also fused with queries and keys: errors here cost most.
    Value,
    AttentionOutput,
    Gate,
    Up,
    Down,
    Other,
}

/// The role of the tensor called `name`.
pub(crate) fn role(name: &str) -> Role {
    const BY_PART: [(&str, Role); 9] = [
        ("attn_qkv.weight", Role::Value),
        ("attn_kv_b.weight", Role::Value),
        ("attn_v.weight", Role::Value),
        ("attn_k.weight", Role::Key),
        ("attn_q.weight", Role::Query),
        ("attn_output.weight", Role::AttentionOutput),
        ("ffn_up", Role::Up),
        ("ffn_gate", Role::Gate),
        ("ffn_down", Role::Down),
    ];
    match name {
        "output.weight" => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Role::Embedding,
        _ => BY_PART.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |(_, role)| *role),
    }
}

/// Whether a tensor is quantised at all: matrices that take part in products, and none that is tiny or a table of
/// positions.
pub(crate) fn may_be_quantised(tensor: &TensorInfo) -> bool {
    const KEPT_PARTS: [&str; 22] = [
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        "time_mix_first.weight",
        "time_mix_lerp_fused.weight",
        "attn_rel_b.weight",
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
        "a.rvq.codebook",
        "mm.a.code_embd",
    ];
    const KEPT: [&str; 2] = ["position_embd.weight", "token_types.weight"];
    /// RWKV's small matrices: `time_mix_` and one of these.
    const RWKV: [&str; 11] = ["w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2"];
    const RWKV_DECAY: [&str; 2] = ["time_mix_decay_w1.weight", "time_mix_decay_w2.weight"];
    let name = tensor.name();
    let matrix = tensor.shape().dimensions().iter().skip(1).any(|extent| *extent > 1);
    let rwkv = RWKV.iter().any(|part| name.contains(&format!("time_mix_{part}.weight")))
        || RWKV_DECAY.iter().any(|part| name.contains(part));
    matrix
        && name.ends_with("weight")
        && !KEPT.contains(&name)
        && !KEPT_PARTS.iter().any(|part| name.contains(part))
        && !rwkv
}

/// Whether a format stores weights that can be quantised further or again: not integers or doubles.
pub(crate) fn is_weight(format: Format) -> bool {
    !matches!(format, Format::I8 | Format::I16 | Format::I32 | Format::I64 | Format::F64)
}

/// What the rules know of a model.
#[derive(Clone, Debug)]
struct Facts {
    falcon: bool,
    /// Llama 2 70B and 3 70B, known as in llama.cpp by layers and grouped queries.
    is_70b: bool,
    layers: usize,
    /// Query heads for each key head, rounded down.
    grouping: u64,
    experts: u64,
    /// The output is the embedding table.
    tied: bool,
    values: usize,
    importance: bool,
}

/// The rules, with the counters that they need: tensors are asked about in the order of [`order`].
pub(crate) struct Rules {
    facts: Facts,
    mix: Mix,
    values_seen: usize,
    downs_seen: usize,
    gates_seen: usize,
    ups_seen: usize,
}

/// The order in which the rules count: tensors outside layers first, then by layer, each by name.
pub(crate) fn order(tensors: &[TensorInfo]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (tensors[*a].name(), tensors[*b].name());
        layer_of(a).cmp(&layer_of(b)).then_with(|| a.cmp(b))
    });
    order
}

impl Rules {
    pub(crate) fn new(file: &GgufFile, mix: Mix, importance: bool) -> Rules {
        let facts = Facts::of(file, importance);
        Rules { facts, mix, values_seen: 0, downs_seen: 0, gates_seen: 0, ups_seen: 0 }
    }

    /// The format of a tensor that would get `format`, before its shape is looked at.
    pub(crate) fn format(&mut self, tensor: &TensorInfo, format: Format) -> Format {
        let role = role(tensor.name());
        match role {
            Role::Output => self.output(tensor, format),
            Role::Embedding if self.facts.tied => self.output(tensor, format),
            _ if self.mix == Mix::MXFP4_MOE => {
                let experts = tensor.shape().dimensions().get(2).is_some_and(|matrices| *matrices > 1);
                if experts { Format::MXFP4 } else { Format::Q8_0 }
            }
            Role::Embedding => self.embedding(format),
            _ if is_two_bit(self.mix) => self.two_bit(role, format),
            Role::Value => self.value(format),
            Role::Key => match self.mix {
                _ if self.facts.experts == 8 => Format::Q8_0,
                Mix::IQ3_XS => Format::IQ3_XXS,
                Mix::IQ3_XXS => Format::IQ2_S,
                _ => format,
            },
            Role::Query => match self.mix {
                Mix::IQ3_XS => Format::IQ3_XXS,
                Mix::IQ3_XXS => Format::IQ2_S,
                _ => format,
            },
            Role::Down => self.down(tensor.name(), format),
            Role::AttentionOutput => self.attention_output(format),
            Role::Gate => {
                let layer = self.layer(tensor.name(), self.gates_seen);
                self.gates_seen += 1;
                self.gate_or_up(layer, format)
            }
            Role::Up => {
                let layer = self.layer(tensor.name(), self.ups_seen);
                self.ups_seen += 1;
                self.gate_or_up(layer, format)
            }
            Role::Other => format,
        }
    }

    fn output(&self, tensor: &TensorInfo, format: Format) -> Format {
        let whole_blocks = tensor.shape().row_elements().is_multiple_of(format.block_elements() as u64);
        match self.mix {
            Mix::MXFP4_MOE => Format::Q8_0,
            _ if self.facts.falcon || !whole_blocks => Format::Q8_0,
            mix if is_two_bit(mix) || mix == Mix::IQ3_XXS => Format::Q5_K,
            _ if format == Format::Q8_0 => Format::Q8_0,
            _ => Format::Q6_K,
        }
    }

    fn embedding(&self, format: Format) -> Format {
        match self.mix {
            Mix::IQ2_XXS | Mix::IQ2_XS | Mix::IQ1_S | Mix::IQ1_M => Format::Q2_K,
            Mix::IQ2_S | Mix::IQ2_M | Mix::IQ3_XXS => Format::IQ3_S,
            Mix::TQ1_0 | Mix::TQ2_0 | Mix::Q2_0 => Format::Q4_K,
            _ => format,
        }
    }

    /// Mixes of about two bits and less.
    fn two_bit(&mut self, role: Role, format: Format) -> Format {
        let upper = if matches!(self.mix, Mix::IQ2_S | Mix::IQ2_M) { Format::IQ3_S } else { Format::Q2_K };
        match role {
            Role::Value => {
                self.values_seen += 1;
                if self.facts.grouping >= 4 || self.facts.experts >= 4 { Format::Q4_K } else { upper }
            }
            Role::Key if self.facts.experts == 8 => Format::Q4_K,
            Role::Down => {
                self.downs_seen += 1;
                if self.downs_seen - 1 < self.facts.layers / 8 { upper } else { format }
            }
            Role::AttentionOutput if self.facts.experts == 8 => Format::Q5_K,
            Role::AttentionOutput => match self.mix {
                Mix::IQ1_S | Mix::IQ1_M => Format::IQ2_XXS,
                Mix::IQ2_S | Mix::IQ2_M => Format::IQ3_S,
                _ => format,
            },
            _ => format,
        }
    }

    fn value(&mut self, format: Format) -> Format {
        let index = self.values_seen;
        self.values_seen += 1;
        let grouped = self.facts.grouping >= 4;
        let chosen = match self.mix {
            Mix::Q2_K => {
                if grouped {
                    Format::Q4_K
                } else {
                    Format::Q3_K
                }
            }
            Mix::Q2_K_S | Mix::IQ3_XS | Mix::IQ3_S if grouped => Format::Q4_K,
            Mix::IQ3_XXS if grouped => Format::Q4_K,
            Mix::IQ3_XXS if !self.facts.importance => Format::IQ3_S,
            Mix::IQ3_XXS => Format::IQ3_XXS,
            Mix::IQ3_M => Format::Q4_K,
            Mix::Q3_K_M => {
                if index < 2 {
                    Format::Q5_K
                } else {
                    Format::Q4_K
                }
            }
            Mix::Q3_K_L => Format::Q5_K,
            Mix::IQ4_NL | Mix::IQ4_XS if grouped => Format::Q5_K,
            Mix::Q4_K_M | Mix::Q5_K_M if deserves_more(index, self.facts.values) => Format::Q6_K,
            Mix::Q4_K_S if index < 4 => Format::Q5_K,
            _ => format,
        };
        match chosen {
            _ if self.facts.experts == 8 => Format::Q8_0,
            // Eight heads share these, so that they are small and worth more bits.
            Format::Q3_K | Format::Q4_K if self.facts.is_70b => Format::Q5_K,
            chosen => chosen,
        }
    }

    fn down(&mut self, name: &str, format: Format) -> Format {
        let Facts { falcon, layers, experts, importance, .. } = self.facts;
        let layer = self.layer(name, self.downs_seen);
        self.downs_seen += 1;
        let (early, more) = (layer < layers / 8, deserves_more(layer, layers));
        match self.mix {
            Mix::Q2_K => Format::Q3_K,
            Mix::Q2_K_S if early => Format::Q4_K,
            Mix::IQ3_XXS if !importance => {
                if early {
                    Format::Q4_K
                } else {
                    Format::Q3_K
                }
            }
            Mix::Q3_K_M if layer < layers / 16 => Format::Q5_K,
            Mix::Q3_K_M => {
                if !falcon || more {
                    Format::Q4_K
                } else {
                    Format::Q3_K
                }
            }
            Mix::IQ3_M if early || (experts == 8 && more) => Format::Q4_K,
            Mix::Q3_K_L => {
                if falcon {
                    Format::Q4_K
                } else {
                    Format::Q5_K
                }
            }
            Mix::Q4_K_M if falcon && layer < layers / 16 => Format::Q6_K,
            Mix::Q4_K_M if falcon => {
                if more {
                    Format::Q5_K
                } else {
                    Format::Q4_K
                }
            }
            Mix::Q4_K_M | Mix::Q5_K_M if more => Format::Q6_K,
            Mix::IQ4_NL | Mix::IQ4_XS if early && !importance => Format::Q5_K,
            Mix::Q4_K_S if early && !falcon => Format::Q5_K,
            // Formats with only a scale go wrong in these layers even with importances.
            Mix::Q4_0 if early && importance => Format::Q4_1,
            Mix::Q5_0 if early && importance => Format::Q5_1,
            _ => format,
        }
    }

    fn attention_output(&self, format: Format) -> Format {
        use Mix as M;
        match (self.facts.falcon, self.facts.experts == 8, self.mix) {
            (true, _, Mix::Q3_K_L) => Format::Q4_K,
            (true, _, _) => format,
            (_, true, mix) => {
                let more = [M::Q2_K, M::IQ3_XS, M::IQ3_XXS, M::Q3_K_S, M::Q3_K_M, M::IQ4_NL, M::Q4_K_S, M::Q4_K_M];
                let more = more.contains(&mix) || [M::IQ3_S, M::IQ3_M, M::IQ4_XS].contains(&mix);
                if more { Format::Q5_K } else { format }
            }
            (_, _, Mix::Q2_K) => Format::Q3_K,
            (_, _, Mix::IQ3_XXS) => Format::IQ3_S,
            (_, _, Mix::Q3_K_M | Mix::IQ3_M) => Format::Q4_K,
            (_, _, Mix::Q3_K_L) => Format::Q5_K,
            _ => format,
        }
    }

    fn gate_or_up(&self, layer: usize, format: Format) -> Format {
        let layers = self.facts.layers;
        let middle = layer >= layers / 8 && layer < 7 * layers / 8;
        if self.mix == Mix::IQ3_XS && middle { Format::IQ3_XXS } else { format }
    }

    /// The layer that the rules take a tensor for: the number in its name where experts may be out of order, else how
    /// many came before.
    fn layer(&self, name: &str, seen: usize) -> usize {
        match layer_of(name) {
            Some(layer) if self.facts.experts > 1 => layer,
            _ => seen,
        }
    }
}

/// The format for a tensor whose rows are no whole number of `wanted`'s blocks; `wanted` where they are.
pub(crate) fn fallback(columns: u64, wanted: Format) -> Format {
    let fits = |format: Format| columns.is_multiple_of(format.block_elements() as u64);
    if fits(wanted) {
        return wanted;
    }
    let smaller = match wanted {
        Format::IQ1_S
        | Format::IQ1_M
        | Format::IQ2_XXS
        | Format::IQ2_XS
        | Format::IQ2_S
        | Format::IQ3_XXS
        | Format::IQ3_S
        | Format::IQ4_XS => Format::IQ4_NL,
        Format::Q2_0 | Format::Q2_K | Format::Q3_K | Format::TQ1_0 | Format::TQ2_0 => Format::Q4_0,
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K => Format::Q8_0,
        // llama.cpp has no fallback for these.
        Format::Q1_0 => Format::Q4_0,
        Format::NVFP4 => Format::MXFP4,
        other => other,
    };
    if fits(smaller) { smaller } else { Format::F16 }
}

impl Facts {
    /// Reads what is there; a file without these keys is treated like a plain model of no known depth.
    fn of(file: &GgufFile, importance: bool) -> Facts {
        let metadata = file.metadata();
        let architecture = metadata.str("general.architecture").ok().flatten().unwrap_or_default();
        let number = |name: &str| first_integer(metadata, &format!("{architecture}.{name}"));
        let layers = number("block_count").unwrap_or(0);
        let heads = number("attention.head_count").unwrap_or(1);
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        Facts {
            falcon: architecture == "falcon",
            is_70b: architecture == "llama" && layers == 80 && heads != kv_heads,
            layers: usize::try_from(layers).unwrap_or(usize::MAX / 8),
            grouping: heads.checked_div(kv_heads).unwrap_or(0),
            experts: number("expert_count").unwrap_or(0),
            tied: file.tensor("output.weight").is_none(),
            values: file.tensors().iter().filter(|tensor| role(tensor.name()) == Role::Value).count(),
            importance,
        }
    }
}

/// An integer, or the first of an array of them.
fn first_integer(metadata: &Metadata, key: &str) -> Option<u64> {
    let integer = |value: Value<'_>| value.to_integer().and_then(|number| u64::try_from(number).ok());
    match metadata.get(key)? {
        Value::Array(values) => values.iter().next().and_then(integer),
        value => integer(value),
    }
}

/// Layers that get more bits in the `_M` mixes: the first and the last eighth, and every third between.
fn deserves_more(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

fn is_two_bit(mix: Mix) -> bool {
    matches!(mix, Mix::IQ1_S | Mix::IQ1_M | Mix::IQ2_XXS | Mix::IQ2_XS | Mix::IQ2_S | Mix::IQ2_M)
}

/// `7` of `blk.7.attn_q.weight`.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}
