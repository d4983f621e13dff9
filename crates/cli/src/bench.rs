//! `metallic bench`: tokens a second, and what share of the memory's speed decoding uses.

use std::time::Instant;

use metallic::memory::{measure_read_gb_s, peak_resident_bytes};
use metallic::program::cost::{kv_bytes_per_position, weight_bytes_per_token};
use metallic::program::{LedgerRow, PAGE_ROWS};
use metallic::session::{Engine, Sequence, SessionError};
use metallic::{Error, KvFormat, LoadOptions};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::BenchArgs;
use crate::options;
use crate::output::{Output, table};
use crate::progress::Progress;
use crate::run::milliseconds;

/// Median, least and greatest of the repetitions, in tokens a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Rate {
    median: f64,
    min: f64,
    max: f64,
}

/// Tokens that a device is asked for at a time.
const DECODE_BURST: usize = 8;

/// What was measured.
struct Report {
    name: String,
    /// `None` where no token was asked for.
    prefill: Option<Rate>,
    /// Tokens of all sequences.
    decode: Option<Rate>,
    sequences: usize,
    prefill_ledger: Vec<LedgerRow>,
    decode_ledger: Vec<LedgerRow>,
    load_ms: f64,
    /// From then until the backend's work on weights was done.
    settle_ms: f64,
    weight_bytes_per_token: u64,
    kv_format: KvFormat,
    kv_bytes_per_position: u64,
    /// Of the device's memory.
    read_gb_s: f64,
    peak_rss_bytes: Option<u64>,
    threads: usize,
    backend: &'static str,
    device: String,
}

pub(crate) fn bench(args: &BenchArgs, out: &Output) -> anyhow::Result<()> {
    let (prompt, decode) = (args.n_prompt as usize, args.n_gen as usize);
    let depth = if decode > 0 { args.n_depth as usize } else { 0 };
    let (sequences, load) = (args.sequences as usize, load_options(args, depth + decode)?);
    let mut loaded = options::load(&args.file, &load, out)?;
    let engine = loaded.model.engine();
    let loading = Instant::now();
    engine.settle()?;
    let settle_ms = milliseconds(loading.elapsed());
    let mut progress = Progress::of_items(out);
    let rounds = u64::from(args.repetitions) + 1;

    let (mut prefill_rates, mut decode_rates) = (Vec::new(), Vec::new());
    let (mut prefill_ledger, mut decode_ledger) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        progress.set("measuring", round, rounds);
        let prefill_rate = measure_prefill(engine, prompt)?;
        let prefill_rows = engine.take_ledger();
        let decode_rate = measure_decode(engine, sequences, depth, decode)?;
        let decode_rows = engine.take_ledger();
        // The first round warms up.
        if round > 0 {
            prefill_rates.extend(prefill_rate);
            decode_rates.extend(decode_rate);
            merge(&mut prefill_ledger, prefill_rows);
            merge(&mut decode_ledger, decode_rows);
        }
    }
    if prefill_ledger.is_empty() && decode_ledger.is_empty() {
        // Where a ledger costs time, it gets runs of its own.
        engine.keep_ledger(true)?;
        measure_prefill(engine, prompt)?;
        prefill_ledger = engine.take_ledger();
        measure_decode(engine, sequences, depth, decode)?;
        decode_ledger = engine.take_ledger();
        engine.keep_ledger(false)?;
    }
    // Before the buffer of the measurement that follows.
    let peak_rss_bytes = peak_resident_bytes();
    let kv_format = engine.plan().kv_format;
    let capabilities = engine.backend().capabilities();
    let (threads, backend, device) = (capabilities.threads, capabilities.name, capabilities.description.clone());
    progress.set("reading memory", rounds, rounds);
    let read_gb_s = match engine.read_gb_s()? {
        Some(rate) => rate,
        None => measure_read_gb_s(threads)?,
    };
    let report = Report {
        prefill: Rate::of(prefill_rates),
        decode: Rate::of(decode_rates),
        sequences,
        prefill_ledger,
        decode_ledger,
        load_ms: milliseconds(loaded.time),
        settle_ms,
        weight_bytes_per_token: weight_bytes_per_token(loaded.model.program()),
        kv_format,
        kv_bytes_per_position: kv_bytes_per_position(loaded.model.program(), kv_format),
        read_gb_s,
        peak_rss_bytes,
        threads,
        backend,
        device,
        name: loaded.name,
    };
    drop(progress);
    if out.json() { out.print_json(&report.to_json(args)) } else { out.print(&report.to_text(args)) }
}

/// How to load for prompts, and for sequences of `length` tokens.
fn load_options(args: &BenchArgs, length: usize) -> anyhow::Result<LoadOptions> {
    let sequences = args.sequences as usize;
    if let Some(rows) = args.load.batch_size.filter(|&rows| rows < args.sequences) {
        anyhow::bail!("-s {sequences} takes passes of as many rows, and -b {rows} allows fewer: raise -b");
    }
    // No two sequences share a page.
    let context = (args.n_prompt as usize).max(sequences * length.next_multiple_of(PAGE_ROWS)).max(1);
    Ok(LoadOptions { logit_rows: sequences, ..options::load_options(&args.load, Some(context))? })
}

/// Computes a prompt of `count` tokens; only the last pass wants logits. Tokens a second, `None` for no tokens.
fn measure_prefill(engine: &mut Engine, count: usize) -> Result<Option<f64>, Error> {
    let mut sequence = Sequence::default();
    let started = Instant::now();
    let outcome = fill(engine, &mut sequence, count);
    let seconds = started.elapsed().as_secs_f64();
    engine.truncate(&mut sequence, 0);
    outcome?;
    Ok((count > 0).then(|| count as f64 / seconds))
}

/// Fills the empty `sequence` with `count` tokens.
fn fill(engine: &mut Engine, sequence: &mut Sequence, count: usize) -> Result<(), SessionError> {
    let vocabulary = engine.program().sizes.vocabulary;
    // Which tokens is of no consequence, but they should not all be the same row of the embedding.
    let tokens: Vec<u32> = (0..count).map(|index| some_token(index, vocabulary)).collect();
    let mut passes = tokens.chunks(engine.rows_max()).peekable();
    while let Some(pass) = passes.next() {
        match passes.peek() {
            Some(_) => engine.extend(sequence, pass)?,
            None => engine.next_logits(sequence, pass).map(|_| ())?,
        }
    }
    Ok(())
}

fn some_token(index: usize, vocabulary: usize) -> u32 {
    ((index * 7919 + 13) % vocabulary) as u32
}

/// Appends `count` tokens to each of so many sequences of `depth` others, one of each in a pass; to a single one those that
/// the model chose where the device can choose. Tokens a second of all sequences.
fn measure_decode(engine: &mut Engine, sequences: usize, depth: usize, count: usize) -> Result<Option<f64>, Error> {
    let mut sequences: Vec<Sequence> = (0..sequences).map(|_| Sequence::default()).collect();
    let outcome = sequences.iter_mut().try_for_each(|sequence| fill(engine, sequence, depth)).and_then(|()| {
        engine.take_ledger();
        let started = Instant::now();
        match &mut sequences[..] {
            [sequence] => decode(engine, sequence, count)?,
            all => decode_together(engine, all, count)?,
        }
        Ok(started.elapsed().as_secs_f64())
    });
    for sequence in &mut sequences {
        engine.truncate(sequence, 0);
    }
    let seconds = outcome?;
    Ok((count > 0).then(|| (sequences.len() * count) as f64 / seconds))
}

fn decode(engine: &mut Engine, sequence: &mut Sequence, count: usize) -> Result<(), SessionError> {
    let vocabulary = engine.program().sizes.vocabulary;
    let (mut token, mut done) = (13, 0);
    while done < count {
        let burst = (count - done).min(DECODE_BURST);
        let ahead = (count - done - burst).min(DECODE_BURST);
        match engine.greedy(sequence, token, burst, ahead)? {
            Some(tokens) => {
                token = tokens[tokens.len() - 1];
                done += burst;
            }
            None => {
                engine.next_logits(sequence, &[some_token(done, vocabulary)])?;
                done += 1;
            }
        }
    }
    Ok(())
}

fn decode_together(engine: &mut Engine, sequences: &mut [Sequence], count: usize) -> Result<(), SessionError> {
    let vocabulary = engine.program().sizes.vocabulary;
    for done in 0..count {
        let token = |index| some_token(index + done, vocabulary);
        let mut rows: Vec<_> = sequences.iter_mut().enumerate().map(|(index, own)| (own, token(index))).collect();
        engine.batch_logits(&mut rows)?;
    }
    Ok(())
}

/// Adds `rows` to what is known of the same steps.
fn merge(ledger: &mut Vec<LedgerRow>, rows: Vec<LedgerRow>) {
    for row in rows {
        match ledger.iter_mut().find(|known| known.step == row.step) {
            None => ledger.push(row),
            Some(known) => {
                known.calls += row.calls;
                known.weight_bytes += row.weight_bytes;
                known.multiply_adds += row.multiply_adds;
                known.seconds += row.seconds;
            }
        }
    }
}

impl Rate {
    fn of(mut rates: Vec<f64>) -> Option<Rate> {
        rates.sort_by(f64::total_cmp);
        let (min, max) = (*rates.first()?, *rates.last()?);
        let middle = rates.len() / 2;
        let median = if rates.len() % 2 == 1 { rates[middle] } else { (rates[middle - 1] + rates[middle]) / 2.0 };
        Some(Rate { median, min, max })
    }
}

impl Report {
    /// GB/s at which decoding reads weights.
    fn decode_gb_s(&self) -> Option<f64> {
        let passes = |rate: Rate| rate.median / self.sequences as f64;
        self.decode.map(|rate| self.weight_bytes_per_token as f64 * passes(rate) / 1e9)
    }

    fn to_json(&self, args: &BenchArgs) -> Value {
        json!({
            "model": self.name,
            "prefill_tok_s": self.prefill,
            "decode_tok_s": self.decode,
            "load_ms": self.load_ms,
            "settle_ms": self.settle_ms,
            "weight_bytes_per_token": self.weight_bytes_per_token,
            "cache_type": self.kv_format.name(),
            "kv_bytes_per_position": self.kv_bytes_per_position,
            "read_gb_s": self.read_gb_s,
            "read_share": self.decode_gb_s().map(|rate| rate / self.read_gb_s),
            "peak_rss_bytes": self.peak_rss_bytes,
            "threads": self.threads,
            "backend": self.backend,
            "device": self.device,
            "n_prompt": args.n_prompt,
            "n_gen": args.n_gen,
            "n_depth": args.n_depth,
            "sequences": self.sequences,
            "repetitions": args.repetitions,
            "ledger": ledger_json(&self.decode_ledger, self.read_gb_s),
            "prefill_ledger": ledger_json(&self.prefill_ledger, self.read_gb_s),
        })
    }

    fn to_text(&self, args: &BenchArgs) -> String {
        let mut rates = table(&["measure", "median", "least", "greatest"]);
        let decode = match self.sequences {
            1 => format!("decode {}", args.n_gen),
            count => format!("decode {count} × {}", args.n_gen),
        };
        for (what, rate) in [(format!("prefill {}", args.n_prompt), self.prefill), (decode, self.decode)] {
            if let Some(Rate { median, min, max }) = rate {
                let cells = [median, min, max].map(|rate| format!("{rate:.1} tokens/s"));
                rates.add_row([vec![what], cells.to_vec()].concat());
            }
        }
        let mut text = format!("{} on {}: {}\n{rates}\n", self.name, self.backend, self.device);
        text += &format!("ready in {:.0} ms", self.load_ms);
        if self.settle_ms >= 1.0 {
            text += &format!(", all weights repacked {:.0} ms later", self.settle_ms);
        }
        if let Some(bytes) = self.peak_rss_bytes {
            text += &format!(", at most {:.0} MiB of memory", bytes as f64 / f64::from(1 << 20));
        }
        text += &format!("\na token reads {:.1} MB of weights", self.weight_bytes_per_token as f64 / 1e6);
        let reads = format!("reads {:.1} GB/s", self.read_gb_s);
        text += &match self.backend {
            "gpu" => format!("; this GPU {reads}"),
            _ => format!("; this machine {reads} with {}", options::count(self.threads, "thread")),
        };
        let (kv, format) = (self.kv_bytes_per_position as f64 / 1e3, self.kv_format);
        text += &format!("\nkeys and values of a position take {kv:.1} kB in {format}");
        if let Some(rate) = self.decode_gb_s() {
            let share = 100.0 * rate / self.read_gb_s;
            let cached = if share > 100.0 { ": caches keep some of the weights" } else { "" };
            text += &format!("\ndecoding reads {rate:.1} GB/s, {share:.0} % of that{cached}");
        }
        for (what, ledger) in [("decode", &self.decode_ledger), ("prefill", &self.prefill_ledger)] {
            if !ledger.is_empty() {
                text += &format!("\n\n{what}, by step\n{}", ledger_table(ledger, self.read_gb_s));
            }
        }
        text + "\n"
    }
}

/// Rate of something counted over `seconds`, in 10⁹ a second; 0 where no time passed.
fn giga(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds / 1e9 } else { 0.0 }
}

fn total_seconds(ledger: &[LedgerRow]) -> f64 {
    ledger.iter().map(|row| row.seconds).sum()
}

fn ledger_json(ledger: &[LedgerRow], read_gb_s: f64) -> Value {
    let total = total_seconds(ledger);
    let row = |row: &LedgerRow| {
        json!({
            "step": row.step,
            "calls": row.calls,
            "weight_bytes": row.weight_bytes,
            "multiply_adds": row.multiply_adds,
            "seconds": row.seconds,
            "gb_s": giga(row.weight_bytes, row.seconds),
            "read_share": giga(row.weight_bytes, row.seconds) / read_gb_s,
            "gflop_s": giga(2 * row.multiply_adds, row.seconds),
            "share": if total > 0.0 { row.seconds / total } else { 0.0 },
        })
    };
    ledger.iter().map(row).collect()
}

/// Each step with its share of the time, and its rate as a share of what the memory gives.
fn ledger_table(ledger: &[LedgerRow], read_gb_s: f64) -> String {
    let total = total_seconds(ledger);
    let mut steps = table(&["step", "calls", "weights", "time", "share", "GB/s", "of reads", "GFLOP/s"]);
    for row in ledger {
        steps.add_row([
            row.step.to_owned(),
            row.calls.to_string(),
            format!("{:.1} MB", row.weight_bytes as f64 / 1e6),
            format!("{:.1} ms", row.seconds * 1e3),
            format!("{:.1} %", if total > 0.0 { 100.0 * row.seconds / total } else { 0.0 }),
            format!("{:.1}", giga(row.weight_bytes, row.seconds)),
            format!("{:.0} %", 100.0 * giga(row.weight_bytes, row.seconds) / read_gb_s),
            format!("{:.1}", giga(2 * row.multiply_adds, row.seconds)),
        ]);
    }
    steps.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_ordered() {
        let rate = |rates: &[f64]| Rate::of(rates.to_vec());
        assert_eq!(rate(&[]), None);
        assert_eq!(rate(&[2.0]), Some(Rate { median: 2.0, min: 2.0, max: 2.0 }));
        assert_eq!(rate(&[3.0, 1.0, 2.0]), Some(Rate { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(rate(&[4.0, 1.0, 2.0, 3.0]), Some(Rate { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn ledgers_add_up_by_step() {
        let row = |step, seconds| LedgerRow { step, calls: 1, weight_bytes: 10, multiply_adds: 5, seconds };
        let mut ledger = vec![row("qkv", 1.0)];
        merge(&mut ledger, vec![row("down", 2.0), row("qkv", 0.5)]);
        assert_eq!(
            ledger.iter().map(|row| (row.step, row.calls, row.seconds)).collect::<Vec<_>>(),
            [("qkv", 2, 1.5), ("down", 1, 2.0)]
        );
    }
}
