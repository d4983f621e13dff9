//! Builds programs: collects tensors, checks every shape against its step, and folds equal layers into one template.

use tensor::Format;
use thiserror::Error;

use crate::program::{Program, Sizes, Template, TemplateIndex, TensorIndex, TensorSpec, Unit};
use crate::step::{Slot, Step};

/// Why a program cannot be built from the tensors at hand.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProgramError {
    /// A matrix or vector has another shape than its step needs.
    #[error("tensor {tensor} is {actual_rows} x {actual_columns}, the model needs {rows} x {columns}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Rows in the file.
        actual_rows: usize,
        /// Columns in the file.
        actual_columns: usize,
        /// Rows by the model's sizes.
        rows: usize,
        /// Columns by the model's sizes.
        columns: usize,
    },
    /// A weight's format has no codec in this build.
    #[error(
        "tensor {tensor} is stored as {format}, which this build cannot compute with; re-quantise it to one of {supported}"
    )]
    FormatWithoutCodec {
        /// The tensor's name.
        tensor: String,
        /// Its format.
        format: &'static str,
        /// Formats that would work.
        supported: String,
    },
    /// More weights in a unit than a slot index can name.
    #[error("{unit} has more than {limit} weights")]
    TooManyWeights {
        /// The unit's name.
        unit: String,
        /// The limit.
        limit: usize,
    },
}

/// Collects units into a [`Program`].
#[derive(Debug)]
pub struct ProgramBuilder {
    architecture: String,
    sizes: Sizes,
    tensors: Vec<TensorSpec>,
    templates: Vec<Template>,
}

impl ProgramBuilder {
    /// A builder with no units yet.
    pub fn new(architecture: &str, sizes: Sizes) -> ProgramBuilder {
        ProgramBuilder { architecture: architecture.to_owned(), sizes, tensors: Vec::new(), templates: Vec::new() }
    }

    /// Starts a unit: the prologue, a layer or the epilogue.
    pub fn unit(&mut self, name: impl Into<String>) -> UnitBuilder<'_> {
        UnitBuilder { builder: self, name: name.into(), weights: Vec::new(), steps: Vec::new() }
    }

    /// The finished program.
    pub fn finish(self, prologue: Unit, layers: Vec<Unit>, epilogue: Unit) -> Program {
        let ProgramBuilder { architecture, sizes, tensors, templates } = self;
        Program { architecture, sizes, tensors, templates, prologue, layers, epilogue }
    }

    fn tensor(&mut self, spec: TensorSpec) -> TensorIndex {
        let position = self.tensors.iter().rposition(|t| t.name == spec.name).unwrap_or_else(|| {
            self.tensors.push(spec);
            self.tensors.len() - 1
        });
        TensorIndex(u32::try_from(position).expect("tensor counts are bounded by the tensor table"))
    }
}

/// Collects the steps and weights of one unit.
#[derive(Debug)]
pub struct UnitBuilder<'b> {
    builder: &'b mut ProgramBuilder,
    name: String,
    weights: Vec<TensorIndex>,
    steps: Vec<(&'static str, Step)>,
}

impl UnitBuilder<'_> {
    /// Puts a tensor that must be `rows` × `columns` into the next slot.
    pub fn weight(&mut self, spec: TensorSpec, rows: usize, columns: usize) -> Result<Slot, ProgramError> {
        if (spec.rows, spec.columns) != (rows, columns) {
            return Err(ProgramError::Shape {
                tensor: spec.name,
                actual_rows: spec.rows,
                actual_columns: spec.columns,
                rows,
                columns,
            });
        }
        if spec.format.codec().is_none() {
            return Err(ProgramError::FormatWithoutCodec {
                tensor: spec.name,
                format: spec.format.name(),
                supported: formats_with_codec(),
            });
        }
        let slot = u16::try_from(self.weights.len())
            .map_err(|_| ProgramError::TooManyWeights { unit: self.name.clone(), limit: usize::from(u16::MAX) })?;
        self.weights.push(self.builder.tensor(spec));
        Ok(Slot(slot))
    }

    /// Appends a step under its short name.
    pub fn step(&mut self, name: &'static str, step: Step) {
        self.steps.push((name, step));
    }

    /// Ends the unit; a unit with the same steps, shapes and formats as an earlier one shares its template.
    pub fn finish(self) -> Unit {
        let UnitBuilder { builder, name, weights, steps } = self;
        let slots: Vec<(Format, usize, usize)> = weights
            .iter()
            .map(|index| &builder.tensors[index.0 as usize])
            .map(|spec| (spec.format, spec.rows, spec.columns))
            .collect();
        let template = Template { steps, slots };
        let position = builder.templates.iter().position(|t| *t == template).unwrap_or_else(|| {
            builder.templates.push(template);
            builder.templates.len() - 1
        });
        let template = TemplateIndex(u32::try_from(position).expect("one template per layer at most"));
        Unit { name, template, weights }
    }
}

fn formats_with_codec() -> String {
    let names: Vec<&str> = tensor::FORMATS.iter().filter(|row| row.codec.is_some()).map(|row| row.name).collect();
    names.join(", ")
}
