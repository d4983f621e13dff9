//! Findings as one JSON object.

use metallic::gguf::{Array, GgufFile, TensorInfo, Value};
use serde_json::{Map, Value as Json, json};

use super::{Findings, bytes_by_format, missing_bytes, special_ids, token_text};
use crate::options;

/// Longer arrays are shortened unless all of it is asked for.
const ARRAY_MAX: usize = 16;
/// What is left of them.
const ARRAY_FIRST: usize = 8;

pub(super) fn of(findings: &Findings<'_>) -> Json {
    let mut object = Map::new();
    object.insert("version".to_owned(), findings.file.version().into());
    object.insert("alignment".to_owned(), findings.file.alignment().into());
    object.insert("file_bytes".to_owned(), findings.file.file_bytes().into());
    object.insert("shards".to_owned(), findings.file.shard_count().into());
    object.insert("metadata".to_owned(), metadata(findings.file, findings.args.full));
    object.insert("tensors".to_owned(), findings.file.tensors().iter().map(tensor).collect());
    object.insert("formats".to_owned(), formats(findings.file));
    object.insert("tokenizer".to_owned(), tokenizer(findings));
    object.insert("plan".to_owned(), plan(findings));
    if findings.args.program {
        let program = match findings.program() {
            Ok(text) => json!(text),
            Err(error) => failure(error),
        };
        object.insert("program".to_owned(), program);
    }
    Json::Object(object)
}

fn metadata(file: &GgufFile, full: bool) -> Json {
    let entries = file.metadata().iter();
    Json::Object(entries.map(|(key, entry)| (key.to_owned(), value(&entry, full))).collect())
}

fn value(value: &Value<'_>, full: bool) -> Json {
    match value {
        Value::U8(number) => json!(number),
        Value::I8(number) => json!(number),
        Value::U16(number) => json!(number),
        Value::I16(number) => json!(number),
        Value::U32(number) => json!(number),
        Value::I32(number) => json!(number),
        Value::U64(number) => json!(number),
        Value::I64(number) => json!(number),
        Value::F32(number) => float(*number),
        Value::F64(number) => json!(number),
        Value::Bool(truth) => json!(truth),
        Value::Text(text) => json!(text.to_lossy()),
        Value::Array(array) => array_json(*array, full),
    }
}

/// `1e-6` as people wrote it, rather than the digits of the nearest f64.
fn float(number: f32) -> Json {
    number.to_string().parse::<f64>().map_or(Json::Null, |number| json!(number))
}

fn array_json(array: Array<'_>, full: bool) -> Json {
    if full || array.len() <= ARRAY_MAX {
        return array.iter().map(|element| value(&element, full)).collect();
    }
    let first: Vec<Json> = array.iter().take(ARRAY_FIRST).map(|element| value(&element, full)).collect();
    json!({"type": array.kind().name(), "length": array.len(), "first": first})
}

fn tensor(tensor: &TensorInfo) -> Json {
    json!({
        "name": tensor.name(),
        "type": tensor.format().name(),
        "shape": tensor.shape().dimensions(),
        "offset": tensor.data_offset(),
        "file_offset": tensor.offset(),
        "bytes": tensor.byte_count(),
        "shard": tensor.shard(),
    })
}

fn formats(file: &GgufFile) -> Json {
    let row = |(name, tensors, bytes)| json!({"type": name, "tensors": tensors, "bytes": bytes});
    bytes_by_format(file).into_iter().map(row).collect()
}

fn tokenizer(findings: &Findings<'_>) -> Json {
    let tokenizer = match &findings.tokenizer {
        Ok(tokenizer) => tokenizer,
        Err(error) => return failure(error),
    };
    let special = |(role, id): (&str, u32)| (role.to_owned(), json!({"id": id, "text": token_text(tokenizer, id)}));
    json!({
        "vocabulary": tokenizer.token_count(),
        "added_bos": tokenizer.added_bos(),
        "added_eos": tokenizer.added_eos(),
        "end_ids": tokenizer.end_ids(),
        "special": Json::Object(special_ids(tokenizer).into_iter().map(special).collect()),
        "notes": options::tokenizer_notes(tokenizer),
        "unencodable_bytes": missing_bytes(tokenizer),
    })
}

fn plan(findings: &Findings<'_>) -> Json {
    match (findings.needs(), &findings.model) {
        (Some(needs), _) => json!({
            "weight_bytes": needs.weight_bytes,
            "weight_bytes_per_token": needs.weight_bytes_per_token,
            "kv_bytes_per_token": needs.kv_bytes_per_token,
            "context": needs.context,
        }),
        (None, Err(error)) => failure(error),
        (None, Ok(_)) => Json::Null,
    }
}

/// A part that is not there, and why.
fn failure(error: &metallic::Error) -> Json {
    json!({"error": {"kind": error.kind(), "message": error.to_string()}})
}
