//! Bytes to tokens to messages: tokenizers, stream decoding, chat templates.
//! Built from a file's metadata alone; runs no regex engine, reads no files and no environment.

#![deny(unsafe_code)]

mod ascii_masks;
mod bpe;
mod byte_level;
mod char_class;
pub mod chat_template;
mod derivations;
mod encoder;
mod error;
mod from_gguf;
mod long_words;
mod merge_table;
mod prefetch;
mod pretokenize;
mod rwkv;
mod short_merge;
mod special;
mod special_matcher;
mod spm;
pub mod stop;
mod stream_decoder;
mod text_table;
mod tokenizer;
mod trie;
mod unicode_tables;
mod unigram;
mod vocabulary;
mod word_cache;
mod word_piece;

pub use encoder::{EncodeOptions, Encoder, Encoding, TextPart, Unencodable};
pub use error::TokenizerError;
pub use from_gguf::source_from_gguf;
pub use pretokenize::{AddBos, PRE_TOKENIZERS, PreTokenizer, PreTokenizerRules, pre_tokenizer_rules};
pub use stream_decoder::{DecodeOptions, StreamDecoder, StreamOptions, StreamStart};
pub use tokenizer::Tokenizer;
pub use vocabulary::{SpecialIds, TokenId, VocabularyNote, VocabularySource};
