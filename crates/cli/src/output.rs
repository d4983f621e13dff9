//! What goes where: stdout has model text or JSON only, stderr everything for people. Errors and exit codes.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use serde_json::json;

use crate::interrupt;

/// How much to tell on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors.
    Quiet,
    /// Notes and progress, at a terminal.
    Normal,
    /// Notes wherever stderr leads.
    Verbose,
}

/// Where output goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    verbosity: Verbosity,
    json: bool,
    stdout_terminal: bool,
    stderr_terminal: bool,
    color: bool,
}

impl Output {
    pub(crate) fn new(verbosity: Verbosity, json: bool) -> Output {
        let stderr_terminal = io::stderr().is_terminal();
        #[expect(clippy::disallowed_methods, reason = "the binary reads the environment")]
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let stdout_terminal = io::stdout().is_terminal();
        Output { verbosity, json, stdout_terminal, stderr_terminal, color: stderr_terminal && !no_color }
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether a person sees stdout as it is written.
    pub(crate) fn stdout_terminal(&self) -> bool {
        self.stdout_terminal
    }

    /// Whether notes are told.
    pub(crate) fn notes(&self) -> bool {
        match self.verbosity {
            Verbosity::Quiet => false,
            Verbosity::Normal => self.stderr_terminal,
            Verbosity::Verbose => true,
        }
    }

    /// Whether progress bars are drawn.
    pub(crate) fn progress(&self) -> bool {
        self.stderr_terminal && self.verbosity != Verbosity::Quiet
    }

    /// One line for people, where [`Output::notes`] says so.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if self.notes() {
            self.tell(self.dim(text));
        }
    }

    /// One line on stderr that is no failure but must be known, unless quiet.
    pub(crate) fn warn(&self, text: impl fmt::Display) {
        if self.verbosity != Verbosity::Quiet {
            self.tell(text);
        }
    }

    /// One line on stderr, always.
    pub(crate) fn tell(&self, text: impl fmt::Display) {
        // Where stderr is closed there is nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Text on stderr that does not end a line.
    pub(crate) fn tell_part(&self, text: impl fmt::Display) {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
    }

    /// `text` in a quiet colour where colours are wanted.
    pub(crate) fn dim(&self, text: impl fmt::Display) -> String {
        if self.color { format!("\x1b[2m{text}\x1b[0m") } else { text.to_string() }
    }

    /// `text` in bold where colours are wanted.
    pub(crate) fn bold(&self, text: impl fmt::Display) -> String {
        if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Text on stdout, at once.
    pub(crate) fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| stdout_error(&error))
    }

    /// A value as one line of JSON on stdout.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.print(&(serde_json::to_string(value)? + "\n"))
    }

    /// Tells a failure and gives the exit code.
    pub(crate) fn end(&self, outcome: anyhow::Result<()>) -> ExitCode {
        let Err(error) = outcome else {
            return ExitCode::SUCCESS;
        };
        if error.is::<StdoutClosed>() {
            return ExitCode::SUCCESS;
        }
        if error.is::<Unsound>() {
            return ExitCode::FAILURE;
        }
        if error.is::<Interrupted>() {
            return ExitCode::from(interrupt::EXIT_CODE);
        }
        self.tell_error(&error);
        ExitCode::FAILURE
    }

    /// A failure, on stderr: as JSON where the output is.
    pub(crate) fn tell_error(&self, error: &anyhow::Error) {
        self.tell(self.error_line(error));
    }

    /// What [`Output::tell_error`] tells, without the line's end.
    pub(crate) fn error_line(&self, error: &anyhow::Error) -> String {
        if self.json {
            json!({"error": {"kind": kind(error), "message": message(error)}}).to_string()
        } else {
            format!("{} {}", self.bold("error:"), message(error))
        }
    }
}

/// A table with these headings, no wider than the terminal.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.to_vec());
    table
}

/// A failure that belongs to the command line rather than to the library.
#[derive(Debug)]
pub(crate) struct Problem {
    /// A stable word for programs.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

impl Problem {
    /// A file of the user's, not the model, is wrong.
    pub(crate) fn input(message: impl Into<String>) -> anyhow::Error {
        Problem { kind: "input", message: message.into() }.into()
    }

    /// The model's file is no longer what was opened.
    #[cfg(unix)]
    pub(crate) fn lost_file(message: impl Into<String>) -> anyhow::Error {
        Problem { kind: "file", message: message.into() }.into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Problem {}

/// Whoever read stdout has gone: no failure of ours.
#[derive(Debug)]
struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl StdError for StdoutClosed {}

/// A file was found wanting, and a report on stdout says how: nothing more to tell.
#[derive(Debug)]
pub(crate) struct Unsound;

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file is not sound")
    }
}

impl StdError for Unsound {}

/// Ctrl-C ended the work.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl StdError for Interrupted {}

fn stdout_error(error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => StdoutClosed.into(),
        _ => Problem { kind: "output", message: format!("cannot write to stdout: {error}") }.into(),
    }
}

fn kind(error: &anyhow::Error) -> &'static str {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        problem.kind
    } else if let Some(error) = error.downcast_ref::<metallic::Error>() {
        error.kind()
    } else {
        "internal"
    }
}

/// The chain of causes, without those that the message before already tells.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if message.is_empty() {
            message = text;
        } else if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_tell_each_cause_once() {
        let error = anyhow::anyhow!("inner").context("outer (inner)").context("outermost");
        assert_eq!(message(&error), "outermost: outer (inner)");
    }

    #[test]
    fn kinds_survive_context() {
        let error = Problem::input("bad").context("while reading");
        assert_eq!(kind(&error), "input");
        let error = metallic::Error::InvalidSetting { what: "x", value: "y".to_owned(), allowed: "z".to_owned() };
        assert_eq!(kind(&anyhow::Error::from(error).context("while loading")), "invalid_setting");
    }
}
