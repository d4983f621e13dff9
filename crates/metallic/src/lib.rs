//! Load a GGUF model, chat, stream.
//!
//! ```no_run
//! use metallic::{Event, GenerateOptions, Model};
//!
//! fn main() -> Result<(), metallic::Error> {
//!     let mut model = Model::open("model.gguf")?;
//!     let mut chat = model.chat(GenerateOptions::new());
//!     for event in chat.say("Tell me a story.")? {
//!         if let Event::Token { text, .. } = event? {
//!             print!("{text}");
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! This crate joins the others and is the only one that names a backend. It reads no flags and no environment.

#![forbid(unsafe_code)]

pub mod chat;
pub mod device;
mod error;
pub mod generate;
pub mod importance;
pub mod inventory;
pub mod memory;
pub mod model;
pub mod perplexity;
pub mod prompt;
pub mod selftest;

pub use chat::Chat;
pub use cpu::default_threads;
pub use device::{Device, Placement};
pub use error::Error;
pub use generate::{Event, FinishReason, GenerateOptions, Generation, Speculation, Timings};
pub use model::{LoadOptions, LoadStage, Model};
pub use perplexity::Perplexity;
pub use program::KvFormat;
pub use prompt::{Prompt, TemplateOrigin};
pub use session::sampler::{Mirostat, SamplerConfig};
pub use text::chat_template::{Content, Message};

/// GGUF files, for programs that look into them.
pub use gguf;
/// Architectures: from a file to what it computes.
pub use models;
/// What a model computes.
pub use program;
/// Memory plans, sequences, logits.
pub use session;
/// Formats.
pub use tensor;
/// Tokenizers and templates.
pub use text;
/// Quantise, split, merge, edit, verify and convert files.
pub use tools;
