//! What a person or a script types. At a terminal lines can be edited and are remembered; otherwise they are read as
//! they are. A line that ends with `\` goes on in the next one.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::{Behavior, Config, DefaultEditor};

use crate::output::Problem;

const PROMPT: &str = "> ";
const PROMPT_CONTINUED: &str = "… ";
/// Lines remembered.
const HISTORY_MAX: usize = 1000;

/// What came.
pub(super) enum Line {
    /// A line, or several.
    Text(String),
    /// Ctrl-C.
    Interrupt,
    /// No more will come.
    End,
}

/// Where lines come from.
pub(super) enum Lines {
    Terminal(Box<Terminal>),
    Plain,
}

/// A terminal with what was typed before.
pub(super) struct Terminal {
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

impl Lines {
    pub(super) fn new() -> anyhow::Result<Lines> {
        if !std::io::stdin().is_terminal() {
            return Ok(Lines::Plain);
        }
        // Prompts must not go to a stdout that is a file.
        let config = Config::builder().behavior(Behavior::PreferTerm).auto_add_history(false);
        let config = config.max_history_size(HISTORY_MAX).map_err(unreadable)?.build();
        let mut editor = DefaultEditor::with_config(config).map_err(unreadable)?;
        let history = history_path();
        if let Some(path) = &history {
            // The first time there is none, and one that cannot be read is only less convenient.
            let _ = editor.load_history(path);
        }
        Ok(Lines::Terminal(Box::new(Terminal { editor, history })))
    }

    /// Whether a person types.
    pub(super) fn interactive(&self) -> bool {
        matches!(self, Lines::Terminal(_))
    }

    /// The next line with those that continue it.
    pub(super) fn next(&mut self) -> anyhow::Result<Line> {
        let mut text = String::new();
        let mut prompt = PROMPT;
        loop {
            match self.read(prompt)? {
                Line::Text(line) => match line.strip_suffix('\\') {
                    Some(line) => {
                        text.push_str(line);
                        text.push('\n');
                        prompt = PROMPT_CONTINUED;
                    }
                    None => {
                        text.push_str(&line);
                        break;
                    }
                },
                Line::End if prompt == PROMPT_CONTINUED => break,
                other => return Ok(other),
            }
        }
        if let Lines::Terminal(terminal) = self {
            terminal.remember(&text);
        }
        Ok(Line::Text(text))
    }

    fn read(&mut self, prompt: &str) -> anyhow::Result<Line> {
        match self {
            Lines::Terminal(terminal) => match terminal.editor.readline(prompt) {
                Ok(line) => Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupt),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(unreadable(error)),
            },
            Lines::Plain => {
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line).map_err(unreadable)?;
                let line = line.strip_suffix('\n').unwrap_or(&line);
                let line = line.strip_suffix('\r').unwrap_or(line);
                Ok(if read == 0 { Line::End } else { Line::Text(line.to_owned()) })
            }
        }
    }
}

impl Terminal {
    fn remember(&mut self, text: &str) {
        let new = !text.trim().is_empty() && self.editor.add_history_entry(text).unwrap_or(false);
        if let (true, Some(path)) = (new, &self.history) {
            // A history that cannot be kept is only less convenient next time.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = self.editor.append_history(path);
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> anyhow::Error {
    Problem::input(format!("cannot read what is typed: {error}"))
}

/// In the XDG state folder.
fn history_path() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the binary reads the environment")]
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("metallic/history"))
}
