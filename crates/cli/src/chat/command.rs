//! Lines that begin with `/`: what they are called and what they take. Doing them is the conversation's affair.

use std::path::PathBuf;

use crate::output::Problem;

/// What a person can ask for.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Help,
    Exit,
    Clear,
    /// An empty text takes the message away.
    System(String),
    Undo,
    Regenerate,
    Save(PathBuf),
    Load(PathBuf),
    Settings,
    Set {
        name: String,
        value: String,
    },
    Stats,
    Tokens,
}

/// Name, what it takes, what it does, for `/help`.
const TABLE: &[(&str, &str, &str)] = &[
    ("/help", "", "this list"),
    ("/exit", "", "end, as do /quit and Ctrl-D"),
    ("/clear", "", "a new conversation; the system message stays"),
    ("/system", "TEXT", "set the system message; without TEXT, take it away"),
    ("/undo", "", "forget the last message and its answer"),
    ("/regen", "", "answer the last message again"),
    ("/save", "FILE", "write the conversation, as JSON messages"),
    ("/load", "FILE", "go on with a conversation that was written"),
    ("/set", "NAME VALUE", "change a setting, such as temp 0.5 or seed 1; alone, show all"),
    ("/stats", "", "context used, and the speed of the last answer"),
    ("/tokens", "", "the conversation as token ids"),
];

impl Command {
    /// `None` where the line is something to say.
    pub(super) fn parse(line: &str) -> Option<anyhow::Result<Command>> {
        let line = line.trim();
        if !line.starts_with('/') {
            return None;
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Some(Command::named(name, rest.trim()))
    }

    fn named(name: &str, rest: &str) -> anyhow::Result<Command> {
        let alone = |command: Command| match rest {
            "" => Ok(command),
            _ => Err(problem(format!("{name} takes nothing behind it"))),
        };
        let path = || match rest {
            "" => Err(problem(format!("{name} needs a file: {name} FILE"))),
            _ => Ok(PathBuf::from(rest)),
        };
        match name {
            "/help" => alone(Command::Help),
            "/exit" | "/quit" => alone(Command::Exit),
            "/clear" => alone(Command::Clear),
            "/system" => Ok(Command::System(rest.to_owned())),
            "/undo" => alone(Command::Undo),
            "/regen" => alone(Command::Regenerate),
            "/save" => Ok(Command::Save(path()?)),
            "/load" => Ok(Command::Load(path()?)),
            "/set" if rest.is_empty() => Ok(Command::Settings),
            "/set" => match rest.split_once(char::is_whitespace) {
                Some((name, value)) => Ok(Command::Set { name: name.to_owned(), value: value.trim().to_owned() }),
                None => Err(problem("/set needs a name and a value: /set temp 0.5")),
            },
            "/stats" => alone(Command::Stats),
            "/tokens" => alone(Command::Tokens),
            _ => Err(problem(format!("there is no command {name}; /help lists them"))),
        }
    }
}

/// The list of commands.
pub(super) fn help() -> String {
    let line = |(name, takes, does): &(&str, &str, &str)| format!("  {:<20} {does}", format!("{name} {takes}"));
    TABLE.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A command that cannot be done.
pub(super) fn problem(message: impl Into<String>) -> anyhow::Error {
    Problem { kind: "command", message: message.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        Command::parse(line).expect("a command").expect(line)
    }

    #[test]
    fn lines_without_a_slash_are_said() {
        assert!(Command::parse("hello /help").is_none());
        assert!(Command::parse("").is_none());
    }

    #[test]
    fn commands_take_what_is_behind_them() {
        assert_eq!(parsed(" /quit "), Command::Exit);
        assert_eq!(parsed("/system  Be brief. "), Command::System("Be brief.".to_owned()));
        assert_eq!(parsed("/save a b.json"), Command::Save("a b.json".into()));
        assert_eq!(parsed("/set temp  0.5"), Command::Set { name: "temp".to_owned(), value: "0.5".to_owned() });
        assert_eq!(parsed("/set"), Command::Settings);
    }

    #[test]
    fn every_listed_command_exists_and_wrong_ones_are_refused() {
        for (name, takes, _) in TABLE {
            let line = if *takes == "NAME VALUE" { format!("{name} a b") } else { format!("{name} {takes}") };
            parsed(&line);
        }
        for wrong in ["/nothing", "/help me", "/save", "/load", "/set temp"] {
            assert!(Command::parse(wrong).expect("a command").is_err(), "{wrong}");
        }
    }
}
