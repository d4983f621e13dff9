//! What a reader must do with good, damaged and hostile files, built byte by byte.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod access;
mod hostile;
mod messages;
mod metadata;
mod raw;
mod split;
mod sweep;
mod writer;
