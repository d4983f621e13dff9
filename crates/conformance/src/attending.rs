//! Rotation, storage and attention: head widths, groups, windows, caps and pages; then layers that have all of it.

use std::sync::Arc;

use program::{Activation, Attention, Buffer, KvFormat, PageTable, RopeKind, RopeStore, RopeTable, Sizes};
use tensor::{FORMATS, Format};

use crate::random::Random;
use crate::tolerance::Path;

use super::Selection;
use super::case::{Biases, Case, HeadNorms, Layer, Maker, Pass};

const HIDDEN: usize = 96;
const VOCABULARY: usize = 101;
const FEED_FORWARD: usize = 88;

/// What families of models vary.
#[derive(Clone, Copy, Debug)]
struct Heads {
    heads: usize,
    kv_heads: usize,
    width: usize,
    /// Elements that rotate.
    rotated: usize,
    kind: RopeKind,
    magnitude: f32,
    norms: HeadNorms,
    window: Option<u32>,
    soft_cap: Option<f32>,
}

const PLAIN: Heads = Heads {
    heads: 4,
    kv_heads: 2,
    width: 64,
    rotated: 64,
    kind: RopeKind::Half,
    magnitude: 1.0,
    norms: HeadNorms::Absent,
    window: None,
    soft_cap: None,
};

/// The core: groups of seven heads, a width that is no power of two, a window, a cap, norms, both orders of pairs.
const CORE: [&str; 5] = ["14 heads over 2", "half rope of heads of 80", "window 5", "soft cap", "everything"];

pub(super) fn cases(selection: Selection) -> Vec<Case> {
    let mut cases = Vec::new();
    let chosen = |name: &str| selection == Selection::All || CORE.contains(&name);
    for (name, heads) in variants().into_iter().filter(|(name, _)| chosen(name)) {
        cases.push(rope(&name, heads));
        cases.push(attention(&name, heads));
        if heads.width.is_multiple_of(KvFormat::Q8_0.block()) {
            cases.push(coded(attention(&name, heads), Path::CodedPages));
        }
    }
    for format in FORMATS.iter().filter(|row| row.codec.is_some()) {
        cases.push(attention_out(format.format));
    }
    cases.extend(whole_layers());
    cases.extend(whole_layers().into_iter().map(|case| coded(case, Path::CodedLayers)));
    cases
}

fn variants() -> Vec<(String, Heads)> {
    let mut variants = vec![("4 heads over 2 of 64".to_owned(), PLAIN)];
    let mut add = |name: &str, heads: Heads| variants.push((name.to_owned(), heads));
    for width in [16, 32, 80, 96, 128, 256] {
        add(&format!("heads of {width}"), Heads { width, rotated: width, ..PLAIN });
    }
    for (heads, kv_heads) in [(2, 2), (3, 1), (7, 1), (14, 2), (10, 2)] {
        add(&format!("{heads} heads over {kv_heads}"), Heads { heads, kv_heads, ..PLAIN });
    }
    for window in [1, 5, 64, 65] {
        add(&format!("window {window}"), Heads { window: Some(window), ..PLAIN });
    }
    let interleaved = RopeKind::Interleaved;
    add("interleaved rope", Heads { kind: interleaved, ..PLAIN });
    add("interleaved half rope", Heads { kind: interleaved, rotated: 32, magnitude: 1.5, ..PLAIN });
    add("half rope of heads of 80", Heads { width: 80, rotated: 40, ..PLAIN });
    add("no rope", Heads { rotated: 0, ..PLAIN });
    add("head norms", Heads { norms: HeadNorms::Present, ..PLAIN });
    add("head norms of 80", Heads { width: 80, rotated: 80, norms: HeadNorms::Present, ..PLAIN });
    add("soft cap", Heads { soft_cap: Some(2.0), ..PLAIN });
    let all = Heads { window: Some(33), soft_cap: Some(5.0), norms: HeadNorms::Present, kind: interleaved, ..PLAIN };
    add("everything", Heads { heads: 7, kv_heads: 1, width: 32, rotated: 24, ..all });
    variants
}

impl Heads {
    fn qkv(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }

    fn attention_width(self) -> usize {
        self.heads * self.width
    }

    fn rope(self) -> RopeTable {
        let pairs = self.rotated / 2;
        let frequencies: Arc<[f64]> = (0..pairs).map(|pair| 10_000_f64.powf(-(pair as f64) / pairs as f64)).collect();
        RopeTable { kind: self.kind, frequencies, magnitude: self.magnitude }
    }

    /// Steps up to the stored keys and values.
    fn store(self, layer: &mut Layer<'_>, format: Format, biases: Biases) {
        let kv = self.kv_heads * self.width;
        layer.norm_linear(Format::F32, &[(format, self.heads * self.width), (format, kv), (format, kv)], biases);
        let Heads { heads, kv_heads, width: head_width, .. } = self;
        let rope = self.rope();
        layer.rope_store(RopeStore { heads, kv_heads, head_width, query_norm: None, key_norm: None, rope }, self.norms);
    }

    fn attend(self, layer: &mut Layer<'_>) {
        let Heads { heads, kv_heads, width: head_width, window, soft_cap, .. } = self;
        let scale = 1.0 / (head_width as f32).sqrt();
        layer.attention(Attention { heads, kv_heads, head_width, scale, window, soft_cap });
    }

    fn sizes(self) -> Sizes {
        let (qkv, attention) = (self.qkv(), self.attention_width());
        Sizes { hidden: HIDDEN, vocabulary: VOCABULARY, context: 256, qkv, attention, gated: FEED_FORWARD }
    }
}

/// A prompt of more than a page; rows of three sequences among each other; one row; a chunk that fills a page and
/// begins the next. Pages are in no order.
fn passes() -> Vec<Pass> {
    let tables = || [vec![4, 1, 6], vec![5], vec![2, 0]].map(|pages| PageTable { pages }).to_vec();
    let pass = |seed: u64, rows: Vec<(u32, u32)>| {
        let mut random = Random::new(seed);
        let (sequences, positions): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
        Pass {
            tokens: sequences.iter().map(|_| random.below(VOCABULARY as u64) as u32).collect(),
            logit_rows: (0..).take(sequences.len()).filter(|row| row % 3 != 1).collect(),
            positions,
            sequences,
            page_tables: tables(),
        }
    };
    vec![
        pass(1, (0..70).map(|position| (0, position)).collect()),
        pass(2, vec![(1, 0), (0, 70), (1, 1), (2, 0), (2, 1), (1, 2)]),
        pass(3, vec![(0, 71)]),
        pass(4, (72..150).map(|position| (0, position)).collect()),
    ]
}

fn one_layer(
    name: String,
    heads: Heads,
    (buffer, width): (Buffer, usize),
    path: Path,
    steps: impl FnOnce(&mut Layer<'_>),
) -> Case {
    let (mut maker, prologue) = Maker::new(heads.sizes(), Format::F32, 1.0);
    let mut layer = maker.layer("blk.0");
    steps(&mut layer);
    let layers = vec![layer.finish()];
    let epilogue = maker.epilogue(("head", Format::F32), Biases::Absent, None);
    let program = maker.program(prologue, layers, epilogue);
    Case { name, program, buffer, width, path, kv: KvFormat::F16, spread: 1.0, passes: passes() }
}

fn rope(name: &str, heads: Heads) -> Case {
    let place = (Buffer::Qkv, heads.qkv());
    one_layer(format!("rope: {name}"), heads, place, Path::Sums, |layer| {
        heads.store(layer, Format::F32, Biases::Stored(Format::F32));
    })
}

fn attention(name: &str, heads: Heads) -> Case {
    let place = (Buffer::Attention, heads.attention_width());
    one_layer(format!("attention: {name}"), heads, place, Path::Pages, |layer| {
        heads.store(layer, Format::F32, Biases::Absent);
        heads.attend(layer);
    })
}

/// The same with keys and values in Q8_0.
fn coded(case: Case, path: Path) -> Case {
    Case { name: format!("{}, {}", case.name, KvFormat::Q8_0), kv: KvFormat::Q8_0, path, ..case }
}

/// The width of the attention output is a whole number of blocks of every format.
fn attention_out(format: Format) -> Case {
    let name = format!("attn_out {}", format.name());
    let case = one_layer(name, PLAIN, (Buffer::Hidden, HIDDEN), Path::Pages, |layer| {
        PLAIN.store(layer, Format::F32, Biases::Absent);
        PLAIN.attend(layer);
        let input = (Buffer::Attention, PLAIN.attention_width());
        layer.linear_add("attn_out", input, format, Biases::Absent, HeadNorms::Absent);
    });
    // What is added is an average over positions, smaller than the values.
    Case { spread: 1.0 / 256.0, ..case }
}

/// Three layers of different shapes and a head, as models have them, in F32 so that errors stay small.
fn whole_layers() -> Vec<Case> {
    let windowed = Heads { window: Some(9), kind: RopeKind::Interleaved, ..PLAIN };
    let narrow = Heads { heads: 3, kv_heads: 1, width: 32, rotated: 32, norms: HeadNorms::Present, ..PLAIN };
    let stacks = [
        ("like Llama", [PLAIN, PLAIN, PLAIN], Biases::Absent, HeadNorms::Absent, None),
        ("like Qwen2", [PLAIN, PLAIN, PLAIN], Biases::Stored(Format::F32), HeadNorms::Absent, None),
        ("like Gemma", [PLAIN, windowed, PLAIN], Biases::Absent, HeadNorms::Present, Some(3.0)),
        ("of unequal shapes", [narrow, PLAIN, narrow], Biases::Absent, HeadNorms::Absent, None),
    ];
    let make = |(name, heads, biases, norms, soft_cap): (&str, [Heads; 3], Biases, HeadNorms, Option<f32>)| {
        let (mut maker, prologue) = Maker::new(PLAIN.sizes(), Format::F32, 1.0);
        let layers = ["blk.0", "blk.1", "blk.2"].into_iter().zip(heads).map(|(name, heads)| {
            let mut layer = maker.layer(name);
            heads.store(&mut layer, Format::F32, biases);
            heads.attend(&mut layer);
            let attended = (Buffer::Attention, heads.attention_width());
            layer.linear_add("attn_out", attended, Format::F32, biases, norms);
            layer.norm_gated_linear([Format::F32; 2], FEED_FORWARD, Activation::GeluTanh, biases);
            layer.linear_add("down", (Buffer::Gated, FEED_FORWARD), Format::F32, biases, norms);
            layer.finish()
        });
        let layers = layers.collect();
        let epilogue = maker.epilogue(("table", Format::F32), Biases::Absent, soft_cap);
        let program = maker.program(prologue, layers, epilogue);
        let name = format!("three layers {name}");
        let (buffer, width) = (Buffer::Logits, VOCABULARY);
        Case { name, program, buffer, width, path: Path::Layers, kv: KvFormat::F16, spread: 1.0, passes: passes() }
    };
    stacks.into_iter().map(make).collect()
}
