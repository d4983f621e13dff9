//! Every step, every format, awkward shapes, against the reference: on each device that this machine has.
//!
//! Without a device there is nothing to run; `this_machine_has_a_device` is for machines that must have one.

#![expect(clippy::print_stderr, reason = "figures of each device")]

use cpu::ReferenceBackend;
use metallic_wgpu::{Choice, DeviceInfo, GpuBackend, Variants, devices};
use testkit::conformance::{Selection, Suite};

fn usable() -> Vec<DeviceInfo> {
    devices().into_iter().filter(|device| device.missing.is_none()).collect()
}

fn check(selection: Selection, variants: Variants) {
    let devices = usable();
    if devices.is_empty() {
        eprintln!("no GPU and no software Vulkan here: nothing was checked");
        return;
    }
    let suite = Suite::new(selection, &mut || Box::new(ReferenceBackend::new()));
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

const INTEGER_DOT: Variants = Variants { integer_dot: Some(true), matrix_units: None, unified: None };
const FLOATS: Variants = Variants { integer_dot: Some(false), matrix_units: Some(false), unified: Some(false) };

#[test]
fn each_device_computes_what_the_reference_does() {
    check(Selection::Core, INTEGER_DOT);
}

#[test]
fn so_do_the_kernels_without_integer_dot_products() {
    check(Selection::Core, FLOATS);
}

#[test]
#[ignore = "every shape takes minutes in software; run by cargo xtask check"]
fn each_device_computes_every_shape() {
    check(Selection::All, INTEGER_DOT);
}

#[test]
#[ignore = "every shape takes minutes in software; run by cargo xtask check"]
fn so_do_the_kernels_without_integer_dot_products_in_every_shape() {
    check(Selection::All, FLOATS);
}

#[test]
#[ignore = "for machines that must have a device"]
fn this_machine_has_a_device() {
    assert!(!usable().is_empty(), "no GPU and no software Vulkan (Debian: mesa-vulkan-drivers)");
}
