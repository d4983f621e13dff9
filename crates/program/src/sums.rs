//! The same program in shorter layers, so that what flows between its steps can be read between two segments.

use crate::program::{Program, Template, TemplateIndex, Unit};
use crate::step::Step;

/// Ends a layer after each step that adds to `Hidden`: attention and feed-forward become layers of their own.
///
/// The result computes the same, and has the same tensors at the same indices. A layer without attention takes no keys
/// and values.
pub fn split_at_sums(program: &Program) -> Program {
    let mut templates: Vec<Template> = program.templates.clone();
    let mut parts_of: Vec<Vec<TemplateIndex>> = Vec::new();
    for template in &program.templates {
        let mut parts = Vec::new();
        for steps in template.steps.split_inclusive(|(_, step)| matches!(step, Step::LinearAdd(_))) {
            parts.push(TemplateIndex(u32::try_from(templates.len()).expect("a few templates for each layer at most")));
            // All slots stay: a unit's weights keep their places.
            templates.push(Template { steps: steps.to_vec(), slots: template.slots.clone() });
        }
        parts_of.push(parts);
    }
    let layers = program.layers.iter().flat_map(|unit| {
        let parts = parts_of[unit.template.0 as usize].iter();
        parts.map(|template| Unit { template: *template, ..unit.clone() })
    });
    Program { templates, layers: layers.collect(), ..program.clone() }
}
