//! Renders chat templates, for comparison with other programs (`scripts/compare-templates.py`).
//!
//!     cargo run --release -p metallic-text --example render_templates -- CASES.json TEMPLATE.jinja... > RENDERED.jsonl
//!
//! The cases are an object: by name, `messages`, `add_generation_prompt` and, where wanted, `tools` and `extra`. Each
//! line out is an object with `template`, `case`, and `text` or `error`.

use std::io::Write;
use std::path::Path;

use metallic_text::chat_template::{ChatTemplate, Content, DateTime, Message, RenderInput};
use serde_json::{Map, Value};

const NOW: DateTime = DateTime { year: 2026, month: 1, day: 2, hour: 3, minute: 4, second: 5 };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((cases, templates)) = arguments.split_first() else {
        return Err("usage: render_templates CASES.json TEMPLATE.jinja...".into());
    };
    let cases: Map<String, Value> = serde_json::from_str(&std::fs::read_to_string(cases)?)?;
    let mut out = std::io::stdout().lock();
    for path in templates {
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        let template = ChatTemplate::compile(&std::fs::read_to_string(path)?);
        for (case, input) in &cases {
            let rendered = template.as_ref().map_err(ToString::to_string).and_then(|template| render(template, input));
            let (kind, text) = match rendered {
                Ok(text) => ("text", text),
                Err(error) => ("error", error),
            };
            writeln!(out, "{}", serde_json::json!({ "template": name, "case": case, kind: text }))?;
        }
    }
    Ok(())
}

fn render(template: &ChatTemplate, input: &Value) -> Result<String, String> {
    let messages: Vec<Message> =
        input["messages"].as_array().map_or(&[][..], Vec::as_slice).iter().map(message).collect();
    let extra = input["extra"].as_object().cloned().unwrap_or_default();
    let input = RenderInput {
        messages: &messages,
        add_generation_prompt: input["add_generation_prompt"] == true,
        bos_token: "<s>",
        eos_token: "</s>",
        tools: input.get("tools"),
        extra: &extra,
        now: Some(NOW),
    };
    template.render(&input).map_err(|error| error.to_string())
}

fn message(json: &Value) -> Message {
    let mut fields = json.as_object().cloned().unwrap_or_default();
    let content = match fields.remove("content") {
        Some(Value::String(text)) => Content::Text(text),
        Some(Value::Array(parts)) => Content::Parts(parts),
        _ => Content::Absent,
    };
    let role = fields.remove("role").and_then(|role| role.as_str().map(str::to_owned)).unwrap_or_default();
    Message { role, content, fields }
}
