//! From metadata and tensor names to a program: one file and one row of [`ARCHITECTURES`] per architecture.
//!
//! This crate decides what is computed. It never computes it, never names a device, and reads no weight except the
//! rotary frequency divisors that some files carry as a tensor.

#![forbid(unsafe_code)]

pub mod registry;
pub mod weights;

mod config;
mod error;
mod source;

mod blocks;
mod rope;

mod gemma;
mod gemma2;
mod gemma3;
mod llama;
mod qwen2;
mod qwen3;

pub use error::ModelError;
pub use registry::{ARCHITECTURES, Architecture, Model, load};
pub use weights::tensor_bytes;
