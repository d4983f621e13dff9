//! Everything that can be wrong with a model's metadata and tensor table.

use gguf::GgufError;
use program::ProgramError;
use thiserror::Error;

/// Why a file gives no program.
#[derive(Debug, Error)]
pub enum ModelError {
    /// No row of the registry has this name.
    #[error(
        "architecture `{architecture}` is not supported{}; this build runs: {supported}",
        nearest.map(|name| format!(" (the nearest is `{name}`)")).unwrap_or_default()
    )]
    UnknownArchitecture {
        /// `general.architecture` of the file.
        architecture: String,
        /// The supported name that is spelled most like it, if any is close.
        nearest: Option<&'static str>,
        /// All supported names.
        supported: String,
    },
    /// A hyperparameter without which nothing can be built.
    #[error("metadata key `{key}` is missing: the file is incomplete; convert or download the model again")]
    MissingKey {
        /// The key, with its architecture prefix.
        key: String,
    },
    /// A value of the wrong type, or not UTF-8.
    #[error("a metadata value cannot be read: {0}")]
    Metadata(#[source] GgufError),
    /// A hyperparameter outside what can be computed with.
    #[error("metadata key `{key}` is {value}; it must be {must_be}")]
    InvalidValue {
        /// The key, with its architecture prefix.
        key: String,
        /// The file's value.
        value: String,
        /// What would be accepted.
        must_be: String,
    },
    /// A hyperparameter that differs from layer to layer.
    #[error(
        "metadata key `{key}` differs between layers ({first} in layer 0, {other} in layer {layer}); models with uneven layers are not supported"
    )]
    UnevenLayers {
        /// The key, with its architecture prefix.
        key: String,
        /// The value of layer 0.
        first: u64,
        /// The first value that differs.
        other: u64,
        /// Its layer.
        layer: usize,
    },
    /// A feature of the architecture that no step computes.
    #[error("metadata key `{key}` is {value}: {feature} is not supported for `{architecture}`; use a model without it")]
    UnsupportedFeature {
        /// The file's architecture.
        architecture: String,
        /// The key that asks for it.
        key: String,
        /// The key's value.
        value: String,
        /// What the key asks for.
        feature: &'static str,
    },
    /// More layers than tensors.
    #[error("metadata key `{key}` is {layers}, but the file holds only {tensors} tensors: it is truncated or lies")]
    TooManyLayers {
        /// The key, with its architecture prefix.
        key: String,
        /// What it says.
        layers: usize,
        /// Tensors in the file.
        tensors: usize,
    },
    /// The tokenizer and the embedding disagree about the vocabulary.
    #[error(
        "the vocabulary of metadata key `{key}` has {tokens} tokens, but tensor `token_embd.weight` has {rows} rows"
    )]
    VocabularySize {
        /// The key that gives the number of tokens.
        key: String,
        /// Tokens by metadata.
        tokens: u64,
        /// Rows of the embedding table.
        rows: usize,
    },
    /// A weight that the architecture cannot do without.
    #[error("tensor `{tensor}` is missing, which architecture `{architecture}` needs")]
    MissingTensor {
        /// The tensor's name.
        tensor: String,
        /// The file's architecture.
        architecture: String,
    },
    /// A weight that the architecture does not know: to compute without it would give wrong answers.
    #[error(
        "tensor `{tensor}` ({count} such in all) is no part of architecture `{architecture}` as this build knows it; answers without it would be wrong"
    )]
    UnexpectedTensor {
        /// The first such tensor's name.
        tensor: String,
        /// How many there are.
        count: usize,
        /// The file's architecture.
        architecture: String,
    },
    /// A tensor with more than two dimensions where a matrix or vector is needed.
    #[error("tensor `{tensor}` has the shape {shape}; a matrix or a vector is needed")]
    NoMatrix {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: String,
    },
    /// A tensor of rotary divisors that cannot be used.
    #[error("tensor `{tensor}` must hold {pairs} positive finite numbers, one for each rotated pair: {problem}")]
    RotaryDivisors {
        /// The tensor's name.
        tensor: String,
        /// Rotated pairs in a head.
        pairs: usize,
        /// What is wrong.
        problem: String,
    },
    /// A weight has another shape than its step needs, or no codec.
    #[error(transparent)]
    Program(#[from] ProgramError),
}
