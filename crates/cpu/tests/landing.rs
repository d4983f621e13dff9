//! What becomes of the source of weights that are repacked behind the passes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metallic_cpu::{CpuBackend, CpuConfig, IsaChoice, Repack};
use program::{Backend, ExecutableId, RowBucket, Step, TensorIndex};
use testkit::TinyModel;

/// Uploads all weights; how often the source of each was released is counted.
fn loaded(model: &models::Model, repack: Repack) -> (CpuBackend, ExecutableId, Vec<Arc<AtomicUsize>>) {
    let mut backend = CpuBackend::new(CpuConfig { threads: 1, isa: IsaChoice::Best, repack }).unwrap();
    let executable = backend.compile(&model.program, RowBucket { rows: 8, logit_rows: 1 }).unwrap();
    let mut released = Vec::new();
    for index in (0..).map(TensorIndex).take(model.program.tensors.len()) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let release = Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        backend.upload(executable, index, model.tensor_bytes(index).with_release(release)).unwrap();
        released.push(count);
    }
    (backend, executable, released)
}

#[test]
fn sources_are_released_once_their_weights_have_landed_but_for_rows_that_are_looked_up() {
    let model = models::load(&TinyModel::new("qwen2", 3).file()).unwrap();
    let program = &model.program;
    let (mut matrices, mut tables) = (Vec::new(), Vec::new());
    for unit in program.units() {
        for (_, step) in &program.template(unit).steps {
            matrices.extend(step.matrices().iter().map(|slot| unit.weights[slot.0 as usize].0 as usize));
            if let Step::Embed(embed) = step {
                tables.push(unit.weights[embed.table.0 as usize].0 as usize);
            }
        }
    }
    for repack in [Repack::Behind, Repack::Never] {
        let (mut backend, _, released) = loaded(&model, repack);
        backend.settle().unwrap();
        for (index, released) in released.iter().enumerate() {
            let expected = repack == Repack::Behind && matrices.contains(&index) && !tables.contains(&index);
            let name = &program.tensors[index].name;
            assert_eq!(released.load(Ordering::Relaxed), usize::from(expected), "{repack:?}: {name}");
        }
    }
}

#[test]
fn a_backend_may_be_dropped_while_it_repacks() {
    let model = models::load(&TinyModel::wide("llama", 3).file()).unwrap();
    for _ in 0..50 {
        drop(loaded(&model, Repack::Behind));
    }
}

#[test]
fn weights_may_be_uploaded_again_after_everything_has_landed() {
    let model = models::load(&TinyModel::new("llama", 3).file()).unwrap();
    let (mut backend, executable, _) = loaded(&model, Repack::Behind);
    backend.settle().unwrap();
    let count = model.program.tensors.len();
    for index in (0..).map(TensorIndex).take(count) {
        backend.upload(executable, index, model.tensor_bytes(index)).unwrap();
    }
    backend.settle().unwrap();
}
