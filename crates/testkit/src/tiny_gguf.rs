//! Complete GGUF models of two small layers, made from a seed: weights, hyperparameters, vocabulary and chat template.
//!
//! [`TinyModel`] says what to make; [`TinyParts`] is the file before it is written, for tests that spoil a part of it.
//! The vocabulary is byte-level BPE with all 256 bytes, so any text can be encoded whatever the architecture.

use gguf::{ArrayBuf, GgufFile, Value, Writer};
use tensor::{Format, Shape};

use crate::random::Random;

/// What to make.
#[derive(Clone, Debug)]
pub struct TinyModel {
    /// `general.architecture`: `gemma`, `gemma2`, `gemma3`, `llama`, `qwen2` or `qwen3`.
    pub architecture: &'static str,
    /// Of all weights.
    pub seed: u64,
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Width between the halves of the feed-forward network.
    pub feed_forward: usize,
    /// Positions the model claims to be made for.
    pub context: usize,
    /// How matrices are stored; vectors are F32.
    pub formats: TinyFormats,
}

/// The format of each kind of matrix.
#[derive(Clone, Copy, Debug)]
pub struct TinyFormats {
    /// `token_embd.weight`.
    pub embedding: Format,
    /// `attn_q`, `attn_k`, `attn_v` and `attn_output`.
    pub attention: Format,
    /// `ffn_gate`, `ffn_up` and `ffn_down`.
    pub feed_forward: Format,
    /// `output.weight`; `None` ties the head to the embedding.
    pub head: Option<Format>,
}

impl TinyFormats {
    /// One format for everything, with a tied head.
    pub fn uniform(format: Format) -> TinyFormats {
        TinyFormats { embedding: format, attention: format, feed_forward: format, head: None }
    }
}

/// A metadata value that owns its data.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the description")]
pub enum MetaValue {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Array(ArrayBuf),
}

/// A tensor whose values follow from the model's seed and its name, unless given.
#[derive(Clone, Debug)]
pub struct TinyTensor {
    /// The name in the file.
    pub name: String,
    /// The stored format.
    pub format: Format,
    /// Extents, contiguous first.
    pub dimensions: Vec<u64>,
    /// Values before they are encoded; `None` for random ones of the size that suits the name.
    pub values: Option<Vec<f32>>,
}

/// A model file as lists of its parts.
#[derive(Clone, Debug)]
pub struct TinyParts {
    /// Seed of the random values.
    pub seed: u64,
    /// Keys and values in file order.
    pub metadata: Vec<(String, MetaValue)>,
    /// Tensors in file order.
    pub tensors: Vec<TinyTensor>,
}

/// What architectures differ in, as far as the file shows it.
struct Family {
    name: &'static str,
    qkv_biases: bool,
    head_norms: bool,
    post_norms: bool,
    window: Option<u32>,
    soft_caps: bool,
}

const FAMILIES: &[Family] = &[
    Family { name: "gemma", qkv_biases: false, head_norms: false, post_norms: false, window: None, soft_caps: false },
    Family { name: "gemma2", qkv_biases: false, head_norms: false, post_norms: true, window: Some(4), soft_caps: true },
    Family { name: "gemma3", qkv_biases: false, head_norms: true, post_norms: true, window: Some(4), soft_caps: false },
    Family { name: "llama", qkv_biases: false, head_norms: false, post_norms: false, window: None, soft_caps: false },
    Family { name: "qwen2", qkv_biases: true, head_norms: false, post_norms: false, window: None, soft_caps: false },
    Family { name: "qwen3", qkv_biases: false, head_norms: true, post_norms: false, window: None, soft_caps: false },
];

const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Pairs in the order of their ranks; `Ġ` stands for a space.
const MERGES: [&str; 7] = ["t h", "h e", "i n", "th e", "Ġ t", "Ġ th", "Ġ the"];

impl TinyModel {
    /// Two layers of 64 with 4 heads of 16 in 2 groups, everything in F32. Formats with blocks of 256 need more.
    pub fn new(architecture: &'static str, seed: u64) -> TinyModel {
        TinyModel {
            architecture,
            seed,
            layers: 2,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            head_width: 16,
            feed_forward: 96,
            context: 256,
            formats: TinyFormats::uniform(Format::F32),
        }
    }

    /// The same with all widths multiples of 256, so that every format fits.
    pub fn wide(architecture: &'static str, seed: u64) -> TinyModel {
        TinyModel { hidden: 256, head_width: 64, feed_forward: 512, ..TinyModel::new(architecture, seed) }
    }

    /// The parts of the file.
    ///
    /// # Panics
    /// If the architecture is none of those listed at [`TinyModel::architecture`].
    pub fn parts(&self) -> TinyParts {
        let family = FAMILIES.iter().find(|row| row.name == self.architecture).expect("a listed architecture");
        let vocabulary = vocabulary();
        let mut parts = TinyParts { seed: self.seed, metadata: Vec::new(), tensors: Vec::new() };
        self.add_hyperparameters(family, &mut parts);
        add_tokenizer(&vocabulary, &mut parts);
        self.add_tensors(family, vocabulary.len(), &mut parts);
        parts
    }

    /// The file, ready to be loaded.
    pub fn file(&self) -> GgufFile {
        self.parts().file()
    }

    fn add_hyperparameters(&self, family: &Family, parts: &mut TinyParts) {
        let prefix = self.architecture;
        parts.set("general.architecture", MetaValue::Text(prefix.to_owned()));
        parts.set("general.name", MetaValue::Text(format!("tiny {prefix}")));
        let mut size = |name: &str, value: usize| {
            let value = u32::try_from(value).expect("tiny sizes fit");
            parts.set(&format!("{prefix}.{name}"), MetaValue::U32(value));
        };
        size("block_count", self.layers);
        size("context_length", self.context);
        size("embedding_length", self.hidden);
        size("feed_forward_length", self.feed_forward);
        size("attention.head_count", self.heads);
        size("attention.head_count_kv", self.kv_heads);
        size("attention.key_length", self.head_width);
        size("attention.value_length", self.head_width);
        size("rope.dimension_count", self.head_width);
        if let Some(window) = family.window {
            size("attention.sliding_window", window as usize);
        }
        let mut number = |name: &str, value: f32| parts.set(&format!("{prefix}.{name}"), MetaValue::F32(value));
        number("attention.layer_norm_rms_epsilon", 1e-6);
        number("rope.freq_base", 20_000.0);
        if family.soft_caps {
            number("attn_logit_softcapping", 2.0);
            number("final_logit_softcapping", 3.0);
        }
    }

    fn add_tensors(&self, family: &Family, vocabulary: usize, parts: &mut TinyParts) {
        let TinyFormats { embedding, attention, feed_forward, head } = self.formats;
        let (hidden, query_width, kv_width) =
            (self.hidden, self.heads * self.head_width, self.kv_heads * self.head_width);
        let mut add = |name: String, format: Format, dimensions: &[usize]| {
            let dimensions = dimensions.iter().map(|extent| *extent as u64).collect();
            parts.tensors.push(TinyTensor { name, format, dimensions, values: None });
        };
        add("token_embd.weight".to_owned(), embedding, &[hidden, vocabulary]);
        for layer in 0..self.layers {
            let name = |tail: &str| format!("blk.{layer}.{tail}");
            add(name("attn_norm.weight"), Format::F32, &[hidden]);
            for (projection, outputs) in [("attn_q", query_width), ("attn_k", kv_width), ("attn_v", kv_width)] {
                add(name(&format!("{projection}.weight")), attention, &[hidden, outputs]);
                if family.qkv_biases {
                    add(name(&format!("{projection}.bias")), Format::F32, &[outputs]);
                }
            }
            if family.head_norms {
                add(name("attn_q_norm.weight"), Format::F32, &[self.head_width]);
                add(name("attn_k_norm.weight"), Format::F32, &[self.head_width]);
            }
            add(name("attn_output.weight"), attention, &[query_width, hidden]);
            if family.post_norms {
                add(name("post_attention_norm.weight"), Format::F32, &[hidden]);
                add(name("post_ffw_norm.weight"), Format::F32, &[hidden]);
            }
            add(name("ffn_norm.weight"), Format::F32, &[hidden]);
            add(name("ffn_gate.weight"), feed_forward, &[hidden, self.feed_forward]);
            add(name("ffn_up.weight"), feed_forward, &[hidden, self.feed_forward]);
            add(name("ffn_down.weight"), feed_forward, &[self.feed_forward, hidden]);
        }
        add("output_norm.weight".to_owned(), Format::F32, &[hidden]);
        if let Some(format) = head {
            add("output.weight".to_owned(), format, &[hidden, vocabulary]);
        }
    }
}

impl TinyParts {
    /// Sets a key to a value, in place if it is there.
    pub fn set(&mut self, key: &str, value: MetaValue) {
        match self.metadata.iter_mut().find(|(present, _)| present == key) {
            Some((_, present)) => *present = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
    }

    /// Takes a key out.
    ///
    /// # Panics
    /// If the key is not there: a test that removes nothing tests nothing.
    pub fn remove(&mut self, key: &str) {
        let index = self.metadata.iter().position(|(present, _)| present == key).expect("the key to remove");
        self.metadata.remove(index);
    }

    /// A tensor, to be changed.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn tensor_mut(&mut self, name: &str) -> &mut TinyTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("the tensor to change")
    }

    /// Takes a tensor out.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn remove_tensor(&mut self, name: &str) {
        let index = self.tensors.iter().position(|tensor| tensor.name == name).expect("the tensor to remove");
        self.tensors.remove(index);
    }

    /// The bytes of the file.
    ///
    /// # Panics
    /// If GGUF cannot hold the parts, such as a row that is no whole number of blocks, or values whose count does not
    /// fit their tensor.
    pub fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for (key, value) in &self.metadata {
            let value = match value {
                MetaValue::U32(value) => Value::U32(*value),
                MetaValue::F32(value) => Value::F32(*value),
                MetaValue::Bool(value) => Value::Bool(*value),
                MetaValue::Text(value) => Value::from(value.as_str()),
                MetaValue::Array(value) => Value::from(value),
            };
            writer.set(key, value).expect("a key and value that GGUF can hold");
        }
        for tensor in &self.tensors {
            let shape = Shape::new(&tensor.dimensions).expect("at most four dimensions");
            writer.tensor(&tensor.name, tensor.format, shape).expect("a tensor that GGUF can hold");
        }
        let mut tensors = self.tensors.iter();
        let written = writer.to_vec(|_, out| {
            let tensor = tensors.next().expect("one call for each tensor");
            out.write_all(&tensor.encoded(self.seed))
        });
        written.expect("writing to memory")
    }

    /// The file, opened.
    ///
    /// # Panics
    /// As [`TinyParts::bytes`].
    pub fn file(&self) -> GgufFile {
        GgufFile::from_bytes(self.bytes()).expect("the writer writes what the reader reads")
    }
}

impl TinyTensor {
    fn encoded(&self, seed: u64) -> Vec<u8> {
        let count = self.dimensions.iter().product::<u64>() as usize;
        let values = self.values.clone().unwrap_or_else(|| self.random_values(seed, count));
        assert_eq!(values.len(), count, "values of tensor {}", self.name);
        let codec = self.format.codec().expect("a format with a codec");
        let mut bytes = vec![0; count / self.format.block_elements() * self.format.block_bytes()];
        (codec.encode)(&values, &mut bytes);
        bytes
    }

    /// Norms near 1, biases near 0, and matrices whose outputs are as large as their inputs.
    fn random_values(&self, seed: u64, count: usize) -> Vec<f32> {
        let mut random = Random::named(seed, &self.name);
        let (middle, spread) = match self.name.as_str() {
            name if name.ends_with("norm.weight") => (1.0, 0.25),
            name if name.ends_with(".bias") => (0.0, 0.25),
            _ => (0.0, (3.0 / self.dimensions[0] as f32).sqrt()),
        };
        (0..count).map(|_| middle + spread * random.signed_unit()).collect()
    }
}

/// Bytes, then merged tokens, then specials.
fn vocabulary() -> Vec<String> {
    let bytes = (0..=255).map(|byte| byte_symbol(byte).to_string());
    let merged = MERGES.iter().map(|pair| pair.replace(' ', ""));
    bytes.chain(merged).chain(SPECIALS.map(str::to_owned)).collect()
}

/// The printable character that byte-level BPE writes for a byte (GPT-2's `bytes_to_unicode`): itself where it is
/// printable Latin-1, else the next free one from U+0100.
fn byte_symbol(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !printable(*other)).count();
    char::from_u32(0x100 + before as u32).expect("U+0100 to U+0143 are characters")
}

fn add_tokenizer(vocabulary: &[String], parts: &mut TinyParts) {
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    let first_special = vocabulary.len() - SPECIALS.len();
    let types: Vec<i32> =
        (0..vocabulary.len()).map(|token| if token < first_special { NORMAL } else { CONTROL }).collect();
    let id = |special: usize| MetaValue::U32((first_special + special) as u32);
    parts.set("tokenizer.ggml.model", MetaValue::Text("gpt2".to_owned()));
    parts.set("tokenizer.ggml.pre", MetaValue::Text("qwen2".to_owned()));
    parts.set("tokenizer.ggml.tokens", MetaValue::Array(ArrayBuf::texts(vocabulary)));
    parts.set("tokenizer.ggml.token_type", MetaValue::Array(ArrayBuf::scalars(&types)));
    parts.set("tokenizer.ggml.merges", MetaValue::Array(ArrayBuf::texts(MERGES)));
    parts.set("tokenizer.ggml.bos_token_id", id(0));
    parts.set("tokenizer.ggml.padding_token_id", id(0));
    parts.set("tokenizer.ggml.eos_token_id", id(2));
    parts.set("tokenizer.ggml.add_bos_token", MetaValue::Bool(false));
    parts.set("tokenizer.chat_template", MetaValue::Text(CHAT_TEMPLATE.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
        let bytes = |seed| TinyModel::new("llama", seed).parts().bytes();
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn byte_symbols_are_those_of_gpt_2() {
        assert_eq!(byte_symbol(b'A'), 'A');
        assert_eq!(byte_symbol(b' '), 'Ġ');
        assert_eq!(byte_symbol(b'\n'), 'Ċ');
        assert_eq!(byte_symbol(0), 'Ā');
        assert_eq!(byte_symbol(0xad), 'Ń');
        let distinct: std::collections::HashSet<char> = (0..=255).map(byte_symbol).collect();
        assert_eq!(distinct.len(), 256);
    }

    #[test]
    fn every_format_with_a_codec_can_be_written() {
        for format in tensor::FORMATS.iter().filter(|row| row.codec.is_some() && row.format.is_quantised()) {
            let model = TinyModel { formats: TinyFormats::uniform(format.format), ..TinyModel::wide("qwen2", 1) };
            assert_eq!(model.file().tensor("blk.1.ffn_down.weight").unwrap().format(), format.format);
        }
    }
}
