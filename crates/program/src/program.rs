//! A program: templates of steps, and the weight table whose rows they are applied to.

use tensor::Format;

use crate::step::{Buffer, Slot, Step};

/// Index into [`Program::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorIndex(pub u32);

/// Index into [`Program::templates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateIndex(pub u32);

/// A weight the program refers to, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The file's name for it, such as `blk.3.attn_q.weight`.
    pub name: String,
    /// How its blocks are stored; every weight carries its own, so mixed layers are ordinary.
    pub format: Format,
    /// Outputs; 1 for a vector.
    pub rows: usize,
    /// Inputs, contiguous in memory.
    pub columns: usize,
}

impl TensorSpec {
    /// Stored bytes of one row. The builder has checked that rows are whole blocks.
    pub fn row_bytes(&self) -> usize {
        self.columns / self.format.block_elements() * self.format.block_bytes()
    }

    /// Stored bytes of the tensor.
    pub fn bytes(&self) -> usize {
        self.rows * self.row_bytes()
    }
}

/// Named steps that apply to any row of the weight table with the same shapes and formats.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Steps in order, each with its short name (`qkv`, `attn`, `down`).
    pub steps: Vec<(&'static str, Step)>,
    /// Format, rows and columns of the weight in each slot.
    pub slots: Vec<(Format, usize, usize)>,
}

/// One row of the weight table: a template and the tensors in its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `blk.3`, `prologue` or `epilogue`.
    pub name: String,
    /// The steps.
    pub template: TemplateIndex,
    /// The tensor in each slot of the template.
    pub weights: Vec<TensorIndex>,
}

/// Widths that all steps of a program share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// Widest `Qkv` of any layer.
    pub qkv: usize,
    /// Widest `Attention` of any layer.
    pub attention: usize,
    /// Widest `Gated` of any layer.
    pub gated: usize,
}

/// What a model computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// The architecture's name, for messages only.
    pub architecture: String,
    /// Shared widths.
    pub sizes: Sizes,
    /// Every weight, each once.
    pub tensors: Vec<TensorSpec>,
    /// Distinct step lists.
    pub templates: Vec<Template>,
    /// Embedding.
    pub prologue: Unit,
    /// The blocks, in order. A layer's index is also the index of its keys and values.
    pub layers: Vec<Unit>,
    /// Selection, final norm and head.
    pub epilogue: Unit,
}

impl Program {
    /// The template of a unit.
    pub fn template(&self, unit: &Unit) -> &Template {
        &self.templates[unit.template.0 as usize]
    }

    /// The spec of a tensor.
    pub fn tensor(&self, index: TensorIndex) -> &TensorSpec {
        &self.tensors[index.0 as usize]
    }

    /// The spec of the weight in `slot` of `unit`.
    pub fn weight(&self, unit: &Unit, slot: Slot) -> &TensorSpec {
        self.tensor(unit.weights[slot.0 as usize])
    }

    /// Prologue, layers and epilogue in execution order.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        std::iter::once(&self.prologue).chain(&self.layers).chain(std::iter::once(&self.epilogue))
    }

    /// Width of a buffer in elements per row.
    pub fn buffer_width(&self, buffer: Buffer) -> usize {
        match buffer {
            Buffer::Hidden | Buffer::Selected => self.sizes.hidden,
            Buffer::Qkv => self.sizes.qkv,
            Buffer::Attention => self.sizes.attention,
            Buffer::Gated => self.sizes.gated,
            Buffer::Logits => self.sizes.vocabulary,
        }
    }
}
