//! Everything that can be wrong with a vocabulary or a template. Encoding and decoding cannot fail.

use crate::vocabulary::TokenId;

/// Why a tokenizer could not be built from a file's metadata.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// `tokenizer.ggml.model` names a kind of tokenizer that does not exist here.
    #[error(
        "tokenizer.ggml.model is {name:?}; known models: gpt2 and gemma4 (BPE), llama (SentencePiece), bert (WordPiece), t5 (unigram), rwkv"
    )]
    UnknownModel {
        /// The name in the file.
        name: String,
    },
    /// `tokenizer.ggml.pre` names no known pre-tokenizer.
    #[error(
        "tokenizer.ggml.pre is {name:?}, which is not known; if the model was trained with one of these, override it by name (--pre NAME): {known}"
    )]
    UnknownPreTokenizer {
        /// The name in the file or the caller's override.
        name: String,
        /// The known names, separated by commas.
        known: String,
    },
    /// A pre-tokenizer was named for a kind of tokenizer that has none.
    #[error("tokenizer.ggml.model is {model:?}, which has no pre-tokenizer to override: leave --pre out")]
    NoPreTokenizer {
        /// The kind in the file.
        model: String,
    },
    /// A key without which there is no tokenizer is missing.
    #[error("{key} is missing: the file has no complete tokenizer")]
    MissingKey {
        /// The metadata key.
        key: &'static str,
    },
    /// A key holds a value of another type.
    #[error("{key} should be {expected}")]
    WrongType {
        /// The metadata key.
        key: String,
        /// What the key should hold.
        expected: &'static str,
    },
    /// A value could not be read from the file.
    #[error("the tokenizer's metadata: {source}")]
    Metadata {
        /// The reader's own error, with key and offset.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The vocabulary has no tokens.
    #[error("tokenizer.ggml.tokens is empty")]
    NoTokens,
    /// More than 4 GiB of text or 2^32 tokens and merge results.
    #[error("the vocabulary is larger than 4 GiB or 2^32 entries")]
    VocabularyTooLarge,
    /// A side table is shorter than the vocabulary.
    #[error("{key} has {length} entries for {tokens} tokens")]
    WrongLength {
        /// The metadata key.
        key: &'static str,
        /// Entries in the array.
        length: usize,
        /// Entries in `tokenizer.ggml.tokens`.
        tokens: usize,
    },
    /// Two ids have the same text, so that text has no single id.
    #[error("tokens {first} and {second} have the same text {text:?}")]
    DuplicateToken {
        /// The lower id.
        first: TokenId,
        /// The higher id.
        second: TokenId,
        /// The text, invalid UTF-8 replaced.
        text: String,
    },
    /// A token of type byte is not written `<0xHH>`.
    #[error("token {id} is of type byte, but its text {text:?} is not of the form <0xHH>")]
    BadByteToken {
        /// The token.
        id: TokenId,
        /// The text, invalid UTF-8 replaced.
        text: String,
    },
    /// A merge has no space between two parts.
    #[error("merge {index} is {text:?}, without a space between two parts")]
    BadMerge {
        /// Index into `tokenizer.ggml.merges`.
        index: usize,
        /// The text, invalid UTF-8 replaced.
        text: String,
    },
    /// A score is not a number, so merges have no order.
    #[error("the score of token {id} is not a number")]
    BadScore {
        /// The token.
        id: TokenId,
    },
    /// A token is so long that looking for it at every place of a text would take too long.
    #[error("token {id} has {bytes} bytes; this kind of tokenizer takes at most {limit}")]
    TokenTooLong {
        /// The token.
        id: TokenId,
        /// Its length.
        bytes: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// `tokenizer.ggml.precompiled_charsmap` is broken.
    #[error("tokenizer.ggml.precompiled_charsmap cannot be used: {what}")]
    BadCharsmap {
        /// What is wrong with it.
        what: &'static str,
    },
    /// BOS or EOS shall be added, but the vocabulary has none.
    #[error("{flag} is true, but there is no such token in the vocabulary")]
    MissingAddedToken {
        /// The metadata key of the flag.
        flag: &'static str,
    },
}
