//! How often all threads of a pass meet.

use std::sync::atomic::Ordering;

use models::Model;
use program::{KvFormat, KvPlan, PageTable, PassInput, RowBucket, Segment, TensorIndex};
use testkit::TinyModel;

use crate::arch::{IsaChoice, Level};
use crate::backend::Repack;
use crate::executable::Executable;
use crate::kernels::Kernels;
use crate::pool::Pool;

/// Phases of a pass of one sequence that all threads waited for.
fn phases(model: &Model, threads: usize, rows: usize) -> usize {
    let pool = Pool::new(threads).unwrap();
    let kernels = Kernels::of(Level::detect(IsaChoice::Best));
    let bucket = RowBucket { rows, logit_rows: 1 };
    let mut executable = Executable::new(model.program.clone(), bucket, kernels, threads, Repack::First).unwrap();
    executable.allocate(KvPlan { pages: 2, format: KvFormat::F16 }).unwrap();
    for index in (0..).map(TensorIndex).take(model.program.tensors.len()) {
        executable.upload(index, model.tensor_bytes(index), &pool).unwrap();
    }
    let positions: Vec<u32> = (0..).take(rows).collect();
    let input = PassInput {
        tokens: &positions,
        positions: &positions,
        sequences: &vec![0; rows],
        page_tables: &[PageTable { pages: vec![0, 1] }],
        logit_rows: &[0],
    };
    executable.run(&Segment::whole(&model.program), &input, &pool).unwrap();
    executable.memory.phases.iter().filter(|phase| phase.finished.load(Ordering::Relaxed) > 0).count()
}

#[test]
fn a_layer_has_five_phases() {
    // With norms after products and without.
    for architecture in ["qwen2", "gemma3"] {
        let of_layers = |layers| models::load(&TinyModel { layers, ..TinyModel::new(architecture, 1) }.file()).unwrap();
        let (short, long) = (of_layers(2), of_layers(5));
        // Fewer threads than heads of keys, and more.
        for threads in [1, 2, 5] {
            for rows in [1, 2, 8, 70] {
                let added = phases(&long, threads, rows) - phases(&short, threads, rows);
                assert_eq!(added, 3 * 5, "{architecture}, {threads} threads, {rows} rows");
            }
        }
    }
}
