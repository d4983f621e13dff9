//! A program as text: one line for each unit and step, with formats, widths and bytes.

use std::fmt::Write;

use crate::cost::step_cost;
use crate::program::{Program, Unit};
use crate::step::Step;

/// Lines such as `  .qkv  NormLinear  896 -> 1152  q8_0 q8_0 q8_0  1.1 MB`.
///
/// With `all` false, runs of layers that share a template print once.
pub fn describe(program: &Program, all: bool) -> String {
    let mut text = String::new();
    let mut unit_index = 0;
    let units: Vec<&Unit> = program.units().collect();
    while unit_index < units.len() {
        let unit = units[unit_index];
        let mut last = unit_index;
        while !all && last + 1 < units.len() && units[last + 1].template == unit.template {
            last += 1;
        }
        describe_unit(&mut text, program, unit, units[last]);
        unit_index = last + 1;
    }
    text
}

fn describe_unit(text: &mut String, program: &Program, first: &Unit, last: &Unit) {
    let letter = template_letter(first.template.0);
    let name = if first.name == last.name { first.name.clone() } else { format!("{} … {}", first.name, last.name) };
    writeln!(text, "{name:<22}template {letter}").expect("writing to a string");
    for (step_name, step) in &program.template(first).steps {
        let cost = step_cost(program, first, step);
        let formats: Vec<&str> =
            step.matrices().iter().map(|slot| program.weight(first, *slot).format.name()).collect();
        let line = format!(
            "  .{step_name:<10} {:<16} {:<34} {:<18} {}",
            step.kind(),
            shape(program, first, step),
            formats.join(" "),
            megabytes(cost.weight_bytes)
        );
        writeln!(text, "{}", line.trim_end()).expect("writing to a string");
    }
}

fn shape(program: &Program, unit: &Unit, step: &Step) -> String {
    let hidden = program.sizes.hidden;
    match step {
        Step::Embed(s) => format!("{} tokens -> {hidden}", program.weight(unit, s.table).rows),
        Step::NormLinear(s) => {
            let outputs: usize = s.projections.iter().map(|p| p.outputs).sum();
            format!("{hidden} -> {outputs}")
        }
        Step::RopeStore(s) => format!("{}+{} heads of {}", s.heads, s.kv_heads, s.head_width),
        Step::Attention(s) => match s.window {
            Some(window) => format!("{} heads / {}, window {window}", s.heads, s.kv_heads),
            None => format!("{} heads / {}", s.heads, s.kv_heads),
        },
        Step::LinearAdd(s) => format!("{} -> {hidden}", program.weight(unit, s.projection.weight).columns),
        Step::NormGatedLinear(s) => format!("{hidden} -> {}", s.gate.outputs),
        Step::Select => "rows that want logits".to_owned(),
        Step::Norm(_) => format!("{hidden}"),
        Step::Head(s) => format!("{hidden} -> {}", s.projection.outputs),
    }
}

fn megabytes(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!("{:.3} MB", bytes as f64 / 1e6) }
}

fn template_letter(index: u32) -> String {
    match u8::try_from(index) {
        Ok(small) if small < 26 => char::from(b'A' + small).to_string(),
        _ => format!("#{index}"),
    }
}
