//! Every shader that this crate composes for the conformance programs, in every variant, lowers to SPIR-V, MSL and HLSL.
//!
//! SPIR-V goes through `spirv-val` where that is installed. MSL and HLSL are only generated: nothing here compiles them.

#![expect(clippy::print_stderr, reason = "says what was not checked")]

use std::collections::BTreeMap;
use std::process::Command;

use metallic_wgpu::{Choice, GpuBackend, ShaderText, Variants, devices};
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use program::{Backend, KvPlan, RowBucket};
use testkit::conformance::{Selection, programs};

/// Kernels for matrix units, which naga does not write for DX12, and Metal has in other shapes.
const MATRIX_UNITS: &str = "enable wgpu_cooperative_matrix;";

/// Every text once, with the name of its first use.
fn texts() -> BTreeMap<String, String> {
    let Some(device) = devices().into_iter().find(|device| device.missing.is_none()) else {
        eprintln!("no GPU and no software Vulkan here: nothing was checked");
        return BTreeMap::new();
    };
    let mut texts = BTreeMap::new();
    for (integer_dot, matrix_units) in [(true, false), (false, false), (true, true)] {
        let variants = Variants { integer_dot: Some(integer_dot), matrix_units: Some(matrix_units), unified: None };
        let mut backend =
            GpuBackend::open(&Choice::Named(device.name.clone()), variants).expect("a listed device opens");
        for (name, program, format) in programs(Selection::All) {
            let mut backend = backend.share();
            if !backend.capabilities().kv_formats.contains(&format) {
                continue;
            }
            let id = backend.compile(&program, RowBucket { rows: 80, logit_rows: 80 });
            let id = id.unwrap_or_else(|error| panic!("{name}: {error}"));
            backend.allocate(id, KvPlan { pages: 2, format }).expect("two pages fit");
        }
        assert!(backend.take_ledger().is_empty(), "nothing ran");
        texts.extend(backend.shader_texts().into_iter().map(|ShaderText { name, text }| (text, name)));
    }
    texts
}

/// A module and what is known of it.
fn parsed(name: &str, text: &str) -> (naga::Module, naga::valid::ModuleInfo) {
    let module = naga::front::wgsl::parse_str(text)
        .unwrap_or_else(|error| panic!("{name}: {}\n{text}", error.emit_to_string(text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}\n{text}", error.emit_to_string(text)));
    (module, info)
}

#[test]
fn every_variant_lowers_for_every_interface() {
    let texts = texts();
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mut modules = Vec::new();
    let mut lowered = [0; 3];
    for (index, (text, name)) in texts.iter().enumerate() {
        let (module, info) = parsed(name, text);
        let options = spv::Options { lang_version: (1, 4), ..spv::Options::default() };
        let words = spv::write_vec(&module, &info, &options, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let path = folder.path().join(format!("{index}.spv"));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(&path, bytes).expect("the scratch folder takes files");
        lowered[0] += 1;
        if text.contains(MATRIX_UNITS) {
            // Written only: spirv-val as distributions have it does not know matrix units.
            continue;
        }
        modules.push((name, path));
        let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..msl::Options::default() };
        let written = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default());
        let (source, _) = written.unwrap_or_else(|error| panic!("{name}: MSL: {error}\n{text}"));
        assert!(source.contains("kernel void"), "{name}");
        lowered[1] += 1;
        // Integer dot products are packed ones from shader model 6.4 on.
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_2,
            immediates_target: Some(hlsl::BindTarget::default()),
            ..hlsl::Options::default()
        };
        let pipeline = hlsl::PipelineOptions::default();
        let mut source = String::new();
        let written = hlsl::Writer::new(&mut source, &options, &pipeline).write(&module, &info, None);
        written.unwrap_or_else(|error| panic!("{name}: HLSL: {error}\n{text}"));
        assert!(source.contains("[numthreads("), "{name}");
        lowered[2] += 1;
    }
    validate(&modules);
    let [spirv, msl, hlsl] = lowered;
    eprintln!("{spirv} modules in SPIR-V, {msl} in MSL, {hlsl} in HLSL");
    assert!(texts.is_empty() || msl > 300, "too few to be every format in every step");
}

/// Hands modules to `spirv-val`, where it is.
fn validate(modules: &[(&String, std::path::PathBuf)]) {
    if Command::new("spirv-val").arg("--version").output().is_err() {
        eprintln!("spirv-val is not installed: SPIR-V was written but not validated");
        return;
    }
    for (name, path) in modules {
        let output = Command::new("spirv-val")
            .args(["--target-env", "vulkan1.2"])
            .arg(path)
            .output()
            .expect("it started before");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
