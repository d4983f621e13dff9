//! Rows far into a sequence, whose positions several workgroups share: the same logits as from passes of many rows, which
//! attend in tiles, on each device that this machine has.

#![expect(clippy::print_stderr, reason = "says that nothing was checked")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use metallic_wgpu::{Choice, GpuBackend, Variants, devices};
use models::Model;
use program::{Backend, Buffer, ExecutableId, KvFormat, KvPlan, PageTable, PassInput, RowBucket, Segment, TensorIndex};
use testkit::TinyModel;

/// Rows of a chunk; more than kernels for few rows take.
const CHUNK: u32 = 64;
const CONTEXT: usize = 1024;

/// Positions of the rows to compare: one workgroup's, and split.
const LAST: [u32; 3] = [500, 650, 1000];

fn loaded(backend: &mut GpuBackend, model: &Model, format: KvFormat) -> ExecutableId {
    let id = backend.compile(&model.program, RowBucket { rows: CHUNK as usize, logit_rows: CHUNK as usize }).unwrap();
    backend.allocate(id, KvPlan { pages: CONTEXT / program::PAGE_ROWS, format }).unwrap();
    for index in (0..).map(TensorIndex).take(model.program.tensors.len()) {
        let fence = backend.upload(id, index, model.tensor_bytes(index)).unwrap();
        backend.wait(fence).unwrap();
    }
    id
}

/// Logits of rows `first` to `end` of one sequence.
fn logits(backend: &mut GpuBackend, id: ExecutableId, model: &Model, (first, end): (u32, u32)) -> Vec<f32> {
    let vocabulary = model.program.sizes.vocabulary;
    let positions: Vec<u32> = (first..end).collect();
    let tokens: Vec<u32> = positions.iter().map(|position| position * 7 % vocabulary as u32).collect();
    let page_tables = [PageTable { pages: (0..(CONTEXT / program::PAGE_ROWS) as u32).rev().collect() }];
    let input = PassInput {
        tokens: &tokens,
        positions: &positions,
        sequences: &vec![0; positions.len()],
        page_tables: &page_tables,
        logit_rows: &(0..positions.len() as u32).collect::<Vec<_>>(),
    };
    backend.submit(id, &Segment::whole(&model.program), &input).unwrap();
    let mut logits = vec![f32::NAN; positions.len() * vocabulary];
    backend.read(id, Buffer::Logits, 0..positions.len(), &mut logits).unwrap();
    logits
}

fn check(architecture: &'static str, format: KvFormat) {
    let tiny = TinyModel { context: CONTEXT, ..TinyModel::wide(architecture, 3) };
    let model = models::load(&tiny.file()).unwrap();
    let vocabulary = model.program.sizes.vocabulary;
    let usable = devices().into_iter().filter(|device| device.missing.is_none());
    let mut checked = 0;
    for device in usable {
        let mut backend = GpuBackend::open(&Choice::Named(device.name), Variants::default()).unwrap();
        let id = loaded(&mut backend, &model, format);
        let mut known = 0;
        for last in LAST {
            let mut tiled = Vec::new();
            while known <= last {
                let end = (known + CHUNK).min(last + 1).max(known + 9);
                tiled = logits(&mut backend, id, &model, (known, end));
                known = end;
            }
            let expected = &tiled[tiled.len() - vocabulary..];
            let largest = expected.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
            for rows in [1, 2] {
                let found = logits(&mut backend, id, &model, (known - rows, known));
                for (found, expected) in found[found.len() - vocabulary..].iter().zip(expected) {
                    let apart = (found - expected).abs() / largest;
                    assert!(apart <= 2e-3, "{architecture}, {format}, {rows} rows up to {last}: {found} {expected}");
                }
            }
        }
        checked += 1;
    }
    if checked == 0 {
        eprintln!("no GPU and no software Vulkan here: nothing was checked");
    }
}

#[test]
fn halves() {
    check("qwen2", KvFormat::F16);
}

#[test]
fn codes() {
    check("qwen2", KvFormat::Q8_0);
}

#[test]
fn windows_and_caps() {
    check("gemma2", KvFormat::F16);
}
