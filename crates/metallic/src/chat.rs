//! Conversations: messages go through the template, answers join the history.

use text::chat_template::Message;

use crate::Error;
use crate::generate::{Event, GenerateOptions, Generation};
use crate::model::Model;
use crate::prompt::Prompt;

/// A conversation. The model keeps what earlier turns have computed.
pub struct Chat<'m> {
    model: &'m mut Model,
    options: GenerateOptions,
    messages: Vec<Message>,
}

pub(crate) fn start(model: &mut Model, options: GenerateOptions) -> Chat<'_> {
    Chat { model, options, messages: Vec::new() }
}

impl Chat<'_> {
    /// What was said so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Replaces the history, for instance to set a system message or take a turn back.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// How answers are generated.
    pub fn options(&mut self) -> &mut GenerateOptions {
        &mut self.options
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.model
    }

    /// Says `text` as the user. The answer joins the history as it is read; one that is dropped early joins as far as
    /// it went.
    ///
    /// # Errors
    /// A template that refuses the conversation, a conversation that is longer than the context. The message is then
    /// not part of the history.
    pub fn say(&mut self, text: &str) -> Result<Answer<'_>, Error> {
        self.messages.push(Message::text("user", text));
        match self.model.generate(&Prompt::Messages(&self.messages), &self.options) {
            Ok(generation) => Ok(Answer { generation, messages: &mut self.messages, text: String::new() }),
            Err(error) => {
                self.messages.pop();
                Err(error)
            }
        }
    }
}

/// An answer in progress.
pub struct Answer<'c> {
    generation: Generation<'c>,
    messages: &'c mut Vec<Message>,
    text: String,
}

impl Answer<'_> {
    /// As [`Generation::unencodable`].
    pub fn unencodable(&self) -> &[text::Unencodable] {
        self.generation.unencodable()
    }
}

impl Iterator for Answer<'_> {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let event = self.generation.next();
        if let Some(Ok(Event::Token { text, .. } | Event::Finish { text, .. })) = &event {
            self.text.push_str(text);
        }
        event
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.messages.push(Message::text("assistant", std::mem::take(&mut self.text)));
    }
}
