//! `metallic doctor`: what this machine can compute on, and what would be taken. Opens no device and loads no model.

use metallic::device::{Device, GpuInfo, GpuKind, is_taken_unasked};
use metallic::inventory::Inventory;
use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::options::count;
use crate::output::Output;

pub(crate) fn doctor(args: &DoctorArgs, out: &Output) -> anyhow::Result<()> {
    if args.require_gpu {
        Device::Auto.require_gpu()?;
    }
    let inventory = Inventory::take()?;
    if out.json() { out.print_json(&to_json(&inventory)) } else { out.print(&to_text(&inventory)) }
}

fn to_json(inventory: &Inventory) -> Value {
    let gpu = |gpu: &GpuInfo| {
        json!({
            "name": gpu.name,
            "api": gpu.api,
            "driver": gpu.driver,
            "kind": kind_word(gpu.kind),
            "usable": gpu.missing.is_none(),
            "taken_unasked": is_taken_unasked(gpu),
            "verdict": inventory.verdict(gpu),
            "memory_bytes": gpu.memory_bytes,
            "features": {
                "integer_dot": gpu.integer_dot,
                "matrix_units": gpu.matrix_units,
                "unified_memory": gpu.unified,
                "timestamps": gpu.timestamps,
            },
            "limits": {
                "subgroup_min": gpu.subgroup.0,
                "subgroup_max": gpu.subgroup.1,
                "binding_bytes": gpu.binding_bytes,
                "buffer_bytes": gpu.buffer_bytes,
            },
        })
    };
    let auto = &inventory.auto;
    json!({
        "default": {
            "device": auto.backend,
            "name": auto.gpu.as_ref().map(|gpu| &gpu.name),
            "reason": auto.reason.to_string(),
        },
        "cpu": {
            "description": inventory.cpu.description,
            "cores": inventory.cpu.cores,
            "available_bytes": inventory.cpu.available_bytes,
        },
        "gpus": inventory.gpus.iter().map(gpu).collect::<Vec<Value>>(),
    })
}

/// A stable word for programs.
fn kind_word(kind: GpuKind) -> &'static str {
    match kind {
        GpuKind::Discrete => "discrete",
        GpuKind::Integrated => "integrated",
        GpuKind::Virtual => "virtual",
        GpuKind::Software => "software",
        GpuKind::Other => "other",
    }
}

fn to_text(inventory: &Inventory) -> String {
    let cpu = &inventory.cpu;
    let memory = cpu.available_bytes.map_or_else(|| "not known".to_owned(), size);
    let mut text = format!("default: {}\n", inventory.auto);
    text += "\ncpu\n";
    text += &line("processor", &format!("{}, {}", cpu.description, count(cpu.cores, "core")));
    text += &line("memory", &format!("{memory} available"));
    for gpu in &inventory.gpus {
        text += &format!("\n{gpu}\n");
        text += &line("driver", &gpu.driver);
        text += &line("memory", &gpu.memory_bytes.map_or_else(|| "the driver does not say".to_owned(), size));
        text += &line("features", &features(gpu));
        let (least, most) = gpu.subgroup;
        let lanes = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let (binding, buffer) = (size(gpu.binding_bytes), size(gpu.buffer_bytes));
        text += &line("limits", &format!("{lanes} lanes together, {binding} seen of a buffer, {buffer} a buffer"));
        text += &line("taken", &inventory.verdict(gpu));
    }
    if inventory.gpus.is_empty() {
        text += "\nno driver offers a GPU\n";
    }
    text
}

fn line(what: &str, value: &str) -> String {
    format!("  {what:<10}{value}\n")
}

fn features(gpu: &GpuInfo) -> String {
    let word = |has: bool, what: &str| if has { what.to_owned() } else { format!("no {what}") };
    [
        word(gpu.integer_dot, "integer dot products"),
        word(gpu.matrix_units, "matrix units"),
        word(gpu.unified, "unified memory"),
        word(gpu.timestamps, "timestamps"),
    ]
    .join(", ")
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(128 << 20), "128 MiB");
        assert_eq!(size((2 << 30) - 4), "2.0 GiB");
    }
}
