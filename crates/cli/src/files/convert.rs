//! `metallic convert`: a Hugging Face model as a GGUF file.

use metallic::Error;
use metallic::tools::convert::{self, ConvertOptions};
use metallic::tools::mix::weight_format;
use serde_json::json;

use super::{threads, watched};
use crate::args::ConvertArgs;
use crate::options::count;
use crate::output::Output;

pub(crate) fn convert(args: &ConvertArgs, out: &Output) -> anyhow::Result<()> {
    let format = args.format.as_deref().filter(|name| !name.eq_ignore_ascii_case("auto"));
    let options = ConvertOptions {
        format: format.map(weight_format).transpose().map_err(Error::from)?,
        pre_tokenizer: args.pre.clone(),
        name: args.name.clone(),
        threads: threads(args.threads),
    };
    let converted = watched(out, |watch| convert::convert(&args.folder, &args.output, &options, watch))?;
    let path = args.output.display();
    if out.json() {
        return out.print_json(&json!({
            "file": path.to_string(),
            "architecture": converted.architecture,
            "tensors": converted.tensors,
            "tokens": converted.tokens,
            "notes": converted.notes,
        }));
    }
    for note in &converted.notes {
        out.warn(format_args!("note: {note}"));
    }
    let (architecture, tokens) = (converted.architecture, count(converted.tokens, "token"));
    out.print(&format!("{path}: {architecture}, {}, {tokens}\n", count(converted.tensors, "tensor")))
}
