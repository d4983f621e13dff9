//! Steps with matrices, in every format: embedding, projections, gates, residual sums and heads.

use program::{Activation, Buffer, KvFormat, Sizes, Unit};
use tensor::{FORMATS, Format};

use crate::tolerance::Path;

use super::Selection;
use super::case::{Biases, Case, HeadNorms, Layer, Maker, Pass, ROWS_MAX, prefill};

/// A prime: no number of rows that a kernel likes.
const VOCABULARY: usize = 53;

/// Small against what a residual sum adds, which is near 1, and far from where a norm's epsilon counts.
const SMALL_SPREAD: f32 = 1.0 / 64.0;

pub(super) fn cases(selection: Selection) -> Vec<Case> {
    let formats: Vec<Format> = FORMATS.iter().filter(|row| row.codec.is_some()).map(|row| row.format).collect();
    let mut cases = Vec::new();
    for (index, format) in formats.iter().enumerate() {
        // Layers mix formats: a second one takes turns, so that all neighbours meet.
        let other = formats[(index + 1) % formats.len()];
        for &width in widths(*format, selection) {
            cases.push(embed(*format, width));
            cases.push(head(*format, width));
            cases.push(tied(*format, width));
            cases.push(qkv(*format, width));
            cases.push(down(*format, width));
            for &activation in activations(selection) {
                cases.push(gate_up(*format, width, activation));
            }
        }
        let width = least_common(*format, other);
        cases.push(mixed_qkv(*format, other, width));
        cases.push(mixed_gate_up(*format, other, width));
        cases.push(narrow_layer(*format, width));
    }
    // As quantisers mix them.
    for (format, other) in
        [(Format::Q4_K, Format::Q6_K), (Format::IQ4_XS, Format::Q5_K), (Format::IQ2_XS, Format::IQ3_S)]
    {
        cases.push(mixed_qkv(format, other, 512));
        cases.push(mixed_gate_up(format, other, 512));
    }
    cases.push(stored_vectors());
    cases
}

/// Input widths that rows of a format can have: one record, odd counts of them, more than a block. The core has the most
/// awkward one.
fn widths(format: Format, selection: Selection) -> &'static [usize] {
    match (selection, format.block_elements()) {
        (Selection::Core, 1) => &[40],
        (Selection::Core, 32) => &[320],
        (Selection::Core, _) => &[768],
        (Selection::All, 1) => &[32, 40, 96, 256],
        (Selection::All, 32) => &[32, 96, 256, 320],
        (Selection::All, _) => &[256, 768],
    }
}

fn activations(selection: Selection) -> &'static [Activation] {
    match selection {
        Selection::Core => &[Activation::Silu],
        Selection::All => &[Activation::Silu, Activation::GeluTanh],
    }
}

fn least_common(format: Format, other: Format) -> usize {
    format.block_elements().max(other.block_elements()).max(32)
}

/// One row, odd counts of rows, and more than a page of them.
fn passes() -> Vec<Pass> {
    [(0, 1), (1, 2), (3, 3), (6, 7), (13, ROWS_MAX - 13)]
        .map(|(first, rows)| prefill(VOCABULARY, first, rows))
        .into_iter()
        .collect()
}

fn sizes(hidden: usize, qkv: usize, gated: usize) -> Sizes {
    Sizes { hidden, vocabulary: VOCABULARY, context: 128, qkv, attention: 1, gated }
}

fn case(name: String, maker: (Maker, Unit), layers: Vec<Unit>, (buffer, width): (Buffer, usize)) -> Case {
    let (mut maker, prologue) = maker;
    let epilogue = maker.epilogue(("head", Format::F32), Biases::Absent, None);
    let program = maker.program(prologue, layers, epilogue);
    Case { name, program, buffer, width, path: Path::Sums, kv: KvFormat::F16, spread: 1.0, passes: passes() }
}

/// A case with one layer.
fn layer_case(
    name: String,
    sizes: Sizes,
    (buffer, width): (Buffer, usize),
    steps: impl FnOnce(&mut Layer<'_>),
) -> Case {
    let (mut maker, prologue) = Maker::new(sizes, Format::F32, 1.0);
    let mut layer = maker.layer("blk.0");
    steps(&mut layer);
    let layers = vec![layer.finish()];
    case(name, (maker, prologue), layers, (buffer, width))
}

fn embed(format: Format, hidden: usize) -> Case {
    let maker = Maker::new(sizes(hidden, 1, 1), format, 3.5);
    Case {
        path: Path::Exact,
        ..case(format!("embed {} {hidden}", format.name()), maker, vec![], (Buffer::Hidden, hidden))
    }
}

/// Untied, with a bias and a soft cap.
fn head(format: Format, hidden: usize) -> Case {
    let (mut maker, prologue) = Maker::new(sizes(hidden, 1, 1), Format::F32, 1.0);
    let epilogue = maker.epilogue(("head", format), Biases::Stored(Format::F32), Some(2.5));
    let name = format!("head {} {hidden}x{VOCABULARY}", format.name());
    let program = maker.program(prologue, vec![], epilogue);
    let (buffer, width) = (Buffer::Logits, VOCABULARY);
    Case { name, program, buffer, width, path: Path::Sums, kv: KvFormat::F16, spread: 1.0, passes: passes() }
}

fn tied(format: Format, hidden: usize) -> Case {
    let (mut maker, prologue) = Maker::new(sizes(hidden, 1, 1), format, 1.0);
    let epilogue = maker.epilogue(("table", format), Biases::Absent, None);
    let name = format!("tied head {} {hidden}x{VOCABULARY}", format.name());
    let program = maker.program(prologue, vec![], epilogue);
    let (buffer, width) = (Buffer::Logits, VOCABULARY);
    Case { name, program, buffer, width, path: Path::Sums, kv: KvFormat::F16, spread: 1.0, passes: passes() }
}

/// Three projections whose outputs are no multiple of sixteen, one of them a single row.
fn qkv(format: Format, hidden: usize) -> Case {
    let outputs = [50, 1, 33];
    let width = outputs.iter().sum();
    let name = format!("qkv {} {hidden}x{outputs:?}", format.name());
    layer_case(name, sizes(hidden, width, 1), (Buffer::Qkv, width), |layer| {
        let parts = outputs.map(|outputs| (format, outputs));
        layer.norm_linear(Format::F32, &parts, Biases::Stored(Format::F32));
    })
}

fn mixed_qkv(format: Format, other: Format, hidden: usize) -> Case {
    let parts = [(format, 16), (other, 31), (Format::F32, 48), (format, 17)];
    let width = parts.iter().map(|(_, outputs)| outputs).sum();
    let name = format!("qkv {} {} F32 {hidden}", format.name(), other.name());
    layer_case(name, sizes(hidden, width, 1), (Buffer::Qkv, width), |layer| {
        layer.norm_linear(Format::F32, &parts, Biases::Absent);
    })
}

fn gate_up(format: Format, hidden: usize, activation: Activation) -> Case {
    let width = 75;
    let name = format!("gate_up {} {hidden}x{width} {activation:?}", format.name());
    layer_case(name, sizes(hidden, 1, width), (Buffer::Gated, width), |layer| {
        layer.norm_gated_linear([format; 2], width, activation, Biases::Stored(Format::F32));
    })
}

fn mixed_gate_up(format: Format, other: Format, hidden: usize) -> Case {
    let width = 37;
    let name = format!("gate_up {} {} {hidden}x{width}", format.name(), other.name());
    layer_case(name, sizes(hidden, 1, width), (Buffer::Gated, width), |layer| {
        layer.norm_gated_linear([format, other], width, Activation::Silu, Biases::Absent);
    })
}

/// Outputs are no multiple of sixteen; the widths of the format are those of the inputs.
fn down(format: Format, inputs: usize) -> Case {
    let hidden = 72;
    let name = format!("down {} {inputs}x{hidden}", format.name());
    let case = layer_case(name, sizes(hidden, 1, inputs), (Buffer::Hidden, hidden), |layer| {
        layer.norm_gated_linear([Format::F32; 2], inputs, Activation::Silu, Biases::Absent);
        let (biases, norms) = (Biases::Stored(Format::F32), HeadNorms::Absent);
        layer.linear_add("down", (Buffer::Gated, inputs), format, biases, norms);
    });
    Case { spread: SMALL_SPREAD, ..case }
}

/// A layer that is narrower than the buffers, with a post norm: rows end before the buffer's rows do.
fn narrow_layer(format: Format, inputs: usize) -> Case {
    let hidden = 40;
    let name = format!("narrow down {} {inputs}x{hidden}, post norm", format.name());
    let sizes = sizes(hidden, 1, inputs + 64);
    let (mut maker, prologue) = Maker::new(sizes, Format::F32, 1.0);
    let mut layer = |name: &'static str, inputs: usize, format: Format| {
        let mut layer = maker.layer(name);
        layer.norm_gated_linear([Format::F32; 2], inputs, Activation::GeluTanh, Biases::Absent);
        layer.linear_add("down", (Buffer::Gated, inputs), format, Biases::Absent, HeadNorms::Present);
        layer.finish()
    };
    let layers = vec![layer("blk.0", inputs + 64, Format::F32), layer("blk.1", inputs, format)];
    let case = case(name, (maker, prologue), layers, (Buffer::Hidden, hidden));
    Case { spread: SMALL_SPREAD, ..case }
}

/// Norm weights and biases are read as f32 however they are stored.
fn stored_vectors() -> Case {
    let outputs = [32, 64];
    let width = outputs.iter().sum();
    let name = "qkv with a norm in BF16 and biases in Q8_0".to_owned();
    layer_case(name, sizes(96, width, 1), (Buffer::Qkv, width), |layer| {
        let parts = outputs.map(|outputs| (Format::F32, outputs));
        layer.norm_linear(Format::BF16, &parts, Biases::Stored(Format::Q8_0));
    })
}
