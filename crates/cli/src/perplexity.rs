//! `metallic perplexity`: how well a model predicts a text.

use metallic::{LoadOptions, Perplexity};
use serde_json::json;

use crate::args::PerplexityArgs;
use crate::input::read_text;
use crate::options;
use crate::output::Output;
use crate::progress::Progress;

/// Half of a chunk wants logits; so many rows at once keep the buffer small.
const LOGIT_ROWS: usize = 32;

pub(crate) fn perplexity(args: &PerplexityArgs, out: &Output) -> anyhow::Result<()> {
    let text = read_text(&args.text_file)?;
    let chunk = args.ctx_size as usize;
    let load = options::load_options(&args.load, Some(chunk))?;
    let load = LoadOptions { rows: load.rows.max(Some(chunk)), logit_rows: LOGIT_ROWS, ..load };
    let mut loaded = options::load(&args.file, &load, out)?;
    let mut progress = Progress::of_items(out);
    let measured = metallic::perplexity::perplexity(&mut loaded.model, &text, chunk, &mut |done, total, so_far| {
        progress.set(&format!("perplexity {so_far:.4}"), done as u64, total as u64);
    })?;
    drop(progress);
    let Perplexity { perplexity, standard_error, tokens, chunks } = measured;
    if out.json() {
        return out.print_json(&json!({
            "perplexity": perplexity,
            "tokens": tokens,
            "standard_error": standard_error,
            "chunks": chunks,
        }));
    }
    let chunks = options::count(chunks, "chunk");
    out.print(&format!("perplexity {perplexity:.4} ± {standard_error:.4} over {tokens} tokens in {chunks}\n"))
}
