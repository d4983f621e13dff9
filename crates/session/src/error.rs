//! What can go wrong between tokens and tokens.

use program::BackendError;
use thiserror::Error;

use crate::sampler::SamplerError;

/// Errors of this crate.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The sampler's settings or input are invalid.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The tokens do not fit the context.
    #[error(
        "the context holds {context} tokens; {used} are used and {wanted} more were given: shorten the prompt or load with a larger context (the model allows {model_context})"
    )]
    ContextOverflow {
        /// Positions the engine was loaded with.
        context: usize,
        /// Positions already taken by the sequence.
        used: usize,
        /// Positions asked for.
        wanted: usize,
        /// Positions the model was made for.
        model_context: usize,
    },
    /// All pages are taken by other sequences.
    #[error("{wanted} more positions were asked for, {free} of {total} are free: end another sequence first")]
    OutOfPages {
        /// Positions asked for.
        wanted: usize,
        /// Positions free.
        free: usize,
        /// Positions in all.
        total: usize,
    },
    /// Nothing to compute from.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// The prompt is no continuation of what the sequence holds.
    #[error(
        "the prompt of {given} tokens does not continue the {held} tokens that the sequence holds: truncate it first"
    )]
    NotAContinuation {
        /// Tokens of the sequence.
        held: usize,
        /// Tokens of the prompt.
        given: usize,
    },
    /// A token id the model does not have.
    #[error("token id {token} at position {position} of the prompt is outside the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Where in the prompt.
        position: usize,
        /// Number of ids.
        vocabulary: usize,
    },
    /// The plan does not fit the memory budget.
    #[error(
        "the model needs {needed_mib} MiB ({weights_mib} weights, {kv_mib} for {context} tokens of context, {scratch_mib} scratch) and {available_mib} MiB are available: lower the context (at most {context_that_fits} tokens fit) or use a smaller quantisation"
    )]
    DoesNotFit {
        /// All of it.
        needed_mib: u64,
        /// Weights.
        weights_mib: u64,
        /// Keys and values.
        kv_mib: u64,
        /// Activations.
        scratch_mib: u64,
        /// Context that was asked for.
        context: usize,
        /// The budget.
        available_mib: u64,
        /// The largest context within the budget; 0 where the weights alone are too large.
        context_that_fits: usize,
    },
    /// A tensor could not be read.
    #[error("weight {tensor} cannot be read: {reason}")]
    Weight {
        /// The tensor's name.
        tensor: String,
        /// What the file said.
        reason: String,
    },
}
