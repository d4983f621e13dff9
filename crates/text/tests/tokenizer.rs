//! Tokenizers against small vocabularies written by hand, against the storyteller model's real
//! one, and against what hostile files may hold.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "tokenizer/fixtures.rs"]
mod fixtures;
#[path = "tokenizer/hostile.rs"]
mod hostile;
#[path = "tokenizer/other_models.rs"]
mod other_models;
#[path = "tokenizer/regexes.rs"]
mod regexes;
#[path = "tokenizer/round_trip.rs"]
mod round_trip;
#[path = "tokenizer/sentence_piece.rs"]
mod sentence_piece;
#[path = "tokenizer/special_tokens.rs"]
mod special_tokens;
#[path = "tokenizer/vocabularies.rs"]
mod vocabularies;
