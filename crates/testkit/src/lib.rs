//! What tests of several crates share. Never a dependency of anything that ships.

#![forbid(unsafe_code)]

pub mod conformance;
pub mod golden;
pub mod random;
pub mod tiny_gguf;
pub mod tolerance;

pub use golden::{golden_models, golden_tokens};
pub use random::Random;
pub use tiny_gguf::{MetaValue, TinyFormats, TinyModel, TinyParts, TinyTensor};
