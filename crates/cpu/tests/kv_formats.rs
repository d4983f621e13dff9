//! Formats of keys and values that cannot be had are refused, by name.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use metallic_cpu::{CpuBackend, CpuConfig, IsaChoice, ReferenceBackend, Repack};
use program::{Backend, BackendError, KvFormat, KvPlan, RowBucket};
use testkit::TinyModel;

fn backends() -> [Box<dyn Backend>; 2] {
    let fast = CpuBackend::new(CpuConfig { threads: 1, isa: IsaChoice::Best, repack: Repack::First }).unwrap();
    [Box::new(fast), Box::new(ReferenceBackend::new())]
}

/// What comes of storing keys and values of heads of `head_width` in `format`.
fn outcome(backend: &mut dyn Backend, head_width: usize, format: KvFormat) -> Result<(), BackendError> {
    let model = models::load(&TinyModel { head_width, ..TinyModel::new("llama", 1) }.file()).unwrap();
    let executable = backend.compile(&model.program, RowBucket { rows: 4, logit_rows: 1 }).unwrap();
    backend.allocate(executable, KvPlan { pages: 2, format })
}

#[test]
fn a_backend_has_the_formats_that_it_claims_and_no_other() {
    for mut backend in backends() {
        let known = backend.capabilities().kv_formats;
        for format in KvFormat::ALL {
            match outcome(&mut *backend, 64, format) {
                Ok(()) => assert!(known.contains(&format), "{format}"),
                Err(BackendError::KvFormat { backend: name, format: asked, known: told }) => {
                    assert!(
                        !known.contains(&format) && asked == format.name() && told.contains("f16"),
                        "{name} {told}"
                    );
                }
                Err(other) => panic!("{format}: {other}"),
            }
        }
    }
}

#[test]
fn heads_that_are_no_whole_blocks_are_refused_with_what_would_work() {
    for mut backend in backends().into_iter().filter(|b| b.capabilities().kv_formats.contains(&KvFormat::Q8_0)) {
        for head_width in [16, 80] {
            let error = outcome(&mut *backend, head_width, KvFormat::Q8_0).unwrap_err();
            assert!(matches!(error, BackendError::KvHeads { block: 32, .. }), "{error}");
            assert!(error.to_string().contains(&format!("heads have {head_width} elements; f16 works")), "{error}");
            outcome(&mut *backend, head_width, KvFormat::F16).unwrap();
        }
    }
}

#[test]
fn codes_take_seventeen_thirty_seconds_of_halves_in_plans() {
    let model = models::load(&TinyModel { head_width: 64, ..TinyModel::new("llama", 1) }.file()).unwrap();
    let bytes = |format| program::cost::kv_bytes_per_position(&model.program, format);
    // Two layers, keys and values, two heads of 64.
    assert_eq!(bytes(KvFormat::F16), 2 * 2 * 2 * 64 * 2);
    assert_eq!(32 * bytes(KvFormat::Q8_0), 17 * bytes(KvFormat::F16));
}
