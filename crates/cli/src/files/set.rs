//! `metallic set`: a model with other metadata.

use std::path::Path;

use metallic::Error;
use metallic::tools::set::{self, Edit, OwnedValue};
use serde_json::json;

use super::{open, watched};
use crate::args::{self, SetArgs};
use crate::input::read_text;
use crate::options::count;
use crate::output::{Output, Problem};

pub(crate) fn set(args: &SetArgs, out: &Output) -> anyhow::Result<()> {
    if args.edits.is_empty() && args.text_file.is_empty() && args.remove.is_empty() {
        args::usage_error("set", "nothing to change: give KEY=VALUE, --text-file or --remove");
    }
    let file = open(&args.files.input)?;
    let mut edits = Vec::new();
    for text in &args.edits {
        edits.push(Edit::parse(text, &file).map_err(Error::from)?);
    }
    for text in &args.text_file {
        let (key, path) =
            text.split_once('=').ok_or_else(|| Problem::input(format!("--text-file {text}: write KEY=FILE")))?;
        edits.push(Edit::Set { key: key.to_owned(), value: OwnedValue::Text(read_text(Path::new(path))?) });
    }
    edits.extend(args.remove.iter().map(|key| Edit::Remove { key: key.clone() }));
    watched(out, |watch| set::set(&file, &args.files.output, &edits, watch))?;
    let path = args.files.output.display();
    if out.json() {
        let keys: Vec<&str> = edits.iter().map(Edit::key).collect();
        return out.print_json(&json!({"file": path.to_string(), "changed": keys}));
    }
    out.print(&format!("{path}: {}\n", count(edits.len(), "change")))
}
