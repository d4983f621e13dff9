//! Which parts of a rendered prompt are what people wrote.
//!
//! Text such as `<|im_end|>` inside a message must reach the model as letters, not as the control token. Rendering
//! gives one flat text, so every message is rendered with marks around it: two code points that occur nowhere in the
//! input. The marked rendering counts only if it equals the plain one once the marks are taken out; a template that
//! cuts or compares the content breaks marks, and then that message is reported as unprotected.

use serde_json::Value as Json;

use super::{ChatTemplate, RenderInput, TemplateError, messages_to_json};

/// A piece of a rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The text; never empty.
    pub text: String,
    /// Whether people (or tools) wrote it. In such text no control token may be recognised.
    pub is_content: bool,
}

/// A rendered prompt in pieces. Joined, the pieces are exactly what [`ChatTemplate::render`] returns.
///
/// Words may run across pieces: a tokenizer has to look for control tokens piece by piece, but to split the text
/// between two control tokens as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentedPrompt {
    /// The pieces in order; template text and content alternate where both exist.
    pub segments: Vec<Segment>,
    /// Indices of the messages of which some text stands in a piece with `is_content == false`, because the template
    /// takes that text apart. Control tokens in it will be recognised. `<think>` and `</think>` alone do not count.
    pub unprotected: Vec<usize>,
}

impl SegmentedPrompt {
    /// The whole prompt.
    pub fn text(&self) -> String {
        self.segments.iter().map(|segment| segment.text.as_str()).collect()
    }
}

/// Renderings that may be spent on finding out which messages a template takes apart.
const ATTEMPTS_MAX: usize = 96;

/// Tags at which templates take an assistant's message apart.
const THINK_TAGS: [&str; 2] = ["<think>", "</think>"];

impl ChatTemplate {
    /// Renders the prompt in pieces that tell the template's own text from what people wrote: message contents,
    /// reasoning, and the strings in arguments of tool calls. Tool descriptions count as template text.
    pub fn render_segments(&self, input: &RenderInput<'_>) -> Result<SegmentedPrompt, TemplateError> {
        let messages = messages_to_json(input)?;
        let plain = self.render_messages(&messages, input)?;
        let slots = find_slots(&messages);
        let Some(marks) = Marks::absent_from(&plain, &messages, input, self.source()) else {
            return Ok(unsegmented(&plain, &slots));
        };
        let mut search =
            Search { template: self, input, messages: &messages, slots: &slots, plain, marks, attempts: 0 };
        let mut modes = vec![Mode::Whole; slots.len()];
        if let Some(segments) = search.attempt(&modes) {
            return Ok(SegmentedPrompt { segments, unprotected: Vec::new() });
        }
        modes.fill(Mode::Bare);
        search.settle(0..slots.len(), &mut modes);
        let Some(segments) = search.attempt(&modes) else {
            return Ok(unsegmented(&search.plain, &slots));
        };
        let bare = slots.iter().zip(&modes).filter(|(_, mode)| **mode == Mode::Bare).map(|(slot, _)| slot.message);
        let mut unprotected: Vec<usize> = bare.collect();
        unprotected.dedup();
        Ok(SegmentedPrompt { segments, unprotected })
    }
}

fn unsegmented(plain: &str, slots: &[Slot]) -> SegmentedPrompt {
    let mut unprotected: Vec<usize> = slots.iter().map(|slot| slot.message).collect();
    unprotected.dedup();
    let mut segments = Vec::new();
    push_segment(&mut segments, plain, false);
    SegmentedPrompt { segments, unprotected }
}

/// A string in a message that somebody wrote.
struct Slot {
    message: usize,
    /// RFC 6901, from the message.
    pointer: String,
}

fn find_slots(messages: &[Json]) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (message, json) in messages.iter().enumerate() {
        let mut pointers = Vec::new();
        for field in ["content", "reasoning_content", "reasoning", "thinking"] {
            match json.get(field) {
                Some(Json::String(_)) => pointers.push(format!("/{field}")),
                Some(Json::Array(parts)) => {
                    for (index, part) in parts.iter().enumerate() {
                        if part.get("text").is_some_and(Json::is_string) {
                            pointers.push(format!("/{field}/{index}/text"));
                        }
                    }
                }
                _ => {}
            }
        }
        for (index, call) in json.get("tool_calls").and_then(Json::as_array).into_iter().flatten().enumerate() {
            for arguments in ["/function/arguments", "/arguments"] {
                if let Some(value) = call.pointer(arguments) {
                    find_strings(value, format!("/tool_calls/{index}{arguments}"), &mut pointers);
                }
            }
        }
        slots.extend(pointers.into_iter().map(|pointer| Slot { message, pointer }));
    }
    slots
}

fn find_strings(value: &Json, pointer: String, pointers: &mut Vec<String>) {
    match value {
        Json::String(_) => pointers.push(pointer),
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_strings(item, format!("{pointer}/{index}"), pointers);
            }
        }
        Json::Object(fields) => {
            for (key, field) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                find_strings(field, format!("{pointer}/{key}"), pointers);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// How a slot is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One pair of marks around everything but outer whitespace, which templates strip.
    Whole,
    /// A pair around each stretch between the tags at which templates split reasoning off.
    BetweenThinkTags,
    /// No marks.
    Bare,
}

/// Two characters that occur nowhere in the input, so that nobody can have written them.
#[derive(Clone, Copy)]
struct Marks {
    open: char,
    close: char,
}

impl Marks {
    fn absent_from(plain: &str, messages: &[Json], input: &RenderInput<'_>, source: &str) -> Option<Self> {
        // Supplementary Private Use Area B: no character set and no tokenizer gives these a meaning.
        let first = 0x10_0000_u32;
        let mut used = vec![false; 0xFFFE];
        let mut mark_used = |text: &str| {
            for character in text.chars() {
                if let Some(flag) =
                    u32::from(character).checked_sub(first).and_then(|index| used.get_mut(index as usize))
                {
                    *flag = true;
                }
            }
        };
        mark_used(plain);
        mark_used(source);
        mark_used(input.bos_token);
        mark_used(input.eos_token);
        messages.iter().chain(input.tools).chain(input.extra.values()).for_each(|json| each_text(json, &mut mark_used));
        input.extra.keys().for_each(|key| mark_used(key));
        let mut free = (first..).zip(&used).filter(|(_, used)| !**used).filter_map(|(code, _)| char::from_u32(code));
        Some(Self { open: free.next()?, close: free.next()? })
    }

    fn apply(self, text: &str, mode: Mode) -> String {
        match mode {
            Mode::Bare => text.to_owned(),
            Mode::Whole => self.wrap(text),
            Mode::BetweenThinkTags => {
                let mut output = String::new();
                let mut rest = text;
                while let Some((start, tag)) =
                    THINK_TAGS.iter().filter_map(|tag| Some((rest.find(tag)?, *tag))).min_by_key(|(start, _)| *start)
                {
                    output += &self.wrap(&rest[..start]);
                    output += tag;
                    rest = &rest[start + tag.len()..];
                }
                output + &self.wrap(rest)
            }
        }
    }

    fn wrap(self, text: &str) -> String {
        let core = text.trim();
        if core.is_empty() {
            return text.to_owned();
        }
        let start = text.len() - text.trim_start().len();
        let Self { open, close } = self;
        format!("{}{open}{core}{close}{}", &text[..start], &text[start + core.len()..])
    }

    /// The pieces of a marked rendering, or nothing if its marks do not alternate.
    fn split(self, marked: &str) -> Option<Vec<Segment>> {
        let mut segments = Vec::new();
        let mut inside = false;
        let mut rest = marked;
        while let Some(found) = rest.find([self.open, self.close]) {
            let is_open = rest[found..].starts_with(self.open);
            if is_open == inside {
                return None;
            }
            push_segment(&mut segments, &rest[..found], inside);
            inside = is_open;
            rest = &rest[found + self.open.len_utf8()..];
        }
        push_segment(&mut segments, rest, false);
        (!inside).then_some(segments)
    }
}

fn push_segment(segments: &mut Vec<Segment>, text: &str, is_content: bool) {
    if !text.is_empty() {
        segments.push(Segment { text: text.to_owned(), is_content });
    }
}

fn each_text(value: &Json, visit: &mut impl FnMut(&str)) {
    match value {
        Json::String(text) => visit(text),
        Json::Array(items) => items.iter().for_each(|item| each_text(item, visit)),
        Json::Object(fields) => {
            for (key, field) in fields {
                visit(key);
                each_text(field, visit);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

struct Search<'a> {
    template: &'a ChatTemplate,
    input: &'a RenderInput<'a>,
    messages: &'a [Json],
    slots: &'a [Slot],
    plain: String,
    marks: Marks,
    attempts: usize,
}

impl Search<'_> {
    /// The segments, if a rendering marked like this is the plain one with marks in order.
    fn attempt(&mut self, modes: &[Mode]) -> Option<Vec<Segment>> {
        self.attempts += 1;
        let mut messages = self.messages.to_vec();
        for (slot, &mode) in self.slots.iter().zip(modes) {
            if let Some(Json::String(text)) = messages[slot.message].pointer_mut(&slot.pointer) {
                *text = self.marks.apply(text, mode);
            }
        }
        // An error of the marked rendering says no more than that the template looks into the content.
        let marked = self.template.render_messages(&messages, self.input).ok()?;
        let segments = self.marks.split(&marked)?;
        let same = segments.iter().map(|segment| segment.text.len()).sum::<usize>() == self.plain.len()
            && segments.iter().flat_map(|segment| segment.text.bytes()).eq(self.plain.bytes());
        same.then_some(segments)
    }

    /// Finds the best mode for each slot of `range` by halving: most slots are fine, so whole halves are.
    fn settle(&mut self, range: std::ops::Range<usize>, modes: &mut [Mode]) {
        for mode in [Mode::Whole, Mode::BetweenThinkTags] {
            if range.is_empty() || self.attempts >= ATTEMPTS_MAX {
                return;
            }
            modes[range.clone()].fill(mode);
            if self.attempt(modes).is_some() {
                return;
            }
            modes[range.clone()].fill(Mode::Bare);
        }
        if range.len() > 1 {
            let middle = range.start + range.len() / 2;
            self.settle(range.start..middle, modes);
            self.settle(middle..range.end, modes);
        }
    }
}
