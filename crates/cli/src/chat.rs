//! `metallic chat`: a conversation. Answers go to stdout, everything else to stderr or the terminal.

mod command;
mod history;
mod lines;
mod settings;

use metallic::{Chat, Event, Message, Prompt, Timings};

use crate::args::ChatArgs;
use crate::interrupt::Answering;
use crate::options;
use crate::output::{Interrupted, Output, Problem};
use crate::progress::Progress;
use crate::run::timings_line;
use crate::tokenize::tell_lost;

use command::Command;
use lines::{Line, Lines};

pub(crate) fn chat(args: &ChatArgs, out: &Output) -> anyhow::Result<()> {
    let mut load = options::load_options(&args.load, options::context(&args.context))?;
    load.chat_template = options::chat_template(&args.generate)?;
    let generate = options::generate_options(&args.generate, &args.sampling, None);
    generate.sampler.validate().map_err(|error| metallic::Error::from(metallic::session::SessionError::from(error)))?;
    let mut loaded = options::load(&args.file, &load, out)?;
    options::tell_about_template(&loaded.model, out);
    let mut talk = Talk { chat: loaded.model.chat(generate), out, timings: None };
    if let Some(system) = &args.generate.system {
        talk.set_system(system);
    }
    let mut lines = Lines::new()?;
    out.note("/help lists commands; \\ at the end of a line continues it; Ctrl-C stops an answer, Ctrl-D ends");
    converse(&mut talk, &mut lines, out)
}

/// Until the input ends. At a terminal failures are told and forgotten; a script hears of them by its exit code.
fn converse(talk: &mut Talk<'_>, lines: &mut Lines, out: &Output) -> anyhow::Result<()> {
    let mut failures = 0;
    let mut interrupts = 0;
    loop {
        let text = match lines.next()? {
            Line::Text(text) => text,
            Line::Interrupt if interrupts > 0 => return Err(Interrupted.into()),
            Line::Interrupt => {
                interrupts += 1;
                out.tell(out.dim("Ctrl-C again, Ctrl-D or /exit ends"));
                continue;
            }
            Line::End => break,
        };
        interrupts = 0;
        let outcome = match Command::parse(&text) {
            _ if text.trim().is_empty() => Ok(()),
            None => talk.say(&text),
            Some(Ok(Command::Exit)) => break,
            Some(Ok(command)) => talk.obey(&command),
            Some(Err(error)) => Err(error),
        };
        match outcome {
            Err(error) if error.is::<Problem>() || error.is::<metallic::Error>() => {
                out.tell_error(&error);
                failures += 1;
            }
            other => other?,
        }
    }
    if failures > 0 && !lines.interactive() {
        let message = format!("{} of the conversation failed", options::count(failures, "line"));
        return Err(Problem { kind: "conversation", message }.into());
    }
    Ok(())
}

/// A conversation, and what was measured of its last answer.
struct Talk<'a> {
    chat: Chat<'a>,
    out: &'a Output,
    timings: Option<Timings>,
}

impl Talk<'_> {
    /// Has `text` answered. Ctrl-C stops the answer; what there is of it stays in the conversation.
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let answering = Answering::begin();
        self.timings = None;
        let mut progress = Some(Progress::of_items(self.out));
        let answer = self.chat.say(text)?;
        tell_lost(answer.unencodable(), "conversation", self.out);
        for event in answer {
            match event? {
                Event::Prefill { done, total } => {
                    if let Some(progress) = &mut progress {
                        progress.set("reading", done as u64, total as u64);
                    }
                }
                Event::Token { text, .. } => {
                    progress = None;
                    self.out.print(&text)?;
                }
                Event::Finish { text, timings, .. } => {
                    progress = None;
                    self.out.print(&text)?;
                    self.timings = Some(timings);
                }
            }
            if answering.stopped() {
                break;
            }
        }
        drop(progress);
        self.out.print("\n")
    }

    fn obey(&mut self, command: &Command) -> anyhow::Result<()> {
        match command {
            // The loop ends before.
            Command::Exit => {}
            Command::Help => self.out.tell(command::help()),
            Command::Clear => {
                let system = self.chat.messages().iter().filter(|message| message.role == "system").take(1);
                let kept = system.cloned().collect();
                self.chat.set_messages(kept);
            }
            Command::System(text) => self.set_system(text),
            Command::Undo => {
                self.take_back()?;
            }
            Command::Regenerate => {
                let text = self.take_back()?;
                self.say(&text)?;
            }
            Command::Save(path) => history::save(path, self.chat.messages())?,
            Command::Load(path) => {
                let messages = history::load(path)?;
                self.chat.set_messages(messages);
            }
            Command::Settings => self.out.tell(settings::list(self.chat.options())),
            Command::Set { name, value } => settings::set(self.chat.options(), name, value)?,
            Command::Stats => self.tell_stats()?,
            Command::Tokens => {
                let ids = self.ids()?;
                self.out.tell(format_args!("{ids:?}"));
            }
        }
        Ok(())
    }

    /// Puts `text` in front of the conversation; an empty one takes the system message away.
    fn set_system(&mut self, text: &str) {
        let rest = self.chat.messages().iter().filter(|message| message.role != "system").cloned();
        let system = (!text.is_empty()).then(|| Message::text("system", text));
        let messages = system.into_iter().chain(rest).collect();
        self.chat.set_messages(messages);
    }

    /// Forgets the last thing the user said and what followed; returns what was said.
    fn take_back(&mut self) -> anyhow::Result<String> {
        let messages = self.chat.messages();
        let last = messages.iter().rposition(|message| message.role == "user");
        let last = last.ok_or_else(|| command::problem("nothing was said yet"))?;
        let metallic::Content::Text(text) = &messages[last].content else {
            return Err(command::problem("the last message is no plain text"));
        };
        let (text, kept) = (text.clone(), messages[..last].to_vec());
        self.chat.set_messages(kept);
        Ok(text)
    }

    /// Token ids of the conversation so far, as a next answer would see it.
    fn ids(&self) -> anyhow::Result<Vec<u32>> {
        match self.chat.messages() {
            [] => Ok(Vec::new()),
            messages => Ok(self.chat.model().encode(&Prompt::Messages(messages))?),
        }
    }

    fn tell_stats(&self) -> anyhow::Result<()> {
        let engine = self.chat.model().engine_info();
        let used = self.ids()?.len();
        let messages = options::count(self.chat.messages().len(), "message");
        self.out.tell(format_args!("{messages}, {used} of {} tokens of context", engine.context()));
        if let Some(timings) = &self.timings {
            self.out.tell(timings_line(timings));
        }
        Ok(())
    }
}
