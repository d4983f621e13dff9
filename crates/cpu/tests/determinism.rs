//! The same request gives the same bits: whatever the threads, the chunks, the company and the pages.
//!
//! Models are tiny, one of each architecture, with every format somewhere in their layers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use metallic_cpu::{CpuBackend, CpuConfig, IsaChoice, Repack};
use models::Model;
use program::{Backend, Buffer, ExecutableId, KvFormat, KvPlan, PageTable, PassInput, RowBucket, Segment, TensorIndex};
use tensor::{FORMATS, Format};
use testkit::{Random, TinyModel};

const ARCHITECTURES: [&str; 6] = ["gemma", "gemma2", "gemma3", "llama", "qwen2", "qwen3"];

/// All architectures on the best instruction set, the two that differ most on the slower ones, and one with windows with
/// keys and values as codes on each.
fn places() -> impl Iterator<Item = (&'static str, IsaChoice, KvFormat)> {
    let best = ARCHITECTURES.map(|architecture| (architecture, IsaChoice::Best, KvFormat::F16));
    let others = [IsaChoice::AtMostAvx2, IsaChoice::Portable];
    let others = others.into_iter().flat_map(|isa| [("gemma3", isa, KvFormat::F16), ("qwen2", isa, KvFormat::F16)]);
    let all = [IsaChoice::Best, IsaChoice::AtMostAvx2, IsaChoice::Portable];
    let others = others.chain([("qwen2", IsaChoice::WithoutVnni, KvFormat::F16)]);
    best.into_iter().chain(others).chain(all.map(|isa| ("gemma3", isa, KvFormat::Q8_0)))
}

/// Positions in a page.
const PAGE: usize = program::PAGE_ROWS;
/// Pages of every pool.
const PAGES: usize = 24;
/// A little more than the longest chunk.
const PROMPT: usize = 530;

/// A model in which neighbouring matrices have different formats, and each format occurs.
fn mixed(architecture: &'static str) -> Model {
    let tiny = TinyModel { layers: 5, context: 1024, ..TinyModel::wide(architecture, 5) };
    let formats: Vec<_> = FORMATS
        .iter()
        .filter(|row| {
            row.codec.is_some()
                && (row.format.is_quantised() || matches!(row.format, Format::F32 | Format::F16 | Format::BF16))
        })
        .collect();
    let mut parts = tiny.parts();
    let matrices = parts.tensors.iter_mut().filter(|tensor| tensor.dimensions.len() == 2);
    for (tensor, row) in matrices.zip(formats.iter().cycle()) {
        tensor.format = row.format;
    }
    let model = models::load(&parts.file()).unwrap();
    for row in formats {
        assert!(model.program.tensors.iter().any(|spec| spec.format == row.format), "{}", row.name);
    }
    model
}

struct Running<'m> {
    model: &'m Model,
    backend: CpuBackend,
    executable: ExecutableId,
}

/// The logits of a row, as bits.
type Bits = Vec<u32>;

impl Running<'_> {
    fn new(model: &Model, place: (IsaChoice, KvFormat), threads: usize) -> Running<'_> {
        Running::repacked(model, place, threads, Repack::First)
    }

    fn repacked(model: &Model, (isa, format): (IsaChoice, KvFormat), threads: usize, repack: Repack) -> Running<'_> {
        let mut backend = CpuBackend::new(CpuConfig { threads, isa, repack }).unwrap();
        let executable = backend.compile(&model.program, RowBucket { rows: PROMPT, logit_rows: PROMPT }).unwrap();
        backend.allocate(executable, KvPlan { pages: PAGES, format }).unwrap();
        for index in (0..).map(TensorIndex).take(model.program.tensors.len()) {
            backend.upload(executable, index, model.tensor_bytes(index)).unwrap();
        }
        Running { model, backend, executable }
    }

    /// Rows given as sequence, position and token.
    fn pass(&mut self, rows: &[(u32, usize, u32)], page_tables: &[PageTable]) -> Vec<Bits> {
        let tokens: Vec<u32> = rows.iter().map(|row| row.2).collect();
        let positions: Vec<u32> = rows.iter().map(|row| row.1 as u32).collect();
        let sequences: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let logit_rows: Vec<u32> = (0..).take(rows.len()).collect();
        let input = PassInput {
            tokens: &tokens,
            positions: &positions,
            sequences: &sequences,
            page_tables,
            logit_rows: &logit_rows,
        };
        self.backend.submit(self.executable, &Segment::whole(&self.model.program), &input).unwrap();
        let vocabulary = self.model.program.sizes.vocabulary;
        let mut logits = vec![f32::NAN; rows.len() * vocabulary];
        self.backend.read(self.executable, Buffer::Logits, 0..rows.len(), &mut logits).unwrap();
        logits.chunks_exact(vocabulary).map(|row| row.iter().map(|logit| logit.to_bits()).collect()).collect()
    }

    /// A sequence alone, in chunks.
    fn chunked(&mut self, tokens: &[u32], chunk: usize, table: &PageTable) -> Vec<Bits> {
        let rows: Vec<(u32, usize, u32)> =
            tokens.iter().enumerate().map(|(position, token)| (0, position, *token)).collect();
        rows.chunks(chunk).flat_map(|rows| self.pass(rows, std::slice::from_ref(table))).collect()
    }
}

fn prompt(model: &Model, seed: u64, length: usize) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..length).map(|_| random.below(model.program.sizes.vocabulary as u64) as u32).collect()
}

fn table(pages: impl IntoIterator<Item = u32>) -> PageTable {
    PageTable { pages: pages.into_iter().collect() }
}

fn in_order() -> PageTable {
    table(0..PROMPT.div_ceil(PAGE) as u32)
}

/// Compares row by row, so that a failure says where and does not print numbers.
fn assert_same(actual: &[Bits], expected: &[Bits], what: &str) {
    let rows = expected.len().min(actual.len());
    let first = (0..rows).find(|row| actual[*row] != expected[*row]);
    assert_eq!(first, None, "{what}: first row whose logits differ");
}

fn assert_sane(logits: &[Bits]) {
    let finite = logits.iter().flatten().all(|bits| f32::from_bits(*bits).is_finite());
    assert!(finite && logits[0] != logits[1], "logits must be numbers and depend on the prompt");
}

#[test]
fn threads_and_chunks_change_no_bit() {
    for (architecture, isa, format) in places() {
        let model = mixed(architecture);
        let tokens = prompt(&model, 1, PROMPT);
        let whole = Running::new(&model, (isa, format), 1).chunked(&tokens, PROMPT, &in_order());
        assert_sane(&whole);
        let sizes: &[usize] = if isa == IsaChoice::Best { &[1, 2, 3, 5, 7, 64, 65, 512, PROMPT] } else { &[1, 7, 65] };
        for threads in [1, 2, 3] {
            let mut running = Running::new(&model, (isa, format), threads);
            for size in sizes {
                // Short chunks cover a page and a little more, long ones all of the prompt.
                let some = &tokens[..PROMPT.min((10 * size).max(70))];
                let chunked = running.chunked(some, *size, &in_order());
                let what = format!("{architecture} {isa:?} {format}, {threads} threads, chunks of {size}");
                assert_same(&chunked, &whole, &what);
            }
        }
    }
}

#[test]
fn weights_that_have_not_been_repacked_change_no_bit() {
    for (architecture, isa, format) in places() {
        let model = mixed(architecture);
        let tokens = prompt(&model, 4, 140);
        let expected = Running::new(&model, (isa, format), 1).chunked(&tokens, 140, &in_order());
        assert_sane(&expected);
        for (threads, repack) in [(1, Repack::Never), (2, Repack::Never), (2, Repack::Behind)] {
            for size in [1, 5, 9, 140] {
                // Behind, the first passes race with the repacking: anew for each size.
                let some = &tokens[..140.min((10 * size).max(40))];
                let actual = Running::repacked(&model, (isa, format), threads, repack).chunked(some, size, &in_order());
                let what = format!("{architecture} {isa:?} {format}, {repack:?}, {threads} threads, chunks of {size}");
                assert_same(&actual, &expected, &what);
            }
        }
    }
}

#[test]
fn a_row_computes_the_same_alone_and_in_company() {
    for (architecture, isa, format) in places() {
        let model = mixed(architecture);
        let prompts: Vec<Vec<u32>> =
            [150, 70, 33].into_iter().zip(10..).map(|(length, seed)| prompt(&model, seed, length)).collect();
        let tables = [table([9, 2, 17]), table([0, 23]), table([5])];
        let alone: Vec<Vec<Bits>> = prompts
            .iter()
            .map(|tokens| Running::new(&model, (isa, format), 1).chunked(tokens, 512, &in_order()))
            .collect();
        for threads in [1, 2, 3] {
            let mut running = Running::new(&model, (isa, format), threads);
            let mut together = vec![Vec::new(); prompts.len()];
            for pass in company() {
                let rows: Vec<_> = pass.iter().map(|(s, p)| (*s, *p, prompts[*s as usize][*p])).collect();
                for ((sequence, _), bits) in pass.iter().zip(running.pass(&rows, &tables)) {
                    together[*sequence as usize].push(bits);
                }
            }
            for (sequence, (together, alone)) in together.iter().zip(&alone).enumerate() {
                assert_eq!(together.len(), alone.len());
                assert_same(
                    together,
                    alone,
                    &format!("{architecture} {isa:?} {format}, {threads} threads, sequence {sequence}"),
                );
            }
        }
    }
}

/// Passes of three sequences, as sequence and position: prompts enter as chunks of different lengths side by side, then
/// rows alternate, two of one sequence among them.
fn company() -> Vec<Vec<(u32, usize)>> {
    let rows = |sequence: u32, positions: std::ops::Range<usize>| positions.map(move |position| (sequence, position));
    let mut passes: Vec<Vec<(u32, usize)>> = vec![
        rows(0, 0..97).chain(rows(1, 0..3)).chain(rows(2, 0..29)).collect(),
        rows(1, 3..66).chain(rows(0, 97..140)).collect(),
    ];
    let alternating = |step: usize| vec![(2, 29 + step), (0, 140 + 2 * step), (1, 66 + step), (0, 141 + 2 * step)];
    passes.extend((0..4).map(alternating));
    passes.push(rows(0, 148..150).collect());
    passes
}

#[test]
fn pages_and_what_they_held_before_change_no_bit() {
    let coded = ("gemma3", KvFormat::Q8_0);
    for (architecture, format) in
        ARCHITECTURES.map(|architecture| (architecture, KvFormat::F16)).into_iter().chain([coded])
    {
        let model = mixed(architecture);
        let tokens = prompt(&model, 2, 200);
        let mut running = Running::new(&model, (IsaChoice::Best, format), 2);
        let expected = running.chunked(&tokens, 67, &in_order());
        let backwards = running.chunked(&tokens, 67, &table((0..4).rev()));
        assert_same(&backwards, &expected, &format!("{architecture} {format}, pages backwards"));
        // Another sequence fills all pages; its keys and values must not be seen.
        let other = prompt(&model, 3, PROMPT);
        running.chunked(&other, 512, &table(10..10 + PROMPT.div_ceil(PAGE) as u32));
        let reused = running.chunked(&tokens, 67, &table([18, 10, 14, 11]));
        assert_same(&reused, &expected, &format!("{architecture} {format}, used pages"));
    }
}
