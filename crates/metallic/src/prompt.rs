//! Prompts to token ids: raw text, ids, or messages through the model's chat template.

use gguf::GgufFile;
use text::chat_template::{ChatTemplate, Message, RenderInput};
use text::{EncodeOptions, Encoding, TextPart, Tokenizer};

use crate::Error;

/// What to continue.
#[derive(Clone, Debug)]
pub enum Prompt<'a> {
    /// Text as it is, with BOS where the file asks for it. Control tokens in it are text.
    Text(&'a str),
    /// Ids as they are.
    Tokens(&'a [u32]),
    /// A conversation, rendered by the chat template. Control tokens in what people wrote are text.
    Messages(&'a [Message]),
}

/// Where a chat template came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateOrigin {
    /// The file.
    File,
    /// The caller.
    Caller,
    /// The file has none: ChatML is a guess.
    ChatMlFallback,
}

/// A chat template with what it needs to render.
pub(crate) struct ChatFormat {
    source: Option<String>,
    origin: TemplateOrigin,
    bos: String,
    eos: String,
}

impl ChatFormat {
    /// The template is compiled when messages are rendered: a broken one must not keep raw prompts from running.
    pub(crate) fn of(file: &GgufFile, tokenizer: &Tokenizer, given: Option<&str>) -> Result<ChatFormat, Error> {
        let in_file = file.metadata().str("tokenizer.chat_template")?;
        let (source, origin) = match (given, in_file) {
            (Some(given), _) => (Some(given.to_owned()), TemplateOrigin::Caller),
            (None, Some(source)) => (Some(source.to_owned()), TemplateOrigin::File),
            (None, None) => (None, TemplateOrigin::ChatMlFallback),
        };
        let token_text = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let ids = tokenizer.special_ids();
        Ok(ChatFormat { source, origin, bos: token_text(ids.bos), eos: token_text(ids.eos) })
    }

    pub(crate) fn origin(&self) -> &TemplateOrigin {
        &self.origin
    }

    pub(crate) fn encode(&self, tokenizer: &Tokenizer, prompt: &Prompt<'_>) -> Result<Encoding, Error> {
        match prompt {
            Prompt::Text(text) => Ok(tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false })),
            Prompt::Tokens(ids) => Ok(Encoding { ids: ids.to_vec(), unencodable: Vec::new() }),
            Prompt::Messages(messages) => self.encode_messages(tokenizer, messages),
        }
    }

    fn encode_messages(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Encoding, Error> {
        let template = match &self.source {
            Some(source) => ChatTemplate::compile(source)?,
            None => ChatTemplate::chatml(),
        };
        let extra = serde_json::Map::new();
        let rendered = template.render_segments(&RenderInput {
            messages,
            add_generation_prompt: true,
            bos_token: &self.bos,
            eos_token: &self.eos,
            tools: None,
            extra: &extra,
            now: None,
        })?;
        // What people wrote is text: a control token spelled out in it stays text.
        let parts: Vec<TextPart<'_>> = rendered
            .segments
            .iter()
            .map(|segment| TextPart { text: &segment.text, parse_special: !segment.is_content })
            .collect();
        let mut encoding = tokenizer.encoder().encode_parts(&parts, false);
        // Templates write BOS themselves where they want it; a second one would be wrong.
        if let Some(bos) = tokenizer.added_bos()
            && encoding.ids.first() != Some(&bos)
        {
            encoding.ids.insert(0, bos);
        }
        Ok(encoding)
    }
}
