//! Files of the user's, other than models: prompts, lists of tokens, conversations. `-` is stdin.

use std::io::Read;
use std::path::Path;

use crate::output::Problem;

/// The whole text of a file.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|error| Problem::input(format!("cannot read {}: {error}", shown(path))))?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Problem::input(format!("{} is no UTF-8 text: byte {offset} is wrong", shown(path)))
    })
}

/// A path for messages.
pub(crate) fn shown(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}
