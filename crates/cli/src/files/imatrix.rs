//! `metallic imatrix`: how important each column of each matrix is for a text.

use std::ops::ControlFlow;

use metallic::Error;
use metallic::importance::{self, ImportanceOptions};
use serde_json::json;

use crate::args::ImatrixArgs;
use crate::input::{read_text, shown};
use crate::interrupt::Answering;
use crate::options::{self, count};
use crate::output::{Interrupted, Output};
use crate::progress::Progress;

pub(crate) fn imatrix(args: &ImatrixArgs, out: &Output) -> anyhow::Result<()> {
    let text = read_text(&args.text_file)?;
    let file = options::open(&args.file)?;
    let options = ImportanceOptions {
        device: args.device.clone(),
        threads: args.threads.map(|threads| threads as usize),
        chunk: args.ctx_size as usize,
        chunks_max: args.chunks.map(|chunks| chunks as usize),
        output: args.process_output,
        pre_tokenizer: args.pre.clone(),
        dataset: shown(&args.text_file),
    };
    let mut progress = Progress::of_items(out);
    let working = Answering::begin();
    let matrix = importance::collect(&file, &text, &options, &mut |done, total| {
        progress.set("chunks", done as u64, total as u64);
        if working.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    if working.stopped() {
        return Err(Interrupted.into());
    }
    matrix.write(&args.output).map_err(Error::from)?;
    let (path, entries, chunks) = (args.output.display(), matrix.entries.len(), matrix.chunks as usize);
    if out.json() {
        let tokens = chunks * options.chunk;
        return out
            .print_json(&json!({"file": path.to_string(), "entries": entries, "chunks": chunks, "tokens": tokens}));
    }
    out.print(&format!("{path}: {entries} matrices from {}\n", count(chunks, "chunk")))
}
