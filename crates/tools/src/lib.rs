//! Tools on model files: quantise, split, merge, edit metadata, verify, convert from Hugging Face checkpoints.
//!
//! Every tool streams: memory holds metadata and a piece of one tensor, never a model. A file appears under its name
//! whole or not at all, and never in place of one that is being read. This crate runs no model, prints nothing and reads
//! no flags; how far it is goes to a [`Watch`], which may also end the work.

#![forbid(unsafe_code)]

pub mod convert;
pub mod error;
pub mod importance;
pub mod mix;
pub mod quantize;
pub mod set;
pub mod split;
pub mod verify;
pub mod watch;

mod destination;
mod encode;
mod metadata;
mod rules;

pub use error::ToolError;
pub use importance::Importance;
pub use mix::{MIXES, Mix};
pub use watch::{Progress, Watch};
