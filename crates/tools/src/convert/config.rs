//! `config.json`: hyperparameters by name, with an error for each that is missing or of the wrong kind.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::architecture::Family;
use super::read_json;
use crate::error::ToolError;

/// The language model's settings.
pub(super) struct Config {
    path: PathBuf,
    /// The whole file.
    root: Value,
    /// The language model's part: `text_config` where there is one.
    text: Value,
}

impl Config {
    pub(super) fn read(folder: &Path) -> Result<Config, ToolError> {
        let path = folder.join("config.json");
        let root = read_json(folder, "config.json")?.ok_or_else(|| ToolError::Checkpoint {
            path: folder.to_path_buf(),
            reason: "it has no config.json: name the folder of a Hugging Face model".to_owned(),
        })?;
        let text = root.get("text_config").filter(|text| text.is_object()).unwrap_or(&root).clone();
        Ok(Config { path, root, text })
    }

    /// `architectures[0]`.
    pub(super) fn class(&self) -> Result<&str, ToolError> {
        let class = self.root.get("architectures").and_then(|names| names.get(0)).and_then(Value::as_str);
        class.ok_or_else(|| self.wrong("architectures", "it is missing: it should name the model's class"))
    }

    /// A setting; null counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let of = |value: &'_ Value| value.get(name).is_some_and(|value| !value.is_null());
        if of(&self.text) { self.text.get(name) } else { self.root.get(name).filter(|value| !value.is_null()) }
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<u64>, ToolError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| self.wrong(name, &format!("it is {value}, it should be a whole number")))
    }

    /// A count or width: from 1 to what GGUF's `u32` keys hold.
    pub(super) fn width(&self, name: &str) -> Result<u32, ToolError> {
        let value = self.integer(name)?.ok_or_else(|| self.wrong(name, "it is missing"))?;
        u32::try_from(value)
            .ok()
            .filter(|value| *value > 0)
            .ok_or_else(|| self.wrong(name, &format!("it is {value}, it should be from 1 to {}", u32::MAX)))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, ToolError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(name, &format!("it is {value}, it should be a number")))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(Value::as_bool)
    }

    /// The width of a head.
    pub(super) fn head_width(&self) -> Result<u64, ToolError> {
        if let Some(width) = self.integer("head_dim")? {
            return Ok(width.max(1));
        }
        let (hidden, heads) = (self.width("hidden_size")?, self.width("num_attention_heads")?);
        Ok(u64::from(hidden / heads).max(1))
    }

    /// Query heads, and key and value heads.
    pub(super) fn heads(&self) -> Result<(u32, u32), ToolError> {
        let heads = self.width("num_attention_heads")?;
        let kv_heads =
            if self.get("num_key_value_heads").is_some() { self.width("num_key_value_heads")? } else { heads };
        Ok((heads, kv_heads))
    }

    /// A rotary setting of the layers of one kind, as old and new files have it: by itself, in `rope_scaling`, in
    /// `rope_parameters`, or there again by kind of layer.
    pub(super) fn rope(&self, kind: &str, name: &str) -> Option<&Value> {
        let groups = ["rope_parameters", "rope_scaling"];
        let found = groups.iter().filter_map(|group| self.get(group)).find_map(|group| {
            let layered = group.get(kind).filter(|group| group.is_object());
            layered.unwrap_or(group).get(name).filter(|value| !value.is_null())
        });
        found.or_else(|| self.get(name))
    }

    /// Whether the output is the embedding table.
    pub(super) fn is_tied(&self, family: &Family, has_head: bool) -> Result<bool, ToolError> {
        match (family.always_tied, self.flag("tie_word_embeddings"), has_head) {
            (true, _, _) | (_, Some(true), _) | (_, None, false) => Ok(true),
            (_, _, true) => Ok(false),
            (_, Some(false), false) => {
                Err(self.wrong("tie_word_embeddings", "it is false, but the checkpoint has no lm_head.weight"))
            }
        }
    }

    /// An error about a setting.
    pub(super) fn wrong(&self, name: &str, reason: &str) -> ToolError {
        ToolError::Checkpoint { path: self.path.clone(), reason: format!("{name}: {reason}") }
    }
}
