//! Messages to prompt text, by the Jinja template that a model file carries.
//!
//! Templates come from strangers: a rendering has a budget of work, of depth and of output, reads no clock, no file
//! and no environment, and ends in a typed error when a budget is spent. This module knows no tokens: see
//! [`ChatTemplate::render_segments`] for the line between the template's own control text and what people wrote.

mod date;
mod environment;
mod json;
mod python;
mod segments;
mod source;
#[cfg(test)]
mod tests;

use std::io;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value};
use serde_json::{Map, Value as Json};
use thiserror::Error;

pub use date::DateTime;
pub use segments::{Segment, SegmentedPrompt};

use environment::{Raised, TEMPLATE_NAME};
use source::Source;

/// Longer sources are refused; published templates stay below 64 KiB.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Work that any rendering may do, in units of about one engine instruction or 64 bytes of data.
const FUEL_BASE: u64 = 400_000;
/// Further work for each byte of messages, tools and extra variables.
const FUEL_PER_INPUT_BYTE: u64 = 8;
/// Text that any rendering may produce.
const OUTPUT_BYTES_BASE: usize = 1 << 20;
/// Further text for each byte of messages, tools, extra variables and template.
const OUTPUT_BYTES_PER_INPUT_BYTE: usize = 8;
/// Input nested deeper than this is refused, as JSON parsers do.
const INPUT_DEPTH_MAX: usize = 128;
/// The engine recurses over nested blocks and values; 2 MiB, what a thread usually has, is too near to what its own
/// limits allow. Only the pages that are touched cost memory.
const STACK_BYTES: usize = 32 << 20;

const CHATML: &str = "\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}";

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: Source,
}

/// One message of a conversation, as the template sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or whatever else the template knows.
    pub role: String,
    /// What was said.
    pub content: Content,
    /// Everything else the template may ask for: `name`, `tool_calls`, `tool_call_id`, `reasoning_content`, …
    pub fields: Map<String, Json>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing, as in an assistant message that only calls tools: `none` in the template.
    Absent,
    /// Plain text.
    Text(String),
    /// A list of parts such as `{"type": "text", "text": "…"}`, for templates of models that see or hear.
    Parts(Vec<Json>),
}

impl Message {
    /// A message of plain text without further fields.
    pub fn text(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Content::Text(text.into()), fields: Map::new() }
    }

    fn to_json(&self) -> Json {
        let mut object = Map::new();
        object.insert("role".to_owned(), Json::from(self.role.as_str()));
        let content = match &self.content {
            Content::Absent => Json::Null,
            Content::Text(text) => Json::from(text.as_str()),
            Content::Parts(parts) => Json::Array(parts.clone()),
        };
        object.insert("content".to_owned(), content);
        for (key, value) in &self.fields {
            if key != "role" && key != "content" {
                object.insert(key.clone(), value.clone());
            }
        }
        Json::Object(object)
    }
}

/// Everything a template may look at.
#[derive(Debug, Clone, Copy)]
pub struct RenderInput<'a> {
    /// The conversation, oldest message first.
    pub messages: &'a [Message],
    /// Whether to end with the opening of the assistant's answer.
    pub add_generation_prompt: bool,
    /// The text of the beginning-of-sequence token; empty if the vocabulary has none.
    pub bos_token: &'a str,
    /// The text of the end-of-sequence token; empty if the vocabulary has none.
    pub eos_token: &'a str,
    /// A list of tool descriptions.
    pub tools: Option<&'a Json>,
    /// Further variables, such as `enable_thinking`. They cannot replace the ones above.
    pub extra: &'a Map<String, Json>,
    /// What `strftime_now` tells. Without it the function is undefined, and templates fall back to a fixed date.
    pub now: Option<DateTime>,
}

/// Why a template cannot be compiled or rendered. Lines and columns count from 1.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The source is longer than [`SOURCE_BYTES_MAX`].
    #[error("chat template of {bytes} bytes: at most {SOURCE_BYTES_MAX} are accepted")]
    SourceTooLong {
        /// The length found.
        bytes: usize,
    },
    /// The source is not valid Jinja.
    #[error("chat template, line {line}, column {column}: {message}")]
    Syntax {
        /// Line in the source.
        line: usize,
        /// Column in the source, in characters.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// The template refused the conversation by calling `raise_exception`.
    #[error("the chat template refuses this conversation: {message} (line {line}, column {column})")]
    Raised {
        /// Line of the call.
        line: usize,
        /// Column of the call, in characters.
        column: usize,
        /// The template's own message.
        message: String,
    },
    /// An operation of the template failed.
    #[error("chat template, line {line}, column {column}: {message}")]
    Render {
        /// Line in the source.
        line: usize,
        /// Column in the source, in characters.
        column: usize,
        /// What failed there.
        message: String,
    },
    /// The template did more work than any template needs for such a conversation.
    #[error(
        "chat template, line {line}, column {column}: stopped after {fuel} units of work; \
         the template loops or grows without bound"
    )]
    OutOfFuel {
        /// Line where the budget ran out.
        line: usize,
        /// Column where the budget ran out, in characters.
        column: usize,
        /// The budget.
        fuel: u64,
    },
    /// The rendered text would be longer than allowed for such a conversation.
    #[error("chat template: the rendered text exceeds {bytes_max} bytes")]
    OutputTooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// Messages, tools or extra variables are nested too deeply.
    #[error("chat template input: `{variable}` is nested more than {INPUT_DEPTH_MAX} deep")]
    InputTooDeep {
        /// The variable.
        variable: &'static str,
    },
    /// `now` is no date of the calendar.
    #[error("chat template input: {now:?} is not a valid date and time")]
    InvalidDate {
        /// The value given.
        now: DateTime,
    },
    /// The system refused a thread to render on.
    #[error("chat template: cannot start a thread to render on: {0}")]
    Thread(#[source] io::Error),
}

impl ChatTemplate {
    /// Compiles a template in the dialect of Hugging Face's `apply_chat_template`.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::SourceTooLong { bytes: source.len() });
        }
        let source = Source::new(source);
        let environment = on_large_stack(|| environment::environment(source.text.clone()))?;
        match environment {
            Ok(environment) => Ok(Self { environment, source }),
            Err(error) => {
                let (line, column) = position(&source, &error);
                Err(TemplateError::Syntax { line, column, message: describe(&error) })
            }
        }
    }

    /// The ChatML layout, for files that carry no template. Nothing says that a model was trained on it: tell the
    /// user when it is used.
    pub fn chatml() -> Self {
        Self::compile(CHATML).expect("the template above is valid, and a test renders it")
    }

    /// The source as given to [`ChatTemplate::compile`].
    pub fn source(&self) -> &str {
        self.source.original()
    }

    /// Renders the prompt as one text. To keep control tokens out of what people wrote, use
    /// [`ChatTemplate::render_segments`].
    pub fn render(&self, input: &RenderInput<'_>) -> Result<String, TemplateError> {
        let messages = messages_to_json(input)?;
        self.render_messages(&messages, input)
    }

    fn render_messages(&self, messages: &[Json], input: &RenderInput<'_>) -> Result<String, TemplateError> {
        let input_bytes = messages.iter().map(json_bytes).sum::<usize>()
            + input.tools.map_or(0, json_bytes)
            + input.extra.values().map(json_bytes).sum::<usize>();
        let fuel = FUEL_BASE.saturating_add(FUEL_PER_INPUT_BYTE.saturating_mul(input_bytes as u64));
        let bytes_max = OUTPUT_BYTES_BASE
            .saturating_add(OUTPUT_BYTES_PER_INPUT_BYTE.saturating_mul(input_bytes + self.source.original().len()));
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        if let Some(now) = input.now {
            environment.add_function("strftime_now", move |format: &str| now.format(format));
        }
        let mut output = BoundedOutput { bytes: Vec::new(), bytes_max, exceeded: false };
        let result = on_large_stack(|| {
            let template = environment.get_template(TEMPLATE_NAME)?;
            template.render_captured_to(context(messages, input), &mut output).map(drop)
        })?;
        if output.exceeded {
            return Err(TemplateError::OutputTooLong { bytes_max });
        }
        match result {
            Ok(()) => Ok(String::from_utf8(output.bytes).expect("the engine writes only str")),
            Err(error) => Err(self.render_error(&error, fuel)),
        }
    }

    fn render_error(&self, error: &minijinja::Error, fuel: u64) -> TemplateError {
        let (line, column) = position(&self.source, error);
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(current) = cause {
            if let Some(Raised(message)) = current.downcast_ref::<Raised>() {
                return TemplateError::Raised { line, column, message: message.clone() };
            }
            if current.downcast_ref::<minijinja::Error>().is_some_and(|inner| inner.kind() == ErrorKind::OutOfFuel) {
                return TemplateError::OutOfFuel { line, column, fuel };
            }
            cause = current.source();
        }
        TemplateError::Render { line, column, message: describe(error) }
    }
}

fn messages_to_json(input: &RenderInput<'_>) -> Result<Vec<Json>, TemplateError> {
    if let Some(now) = input.now.filter(|now| !now.is_valid()) {
        return Err(TemplateError::InvalidDate { now });
    }
    let messages: Vec<Json> = input.messages.iter().map(Message::to_json).collect();
    let too_deep = |variable| Err(TemplateError::InputTooDeep { variable });
    if messages.iter().any(|message| is_deeper(message, INPUT_DEPTH_MAX)) {
        return too_deep("messages");
    }
    if input.tools.is_some_and(|tools| is_deeper(tools, INPUT_DEPTH_MAX)) {
        return too_deep("tools");
    }
    if input.extra.values().any(|value| is_deeper(value, INPUT_DEPTH_MAX)) {
        return too_deep("extra");
    }
    Ok(messages)
}

fn context(messages: &[Json], input: &RenderInput<'_>) -> Value {
    let mut variables: Vec<(String, Value)> =
        input.extra.iter().map(|(key, value)| (key.clone(), Value::from(Serde(value)))).collect();
    if !input.extra.contains_key("documents") {
        variables.push(("documents".to_owned(), Value::from(())));
    }
    variables.extend([
        ("messages".to_owned(), Value::from(Serde(messages))),
        ("tools".to_owned(), input.tools.map_or(Value::from(()), |tools| Value::from(Serde(tools)))),
        ("add_generation_prompt".to_owned(), Value::from(input.add_generation_prompt)),
        ("bos_token".to_owned(), Value::from(input.bos_token)),
        ("eos_token".to_owned(), Value::from(input.eos_token)),
    ]);
    Value::from_pairs(variables)
}

fn is_deeper(value: &Json, depth_left: usize) -> bool {
    match value {
        Json::Array(items) => depth_left == 0 || items.iter().any(|item| is_deeper(item, depth_left - 1)),
        Json::Object(fields) => depth_left == 0 || fields.values().any(|field| is_deeper(field, depth_left - 1)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

fn json_bytes(value: &Json) -> usize {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        Json::String(text) => text.len() + 2,
        Json::Array(items) => 2 + items.iter().map(json_bytes).sum::<usize>(),
        Json::Object(fields) => 2 + fields.iter().map(|(key, value)| key.len() + 4 + json_bytes(value)).sum::<usize>(),
    }
}

fn position(source: &Source, error: &minijinja::Error) -> (usize, usize) {
    match error.range() {
        Some(range) => source.position(range.start),
        None => (error.line().unwrap_or(1), 1),
    }
}

fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(TemplateError::Thread)?;
        thread.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct BoundedOutput {
    bytes: Vec<u8>,
    bytes_max: usize,
    exceeded: bool,
}

impl io::Write for BoundedOutput {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if text.len() > self.bytes_max - self.bytes.len() {
            self.exceeded = true;
            return Err(io::Error::other("the rendered text is too long"));
        }
        self.bytes.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
