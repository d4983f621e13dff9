//! Edit a model's metadata: set keys, remove keys. Tensors are copied as they are; a split model becomes one file.

use std::path::Path;

use gguf::{ArrayBuf, GgufFile, Scalar, TensorInfo, Value, ValueKind, Writer};
use serde_json::Value as Json;

use crate::destination;
use crate::error::ToolError;
use crate::metadata::{SPLIT_KEYS, carry};
use crate::split::write;
use crate::watch::{Meter, Watch};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// The key gets this value, in its old place or at the end.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: OwnedValue,
    },
    /// The key goes.
    Remove {
        /// The key.
        key: String,
    },
}

/// A metadata value in memory.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    /// A number or bool.
    Scalar(Value<'static>),
    /// A string.
    Text(String),
    /// An array.
    Array(ArrayBuf),
}

impl OwnedValue {
    /// The value as the writer takes it.
    pub fn as_value(&self) -> Value<'_> {
        match self {
            OwnedValue::Scalar(value) => *value,
            OwnedValue::Text(text) => Value::from(text.as_str()),
            OwnedValue::Array(array) => Value::from(array),
        }
    }
}

impl Edit {
    /// Reads `KEY=VALUE` or `KEY=TYPE:VALUE`.
    ///
    /// TYPE is `str`, `bool`, an integer or float type such as `u32`, or one of these with `[]`; an array's VALUE is a JSON
    /// array. Without TYPE the value gets the type that the key has in `file`.
    pub fn parse(text: &str, file: &GgufFile) -> Result<Edit, ToolError> {
        let (key, rest) = text.split_once('=').unwrap_or((text, ""));
        let wrong = |reason: String| ToolError::Edit { key: key.to_owned(), reason };
        if key.is_empty() || key.len() == text.len() {
            return Err(wrong("write KEY=VALUE or KEY=TYPE:VALUE".to_owned()));
        }
        let typed = rest.split_once(':').and_then(|(name, value)| Some((kind_of(name)?, value)));
        let ((kind, array), value) = match (typed, file.metadata().get(key)) {
            (Some(typed), _) => typed,
            (None, Some(Value::Array(array))) => ((array.kind(), true), rest),
            (None, Some(value)) => ((value.kind(), false), rest),
            (None, None) => {
                return Err(wrong(
                    "the file has no such key, so say its type: KEY=TYPE:VALUE, such as u32:7".to_owned(),
                ));
            }
        };
        let value = match (array, kind) {
            (false, ValueKind::Text) => OwnedValue::Text(value.to_owned()),
            (false, kind) => {
                OwnedValue::Scalar(scalar(kind, value).ok_or_else(|| wrong(format!("{value:?} is no {kind}")))?)
            }
            (true, kind) => OwnedValue::Array(
                array_of(kind, value).ok_or_else(|| wrong(format!("{value:?} is no JSON array of {kind}")))?,
            ),
        };
        Ok(Edit::Set { key: key.to_owned(), value })
    }

    /// The key.
    pub fn key(&self) -> &str {
        match self {
            Edit::Set { key, .. } | Edit::Remove { key } => key,
        }
    }
}

/// Writes the model with `edits` done, in order, to `output`.
pub fn set(file: &GgufFile, output: &Path, edits: &[Edit], watch: &mut Watch<'_>) -> Result<(), ToolError> {
    destination::check_not_input(output, &destination::paths(file))?;
    let mut replaced: Vec<(String, Value<'_>)> = Vec::new();
    let mut dropped: Vec<&str> = SPLIT_KEYS.to_vec();
    for edit in edits {
        let key = edit.key();
        if SPLIT_KEYS.contains(&key) {
            let reason = "it says which shard a file is; `metallic split` and `merge` change it".to_owned();
            return Err(ToolError::Edit { key: key.to_owned(), reason });
        }
        replaced.retain(|(known, _)| known != key);
        dropped.retain(|known| *known != key);
        match edit {
            Edit::Set { value, .. } => replaced.push((key.to_owned(), value.as_value())),
            Edit::Remove { .. } if file.metadata().get(key).is_none() => {
                return Err(ToolError::Edit {
                    key: key.to_owned(),
                    reason: "the file has no such key to remove".to_owned(),
                });
            }
            Edit::Remove { .. } => dropped.push(key),
        }
    }
    let mut meter = Meter::new(watch, file.tensors().iter().map(TensorInfo::byte_count).sum());
    let mut writer = Writer::new();
    carry(&mut writer, file.metadata(), &replaced, &dropped)?;
    Ok(write(file, &mut writer, 0..file.tensors().len(), output, &mut meter)?.publish()?)
}

/// The kind that `name` means, and whether an array of it.
fn kind_of(name: &str) -> Option<(ValueKind, bool)> {
    let (name, array) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
    let name = if name == "str" { "string" } else { name };
    let kinds = (0..).map_while(ValueKind::from_id).filter(|kind| *kind != ValueKind::Array);
    kinds.into_iter().find(|kind| kind.name() == name).map(|kind| (kind, array))
}

/// A number or bool as people write it.
fn scalar(kind: ValueKind, text: &str) -> Option<Value<'static>> {
    fn parsed<T: std::str::FromStr + Into<Value<'static>>>(text: &str) -> Option<Value<'static>> {
        text.trim().parse::<T>().ok().map(Into::into)
    }
    match kind {
        ValueKind::U8 => parsed::<u8>(text),
        ValueKind::I8 => parsed::<i8>(text),
        ValueKind::U16 => parsed::<u16>(text),
        ValueKind::I16 => parsed::<i16>(text),
        ValueKind::U32 => parsed::<u32>(text),
        ValueKind::I32 => parsed::<i32>(text),
        ValueKind::U64 => parsed::<u64>(text),
        ValueKind::I64 => parsed::<i64>(text),
        ValueKind::F32 => parsed::<f32>(text),
        ValueKind::F64 => parsed::<f64>(text),
        ValueKind::Bool => parsed::<bool>(text),
        ValueKind::Text | ValueKind::Array => None,
    }
}

/// A JSON array whose elements are all of `kind`.
fn array_of(kind: ValueKind, text: &str) -> Option<ArrayBuf> {
    fn scalars<T: Scalar + std::str::FromStr>(items: &[Json]) -> Option<ArrayBuf> {
        // Through the text of each number, which no wider type has rounded.
        let parse = |item: &Json| match item {
            Json::Number(_) | Json::Bool(_) => item.to_string().parse::<T>().ok(),
            Json::Null | Json::String(_) | Json::Array(_) | Json::Object(_) => None,
        };
        Some(ArrayBuf::scalars(&items.iter().map(parse).collect::<Option<Vec<T>>>()?))
    }
    let Json::Array(items) = serde_json::from_str(text).ok()? else { return None };
    match kind {
        ValueKind::U8 => scalars::<u8>(&items),
        ValueKind::I8 => scalars::<i8>(&items),
        ValueKind::U16 => scalars::<u16>(&items),
        ValueKind::I16 => scalars::<i16>(&items),
        ValueKind::U32 => scalars::<u32>(&items),
        ValueKind::I32 => scalars::<i32>(&items),
        ValueKind::U64 => scalars::<u64>(&items),
        ValueKind::I64 => scalars::<i64>(&items),
        ValueKind::F32 => scalars::<f32>(&items),
        ValueKind::F64 => scalars::<f64>(&items),
        ValueKind::Bool => scalars::<bool>(&items),
        ValueKind::Text => {
            let texts: Option<Vec<&str>> = items.iter().map(Json::as_str).collect();
            Some(ArrayBuf::texts(texts?))
        }
        ValueKind::Array => None,
    }
}
