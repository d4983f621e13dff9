//! Layers whose matrices have different formats run like any other: with kernels, in one step. That the numbers are right
//! is for the conformance cases to say.

use metallic_cpu::{CpuBackend, CpuConfig, IsaChoice, Repack, resident_bytes};
use program::{Activation, Backend, Norm, NormGatedLinear, NormLinear, Projection, Slot, Step, Support, TensorSpec};
use tensor::{FORMATS, Format};

/// Formats that files store matrices in.
fn weight_formats() -> impl Iterator<Item = Format> {
    let floats = [Format::F32, Format::F16, Format::BF16];
    let activations = [Format::Q8_1, Format::Q8_K];
    let all = FORMATS.iter().map(|row| row.format);
    all.filter(move |format| floats.contains(format) || format.is_quantised() && !activations.contains(format))
}

#[test]
fn any_two_formats_share_a_step() {
    let backend = CpuBackend::new(CpuConfig { threads: 1, isa: IsaChoice::Best, repack: Repack::First }).unwrap();
    let norm = Norm { weight: Slot(0), epsilon: 1e-6 };
    let projection = || Projection { weight: Slot(1), bias: None, outputs: 16 };
    let qkv = Step::NormLinear(NormLinear { norm: norm.clone(), projections: vec![projection(), projection()] });
    let (gate, up, activation) = (projection(), projection(), Activation::Silu);
    let gate_up = Step::NormGatedLinear(NormGatedLinear { norm, gate, up, activation });
    assert_eq!(weight_formats().count(), 28);
    for a in weight_formats() {
        for b in weight_formats() {
            assert_eq!(backend.support(&qkv, &[a, b, a]), Support::Native, "q {a}, k {b}, v {a}");
            assert_eq!(backend.support(&gate_up, &[a, b]), Support::Native, "gate {a}, up {b}");
        }
    }
}

/// What docs/formats.md promises about memory.
#[test]
fn the_kernels_copy_is_little_larger_than_the_file() {
    for format in weight_formats() {
        let spec = TensorSpec { name: String::new(), format, rows: 64, columns: 1024 };
        let growth = resident_bytes(&spec).unwrap() as f64 / spec.bytes() as f64;
        let limit = match format {
            Format::IQ1_M => 1.90,
            Format::IQ2_XXS => 1.61,
            Format::IQ1_S => 1.48,
            Format::IQ2_XS => 1.44,
            Format::IQ3_XXS => 1.41,
            Format::IQ2_S => 1.30,
            Format::IQ3_S => 1.26,
            Format::TQ1_0 => 1.23,
            Format::NVFP4 => 1.12,
            _ => 1.04,
        };
        assert!((1.0..=limit).contains(&growth), "{format}: {growth}");
    }
}
