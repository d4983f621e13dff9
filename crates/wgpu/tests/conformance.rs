//! Every step, every format, awkward shapes, against the reference: on each device that this machine has.
//!
//! Without a device there is nothing to run; `this_machine_has_a_device` is for machines that must have one.

use cpu::ReferenceBackend;
use metallic_wgpu::{Choice, DeviceInfo, GpuBackend, Variants, devices};
use testkit::conformance::Suite;

fn usable() -> Vec<DeviceInfo> {
    devices().into_iter().filter(|device| device.missing.is_none()).collect()
}

fn check(variants: Variants) {
    let devices = usable();
    if devices.is_empty() {
        eprintln!("no GPU and no software Vulkan here: nothing was checked");
        return;
    }
    let suite = Suite::new(&mut || Box::new(ReferenceBackend::new()));
    for device in devices {
        let choice = Choice::Named(device.name.clone());
        let backend = GpuBackend::open(&choice, variants).expect("a listed device opens");
        let report = suite.check(&mut || Box::new(backend.share()), &[]);
        for (path, (deviation, case)) in &report.worst {
            eprintln!("{device}: {path:?}: NMSE {:.1e}, largest {:.1e} ({case})", deviation.nmse, deviation.largest);
        }
        report.assert_clean(&device.to_string());
    }
}

#[test]
fn each_device_computes_what_the_reference_does() {
    check(Variants { integer_dot: Some(true), matrix_units: None });
}

#[test]
fn so_do_the_kernels_without_integer_dot_products() {
    check(Variants { integer_dot: Some(false), matrix_units: Some(false) });
}

#[test]
#[ignore = "for machines that must have a device"]
fn this_machine_has_a_device() {
    assert!(!usable().is_empty(), "no GPU and no software Vulkan (Debian: mesa-vulkan-drivers)");
}
