//! A tokenizer from the metadata of a GGUF file. The only module that knows the container; it
//! borrows every text from the file and decides nothing about what the values mean.

use gguf::{Array, GgufError, Metadata};

use crate::error::TokenizerError;
use crate::tokenizer::{Tokenizer, has_pre_tokenizer};
use crate::vocabulary::{SpecialIds, VocabularySource};

impl Tokenizer {
    /// The tokenizer that the file describes. `pre_override` replaces `tokenizer.ggml.pre`, for
    /// files that name a pre-tokenizer wrongly or not at all.
    ///
    /// # Errors
    /// Missing keys, wrong types, an override for a kind of tokenizer that has no pre-tokenizer, and whatever
    /// `from_source` finds.
    pub fn from_gguf(metadata: &Metadata, pre_override: Option<&str>) -> Result<Self, TokenizerError> {
        let mut source = source_from_gguf(metadata)?;
        if pre_override.is_some() {
            if !has_pre_tokenizer(source.model) {
                return Err(TokenizerError::NoPreTokenizer { model: source.model.to_owned() });
            }
            source.pre = pre_override;
        } else if source.model == "gemma4" {
            // The model names its rule; what else the file says is a leftover, as for llama.cpp.
            source.pre = None;
        }
        Self::from_source(&source)
    }
}

/// What the file says about its tokenizer, borrowed from the file.
///
/// # Errors
/// A key that a tokenizer needs is missing, or holds a value of another type.
pub fn source_from_gguf(metadata: &Metadata) -> Result<VocabularySource<'_>, TokenizerError> {
    let model = metadata.str("tokenizer.ggml.model")?;
    let tokens = texts(metadata, "tokenizer.ggml.tokens")?;
    Ok(VocabularySource {
        model: model.ok_or(TokenizerError::MissingKey { key: "tokenizer.ggml.model" })?,
        pre: metadata.str("tokenizer.ggml.pre")?,
        tokens: tokens.ok_or(TokenizerError::MissingKey { key: "tokenizer.ggml.tokens" })?,
        token_types: numbers(metadata, "tokenizer.ggml.token_type", "an array of 32-bit integers", integers)?,
        scores: numbers(metadata, "tokenizer.ggml.scores", "an array of 32-bit numbers", floats)?,
        merges: texts(metadata, "tokenizer.ggml.merges")?,
        special_ids: special_ids(metadata)?,
        add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
        add_eos: metadata.bool("tokenizer.ggml.add_eos_token")?,
        add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
        remove_extra_spaces: metadata.bool("tokenizer.ggml.remove_extra_whitespaces")?,
        precompiled_charsmap: numbers(metadata, "tokenizer.ggml.precompiled_charsmap", "an array of bytes", bytes)?,
        lowercase: metadata.bool("tokenizer.ggml.normalizer.lowercase")?,
        strip_accents: metadata.bool("tokenizer.ggml.normalizer.strip_accents")?,
        model_name: metadata.str("general.name")?,
    })
}

fn special_ids(metadata: &Metadata) -> Result<SpecialIds, TokenizerError> {
    let id = |name: &str| metadata.u32(&format!("tokenizer.ggml.{name}_token_id"));
    // The later key of a pair is an older spelling; where a file has both, the older one wins.
    let either = |new: &str, old: &str| Ok::<_, GgufError>(id(old)?.or(id(new)?));
    Ok(SpecialIds {
        bos: id("bos")?,
        eos: id("eos")?,
        eot: id("eot")?,
        eom: id("eom")?,
        unknown: id("unknown")?,
        // The key's spelling in every file.
        separator: id("seperator")?,
        padding: id("padding")?,
        mask: id("mask")?,
        fim_prefix: either("fim_pre", "prefix")?,
        fim_suffix: either("fim_suf", "suffix")?,
        fim_middle: either("fim_mid", "middle")?,
        fim_padding: id("fim_pad")?,
        fim_repository: id("fim_rep")?,
        fim_separator: id("fim_sep")?,
    })
}

fn texts<'a>(metadata: &'a Metadata, key: &str) -> Result<Option<Vec<&'a [u8]>>, TokenizerError> {
    let Some(array) = metadata.array(key)? else {
        return Ok(None);
    };
    let texts = array.texts().ok_or_else(|| wrong_type(key, "an array of strings"))?;
    Ok(Some(texts.map(|text| text.as_bytes()).collect()))
}

fn numbers<T>(
    metadata: &Metadata,
    key: &str,
    expected: &'static str,
    convert: impl Fn(Array<'_>) -> Option<Vec<T>>,
) -> Result<Option<Vec<T>>, TokenizerError> {
    let Some(array) = metadata.array(key)? else {
        return Ok(None);
    };
    convert(array).map(Some).ok_or_else(|| wrong_type(key, expected))
}

fn integers(array: Array<'_>) -> Option<Vec<i32>> {
    match array.scalars::<i32>() {
        Some(numbers) => Some(numbers.collect()),
        None => Some(array.scalars::<u32>()?.map(u32::cast_signed).collect()),
    }
}

fn floats(array: Array<'_>) -> Option<Vec<f32>> {
    match array.scalars::<f32>() {
        Some(numbers) => Some(numbers.collect()),
        None => Some(array.scalars::<i32>()?.map(|number| number as f32).collect()),
    }
}

fn bytes(array: Array<'_>) -> Option<Vec<u8>> {
    match array.scalars::<u8>() {
        Some(numbers) => Some(numbers.collect()),
        None => Some(array.scalars::<i8>()?.map(i8::cast_unsigned).collect()),
    }
}

fn wrong_type(key: &str, expected: &'static str) -> TokenizerError {
    TokenizerError::WrongType { key: key.to_owned(), expected }
}

impl From<GgufError> for TokenizerError {
    fn from(error: GgufError) -> Self {
        Self::Metadata { source: Box::new(error) }
    }
}
