//! What a pass costs, and what is refused, on each device that this machine has.

#![expect(clippy::print_stderr, reason = "says that nothing was checked")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::Arc;

use metallic_wgpu::{Choice, Counters, GpuBackend, Variants, devices};
use models::Model;
use program::{
    Backend, BackendError, Buffer, Draw, Drawn, ExecutableId, KvFormat, KvPlan, PageTable, PassInput, RowBucket,
    Segment, TensorBytes, TensorIndex,
};
use testkit::TinyModel;

const ROWS: usize = 16;
const PAGES: usize = 2;

fn backends() -> Vec<GpuBackend> {
    let usable = devices().into_iter().filter(|device| device.missing.is_none());
    let open = |name: String| GpuBackend::open(&Choice::Named(name), Variants::default()).unwrap();
    let backends: Vec<GpuBackend> = usable.map(|device| open(device.name)).collect();
    if backends.is_empty() {
        eprintln!("no GPU and no software Vulkan here: nothing was checked");
    }
    backends
}

fn qwen2() -> Model {
    models::load(&TinyModel::wide("qwen2", 3).file()).unwrap()
}

fn loaded(backend: &mut GpuBackend, model: &Model) -> ExecutableId {
    let id = backend.compile(&model.program, RowBucket { rows: ROWS, logit_rows: 2 }).unwrap();
    backend.allocate(id, KvPlan { pages: PAGES, format: KvFormat::F16 }).unwrap();
    for index in (0..).map(TensorIndex).take(model.program.tensors.len()) {
        let fence = backend.upload(id, index, model.tensor_bytes(index)).unwrap();
        backend.wait(fence).unwrap();
    }
    id
}

/// Rows of one sequence from `first` on, the last of which wants logits.
fn pass(
    backend: &mut GpuBackend,
    id: ExecutableId,
    model: &Model,
    (first, rows): (u32, u32),
    pages: &[u32],
) -> Result<(), BackendError> {
    let tokens: Vec<u32> = (0..rows).collect();
    let positions: Vec<u32> = (first..first + rows).collect();
    let sequences = vec![0; rows as usize];
    let page_tables = [PageTable { pages: pages.to_vec() }];
    let input = PassInput {
        tokens: &tokens,
        positions: &positions,
        sequences: &sequences,
        page_tables: &page_tables,
        logit_rows: &[rows - 1],
    };
    backend.submit(id, &Segment::whole(&model.program), &input).map(|_| ())
}

#[test]
fn a_token_is_one_submission_of_at_most_six_dispatches_a_layer() {
    let model = qwen2();
    let layers = model.program.layers.len() as u64;
    for mut backend in backends() {
        let id = loaded(&mut backend, &model);
        pass(&mut backend, id, &model, (0, 3), &[0, 1]).unwrap();
        backend.take_counters();
        for token in 3..8 {
            pass(&mut backend, id, &model, (token, 1), &[0, 1]).unwrap();
        }
        let Counters { passes, submits, dispatches, layer_dispatches } = backend.take_counters();
        assert_eq!((passes, submits), (5, 5));
        assert!(layer_dispatches <= 5 * 6 * layers, "{layer_dispatches} in 5 passes of {layers} layers");
        // The embedding, which makes the first inputs too, and the head.
        assert_eq!(dispatches, layer_dispatches + 5 * 2);
        assert_eq!(backend.take_counters(), Counters::default());
        let mut logits = vec![f32::NAN; model.program.sizes.vocabulary];
        backend.read(id, Buffer::Logits, 0..1, &mut logits).unwrap();
        assert!(logits.iter().all(|logit| logit.is_finite()), "what was counted was computed");
    }
}

#[test]
fn draws_record_the_highest_logits_and_go_on_with_one_of_them() {
    let model = qwen2();
    let vocabulary = model.program.sizes.vocabulary;
    for mut backend in backends() {
        let id = loaded(&mut backend, &model);
        let draw = Draw { top_k: 5, top_p: 0.9, min_p: 0.01, temperature: 0.7 };
        let page_tables = [PageTable { pages: vec![0, 1] }];
        let first = |token: &'static [u32]| PassInput {
            tokens: token,
            positions: &[0],
            sequences: &[0],
            page_tables: &page_tables,
            logit_rows: &[0],
        };
        backend.take_counters();
        let numbers = [0.0, 0.5, 0.999, 0.3, 0.7];
        let found = backend.draw(id, &first(&[3]), 5, 0, (draw, &numbers)).unwrap().unwrap();
        let Counters { passes, submits, .. } = backend.take_counters();
        assert_eq!((found.len(), passes), (5, 5));
        assert!(submits < passes, "{submits} submissions of {passes} passes");
        assert_eq!(found[0].token, found[0].candidates[0].0, "the number 0 draws the first");
        let mut token = 3;
        for (position, Drawn { token: drawn, candidates }) in (0_u32..).zip(&found) {
            let input = PassInput { tokens: &[token], positions: &[position], ..first(&[0]) };
            backend.submit(id, &Segment::whole(&model.program), &input).unwrap();
            let mut logits = vec![0.0; vocabulary];
            backend.read(id, Buffer::Logits, 0..1, &mut logits).unwrap();
            let mut ranked: Vec<(u32, f32)> = (0..).zip(logits).collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            assert_eq!(candidates, &ranked[..5], "position {position}");
            assert!(candidates.iter().any(|(token, _)| token == drawn));
            token = *drawn;
        }
        let none = Draw { top_k: 0, ..draw };
        assert!(matches!(
            backend.draw(id, &first(&[3]), 1, 0, (none, &numbers)),
            Err(BackendError::InvalidPass { .. })
        ));
        assert!(matches!(
            backend.draw(id, &first(&[3]), 5, 1, (draw, &numbers)),
            Err(BackendError::InvalidPass { .. })
        ));
    }
}

#[test]
fn a_single_row_leaves_what_it_leaves_among_others() {
    let model = qwen2();
    let (hidden, vocabulary) = (model.program.sizes.hidden, model.program.sizes.vocabulary);
    for mut backend in backends() {
        let id = loaded(&mut backend, &model);
        let page_tables = [PageTable { pages: vec![0] }, PageTable { pages: vec![1] }];
        let mut results = [1, 2].map(|rows| {
            let input = PassInput {
                tokens: &[5, 5][..rows],
                positions: &[0, 0][..rows],
                sequences: &[0, 1][..rows],
                page_tables: &page_tables[..rows],
                logit_rows: &[0, 1][..rows],
            };
            backend.submit(id, &Segment::whole(&model.program), &input).unwrap();
            let mut found = [vec![f32::NAN; hidden], vec![f32::NAN; vocabulary]];
            backend.read(id, Buffer::Selected, 0..1, &mut found[0]).unwrap();
            backend.read(id, Buffer::Logits, 0..1, &mut found[1]).unwrap();
            found.concat()
        });
        let [alone, among] = &mut results;
        let largest = among.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (alone, among) in alone.iter().zip(among) {
            assert!((*alone - *among).abs() <= 1e-4 * largest, "{alone} {among}");
        }
    }
}

#[test]
fn a_pass_that_breaks_a_promise_is_refused_and_the_next_one_runs() {
    let model = qwen2();
    for mut backend in backends() {
        let id = loaded(&mut backend, &model);
        let refused = |outcome: Result<(), BackendError>| match outcome {
            Err(BackendError::InvalidPass { what, value, limit }) => (what, value, limit),
            other => panic!("{other:?}"),
        };
        let (_, value, limit) = refused(pass(&mut backend, id, &model, (0, ROWS as u32 + 1), &[0, 1]));
        assert_eq!((value, limit), (ROWS as u64 + 1, ROWS as u64), "rows");
        refused(pass(&mut backend, id, &model, (0, 1), &[PAGES as u32]));
        refused(pass(&mut backend, id, &model, (64, 1), &[0]));
        refused(pass(&mut backend, ExecutableId(7), &model, (0, 1), &[0]));
        let mut short = vec![0.0; 3];
        assert!(matches!(backend.read(id, Buffer::Logits, 0..1, &mut short), Err(BackendError::InvalidPass { .. })));
        pass(&mut backend, id, &model, (0, 1), &[0]).unwrap();
    }
}

#[test]
fn weights_that_are_missing_or_of_another_size_are_named() {
    let model = qwen2();
    for mut backend in backends() {
        let id = backend.compile(&model.program, RowBucket { rows: ROWS, logit_rows: 2 }).unwrap();
        backend.allocate(id, KvPlan { pages: PAGES, format: KvFormat::F16 }).unwrap();
        let short = TensorBytes::new(Arc::new(vec![0_u8; 3]), 0..3);
        let name = &model.program.tensors[0].name;
        match backend.upload(id, TensorIndex(0), short) {
            Err(BackendError::TensorSize { tensor, actual: 3, .. }) => assert_eq!(&tensor, name),
            other => panic!("{other:?}"),
        }
        match pass(&mut backend, id, &model, (0, 1), &[0]) {
            Err(BackendError::MissingTensor { tensor }) => {
                assert!(model.program.tensors.iter().any(|t| t.name == tensor));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_refused_with_those_that_are() {
    for name in ["no such device", ""] {
        match GpuBackend::open(&Choice::Named(name.to_owned()), Variants::default()) {
            Err(BackendError::NoDevice { wanted, known, .. }) => {
                assert!(wanted.contains(name), "{wanted}");
                let here = devices();
                assert_eq!(known == "none", here.is_empty(), "{known}");
                assert!(here.iter().all(|device| known.contains(&device.name)), "{known}");
            }
            Err(other) => panic!("{other}"),
            Ok(backend) => panic!("opened {}", backend.device()),
        }
    }
}

#[test]
fn pages_that_do_not_fit_are_refused_with_the_size_and_memory_returns() {
    let model = qwen2();
    for mut backend in backends() {
        let id = loaded(&mut backend, &model);
        // Far beyond any device; each page of this model is some ten kilobytes.
        match backend.allocate(id, KvPlan { pages: 1 << 31, format: KvFormat::F16 }) {
            Err(BackendError::OutOfMemory { bytes, .. }) => assert!(bytes > 1 << 40, "{bytes}"),
            other => panic!("{other:?}"),
        }
        backend.allocate(id, KvPlan { pages: PAGES, format: KvFormat::F16 }).unwrap();
        pass(&mut backend, id, &model, (0, 1), &[0]).unwrap();
    }
}
