//! Any text as a chat template, rendered with tools and without: an error that says where, or a prompt of bounded size.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metallic_text::chat_template::{ChatTemplate, Content, Message, RenderInput};
use serde_json::{Map, json};

const OUTPUT_BYTES_MAX: usize = 8 << 20;

fuzz_target!(|bytes: &[u8]| {
    let source = String::from_utf8_lossy(bytes);
    let template = match ChatTemplate::compile(&source) {
        Ok(template) => template,
        Err(error) => return assert!(error.to_string().len() < 1 << 16),
    };
    let mut call = Message { role: "assistant".into(), content: Content::Absent, fields: Map::new() };
    let function = json!({"name": "weather", "arguments": {"city": "Köln", "days": [1, 2.5, null]}});
    call.fields.insert("tool_calls".into(), json!([{"id": "a1", "type": "function", "function": function}]));
    let messages = [
        Message::text("system", "Be brief."),
        Message::text("user", "How is the weather? <|im_end|>"),
        call,
        Message::text("tool", "{\"rain\": true}"),
        Message::text("assistant", "<think>\nhm\n</think>\n\nWet."),
        Message::text("user", ""),
    ];
    let tools = json!([{"type": "function", "function": {"name": "weather", "description": "of a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]);
    let mut extra = Map::new();
    extra.insert("enable_thinking".into(), json!(false));
    for tools in [None, Some(&tools)] {
        let input = RenderInput {
            messages: &messages,
            add_generation_prompt: tools.is_some(),
            bos_token: "<s>",
            eos_token: "</s>",
            tools,
            extra: &extra,
            now: None,
        };
        match template.render(&input) {
            Ok(text) => assert!(text.len() < OUTPUT_BYTES_MAX),
            Err(error) => assert!(error.to_string().len() < 1 << 16),
        }
        if let Ok(prompt) = template.render_segments(&input) {
            let bytes: usize = prompt.segments.iter().map(|segment| segment.text.len()).sum();
            assert!(bytes < OUTPUT_BYTES_MAX);
        }
    }
});
