//! What a case is: a program, the passes to run, and the buffer to compare. Weights follow from their names.

use std::sync::Arc;

use program::{
    Activation, Attention, Buffer, Embed, Head, KvFormat, LinearAdd, Norm, NormGatedLinear, NormLinear, PageTable,
    Program, ProgramBuilder, Projection, RopeStore, Sizes, Slot, Step, TensorSpec, Unit, UnitBuilder,
};
use tensor::Format;

use crate::random::Random;
use crate::tolerance::Path;

use super::{Selection, attending, products};

/// Pages of every case's pool.
pub(super) const PAGES: usize = 7;

/// Most rows of a case's pass.
pub(super) const ROWS_MAX: usize = 80;

pub(super) struct Case {
    pub(super) name: String,
    pub(super) program: Arc<Program>,
    /// Read after each pass.
    pub(super) buffer: Buffer,
    /// Leading elements of the buffer's rows to compare: all that the tested step writes.
    pub(super) width: usize,
    /// What the numbers go through besides the matrices of the program.
    pub(super) path: Path,
    /// How keys and values are stored.
    pub(super) kv: KvFormat,
    /// Of the values in the embedding table.
    pub(super) spread: f32,
    pub(super) passes: Vec<Pass>,
}

/// A [`program::PassInput`] that owns its rows.
pub(super) struct Pass {
    pub(super) tokens: Vec<u32>,
    pub(super) positions: Vec<u32>,
    pub(super) sequences: Vec<u32>,
    pub(super) page_tables: Vec<PageTable>,
    pub(super) logit_rows: Vec<u32>,
}

/// The selected cases.
pub(super) fn selected(selection: Selection) -> Vec<Case> {
    let mut cases = products::cases(selection);
    cases.extend(attending::cases(selection));
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two cases of one name");
    cases
}

/// The next pass of one sequence: `rows` rows from `first` on, all of which want logits but for each fourth.
pub(super) fn prefill(vocabulary: usize, first: u32, rows: usize) -> Pass {
    let mut random = Random::named(u64::from(first), "tokens");
    let count = u32::try_from(rows).expect("few rows");
    Pass {
        tokens: (0..rows).map(|_| random.below(vocabulary as u64) as u32).collect(),
        positions: (first..first + count).collect(),
        sequences: vec![0; rows],
        page_tables: vec![PageTable { pages: vec![4, 1] }],
        logit_rows: (0..count).filter(|row| row % 4 != 1).collect(),
    }
}

/// A tensor's blocks: the same values for a name and shape, whatever runs them.
pub(super) fn encoded(spec: &TensorSpec, table_spread: f32) -> Vec<u8> {
    let codec = spec.format.codec().expect("the program builder refuses formats without a codec");
    let values = values(spec, table_spread);
    let mut bytes = vec![0; spec.bytes()];
    (codec.encode)(&values, &mut bytes);
    bytes
}

/// Norms near 1, biases near 0, matrices whose outputs are as large as their inputs.
fn values(spec: &TensorSpec, table_spread: f32) -> Vec<f32> {
    let mut random = Random::named(spec.columns as u64, &spec.name);
    let count = spec.rows * spec.columns;
    let whole_numbers = matches!(spec.format, Format::I8 | Format::I16 | Format::I32 | Format::I64);
    match spec.name.as_str() {
        name if name.ends_with("norm") => (0..count).map(|_| 1.0 + 0.25 * random.signed_unit()).collect(),
        name if name.ends_with("bias") => (0..count).map(|_| 0.25 * random.signed_unit()).collect(),
        _ if whole_numbers => (0..count).map(|_| random.below(7) as f32 - 3.0).collect(),
        "table" => table(spec, table_spread, &mut random),
        _ => {
            let spread = (3.0 / spec.columns as f32).sqrt();
            (0..count).map(|_| spread * random.signed_unit()).collect()
        }
    }
}

/// Each third row of a wide table has one outlier, as the residual streams of real models do. A narrow row with one
/// would be little else.
fn table(spec: &TensorSpec, spread: f32, random: &mut Random) -> Vec<f32> {
    let mut values: Vec<f32> = (0..spec.rows * spec.columns).map(|_| spread * random.signed_unit()).collect();
    if spec.columns >= 256 {
        for row in values.chunks_exact_mut(spec.columns).step_by(3) {
            row[random.below(spec.columns as u64) as usize] = 20.0 * spread;
        }
    }
    values
}

/// Builds one program.
pub(super) struct Maker {
    builder: ProgramBuilder,
    hidden: usize,
    vocabulary: usize,
}

impl Maker {
    /// With a prologue that looks rows up in a table of `table` format.
    pub(super) fn new(sizes: Sizes, table: Format, scale: f32) -> (Maker, Unit) {
        let builder = ProgramBuilder::new("conformance", sizes);
        let mut maker = Maker { builder, hidden: sizes.hidden, vocabulary: sizes.vocabulary };
        let mut unit = maker.builder.unit("prologue");
        let table = weight(&mut unit, "table", table, sizes.vocabulary, sizes.hidden);
        unit.step("embed", Step::Embed(Embed { table, scale }));
        let prologue = unit.finish();
        (maker, prologue)
    }

    pub(super) fn layer(&mut self, name: &'static str) -> Layer<'_> {
        Layer { hidden: self.hidden, name, unit: self.builder.unit(name) }
    }

    /// The epilogue. A head in the format and with the name of the table is tied to it.
    pub(super) fn epilogue(&mut self, head: (&str, Format), biases: Biases, soft_cap: Option<f32>) -> Unit {
        let mut unit = self.builder.unit("epilogue");
        unit.step("select", Step::Select);
        let norm = norm(&mut unit, "final_norm", Format::F32, self.hidden);
        unit.step("norm", Step::Norm(norm));
        let (name, format) = head;
        let projection = biased(&mut unit, name, format, (self.vocabulary, self.hidden), biases);
        unit.step("head", Step::Head(Head { projection, soft_cap }));
        unit.finish()
    }

    pub(super) fn program(self, prologue: Unit, layers: Vec<Unit>, epilogue: Unit) -> Arc<Program> {
        Arc::new(self.builder.finish(prologue, layers, epilogue))
    }
}

/// Adds steps to one layer.
pub(super) struct Layer<'m> {
    hidden: usize,
    name: &'static str,
    unit: UnitBuilder<'m>,
}

/// A norm over query heads and one over key heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadNorms {
    Absent,
    Present,
}

/// Whether projections have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Biases {
    Absent,
    /// In this format.
    Stored(Format),
}

impl Layer<'_> {
    /// Projections with these formats and outputs, side by side.
    pub(super) fn norm_linear(&mut self, norm_format: Format, parts: &[(Format, usize)], biases: Biases) {
        let norm = norm(&mut self.unit, &format!("{}.attn_norm", self.name), norm_format, self.hidden);
        let projections = parts
            .iter()
            .enumerate()
            .map(|(index, (format, outputs))| {
                let name = format!("{}.part{index}", self.name);
                let shape = (*outputs, self.hidden);
                biased(&mut self.unit, &name, *format, shape, biases)
            })
            .collect();
        self.unit.step("qkv", Step::NormLinear(NormLinear { norm, projections }));
    }

    pub(super) fn rope_store(&mut self, store: RopeStore, norms: HeadNorms) {
        let mut make = |name: &str| match norms {
            HeadNorms::Absent => None,
            HeadNorms::Present => {
                let name = format!("{}.{name}", self.name);
                Some(norm(&mut self.unit, &name, Format::F32, store.head_width))
            }
        };
        let (query_norm, key_norm) = (make("query_norm"), make("key_norm"));
        self.unit.step("rope_store", Step::RopeStore(RopeStore { query_norm, key_norm, ..store }));
    }

    pub(super) fn attention(&mut self, attention: Attention) {
        self.unit.step("attn", Step::Attention(attention));
    }

    pub(super) fn norm_gated_linear(
        &mut self,
        formats: [Format; 2],
        width: usize,
        activation: Activation,
        biases: Biases,
    ) {
        let norm = norm(&mut self.unit, &format!("{}.ffn_norm", self.name), Format::F32, self.hidden);
        let shape = (width, self.hidden);
        let gate = biased(&mut self.unit, &format!("{}.gate", self.name), formats[0], shape, biases);
        let up = biased(&mut self.unit, &format!("{}.up", self.name), formats[1], shape, biases);
        self.unit.step("gate_up", Step::NormGatedLinear(NormGatedLinear { norm, gate, up, activation }));
    }

    /// `name` is the step's.
    pub(super) fn linear_add(
        &mut self,
        name: &'static str,
        (input, inputs): (Buffer, usize),
        format: Format,
        biases: Biases,
        norms: HeadNorms,
    ) {
        let full = format!("{}.{name}", self.name);
        let projection = biased(&mut self.unit, &full, format, (self.hidden, inputs), biases);
        let post_norm = (norms == HeadNorms::Present)
            .then(|| norm(&mut self.unit, &format!("{full}_post_norm"), Format::F32, self.hidden));
        self.unit.step(name, Step::LinearAdd(LinearAdd { input, projection, post_norm }));
    }

    pub(super) fn finish(self) -> Unit {
        self.unit.finish()
    }
}

fn weight(unit: &mut UnitBuilder<'_>, name: &str, format: Format, rows: usize, columns: usize) -> Slot {
    let spec = TensorSpec { name: name.to_owned(), format, rows, columns };
    unit.weight(spec, rows, columns).expect("cases use formats that have a codec")
}

fn norm(unit: &mut UnitBuilder<'_>, name: &str, format: Format, width: usize) -> Norm {
    Norm { weight: weight(unit, name, format, 1, width), epsilon: 1e-6 }
}

fn biased(
    unit: &mut UnitBuilder<'_>,
    name: &str,
    format: Format,
    (rows, columns): (usize, usize),
    biases: Biases,
) -> Projection {
    let bias = match biases {
        Biases::Absent => None,
        Biases::Stored(stored) => Some(weight(unit, &format!("{name}_bias"), stored, 1, rows)),
    };
    Projection { weight: weight(unit, name, format, rows, columns), bias, outputs: rows }
}
