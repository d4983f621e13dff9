//! Tokens in, tokens out: memory plans, KV pages, sampling, generation.
//!
//! This crate handles no strings and names no device: it drives a [`program::Backend`] and yields events.

#![forbid(unsafe_code)]

pub mod engine;
pub mod generate;
pub mod residency;
pub mod sampler;

mod error;
mod lookup;
mod pages;

pub use engine::{DecodedStep, Engine, EngineConfig, LayerVisit, ReadBuffer, Sequence, WeightSource};
pub use error::SessionError;
pub use generate::{Event, FinishReason, GenerateConfig, Generation, Timings};
pub use lookup::Speculation;
pub use residency::{Plan, PlanRequest, plan};
