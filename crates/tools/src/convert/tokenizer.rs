//! From `tokenizer.json` or `tokenizer.model`, and the files beside them, to the `tokenizer.*` keys.

use std::collections::HashMap;
use std::path::Path;

use gguf::{ArrayBuf, Writer};
use serde_json::Value;

use super::architecture::Family;
use super::config::Config;
use super::{ConvertOptions, pre, read_json, read_text, sentencepiece};
use crate::error::ToolError;

/// `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The space of SentencePiece.
const LOWER_BLOCK: &str = "\u{2581}";

/// The score of tokens that no merge makes; llama.cpp's converter writes it.
const SCORE_ADDED: f32 = -1000.0;

/// A vocabulary in the making.
struct Vocabulary {
    /// By id; none where no token has the id.
    tokens: Vec<Option<Token>>,
    kind: Kind,
}

struct Token {
    text: Vec<u8>,
    kind: i32,
    score: f32,
}

enum Kind {
    ByteLevel { pre: String, merges: Vec<String> },
    SentencePiece { space_prefix: bool },
}

/// The files that describe a tokenizer.
struct Files<'a> {
    folder: &'a Path,
    /// `tokenizer.json`.
    fast: Option<Value>,
    /// `tokenizer_config.json`.
    settings: Value,
    /// `generation_config.json`.
    generation: Value,
}

/// Sets the `tokenizer.*` keys for a table of `rows` embeddings. Returns how many tokens there are.
pub(super) fn write(
    folder: &Path,
    config: &Config,
    family: &Family,
    rows: u64,
    options: &ConvertOptions,
    writer: &mut Writer,
    notes: &mut Vec<String>,
) -> Result<usize, ToolError> {
    let files = Files {
        folder,
        fast: read_json(folder, "tokenizer.json")?,
        settings: read_json(folder, "tokenizer_config.json")?.unwrap_or(Value::Null),
        generation: read_json(folder, "generation_config.json")?.unwrap_or(Value::Null),
    };
    let mut vocabulary = files.vocabulary(options)?;
    files.add_tokens(&mut vocabulary);
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let found = vocabulary.tokens.iter().filter(|token| token.is_some()).count();
    if vocabulary.tokens.len() > rows {
        let extra = vocabulary.tokens.len() - rows;
        notes.push(format!("{extra} tokens have no row in the embedding table and were left out"));
        vocabulary.tokens.truncate(rows);
    } else if found < rows {
        notes.push(format!("{} rows of the embedding table have no token; they are called [PAD…]", rows - found));
    }
    // Bounded by the table, which is in the checkpoint.
    vocabulary.tokens.resize_with(rows, || None);
    vocabulary.write(writer)?;
    files.write_special(&vocabulary, config, family, writer)?;
    if let Some(template) = files.chat_template()? {
        writer.set("tokenizer.chat_template", template.as_str())?;
    }
    Ok(rows)
}

impl Files<'_> {
    fn wrong(&self, name: &str, reason: impl Into<String>) -> ToolError {
        ToolError::Checkpoint { path: self.folder.join(name), reason: reason.into() }
    }

    /// Byte-level BPE and its like come from `tokenizer.json`; SentencePiece from its own file where that is there, since
    /// only that has the scores.
    fn vocabulary(&self, options: &ConvertOptions) -> Result<Vocabulary, ToolError> {
        let model = self.fast.as_ref().and_then(|fast| fast.get("model"));
        let bytes = match std::fs::read(self.folder.join("tokenizer.model")) {
            Ok(bytes) => Some(bytes),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => None,
            Err(cause) => return Err(ToolError::Read { path: self.folder.join("tokenizer.model"), cause }),
        };
        let falls_back = |model: &Value| model.get("byte_fallback").and_then(Value::as_bool) == Some(true);
        match (model, bytes) {
            (Some(model), _) if model.get("type").and_then(Value::as_str) == Some("BPE") && !falls_back(model) => {
                self.byte_level(model, options)
            }
            (_, Some(bytes)) => self.by_pieces(&bytes),
            (Some(model), None) if falls_back(model) && model.get("merges").is_some() => self.by_merges(model),
            (Some(model), None) => {
                let kind = model.get("type").and_then(Value::as_str).unwrap_or("unknown");
                Err(self
                    .wrong("tokenizer.json", format!("a tokenizer of the kind {kind} cannot be converted; BPE can")))
            }
            (None, None) => Err(ToolError::Checkpoint {
                path: self.folder.to_path_buf(),
                reason: "it has neither tokenizer.json nor tokenizer.model: fetch the tokenizer's files too".to_owned(),
            }),
        }
    }

    fn byte_level(&self, model: &Value, options: &ConvertOptions) -> Result<Vocabulary, ToolError> {
        const FILE: &str = "tokenizer.json";
        let tokens = self.table(model, |_| NORMAL)?;
        let merges = self.merges(model)?.into_iter().map(|[left, right]| format!("{left} {right}")).collect();
        let ignore_merges = model.get("ignore_merges").and_then(Value::as_bool) == Some(true);
        let pre = match &options.pre_tokenizer {
            Some(name) => name.clone(),
            None => {
                let fast = self.fast.as_ref().and_then(|fast| fast.get("pre_tokenizer")).unwrap_or(&Value::Null);
                let advice = "say which with --pre NAME";
                let rules = pre::rules(fast).map_err(|what| {
                    self.wrong(FILE, format!("it cuts text by {what}, which has no name here: {advice}"))
                })?;
                let name = pre::name(&rules, ignore_merges);
                name.ok_or_else(|| self.wrong(FILE, format!("its rules for cutting text have no name here: {advice}")))?
                    .to_owned()
            }
        };
        Ok(Vocabulary { tokens, kind: Kind::ByteLevel { pre, merges } })
    }

    /// SentencePiece rewritten as merges: a token's score is the negated rank of the first merge that makes it, so that
    /// merging by score gives the same order.
    fn by_merges(&self, model: &Value) -> Result<Vocabulary, ToolError> {
        let unknown = model.get("unk_token").and_then(Value::as_str).unwrap_or("<unk>").to_owned();
        let is_byte = |text: &str| text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        let mut tokens = self.table(model, |text| {
            if text == unknown {
                UNKNOWN
            } else if is_byte(text) {
                BYTE
            } else {
                NORMAL
            }
        })?;
        let mut ranks: HashMap<String, usize> = HashMap::new();
        for (rank, [left, right]) in self.merges(model)?.into_iter().enumerate() {
            ranks.entry(left + &right).or_insert(rank);
        }
        for token in tokens.iter_mut().flatten() {
            let rank = std::str::from_utf8(&token.text).ok().and_then(|text| ranks.get(text));
            token.score = rank.map_or(0.0, |rank| -(*rank as f32) - 1.0);
        }
        let fast = self.fast.as_ref().unwrap_or(&Value::Null);
        Ok(Vocabulary { tokens, kind: Kind::SentencePiece { space_prefix: has_space_prefix(fast) } })
    }

    fn by_pieces(&self, bytes: &[u8]) -> Result<Vocabulary, ToolError> {
        const FILE: &str = "tokenizer.model";
        let model = sentencepiece::Model::parse(bytes)
            .ok_or_else(|| self.wrong(FILE, "it is no SentencePiece model, or damaged"))?;
        if !model.merges {
            return Err(self.wrong(FILE, "it is a Unigram model; only BPE models can be converted"));
        }
        let token = |piece: sentencepiece::Piece| {
            let kind = i32::try_from(piece.kind).unwrap_or(NORMAL);
            Some(Token { text: piece.text, kind, score: piece.score })
        };
        let tokens = model.pieces.into_iter().map(token).collect();
        Ok(Vocabulary { tokens, kind: Kind::SentencePiece { space_prefix: model.space_prefix } })
    }

    /// `model.vocab` by id.
    fn table(&self, model: &Value, kind: impl Fn(&str) -> i32) -> Result<Vec<Option<Token>>, ToolError> {
        const FILE: &str = "tokenizer.json";
        let table = model.get("vocab").and_then(Value::as_object);
        let table = table.ok_or_else(|| self.wrong(FILE, "it has no table of tokens"))?;
        let mut tokens: Vec<Option<Token>> = Vec::new();
        // A table with gaps has at most as many ids as the text of the file has bytes for tokens.
        let limit = 16 * table.len() + 1024;
        for (text, id) in table {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < limit);
            let id = id.ok_or_else(|| self.wrong(FILE, format!("the id of token {text:?} makes no sense")))?;
            if id >= tokens.len() {
                tokens.resize_with(id + 1, || None);
            }
            tokens[id] = Some(Token { text: text.clone().into_bytes(), kind: kind(text), score: 0.0 });
        }
        Ok(tokens)
    }

    /// Pairs in the order of their ranks. Old files have `"a b"`, new ones `["a", "b"]`.
    fn merges(&self, model: &Value) -> Result<Vec<[String; 2]>, ToolError> {
        const FILE: &str = "tokenizer.json";
        let merges = model.get("merges").and_then(Value::as_array);
        let merges = merges.ok_or_else(|| self.wrong(FILE, "it has no merges"))?;
        let pair = |merge: &Value| match merge {
            Value::String(text) => text.split_once(' ').map(|(left, right)| [left.to_owned(), right.to_owned()]),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => Some([left.clone(), right.clone()]),
                _ => None,
            },
            _ => None,
        };
        let pairs = merges.iter().map(|merge| pair(merge).ok_or(merge));
        pairs.collect::<Result<_, _>>().map_err(|merge| self.wrong(FILE, format!("{merge} is no merge of two tokens")))
    }

    /// Tokens that were added to the vocabulary: control tokens, and words that are matched whole.
    fn add_tokens(&self, vocabulary: &mut Vocabulary) {
        let fast = self.fast.as_ref().and_then(|fast| fast.get("added_tokens")).and_then(Value::as_array);
        let fast = fast.into_iter().flatten().filter_map(|token| Some((token.get("id")?.as_u64()?, token)));
        let slow = self.settings.get("added_tokens_decoder").and_then(Value::as_object);
        let slow = slow.into_iter().flatten().filter_map(|(id, token)| Some((id.parse::<u64>().ok()?, token)));
        let limit = 2 * vocabulary.tokens.len() + (1 << 16);
        for (id, token) in fast.chain(slow) {
            let (Some(text), Ok(id)) = (token.get("content").and_then(Value::as_str), usize::try_from(id)) else {
                continue;
            };
            if id >= limit {
                continue;
            }
            if id >= vocabulary.tokens.len() {
                vocabulary.tokens.resize_with(id + 1, || None);
            }
            let special = token.get("special").and_then(Value::as_bool) == Some(true) || looks_special(text);
            let unknown = vocabulary.tokens[id].as_ref().is_some_and(|token| token.kind == UNKNOWN);
            let (kind, text) = match (unknown, special) {
                (true, _) => (UNKNOWN, text.to_owned()),
                (_, true) => (CONTROL, text.to_owned()),
                // What is matched whole is matched in the text, whose spaces are spaces.
                (_, false) => (USER_DEFINED, text.replace(LOWER_BLOCK, " ")),
            };
            vocabulary.tokens[id] = Some(Token { text: text.into_bytes(), kind, score: SCORE_ADDED });
        }
    }

    fn write_special(
        &self,
        vocabulary: &Vocabulary,
        config: &Config,
        family: &Family,
        writer: &mut Writer,
    ) -> Result<(), ToolError> {
        let roles = [
            ("bos", "bos"),
            ("eos", "eos"),
            ("unk", "unknown"),
            ("pad", "padding"),
            ("sep", "seperator"),
            ("mask", "mask"),
        ];
        for (theirs, ours) in roles {
            let by_text = self.special_text(theirs).and_then(|text| vocabulary.find(text));
            let name = format!("{theirs}_token_id");
            let number = |value: &Value| value.as_u64().or_else(|| value.get(0)?.as_u64());
            let by_number = config.get(&name).and_then(number).or_else(|| self.generation.get(&name).and_then(number));
            let by_number = by_number.and_then(|id| u32::try_from(id).ok());
            let id = by_text.or(by_number).filter(|id| (*id as usize) < vocabulary.tokens.len());
            if let Some(id) = id {
                writer.set(&format!("tokenizer.ggml.{ours}_token_id"), id)?;
            }
        }
        let template = self.fast.as_ref().and_then(|fast| fast.get("post_processor")).and_then(added_by);
        for (role, by_template) in [("bos", template.map(|added| added.0)), ("eos", template.map(|added| added.1))] {
            let by_setting = self.settings.get(format!("add_{role}_token")).and_then(Value::as_bool);
            // SentencePiece models start with BOS unless told otherwise.
            let usual = (role == "bos" && matches!(vocabulary.kind, Kind::SentencePiece { .. })).then_some(true);
            if let Some(added) = by_template.or(by_setting).or(usual) {
                writer.set(&format!("tokenizer.ggml.add_{role}_token"), added)?;
            }
        }
        if let Kind::SentencePiece { space_prefix } = vocabulary.kind {
            let by_setting = self.settings.get("add_prefix_space").and_then(Value::as_bool);
            let prefix = !family.name.starts_with("gemma") && by_setting.unwrap_or(space_prefix);
            writer.set("tokenizer.ggml.add_space_prefix", prefix)?;
        }
        Ok(())
    }

    /// `bos_token` and the like: a text, or an object with one.
    fn special_text(&self, role: &str) -> Option<&str> {
        let token = self.settings.get(format!("{role}_token"))?;
        token.as_str().or_else(|| token.get("content")?.as_str())
    }

    /// The template of `chat_template.jinja`, or of the settings, where several may be named.
    fn chat_template(&self) -> Result<Option<String>, ToolError> {
        if let Some(text) = read_text(self.folder, "chat_template.jinja")? {
            return Ok(Some(text));
        }
        let setting = match self.settings.get("chat_template") {
            Some(setting) => Some(setting.clone()),
            None => read_json(self.folder, "chat_template.json")?.and_then(|json| json.get("chat_template").cloned()),
        };
        Ok(match setting {
            Some(Value::String(template)) => Some(template),
            Some(Value::Array(named)) => {
                let default = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
                let entry = named.iter().find(default).or(named.first());
                entry.and_then(|entry| entry.get("template")?.as_str()).map(str::to_owned)
            }
            _ => None,
        })
    }
}

impl Vocabulary {
    fn find(&self, text: &str) -> Option<u32> {
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.text == text.as_bytes());
        self.tokens.iter().position(is).and_then(|id| u32::try_from(id).ok())
    }

    fn write(&self, writer: &mut Writer) -> Result<(), ToolError> {
        let text = |(id, token): (usize, &Option<Token>)| match token {
            Some(token) => token.text.clone(),
            None => format!("[PAD{id}]").into_bytes(),
        };
        let texts = ArrayBuf::texts(self.tokens.iter().enumerate().map(text));
        let kinds: Vec<i32> =
            self.tokens.iter().map(|token| token.as_ref().map_or(UNUSED, |token| token.kind)).collect();
        let name = if matches!(self.kind, Kind::ByteLevel { .. }) { "gpt2" } else { "llama" };
        let pre = if let Kind::ByteLevel { pre, .. } = &self.kind { pre.as_str() } else { "default" };
        writer.set("tokenizer.ggml.model", name)?.set("tokenizer.ggml.pre", pre)?;
        writer.set("tokenizer.ggml.tokens", &texts)?;
        match &self.kind {
            Kind::ByteLevel { merges, .. } => {
                writer.set("tokenizer.ggml.token_type", &ArrayBuf::scalars(&kinds))?;
                writer.set("tokenizer.ggml.merges", &ArrayBuf::texts(merges))?;
            }
            Kind::SentencePiece { .. } => {
                let score = |token: &Option<Token>| token.as_ref().map_or(10.0 * SCORE_ADDED, |token| token.score);
                let scores: Vec<f32> = self.tokens.iter().map(score).collect();
                writer.set("tokenizer.ggml.scores", &ArrayBuf::scalars(&scores))?;
                writer.set("tokenizer.ggml.token_type", &ArrayBuf::scalars(&kinds))?;
            }
        }
        Ok(())
    }
}

/// Tokens that are control tokens though their file does not say so.
fn looks_special(text: &str) -> bool {
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || (text.starts_with("<|") && text.ends_with("|>"))
        || (text.starts_with("<\u{ff5c}") && text.ends_with("\u{ff5c}>"))
        || (text.starts_with("<unused") && text.ends_with('>'))
}

/// Whether a space goes in front of a text: by a normaliser that prepends one, or by a word step that does.
fn has_space_prefix(fast: &Value) -> bool {
    fn any(step: &Value, wanted: &dyn Fn(&Value) -> bool) -> bool {
        let parts = ["normalizers", "pretokenizers"].iter().filter_map(|name| step.get(name)?.as_array()).flatten();
        wanted(step) || parts.into_iter().any(|part| any(part, wanted))
    }
    let kind = |step: &Value, name: &str| step.get("type").and_then(Value::as_str) == Some(name);
    let prepends = |step: &Value| kind(step, "Prepend");
    let meta = |step: &Value| {
        kind(step, "Metaspace")
            && step.get("prepend_scheme").and_then(Value::as_str).is_none_or(|scheme| scheme != "never")
    };
    let part = |name: &str| fast.get(name).unwrap_or(&Value::Null);
    any(part("normalizer"), &prepends) || any(part("pre_tokenizer"), &meta)
}

/// Whether a post-processor puts a token in front of a text, and one behind it.
fn added_by(processor: &Value) -> Option<(bool, bool)> {
    let parts = processor.get("processors").and_then(Value::as_array);
    let parts: Vec<&Value> = parts.map_or_else(|| vec![processor], |parts| parts.iter().collect());
    let mut added = None;
    for part in parts {
        match part.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => added = added.or(Some((false, false))),
            Some("TemplateProcessing") => {
                let single = part.get("single").and_then(Value::as_array)?;
                let special = |piece: Option<&Value>| piece.is_some_and(|piece| piece.get("SpecialToken").is_some());
                let several = single.len() > 1;
                added = Some((several && special(single.first()), several && special(single.last())));
            }
            _ => {}
        }
    }
    added
}
