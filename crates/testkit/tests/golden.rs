//! The readable backend computes the logits that llama.cpp computes, for every architecture and rotary scaling.

use cpu::ReferenceBackend;
use metallic_testkit::{golden_models, golden_tokens};
use models::Model;
use program::{Backend, Buffer, ExecutableId, KvFormat, KvPlan, PageTable, PassInput, RowBucket, Segment, TensorIndex};

/// Made by `fixtures/llama_cpp_logits.py`.
const EXPECTED: &str = include_str!("fixtures/llama_cpp_logits.txt");

/// Both sides compute in f32 with f32 weights, keys and values: what is left is the order of sums.
const TOLERANCE: f64 = 1e-5;

/// llama.cpp looks GELU up in a table of half-precision numbers, whose steps are 2⁻¹¹ of the value.
const TOLERANCE_GELU: f64 = 2e-3;

/// A backend with room for two sequences of one page, ready to run.
fn loaded(model: &Model, rows: usize) -> (ReferenceBackend, ExecutableId) {
    let mut backend = ReferenceBackend::new();
    let executable = backend.compile(&model.program, RowBucket { rows, logit_rows: rows }).expect("compile");
    backend.allocate(executable, KvPlan { pages: 2, format: KvFormat::F32 }).expect("allocate");
    for index in (0..).map(TensorIndex).take(model.program.tensors.len()) {
        backend.upload(executable, index, model.tensor_bytes(index)).expect("upload");
    }
    (backend, executable)
}

/// Runs a pass and returns the logits of every row: (rows, vocabulary).
fn run(
    (backend, executable): &mut (ReferenceBackend, ExecutableId),
    model: &Model,
    tokens: &[u32],
    positions: &[u32],
    sequences: &[u32],
) -> Vec<Vec<f32>> {
    let logit_rows: Vec<u32> = (0..).take(tokens.len()).collect();
    let page_tables = [PageTable { pages: vec![1] }, PageTable { pages: vec![0] }];
    let input = PassInput { tokens, positions, sequences, page_tables: &page_tables, logit_rows: &logit_rows };
    backend.submit(*executable, &Segment::whole(&model.program), &input).expect("submit");
    let vocabulary = model.program.sizes.vocabulary;
    let mut logits = vec![0.0; tokens.len() * vocabulary];
    backend.read(*executable, Buffer::Logits, 0..tokens.len(), &mut logits).expect("read");
    logits.chunks(vocabulary).map(<[f32]>::to_vec).collect()
}

/// Logits of every row of one sequence in one pass: (tokens, vocabulary).
fn logits(model: &Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    let positions: Vec<u32> = (0..).take(tokens.len()).collect();
    run(&mut loaded(model, tokens.len()), model, tokens, &positions, &vec![0; tokens.len()])
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln()
}

#[test]
fn logits_are_those_of_llama_cpp() {
    let tokens = golden_tokens();
    let mut checked = 0;
    for (name, parts) in golden_models() {
        let model = models::load(&parts.file()).unwrap();
        let actual = logits(&model, &tokens);
        let tolerance = if name.starts_with("gemma") { TOLERANCE_GELU } else { TOLERANCE };
        let mut worst = 0.0_f64;
        for line in EXPECTED.lines().filter(|line| line.split(' ').next() == Some(name)) {
            let numbers: Vec<f64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
            let row = &actual[numbers[0] as usize];
            worst = worst.max((log_sum_exp(row) - numbers[1]).abs());
            assert_eq!(numbers[2..].len(), row.len().div_ceil(7), "{name}");
            for (actual, expected) in row.iter().step_by(7).zip(&numbers[2..]) {
                worst = worst.max((f64::from(*actual) - expected).abs());
                checked += 1;
            }
        }
        assert!(worst < tolerance, "{name}: logits differ by {worst}, over {tolerance}");
    }
    assert_eq!(checked, 11 * 5 * 38);
}

#[test]
fn chunks_and_other_sequences_change_no_bit() {
    let tokens = golden_tokens();
    for (name, parts) in golden_models() {
        let model = models::load(&parts.file()).unwrap();
        let whole = logits(&model, &tokens);
        let mut backend = loaded(&model, 16);
        let mut chunked = Vec::new();
        for (chunk, first) in tokens.chunks(8).zip((0..).step_by(8)) {
            // Rows of the second sequence, the same tokens backwards, stand between those of the first.
            let interleaved: Vec<u32> = chunk.iter().zip(tokens.iter().rev()).flat_map(|(a, b)| [*a, *b]).collect();
            let positions: Vec<u32> = (first..first + 8).flat_map(|position| [position, position]).collect();
            let rows = run(&mut backend, &model, &interleaved, &positions, &[0, 1].repeat(8));
            chunked.extend(rows.into_iter().step_by(2));
        }
        assert!(chunked == whole, "{name}");
    }
}
