//! One error for everything between a path and an answer.

use thiserror::Error as ThisError;

/// What can go wrong; each variant carries the error of the part that found it.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The file is no usable GGUF.
    #[error(transparent)]
    File(#[from] gguf::GgufError),
    /// The metadata and tensors make no model that this build knows.
    #[error(transparent)]
    Model(#[from] models::ModelError),
    /// The vocabulary is unusable.
    #[error(transparent)]
    Tokenizer(#[from] text::TokenizerError),
    /// The chat template failed.
    #[error("chat template: {0}")]
    Template(#[from] text::chat_template::TemplateError),
    /// Planning, computing or sampling failed.
    #[error(transparent)]
    Session(#[from] session::SessionError),
    /// A tool failed on its files.
    #[error(transparent)]
    Tool(#[from] tools::ToolError),
    /// A text is too short to measure.
    #[error("the text has {tokens} tokens; perplexity over chunks of {chunk} needs at least {needed}")]
    TextTooShort {
        /// Its length.
        tokens: usize,
        /// Tokens of a chunk.
        chunk: usize,
        /// Tokens needed.
        needed: usize,
    },
    /// A setting has no meaning.
    #[error("{what} is {value}, it must be {allowed}")]
    InvalidSetting {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What would work.
        allowed: String,
    },
}

impl Error {
    /// A stable word for programs: which part failed, or why.
    pub fn kind(&self) -> &'static str {
        use session::SessionError as S;
        match self {
            Error::File(_) => "file",
            Error::Model(_) => "model",
            Error::Tokenizer(_) => "tokenizer",
            Error::Template(_) => "template",
            Error::Session(S::ContextOverflow { .. }) => "context_overflow",
            Error::Session(S::DoesNotFit { .. }) => "does_not_fit",
            Error::Session(S::Sampler(_)) => "sampler",
            Error::Session(S::EmptyPrompt) => "empty_prompt",
            Error::Session(S::UnknownToken { .. }) => "unknown_token",
            Error::Session(S::Backend(program::BackendError::NoDevice { .. })) => "unknown_device",
            Error::Session(S::Backend(_)) => "backend",
            Error::Session(_) => "session",
            Error::Tool(error) => error.kind(),
            Error::TextTooShort { .. } => "text_too_short",
            Error::InvalidSetting { .. } => "invalid_setting",
        }
    }
}
