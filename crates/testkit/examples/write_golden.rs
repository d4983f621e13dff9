//! Writes the golden models as files, for the program that computes their expected logits.

use std::path::Path;

use metallic_testkit::{golden_models, golden_tokens};

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).expect("usage: write_golden FOLDER");
    for (name, parts) in golden_models() {
        std::fs::write(Path::new(&folder).join(format!("{name}.gguf")), parts.bytes())?;
    }
    let tokens: Vec<String> = golden_tokens().iter().map(u32::to_string).collect();
    std::fs::write(Path::new(&folder).join("tokens.txt"), tokens.join(" "))
}
