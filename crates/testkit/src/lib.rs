//! What tests of several crates share. Never a dependency of anything that ships.

#![forbid(unsafe_code)]

pub mod golden;
pub mod tiny_gguf;

pub use conformance;
pub use conformance::{Random, random, tolerance};
pub use golden::{golden_models, golden_tokens};
pub use tiny_gguf::{MetaValue, TinyFormats, TinyModel, TinyParts, TinyTensor};
