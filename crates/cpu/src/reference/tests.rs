//! Steps against numbers worked out by hand, and refused passes.

use std::sync::Arc;

use program::{
    Activation, Attention, Embed, Head, KvFormat, KvShape, LinearAdd, Norm, NormGatedLinear, NormLinear, PageTable,
    ProgramBuilder, Projection, RopeKind, RopeStore, RopeTable, Sizes, Slot, TensorSpec,
};

use super::steps::{activated, dot, normalise, rotate, soft_capped, softmax};
use super::*;

fn assert_near(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{actual:?}");
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() < 1e-5, "{actual} is not {expected}");
    }
}

fn table(kind: RopeKind, frequencies: &[f64], magnitude: f32) -> RopeTable {
    RopeTable { kind, frequencies: Arc::from(frequencies), magnitude }
}

#[test]
fn dot_products_include_what_follows_the_last_eight() {
    let ones = [1.0; 11];
    let counting: Vec<f32> = (1..=11).map(|number| number as f32).collect();
    assert_eq!(dot(&ones, &counting), 66.0);
    assert_eq!(dot(&[], &[]), 0.0);
}

#[test]
fn norms_divide_by_the_root_of_the_mean_square() {
    // The mean of 9 and 16 is 12.5; with epsilon 12.5 the root is 5.
    let mut values = [3.0, 4.0];
    normalise(&mut values, &[1.0, 10.0], 12.5);
    assert_near(&values, &[0.6, 8.0]);
}

#[test]
fn two_pairs_rotate_by_their_own_frequencies() {
    // At position 3 the first pair turns by 3 · π/6 = 90° and the second by 3 · π/3 = 180°.
    let frequencies = [std::f64::consts::PI / 6.0, std::f64::consts::PI / 3.0];
    let mut halves = [1.0, 2.0, 3.0, 4.0];
    rotate(&mut halves, 3, &table(RopeKind::Half, &frequencies, 1.0));
    assert_near(&halves, &[-3.0, -2.0, 1.0, -4.0]);

    let mut neighbours = [1.0, 2.0, 3.0, 4.0];
    rotate(&mut neighbours, 3, &table(RopeKind::Interleaved, &frequencies, 1.0));
    assert_near(&neighbours, &[-2.0, 1.0, -3.0, -4.0]);
}

#[test]
fn rotation_leaves_the_rest_of_a_head_and_applies_the_magnitude() {
    let mut head = [1.0, 2.0, 3.0, 4.0];
    rotate(&mut head, 1, &table(RopeKind::Half, &[std::f64::consts::FRAC_PI_2], 0.5));
    assert_near(&head, &[-1.0, 0.5, 3.0, 4.0]);
}

#[test]
fn rotation_stays_exact_at_a_far_position() {
    // 2 000 000 turns and a quarter: f32 could not tell where the quarter is.
    let mut head = [1.0, 0.0];
    let frequency = (2_000_000.25 * std::f64::consts::TAU) / 1_000_000.0;
    rotate(&mut head, 1_000_000, &table(RopeKind::Half, &[frequency], 1.0));
    assert_near(&head, &[0.0, 1.0]);
}

#[test]
fn softmax_sums_to_one_and_survives_large_scores() {
    let mut scores = [1000.0, 1000.0 + 3.0_f32.ln()];
    softmax(&mut scores);
    assert_near(&scores, &[0.25, 0.75]);
}

#[test]
fn activations_at_known_points() {
    assert_near(&[activated(1.0, Activation::Silu), activated(-1.0, Activation::Silu)], &[0.731_058_6, -0.268_941_4]);
    assert_near(
        &[activated(1.0, Activation::GeluTanh), activated(-2.0, Activation::GeluTanh)],
        &[0.841_192, -0.045_402_3],
    );
    assert_eq!(activated(-1000.0, Activation::Silu), 0.0);
}

#[test]
fn soft_caps_bend_towards_the_cap() {
    assert_near(&[soft_capped(2.0, 2.0), soft_capped(1e6, 30.0)], &[2.0 * 0.761_594_2, 30.0]);
}

/// A program over hidden rows of 2 with a vocabulary of 3, whose weights are given in full.
struct Tiny {
    builder: ProgramBuilder,
    weights: Vec<(String, Vec<f32>)>,
}

impl Tiny {
    fn new(qkv: usize, attention: usize) -> Tiny {
        let sizes = Sizes { hidden: 2, vocabulary: 3, context: 256, qkv, attention, gated: 1 };
        Tiny { builder: ProgramBuilder::new("tiny", sizes), weights: Vec::new() }
    }

    /// A unit of `steps`, which name their slots by the order of `weights`: name, rows and values.
    fn unit(&mut self, name: &str, weights: &[(&str, usize, &[f32])], steps: Vec<Step>) -> Unit {
        let mut unit = self.builder.unit(name);
        for (weight, rows, values) in weights {
            let (name, columns) = (format!("{name}.{weight}"), values.len() / rows);
            let spec = TensorSpec { name: name.clone(), format: Format::F32, rows: *rows, columns };
            unit.weight(spec, *rows, columns).unwrap();
            self.weights.push((name, values.to_vec()));
        }
        for step in steps {
            unit.step("step", step);
        }
        unit.finish()
    }

    /// Token `t` becomes row `t` of `table`, times 2.
    fn prologue(&mut self, table: [f32; 6]) -> Unit {
        self.unit("prologue", &[("table", 3, &table)], vec![Step::Embed(Embed { table: Slot(0), scale: 2.0 })])
    }

    /// Logits are the selected row's norm by 1, its first element, its second, and their sum; capped at 4.
    fn epilogue(&mut self) -> Unit {
        let head = Head { projection: projection(1, 3), soft_cap: Some(4.0) };
        let steps = vec![Step::Select, Step::Norm(Norm { weight: Slot(0), epsilon: 0.0 }), Step::Head(head)];
        self.unit("epilogue", &[("norm", 1, &[1.0, 1.0]), ("head", 3, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0])], steps)
    }

    fn backend(self, layers: Vec<Unit>, prologue: Unit, epilogue: Unit, plan: KvPlan) -> Running {
        let program = Arc::new(self.builder.finish(prologue, layers, epilogue));
        let mut backend = ReferenceBackend::new();
        let executable = backend.compile(&program, RowBucket { rows: 4, logit_rows: 2 }).unwrap();
        backend.allocate(executable, plan).unwrap();
        for (index, spec) in (0..).zip(&program.tensors) {
            let (_, values) = self.weights.iter().find(|(name, _)| *name == spec.name).unwrap();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let length = bytes.len();
            backend.upload(executable, TensorIndex(index), TensorBytes::new(Arc::new(bytes), 0..length)).unwrap();
        }
        Running { backend, executable, program }
    }
}

fn projection(slot: u16, outputs: usize) -> Projection {
    Projection { weight: Slot(slot), bias: None, outputs }
}

struct Running {
    backend: ReferenceBackend,
    executable: ExecutableId,
    program: Arc<Program>,
}

impl Running {
    fn submit(&mut self, segment: &Segment, input: &PassInput<'_>) -> Result<Fence, BackendError> {
        self.backend.submit(self.executable, segment, input)
    }

    fn read(&mut self, buffer: Buffer, rows: Range<usize>) -> Vec<f32> {
        let mut values = vec![0.0; rows.len() * self.program.buffer_width(buffer)];
        self.backend.read(self.executable, buffer, rows, &mut values).unwrap();
        values
    }
}

const PLAN: KvPlan = KvPlan { pages: 3, format: KvFormat::F32 };

/// Only ends, no layer.
fn ends() -> Running {
    let mut tiny = Tiny::new(1, 1);
    let (prologue, epilogue) = (tiny.prologue([1.0, 0.0, 0.0, 1.0, 1.5, 2.0]), tiny.epilogue());
    tiny.backend(Vec::new(), prologue, epilogue, PLAN)
}

fn pages(pages: &[u32]) -> PageTable {
    PageTable { pages: pages.to_vec() }
}

#[test]
fn embedding_scales_and_the_epilogue_selects_norms_and_caps() {
    let mut running = ends();
    let tables = [pages(&[0])];
    let input = PassInput {
        tokens: &[2, 0, 1],
        positions: &[0, 1, 2],
        sequences: &[0, 0, 0],
        page_tables: &tables,
        logit_rows: &[0, 2],
    };
    running.submit(&Segment::whole(&running.program.clone()), &input).unwrap();
    assert_near(&running.read(Buffer::Hidden, 0..3), &[3.0, 4.0, 2.0, 0.0, 0.0, 2.0]);
    // (3, 4) has the root mean square √12.5 and (0, 2) has √2.
    let cap = |value: f32| 4.0 * (value / 4.0).tanh();
    let (x, y, z) = (3.0 / 12.5_f32.sqrt(), 4.0 / 12.5_f32.sqrt(), 2.0_f32.sqrt());
    assert_near(&running.read(Buffer::Selected, 0..2), &[x, y, 0.0, z]);
    assert_near(&running.read(Buffer::Logits, 0..2), &[cap(x), cap(y), cap(x + y), 0.0, cap(z), cap(z)]);
}

/// One layer: 2 query heads over 1 key head, each of width 1, so that scores are products.
///
/// The normed row is (√2, 0) or (0, √2). Query head 0 reads its first element, head 1 its second; keys read the sum
/// and values `10 x + y`, all times 1/√2.
fn attention_layer(tiny: &mut Tiny, attention: Attention) -> Unit {
    let root = 0.5_f32.sqrt();
    let norm = Norm { weight: Slot(0), epsilon: 0.0 };
    let projections = vec![projection(1, 2), projection(2, 1), projection(3, 1)];
    let rope = table(RopeKind::Half, &[], 1.0);
    let (heads, kv_heads, head_width) = (attention.heads, attention.kv_heads, attention.head_width);
    let steps = vec![
        Step::NormLinear(NormLinear { norm, projections }),
        Step::RopeStore(RopeStore { heads, kv_heads, head_width, query_norm: None, key_norm: None, rope }),
        Step::Attention(attention),
    ];
    let weights: [(&str, usize, &[f32]); 4] = [
        ("norm", 1, &[1.0, 1.0]),
        ("q", 2, &[root, 0.0, 0.0, root]),
        ("k", 1, &[root, -root]),
        ("v", 1, &[10.0 * root, root]),
    ];
    tiny.unit("blk.0", &weights, steps)
}

fn attending(window: Option<u32>, soft_cap: Option<f32>, format: KvFormat) -> Running {
    let mut tiny = Tiny::new(4, 2);
    let attention = Attention { heads: 2, kv_heads: 1, head_width: 1, scale: 2.0, window, soft_cap };
    let (prologue, epilogue) = (tiny.prologue([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), tiny.epilogue());
    let layer = attention_layer(&mut tiny, attention);
    tiny.backend(vec![layer], prologue, epilogue, KvPlan { pages: 3, format })
}

/// Attention of rows with tokens 0, 0, 1, so that keys are 1, 1, -1 and values 10, 10, 1: (rows, heads).
fn attend(running: &mut Running, positions: &[u32], table: &PageTable) -> Vec<f32> {
    let input = PassInput {
        tokens: &[0, 0, 1],
        positions,
        sequences: &[0, 0, 0],
        page_tables: std::slice::from_ref(table),
        logit_rows: &[],
    };
    running.submit(&Segment { prologue: true, layers: 0..1, epilogue: false }, &input).unwrap();
    running.read(Buffer::Attention, 0..3)
}

#[test]
fn query_heads_share_a_key_head_and_see_no_later_position() {
    let outputs = attend(&mut attending(None, None, KvFormat::F32), &[0, 1, 2], &pages(&[2]));
    // Row 2 has queries 0 and 1: head 0 weighs all three alike, head 1 by e², e² and e⁻².
    let e = 2.0_f32.exp();
    let weighted = (20.0 * e + 1.0 / e) / (2.0 * e + 1.0 / e);
    assert_near(&outputs, &[10.0, 10.0, 10.0, 10.0, 7.0, weighted]);
}

#[test]
fn a_window_counts_the_own_position() {
    let outputs = attend(&mut attending(Some(2), None, KvFormat::F32), &[0, 1, 2], &pages(&[0]));
    let e = 2.0_f32.exp();
    assert_near(&outputs[4..], &[5.5, (10.0 * e + 1.0 / e) / (e + 1.0 / e)]);
    let alone = attend(&mut attending(Some(1), None, KvFormat::F32), &[0, 1, 2], &pages(&[0]));
    assert_near(&alone[4..], &[1.0, 1.0]);
}

#[test]
fn scores_are_scaled_before_they_are_capped() {
    let outputs = attend(&mut attending(Some(2), Some(0.5), KvFormat::F32), &[0, 1, 2], &pages(&[0]));
    let e = (0.5 * 4.0_f32.tanh()).exp();
    assert_near(&outputs[5..], &[(10.0 * e + 1.0 / e) / (e + 1.0 / e)]);
}

#[test]
fn positions_find_their_pages_in_table_order() {
    let (near, far) = ([0, 1, 2], [63, 64, 65]);
    let mut running = attending(Some(3), None, KvFormat::F32);
    let expected = attend(&mut running, &near, &pages(&[0]));
    assert_eq!(attend(&mut running, &far, &pages(&[2, 1]))[4..], expected[4..]);
}

#[test]
fn half_precision_rounds_what_is_stored() {
    let mut tiny = Tiny::new(4, 2);
    let attention = Attention { heads: 2, kv_heads: 1, head_width: 1, scale: 1.0, window: Some(1), soft_cap: None };
    let (prologue, epilogue) = (tiny.prologue([1.0, 1.001, 0.0, 1.0, 0.0, 0.0]), tiny.epilogue());
    let layer = attention_layer(&mut tiny, attention);
    let mut running = tiny.backend(vec![layer], prologue, epilogue, KvPlan { pages: 1, format: KvFormat::F16 });
    let outputs = attend(&mut running, &[0, 1, 2], &pages(&[0]));
    let value = running.read(Buffer::Qkv, 0..1)[3];
    assert_ne!(outputs[0], value);
    assert_eq!(outputs[0], half::f16::from_f32(value).to_f32());
}

#[test]
fn eight_bit_codes_round_what_is_stored_by_the_scale_of_their_block() {
    let shape = KvShape { heads: 2, head_width: 32 };
    let mut pool = KvPool::new(&[shape], KvPlan { pages: 1, format: KvFormat::Q8_0 }).unwrap();
    // The first head's largest is 127, a scale of 1; the second's is 63.5, a scale of one half.
    let mut keys = [0.0; 64];
    keys[..4].copy_from_slice(&[127.0, -3.4, 2.6, 0.4]);
    keys[32..36].copy_from_slice(&[-63.5, 3.3, 0.2, -0.3]);
    pool.store(0, &pages(&[0]), 5, &keys, &keys.map(|key| -key));
    let stored = pool.keys(0, &pages(&[0]), 5);
    assert_eq!(stored[..4], [127.0, -3.0, 3.0, 0.0]);
    assert_eq!(stored[32..36], [-63.5, 3.5, 0.0, -0.5]);
    assert_eq!(pool.values(0, &pages(&[0]), 5)[32..36], [63.5, -3.5, 0.0, 0.5]);
}

#[test]
fn head_norms_apply_before_rotation() {
    let mut tiny = Tiny::new(6, 2);
    let norm = |slot| Norm { weight: Slot(slot), epsilon: 0.0 };
    let steps = vec![
        Step::NormLinear(NormLinear {
            norm: norm(0),
            projections: vec![projection(1, 2), projection(1, 2), projection(1, 2)],
        }),
        Step::RopeStore(RopeStore {
            heads: 1,
            kv_heads: 1,
            head_width: 2,
            query_norm: Some(norm(2)),
            key_norm: Some(norm(3)),
            rope: table(RopeKind::Half, &[std::f64::consts::FRAC_PI_2], 1.0),
        }),
    ];
    let weights: [(&str, usize, &[f32]); 4] = [
        ("norm", 1, &[1.0, 1.0]),
        ("same", 2, &[1.0, 0.0, 0.0, 1.0]),
        ("q_norm", 1, &[1.0, 2.0]),
        ("k_norm", 1, &[3.0, 4.0]),
    ];
    let layer = tiny.unit("blk.0", &weights, steps);
    let (prologue, epilogue) = (tiny.prologue([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), tiny.epilogue());
    let mut running = tiny.backend(vec![layer], prologue, epilogue, PLAN);
    let table = pages(&[0]);
    let input = PassInput {
        tokens: &[0],
        positions: &[1],
        sequences: &[0],
        page_tables: std::slice::from_ref(&table),
        logit_rows: &[],
    };
    running.submit(&Segment { prologue: true, layers: 0..1, epilogue: false }, &input).unwrap();
    // (1, 1) weighted is (1, 2) and (3, 4); a quarter turn makes (-2, 1) and (-4, 3); values stay.
    assert_near(&running.read(Buffer::Qkv, 0..1), &[-2.0, 1.0, -4.0, 3.0, 1.0, 1.0]);
}

#[test]
fn gated_products_are_biased_post_normed_and_added() {
    let mut tiny = Tiny::new(1, 1);
    let norm = |slot| Norm { weight: Slot(slot), epsilon: 0.0 };
    let gated = NormGatedLinear {
        norm: norm(0),
        gate: projection(1, 1),
        up: Projection { weight: Slot(2), bias: Some(Slot(3)), outputs: 1 },
        activation: Activation::Silu,
    };
    let down = LinearAdd { input: Buffer::Gated, projection: projection(4, 2), post_norm: Some(norm(5)) };
    let weights: [(&str, usize, &[f32]); 6] = [
        ("norm", 1, &[1.0, 1.0]),
        ("gate", 1, &[0.5, 0.5]),
        ("up", 1, &[1.0, 0.0]),
        ("up_bias", 1, &[2.0]),
        ("down", 2, &[1.0, -1.0]),
        ("post_norm", 1, &[5.0, 7.0]),
    ];
    let layer = tiny.unit("blk.0", &weights, vec![Step::NormGatedLinear(gated), Step::LinearAdd(down)]);
    let (prologue, epilogue) = (tiny.prologue([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), tiny.epilogue());
    let mut running = tiny.backend(vec![layer], prologue, epilogue, PLAN);
    let table = pages(&[0]);
    let input = PassInput {
        tokens: &[0],
        positions: &[0],
        sequences: &[0],
        page_tables: std::slice::from_ref(&table),
        logit_rows: &[],
    };
    running.submit(&Segment { prologue: true, layers: 0..1, epilogue: false }, &input).unwrap();
    // The normed row is (1, 1): silu(1) · (1 + 2). Down gives (g, -g), normed (1, -1), weighted (5, -7), plus (2, 2).
    assert_near(&running.read(Buffer::Gated, 0..1), &[0.731_058_6 * 3.0]);
    assert_near(&running.read(Buffer::Hidden, 0..1), &[7.0, -5.0]);
}

#[test]
fn passes_that_break_a_promise_are_refused() {
    let mut running = ends();
    let tables = [pages(&[0, 3])];
    let fine = PassInput {
        tokens: &[0, 1],
        positions: &[0, 1],
        sequences: &[0, 0],
        page_tables: &tables,
        logit_rows: &[0, 1],
    };
    let refused: [(&str, PassInput<'_>); 10] = [
        ("number of rows", PassInput { tokens: &[0; 5], ..fine }),
        ("number of positions", PassInput { positions: &[0], ..fine }),
        ("number of sequences", PassInput { sequences: &[0; 3], ..fine }),
        ("number of logit rows", PassInput { logit_rows: &[0, 1, 2], ..fine }),
        ("token", PassInput { tokens: &[0, 3], ..fine }),
        ("logit row", PassInput { logit_rows: &[2], ..fine }),
        ("logit row before a later one", PassInput { logit_rows: &[1, 1], ..fine }),
        ("sequence", PassInput { sequences: &[0, 1], ..fine }),
        ("position in its page table", PassInput { positions: &[0, 128], ..fine }),
        ("page", PassInput { positions: &[0, 64], ..fine }),
    ];
    let whole = Segment::whole(&running.program);
    for (expected, input) in refused {
        let error = running.submit(&whole, &input).unwrap_err();
        assert!(matches!(error, BackendError::InvalidPass { what, .. } if what == expected), "{expected}: {error}");
    }
    running.submit(&whole, &fine).unwrap();
    let beyond = Segment { layers: 0..1, ..whole };
    assert!(matches!(running.submit(&beyond, &fine), Err(BackendError::InvalidPass { .. })));
}

#[test]
fn wrong_calls_are_refused() {
    let mut running = ends();
    let executable = running.executable;
    let bytes = |count: usize| TensorBytes::new(Arc::new(vec![0; count]), 0..count);
    let backend = &mut running.backend;
    let error = backend.upload(executable, TensorIndex(0), bytes(23)).unwrap_err();
    assert!(matches!(error, BackendError::TensorSize { expected: 24, actual: 23, .. }), "{error}");
    assert!(backend.upload(executable, TensorIndex(99), bytes(24)).is_err());
    assert!(backend.upload(ExecutableId(1), TensorIndex(0), bytes(24)).is_err());
    assert!(backend.read(executable, Buffer::Hidden, 0..5, &mut [0.0; 10]).is_err());
    assert!(backend.read(executable, Buffer::Hidden, 0..1, &mut [0.0; 3]).is_err());
    let plan = KvPlan { pages: usize::MAX, format: KvFormat::F32 };
    backend.allocate(executable, plan).expect("a program without layers stores nothing");

    let without_weights = backend.compile(&running.program, RowBucket { rows: 1, logit_rows: 1 }).unwrap();
    let tables = [pages(&[0])];
    let (tokens, positions, sequences) = ([0], [0], [0]);
    let input = PassInput {
        tokens: &tokens,
        positions: &positions,
        sequences: &sequences,
        page_tables: &tables,
        logit_rows: &[],
    };
    backend.allocate(without_weights, PLAN).unwrap();
    let error = backend.submit(without_weights, &Segment::whole(&running.program), &input).unwrap_err();
    assert!(matches!(error, BackendError::MissingTensor { tensor } if tensor == "prologue.table"));
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let mut running = attending(None, None, KvFormat::F32);
    for pages in [usize::MAX, 1 << 52] {
        let plan = KvPlan { pages, format: KvFormat::F32 };
        let error = running.backend.allocate(running.executable, plan).unwrap_err();
        assert!(matches!(error, BackendError::OutOfMemory { .. }), "{error}");
    }
    let rows = RowBucket { rows: usize::MAX, logit_rows: 1 };
    assert!(matches!(running.backend.compile(&running.program, rows), Err(BackendError::OutOfMemory { .. })));
}
