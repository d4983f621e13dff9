//! Does a backend compute what the reference computes? Every step, every format with a codec, awkward shapes.
//!
//! A new backend starts here: build a [`Suite`] from the reference once, then [`Suite::check`] the candidate. Cases are
//! tiny programs that end with the step they test, so that an error has a name; all other matrices of a case are F32.
//! Weights are random and the same everywhere. This crate names no backend and prints nothing.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use program::{
    Backend, BackendError, Buffer, KvFormat, KvPlan, PassInput, Program, RowBucket, Segment, Step, Support,
    TensorBytes, TensorIndex,
};
use tensor::Format;

use crate::tolerance::{Deviation, Path, bound, path_of};

mod attending;
mod case;
mod products;
pub mod random;
pub mod tolerance;

pub use random::Random;

use case::{Case, PAGES, ROWS_MAX};

/// Makes backends of one kind, one for each case.
pub type MakeBackend<'f> = &'f mut dyn FnMut() -> Box<dyn Backend>;

/// Cases that a backend is known not to pass.
#[derive(Clone, Copy, Debug)]
pub struct Ignored {
    /// A part of the names of the cases.
    pub cases: &'static str,
    /// Why they may fail.
    pub reason: &'static str,
}

/// Which cases a suite has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Each step once in each format and each way of attending once: a broken kernel shows, in a fraction of the time.
    Core,
    /// Every width, activation, head shape and window.
    All,
}

/// Names, programs and stores of the selected cases, for those who look at what a backend makes of them without running
/// it.
pub fn programs(selection: Selection) -> Vec<(String, Arc<Program>, KvFormat)> {
    case::selected(selection).into_iter().map(|case| (case.name, case.program, case.kv)).collect()
}

/// Cases with what the reference makes of them.
pub struct Suite {
    cases: Vec<(Case, Vec<Vec<f32>>)>,
}

/// What came of a check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Cases that were run.
    pub checked: usize,
    /// Cases that were left out, by an entry of the list.
    pub ignored: usize,
    /// Cases whose format of keys and values the backend does not claim to have, and which it did refuse.
    pub refused: usize,
    /// What is wrong, one line each.
    pub failures: Vec<String>,
    /// The worst row met on each path, and its case.
    pub worst: BTreeMap<Path, (Deviation, String)>,
}

impl Suite {
    /// Runs the selected cases on the reference.
    ///
    /// # Panics
    /// If the reference fails: then there is nothing to compare with.
    pub fn new(selection: Selection, reference: MakeBackend<'_>) -> Suite {
        let run = |case: Case| {
            let expected = run(&case, &mut *reference()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            (case, expected)
        };
        Suite { cases: case::selected(selection).into_iter().map(run).collect() }
    }

    /// Runs every case that is not ignored on the candidate and compares each row of each pass.
    ///
    /// An entry of `ignored` that fits no case is a failure too, so that the list only shrinks.
    pub fn check(&self, candidate: MakeBackend<'_>, ignored: &[Ignored]) -> Report {
        let mut report = Report::default();
        for entry in ignored {
            if !self.cases.iter().any(|(case, _)| case.name.contains(entry.cases)) {
                report.failures.push(format!("no case is called {:?} ({})", entry.cases, entry.reason));
            }
        }
        for (index, (case, _)) in self.cases.iter().enumerate() {
            if ignored.iter().any(|entry| case.name.contains(entry.cases)) {
                report.ignored += 1;
                continue;
            }
            self.check_case(index, &mut *candidate(), &mut report);
        }
        report
    }

    /// Runs one case, counted as [`Suite::names`] counts them, on a candidate that has run none.
    pub fn check_case(&self, index: usize, candidate: &mut dyn Backend, report: &mut Report) {
        let (case, expected) = &self.cases[index];
        if !candidate.capabilities().kv_formats.contains(&case.kv) {
            match run(case, candidate) {
                Err(BackendError::KvFormat { .. }) => report.refused += 1,
                _ => report.failures.push(format!("{}: {} should have been refused", case.name, case.kv)),
            }
            return;
        }
        report.checked += 1;
        match support_of(case, candidate) {
            Some(path) => match run(case, candidate) {
                Ok(actual) => compare(case, path, &actual, expected, report),
                Err(error) => report.failures.push(format!("{}: {error}", case.name)),
            },
            None => report.failures.push(format!("{}: not supported, and not on the list", case.name)),
        }
    }

    /// The cases' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.cases.iter().map(|(case, _)| case.name.as_str())
    }
}

impl Report {
    /// # Panics
    /// With all failures, if there is one.
    pub fn assert_clean(&self, backend: &str) {
        let (all, some) = (self.failures.len(), self.failures.iter().take(40).cloned().collect::<Vec<_>>());
        assert!(all == 0, "{backend}: {all} failures in {} cases\n{}", self.checked, some.join("\n"));
    }
}

fn compare(case: &Case, path: Path, actual: &[Vec<f32>], expected: &[Vec<f32>], report: &mut Report) {
    let limit = bound(path);
    let width = case.program.buffer_width(case.buffer);
    for (pass, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let rows = actual.chunks_exact(width).zip(expected.chunks_exact(width));
        for (row, (actual, expected)) in rows.enumerate() {
            let (actual, expected) = (&actual[..case.width], &expected[..case.width]);
            let deviation = Deviation::between(actual, expected);
            let (worst, name) = report.worst.entry(path).or_default();
            if deviation.nmse > worst.nmse {
                name.clone_from(&case.name);
            }
            *worst = worst.worse(deviation);
            if !deviation.is_within(limit) {
                let (rows, Deviation { nmse, largest }) = (case.passes[pass].tokens.len(), deviation);
                report.failures.push(format!(
                    "{}: pass {pass} of {rows} rows, row {row}: NMSE {nmse:.2e} (limit {:.0e}), largest {largest:.2e} \
                     (limit {:.0e})",
                    case.name, limit.nmse, limit.largest
                ));
                return;
            }
        }
    }
}

/// The worst path of the tested steps' matrices; `None` where the backend refuses one.
fn support_of(case: &Case, backend: &dyn Backend) -> Option<Path> {
    let mut path = case.path;
    if backend.capabilities().half_products {
        path = path.halved();
    }
    for unit in case.program.units() {
        for (_, step) in &case.program.template(unit).steps {
            let table = match step {
                Step::Embed(embed) => Some(embed.table),
                _ => None,
            };
            for slot in step.matrices().into_iter().chain(table) {
                let format: Format = case.program.weight(unit, slot).format;
                match backend.support(step, &[format]) {
                    Support::No => return None,
                    Support::Native | Support::Decoded if table.is_some() => {}
                    support => path = path.max(path_of(step, format, support)),
                }
            }
        }
    }
    Some(path)
}

/// The rows of the case's buffer after each pass.
fn run(case: &Case, backend: &mut dyn Backend) -> Result<Vec<Vec<f32>>, BackendError> {
    let program = &case.program;
    let executable = backend.compile(program, RowBucket { rows: ROWS_MAX, logit_rows: ROWS_MAX })?;
    backend.allocate(executable, KvPlan { pages: PAGES, format: case.kv })?;
    for (index, spec) in (0..).map(TensorIndex).zip(&program.tensors) {
        let bytes = case::encoded(spec, case.spread);
        let length = bytes.len();
        let fence = backend.upload(executable, index, TensorBytes::new(Arc::new(bytes), 0..length))?;
        backend.wait(fence)?;
    }
    let ends = matches!(case.buffer, Buffer::Selected | Buffer::Logits);
    let mut outputs = Vec::new();
    for pass in &case.passes {
        let logit_rows = if ends { pass.logit_rows.as_slice() } else { &[] };
        let input = PassInput {
            tokens: &pass.tokens,
            positions: &pass.positions,
            sequences: &pass.sequences,
            page_tables: &pass.page_tables,
            logit_rows,
        };
        let fence = backend.submit(executable, &Segment { epilogue: ends, ..Segment::whole(program) }, &input)?;
        backend.wait(fence)?;
        let rows = if ends { logit_rows.len() } else { pass.tokens.len() };
        let mut values = vec![f32::NAN; rows * program.buffer_width(case.buffer)];
        backend.read(executable, case.buffer, 0..rows, &mut values)?;
        outputs.push(values);
    }
    Ok(outputs)
}
