//! The library in ten lines: `cargo run --release -p metallic --example chat_in_ten_lines -- MODEL.gguf "Tell me a story."`

#![expect(clippy::print_stdout, reason = "an example prints")]

use metallic::{Error, Event, GenerateOptions, Model};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or("models/storyteller/metallic-storyteller-Q8_0.gguf".to_owned());
    let mut model = Model::open(path)?;
    let mut chat = model.chat(GenerateOptions::new());
    for event in chat.say(&arguments.next().unwrap_or("Tell me a story about a fox.".to_owned()))? {
        if let Event::Token { text, .. } | Event::Finish { text, .. } = event? {
            print!("{text}");
        }
    }
    println!();
    Ok(())
}
