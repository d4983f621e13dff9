//! The command as other programs see it: stdout, stderr and exit codes of the built binary, on the built-in model.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod bad_input;
mod chat;
mod devices;
mod files;
mod inspect;
#[cfg(unix)]
mod lost_file;
mod measures;
mod run;
mod support;
mod tokenize;
