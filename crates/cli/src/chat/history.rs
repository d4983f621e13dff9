//! Conversations in files: a JSON array of messages, as the OpenAI API has them.

use std::path::Path;

use metallic::{Content, Message};
use serde_json::{Map, Value};

use crate::input::{read_text, shown};
use crate::output::Problem;

pub(super) fn save(path: &Path, messages: &[Message]) -> anyhow::Result<()> {
    let messages: Vec<Value> = messages.iter().map(to_json).collect();
    let text = serde_json::to_string_pretty(&messages)? + "\n";
    std::fs::write(path, text).map_err(|error| Problem::input(format!("cannot write {}: {error}", path.display())))
}

pub(super) fn load(path: &Path) -> anyhow::Result<Vec<Message>> {
    let wrong = |what: String| Problem::input(format!("{} is no conversation: {what}", shown(path)));
    let messages: Vec<Map<String, Value>> =
        serde_json::from_str(&read_text(path)?).map_err(|error| wrong(error.to_string()))?;
    let numbered = (1..).zip(messages);
    numbered
        .map(|(number, message)| of_json(message).map_err(|what| wrong(format!("message {number} {what}"))))
        .collect()
}

fn to_json(message: &Message) -> Value {
    let mut object = Map::new();
    object.insert("role".to_owned(), message.role.as_str().into());
    let content = match &message.content {
        Content::Absent => Value::Null,
        Content::Text(text) => text.as_str().into(),
        Content::Parts(parts) => Value::Array(parts.clone()),
    };
    object.insert("content".to_owned(), content);
    object.extend(message.fields.clone());
    Value::Object(object)
}

fn of_json(mut message: Map<String, Value>) -> Result<Message, &'static str> {
    let Some(Value::String(role)) = message.shift_remove("role") else {
        return Err("has no role");
    };
    let content = match message.shift_remove("content") {
        None | Some(Value::Null) => Content::Absent,
        Some(Value::String(text)) => Content::Text(text),
        Some(Value::Array(parts)) => Content::Parts(parts),
        Some(_) => return Err("has a content that is neither text nor a list of parts"),
    };
    Ok(Message { role, content, fields: message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let mut messages = vec![Message::text("system", "Be brief."), Message::text("user", "Hi\n\"you\"")];
        messages.push(Message { content: Content::Absent, ..Message::text("assistant", "") });
        messages[2].fields.insert("name".to_owned(), "Bo".into());
        save(&path, &messages).unwrap();
        assert_eq!(load(&path).unwrap(), messages);
    }

    #[test]
    fn wrong_files_are_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        for (text, reason) in [
            ("{}", "no conversation"),
            ("[{\"content\": \"x\"}]", "message 1 has no role"),
            ("[{\"role\": \"user\", \"content\": 1}]", "message 1 has a content"),
        ] {
            std::fs::write(&path, text).unwrap();
            let message = load(&path).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
        }
    }
}
