//! `metallic logits`: what the model thinks comes after given tokens.

use std::cmp::Ordering;

use metallic::perplexity::log_sum_exp;
use metallic::session::{Sequence, SessionError};
use metallic::{Error, LoadOptions};
use serde::Serialize;

use crate::args::LogitsArgs;
use crate::input::{read_text, shown};
use crate::options;
use crate::output::{Output, Problem};

/// Rows of logits for each pass, where all are wanted.
const LOGIT_ROWS: usize = 32;

#[derive(Serialize)]
struct Report {
    positions: Vec<Position>,
}

#[derive(Serialize)]
struct Position {
    position: usize,
    /// Id and logit, highest first; of equal ones the lower id first.
    top: Vec<(u32, f32)>,
    lse: f64,
}

pub(crate) fn logits(args: &LogitsArgs, out: &Output) -> anyhow::Result<()> {
    let tokens = tokens(args)?;
    let Some(last) = tokens.len().checked_sub(1) else {
        return Err(Error::from(SessionError::EmptyPrompt).into());
    };
    let load = options::load_options(&args.load, options::context(&args.context))?;
    let load = LoadOptions { logit_rows: if args.all { LOGIT_ROWS } else { 1 }, ..load };
    let mut loaded = options::load(&args.file, &load, out)?;
    let mut positions = Vec::new();
    let mut sequence = Sequence::default();
    let wanted = |position| args.all || position == last;
    let engine = loaded.model.engine();
    engine
        .all_logits(&mut sequence, &tokens, &wanted, &mut |position, logits| {
            positions.push(Position { position, top: top(logits, args.top), lse: log_sum_exp(logits) });
        })
        .map_err(Error::from)?;
    let report = Report { positions };
    if out.json() { out.print_json(&report) } else { out.print(&table(&report, loaded.model.tokenizer())) }
}

fn tokens(args: &LogitsArgs) -> anyhow::Result<Vec<u32>> {
    match (&args.tokens, &args.tokens_file) {
        (Some(tokens), _) => Ok(tokens.clone()),
        (None, Some(path)) => serde_json::from_str(&read_text(path)?)
            .map_err(|error| Problem::input(format!("{} is no JSON array of token ids: {error}", shown(path)))),
        // clap asks for one of the two.
        (None, None) => Ok(Vec::new()),
    }
}

fn top(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let higher_first = |a: &(u32, f32), b: &(u32, f32)| -> Ordering { b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)) };
    let mut top: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    if count == 0 {
        return Vec::new();
    }
    if count < top.len() {
        top.select_nth_unstable_by(count - 1, higher_first);
        top.truncate(count);
    }
    top.sort_unstable_by(higher_first);
    top
}

fn table(report: &Report, tokenizer: &metallic::text::Tokenizer) -> String {
    let mut table = crate::output::table(&["position", "id", "piece", "logit", "probability"]);
    for position in &report.positions {
        for (id, logit) in &position.top {
            table.add_row([
                position.position.to_string(),
                id.to_string(),
                crate::tokenize::piece(tokenizer, *id),
                format!("{logit:.4}"),
                format!("{:.4}", (f64::from(*logit) - position.lse).exp()),
            ]);
        }
    }
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn the_highest_come_first_and_of_equal_ones_the_lower_id() {
        let logits = [1.0, 3.0, 2.0, 3.0, -1.0];
        assert_eq!(top(&logits, 0), []);
        assert_eq!(top(&logits, 1), [(1, 3.0)]);
        assert_eq!(top(&logits, 3), [(1, 3.0), (3, 3.0), (2, 2.0)]);
        assert_eq!(top(&logits, 9).len(), 5);
    }
}
