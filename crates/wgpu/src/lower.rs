//! From steps to dispatches: what each step of a program becomes, for passes of few rows and of many.
//!
//! With few rows, products are sums over weights (`matvec.wgsl`) and hand their outputs on in the form in which the next
//! product reads them; that makes five or six dispatches a layer. With many rows, inputs are prepared by a dispatch of their
//! own and products are tiled.

use program::{
    Activation, Attention, BackendError, Buffer, Embed, Head, LinearAdd, Norm, NormGatedLinear, NormLinear, Program,
    Projection, RopeStore, Slot, Step, Unit,
};

use crate::buffers::{Buffers, Few, MATRIX_TILE_ROWS, parameters};
use crate::device::{Gpu, NAME};
use crate::kv::KvPool;
use crate::planes::UNIT;
use crate::shader::{
    ADD_NORMED, ATTENTION_MERGE, ATTENTION_ROWS, ATTENTION_TILES, EMBED, GEMM, GEMM_MATRIX_UNITS, KernelId, Kernels,
    MATVEC, PREPARE, ROPE_STORE, Source,
};
use crate::weights::{Part, Weights, group_of};

/// One dispatch of a pass.
pub(crate) struct Dispatch {
    /// The step's short name, for the ledger.
    pub(crate) step: &'static str,
    pub(crate) kernel: KernelId,
    pub(crate) bind: wgpu::BindGroup,
    pub(crate) grid: Grid,
    pub(crate) when: When,
}

/// Workgroups of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grid {
    /// So many, whatever the rows.
    Fixed(u32),
    /// One for each row.
    Rows,
    /// One for each row that wants logits.
    LogitRows,
    /// So many for each row.
    PerRow(u32),
    /// So many heads for each row and split.
    PerSplit(u32),
    /// So many heads for each tile of rows.
    PerTile(u32),
    /// So many for each 64 rows.
    PerRowTile(u32),
    /// So many for each 64 rows that want logits.
    PerLogitTile(u32),
    /// For each 128 rows so many.
    PerRowBlock(u32),
    /// For each 128 rows that want logits so many.
    PerLogitBlock(u32),
}

/// Passes that a dispatch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// Some sequence has several rows.
    Shared,
    /// Each row is of another sequence, and positions are not split; or they are.
    Apart {
        split: bool,
    },
    /// Some sequence has several rows, and positions are split or not.
    Together {
        split: bool,
    },
    /// Positions are split.
    Split,
}

/// Dispatches of a unit, for passes of few rows and of many.
#[derive(Default)]
pub(crate) struct UnitDispatches {
    pub(crate) few: Vec<Dispatch>,
    pub(crate) many: Vec<Dispatch>,
}

/// What a product reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Nothing,
    Codes,
    Floats,
    Halves,
}

/// Outputs that a workgroup of `matvec.wgsl` makes where another step reads them in blocks.
const BLOCK_ROWS: usize = 32;

/// Outputs that it makes elsewhere.
const FREE_ROWS: usize = 8;

/// Matrices of one `matvec.wgsl`.
const MATRICES: usize = 3;

const NONE: u32 = u32::MAX;

/// Lowers one unit after the other.
pub(crate) struct Lowering<'a> {
    pub(crate) gpu: &'a Gpu,
    pub(crate) program: &'a Program,
    pub(crate) rows_max: usize,
    pub(crate) logit_rows_max: usize,
    pub(crate) buffers: &'a Buffers,
    pub(crate) weights: &'a Weights,
    pub(crate) kernels: &'a mut Kernels,
    pub(crate) kv: &'a KvPool,
}

/// A step with its neighbours in the order of the whole program.
struct Place<'p> {
    unit: &'p Unit,
    /// Index of the layer; meaningless elsewhere.
    layer: usize,
    name: &'static str,
    step: &'p Step,
    before: Option<(&'p Unit, &'p Step)>,
    after: Option<(&'p Unit, &'p Step)>,
}

impl Lowering<'_> {
    /// Dispatches of the prologue, the layers and the epilogue.
    pub(crate) fn run(&mut self) -> Result<Vec<UnitDispatches>, BackendError> {
        let program = self.program;
        let steps: Vec<(usize, &Unit, &'static str, &Step)> = program
            .units()
            .enumerate()
            .flat_map(|(index, unit)| {
                program.template(unit).steps.iter().map(move |(name, step)| (index, unit, *name, step))
            })
            .collect();
        let mut units: Vec<UnitDispatches> = program.units().map(|_| UnitDispatches::default()).collect();
        for (position, (index, unit, name, step)) in steps.iter().enumerate() {
            let neighbour =
                |at: Option<usize>| at.and_then(|at| steps.get(at)).map(|(_, unit, _, step)| (*unit, *step));
            let place = Place {
                unit,
                layer: index.saturating_sub(1),
                name,
                step,
                before: neighbour(position.checked_sub(1)),
                after: neighbour(Some(position + 1)),
            };
            self.step(&place, &mut units[*index])?;
        }
        Ok(units)
    }

    fn step(&mut self, place: &Place<'_>, out: &mut UnitDispatches) -> Result<(), BackendError> {
        match place.step {
            Step::Embed(step) => self.embed(place, step, out),
            Step::NormLinear(step) => self.norm_linear(place, step, out),
            Step::RopeStore(step) => self.rope_store(place, step, out),
            Step::Attention(step) => self.attention(place, step, out),
            Step::LinearAdd(step) => self.linear_add(place, step, out),
            Step::NormGatedLinear(step) => self.norm_gated_linear(place, step, out),
            Step::Select => Ok(()),
            Step::Norm(step) => self.select_norm(place, step, out),
            Step::Head(step) => self.head(place, step, out),
        }
    }

    fn dispatch(&mut self, step: &'static str, source: Source, buffers: &[&wgpu::Buffer], grid: Grid) -> Dispatch {
        let kernel = self.kernels.kernel(self.gpu, source);
        let bind = self.kernels.bind(self.gpu, kernel, buffers);
        Dispatch { step, kernel, bind, grid, when: When::Always }
    }

    fn embed(&mut self, place: &Place<'_>, step: &Embed, out: &mut UnitDispatches) -> Result<(), BackendError> {
        let group = self.weights.group(&group_of(place.unit, place.step));
        let spec = self.program.weight(place.unit, step.table);
        for many in [false, true] {
            for part in &group.parts {
                let piece = &part.matrices[0];
                let mut words = self.product(spec.columns, self.program.sizes.hidden);
                words.matrix(0, part, 0, piece.rows.start, NONE, 0);
                words.soft_cap = step.scale;
                let params = parameters(self.gpu, &words.words())?;
                let source = Source::new("embed", EMBED, &["common.wgsl", "embed.wgsl"]).formats(&[piece.layout]);
                let b = self.buffers;
                let buffers = [&part.buffer, &part.buffer, &params, &b.pass, &b.hidden];
                let dispatch = self.dispatch(place.name, source, &buffers, Grid::Rows);
                if many { out.many.push(dispatch) } else { out.few.push(dispatch) }
            }
        }
        Ok(())
    }

    fn norm_linear(
        &mut self,
        place: &Place<'_>,
        step: &NormLinear,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let width = self.program.sizes.hidden;
        if !handed_on(self.program, place.before, Some((place.unit, place.step))) {
            let form = self.form(place.unit, place.step);
            let prepare = self.prepare(place, form, Buffer::Hidden, Some((&step.norm, NormUse::Weights)), width)?;
            out.few.push(prepare);
        }
        let group = self.weights.group(&group_of(place.unit, place.step));
        let outputs = step.projections.iter().scan(0, |end, projection| {
            let start = *end;
            *end += projection.outputs;
            Some(start)
        });
        let projections: Vec<(usize, &Projection, usize)> =
            step.projections.iter().zip(outputs).enumerate().map(|(index, (p, output))| (index, p, output)).collect();
        for part in &group.parts {
            for few in projections.chunks(MATRICES) {
                let mut words = self.product(width, self.program.sizes.qkv);
                words.read_norm(&step.norm, self.buffers.few(Buffer::Hidden), width);
                let mut groups = 0;
                for (at, (index, projection, output)) in few.iter().enumerate() {
                    let start = part.matrices[*index].rows.start;
                    let bias = self.bias(place.unit, projection);
                    words.matrix(at, part, *index, output + start, offset(bias, start), groups);
                    groups += part.matrices[*index].rows.len().div_ceil(FREE_ROWS);
                }
                words.no_matrix_from(few.len());
                let kernel = Matvec { mode: Mode::Store, parts: 1, next: Form::Nothing, head: false };
                let io = (Buffer::Hidden, &self.buffers.qkv, &self.buffers.nothing);
                let matrices = few[0].0..few[0].0 + few.len();
                out.few.push(self.matvec(place, &kernel, (part, matrices), &words, io, groups)?);
            }
        }

        out.many.push(self.prepare_many(
            place,
            Buffer::Hidden,
            Some(&step.norm),
            width,
            self.form_of_many(place.unit, place.step),
        )?);
        for (index, projection, output) in projections {
            for part in &group.parts {
                let start = part.matrices[index].rows.start;
                let mut words = self.product(width, self.program.sizes.qkv);
                words.matrix(0, part, index, output + start, offset(self.bias(place.unit, projection), start), 0);
                out.many.push(self.gemm(place, part, index, &words, Mode::Store, &self.buffers.qkv, false)?);
            }
        }
        Ok(())
    }

    fn rope_store(
        &mut self,
        place: &Place<'_>,
        step: &RopeStore,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let attends = matches!(place.after, Some((_, Step::Attention(_))));
        for many in [false, true] {
            let params = parameters(self.gpu, &self.heads(place, step, None))?;
            let source =
                heads_source("rope_store", ROPE_STORE, &["pass.wgsl", "heads.wgsl", "rope_store.wgsl"], step, self);
            let b = self.buffers;
            let buffers =
                [&b.pass, &params, &self.weights.vectors, self.kv.rope(&step.rope), &b.qkv, self.kv.pages(place.layer)];
            let heads = (step.heads + 2 * step.kv_heads) as u32;
            let mut dispatch = self.dispatch(place.name, source, &buffers, Grid::PerRow(heads));
            if !many && attends {
                dispatch.when = When::Shared;
            }
            if many { out.many.push(dispatch) } else { out.few.push(dispatch) }
        }
        Ok(())
    }

    fn attention(&mut self, place: &Place<'_>, step: &Attention, out: &mut UnitDispatches) -> Result<(), BackendError> {
        let Some((_, Step::RopeStore(store))) = place.before else {
            return Err(self.unsupported(place, "attention without a rotation before it"));
        };
        let params = parameters(self.gpu, &self.heads(place, store, Some(step)))?;
        let form = if hands_on_attention(place, step) { self.form_after(place) } else { Form::Nothing };
        let encode = ["pass.wgsl", "heads.wgsl", "encode.wgsl"];
        let b = self.buffers;
        let coded = &b.few(Buffer::Attention).buffer;
        let (rope, pages) = (self.kv.rope(&store.rope), self.kv.pages(place.layer));
        let variants = [
            (When::Apart { split: false }, true, false),
            (When::Apart { split: true }, true, true),
            (When::Together { split: false }, false, false),
            (When::Together { split: true }, false, true),
        ];
        for (when, stores, split) in variants {
            let files = [&encode[..], &["attention_rows.wgsl"]].concat();
            let source = heads_source("attention", ATTENTION_ROWS, &files, store, self)
                .flag("STORES", stores)
                .flag("SPLIT", split)
                .count("OUTPUT", form as usize);
            let buffers =
                [&b.pass, &params, &self.weights.vectors, rope, &b.qkv, pages, &b.attention, coded, &b.partials];
            let heads = step.heads as u32;
            let mut dispatch = self.dispatch(place.name, source, &buffers, Grid::PerSplit(heads));
            dispatch.when = when;
            out.few.push(dispatch);
        }
        let files = [&encode[..], &["attention_merge.wgsl"]].concat();
        let source =
            heads_source("attention_merge", ATTENTION_MERGE, &files, store, self).count("OUTPUT", form as usize);
        let buffers = [&b.pass, &params, &b.attention, coded, &b.partials];
        let mut merge = self.dispatch(place.name, source, &buffers, Grid::PerRow(step.heads as u32));
        merge.when = When::Split;
        out.few.push(merge);

        let matrix_units = self.buffers.tile_rows == MATRIX_TILE_ROWS;
        let file = if matrix_units { "attention_matrix_units.wgsl" } else { "attention_tiles.wgsl" };
        let mut source =
            heads_source("attention_tiles", ATTENTION_TILES, &["pass.wgsl", "heads.wgsl", file], store, self);
        if matrix_units {
            source = source.matrix_units();
        }
        let buffers = [&b.pass, &params, &self.weights.vectors, rope, &b.qkv, pages, &b.attention, &b.tiles];
        let tiles = self.dispatch(place.name, source, &buffers, Grid::PerTile(step.heads as u32));
        out.many.push(tiles);
        Ok(())
    }

    fn linear_add(
        &mut self,
        place: &Place<'_>,
        step: &LinearAdd,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let spec = self.program.weight(place.unit, step.projection.weight);
        let (inputs, hidden) = (spec.columns, self.program.sizes.hidden);
        if !feeds(place.before, step) {
            let form = self.form(place.unit, place.step);
            out.few.push(self.prepare(place, form, step.input, None, inputs)?);
        }
        let next = if handed_on(self.program, Some((place.unit, place.step)), place.after) {
            self.form_after(place)
        } else {
            Form::Nothing
        };
        let group = self.weights.group(&group_of(place.unit, place.step));
        let bias = self.bias(place.unit, &step.projection);
        let (mode, output) = match &step.post_norm {
            None => (Mode::Add, &self.buffers.hidden),
            Some(_) => (Mode::Store, &self.buffers.projected),
        };
        for part in &group.parts {
            let piece = &part.matrices[0];
            let mut words = self.product(inputs, hidden);
            words.matrix(0, part, 0, piece.rows.start, offset(bias, piece.rows.start), 0);
            words.no_matrix_from(1);
            if let (Some((unit, after)), true) = (place.after, next != Form::Nothing) {
                let norm = norm_of(after).expect("only steps with a norm are handed on to");
                words.hand_on(self.weights.vector(index(unit, norm.weight)), self.buffers.few(Buffer::Hidden));
            }
            let kernel = Matvec { mode, parts: 1, next, head: false };
            let coded =
                if next == Form::Nothing { &self.buffers.nothing } else { &self.buffers.few(Buffer::Hidden).buffer };
            let groups = piece.rows.len().div_ceil(kernel.group_rows());
            out.few.push(self.matvec(place, &kernel, (part, 0..1), &words, (step.input, output, coded), groups)?);
        }
        out.many.push(self.prepare_many(place, step.input, None, inputs, self.form_of_many(place.unit, place.step))?);
        for part in &group.parts {
            let piece = &part.matrices[0];
            let mut words = self.product(inputs, hidden);
            words.matrix(0, part, 0, piece.rows.start, offset(bias, piece.rows.start), 0);
            out.many.push(self.gemm(place, part, 0, &words, mode, output, false)?);
        }
        if let Some(norm) = &step.post_norm {
            for many in [false, true] {
                let words =
                    [hidden as u32, self.weights.vector(index(place.unit, norm.weight)), norm.epsilon.to_bits(), 0];
                let params = parameters(self.gpu, &words)?;
                let source = Source::new("add_normed", ADD_NORMED, &["add_normed.wgsl"]);
                let b = self.buffers;
                let buffers = [&params, &self.weights.vectors, &b.projected, &b.hidden];
                let dispatch = self.dispatch(place.name, source, &buffers, Grid::Rows);
                if many { out.many.push(dispatch) } else { out.few.push(dispatch) }
            }
        }
        Ok(())
    }

    fn norm_gated_linear(
        &mut self,
        place: &Place<'_>,
        step: &NormGatedLinear,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let (hidden, gated) = (self.program.sizes.hidden, self.program.sizes.gated);
        if !handed_on(self.program, place.before, Some((place.unit, place.step))) {
            let form = self.form(place.unit, place.step);
            out.few.push(self.prepare(place, form, Buffer::Hidden, Some((&step.norm, NormUse::Weights)), hidden)?);
        }
        let next = match place.after {
            Some((_, Step::LinearAdd(after))) if feeds(Some((place.unit, place.step)), after) => self.form_after(place),
            _ => Form::Nothing,
        };
        let group = self.weights.group(&group_of(place.unit, place.step));
        let (gate_bias, up_bias) = (self.bias(place.unit, &step.gate), self.bias(place.unit, &step.up));
        for part in &group.parts {
            let rows = part.matrices[0].rows.clone();
            let mut words = self.product(hidden, gated);
            words.read_norm(&step.norm, self.buffers.few(Buffer::Hidden), hidden);
            words.matrix(0, part, 0, rows.start, offset(gate_bias, rows.start), 0);
            words.matrix(1, part, 1, rows.start, offset(up_bias, rows.start), 0);
            words.no_matrix_from(2);
            words.next_units = (step.gate.outputs.div_ceil(UNIT)) as u32;
            let mode = match step.activation {
                Activation::Silu => Mode::GatedSilu,
                Activation::GeluTanh => Mode::GatedGelu,
            };
            let kernel = Matvec { mode, parts: 2, next, head: false };
            let coded =
                if next == Form::Nothing { &self.buffers.nothing } else { &self.buffers.few(Buffer::Gated).buffer };
            let io = (Buffer::Hidden, &self.buffers.gated, coded);
            let groups = rows.len().div_ceil(kernel.group_rows());
            out.few.push(self.matvec(place, &kernel, (part, 0..part.matrices.len()), &words, io, groups)?);
        }
        out.many.push(self.prepare_many(
            place,
            Buffer::Hidden,
            Some(&step.norm),
            hidden,
            self.form_of_many(place.unit, place.step),
        )?);
        let gate = match step.activation {
            Activation::Silu => Mode::GatedSilu,
            Activation::GeluTanh => Mode::GatedGelu,
        };
        for (which, bias, mode) in [(0, gate_bias, Mode::Store), (1, up_bias, gate)] {
            for part in &group.parts {
                let start = part.matrices[which].rows.start;
                let mut words = self.product(hidden, gated);
                words.matrix(0, part, which, start, offset(bias, start), 0);
                out.many.push(self.gemm(place, part, which, &words, mode, &self.buffers.gated, false)?);
            }
        }
        Ok(())
    }

    /// Gathers the rows that want logits and norms them; few of them in the form that the head reads.
    fn select_norm(&mut self, place: &Place<'_>, step: &Norm, out: &mut UnitDispatches) -> Result<(), BackendError> {
        if !matches!(place.before, Some((_, Step::Select))) {
            return Err(self.unsupported(place, "a norm that is not after a selection"));
        }
        let width = self.program.sizes.hidden;
        let norm = Some((step, NormUse::Whole));
        let form = if matches!(place.after, Some((_, Step::Head(_)))) { self.form_after(place) } else { Form::Floats };
        let few = self.prepare(place, form, Buffer::Selected, norm, width)?;
        out.few.push(few);
        let form = match place.after {
            Some((unit, head @ Step::Head(_))) => self.form_of_many(unit, head),
            _ => Form::Floats,
        };
        let many = self.prepare_many(place, Buffer::Selected, Some(step), width, form)?;
        out.many.push(many);
        Ok(())
    }

    fn head(&mut self, place: &Place<'_>, step: &Head, out: &mut UnitDispatches) -> Result<(), BackendError> {
        let sizes = self.program.sizes;
        let group = self.weights.group(&group_of(place.unit, place.step));
        let bias = self.bias(place.unit, &step.projection);
        for part in &group.parts {
            let start = part.matrices[0].rows.start;
            let mut words = self.product(sizes.hidden, sizes.vocabulary);
            words.matrix(0, part, 0, start, offset(bias, start), 0);
            words.no_matrix_from(1);
            words.soft_cap = step.soft_cap.unwrap_or(0.0);
            let kernel = Matvec { mode: Mode::Store, parts: 1, next: Form::Nothing, head: true };
            let io = (Buffer::Selected, &self.buffers.logits, &self.buffers.nothing);
            let groups = part.matrices[0].rows.len().div_ceil(FREE_ROWS);
            out.few.push(self.matvec(place, &kernel, (part, 0..part.matrices.len()), &words, io, groups)?);
            out.many.push(self.gemm(place, part, 0, &words, Mode::Store, &self.buffers.logits, true)?);
        }
        Ok(())
    }

    /// What the products of a step read.
    fn form(&self, unit: &Unit, step: &Step) -> Form {
        let group = self.weights.group(&group_of(unit, step));
        let coded = group.parts[0].matrices.iter().all(|piece| piece.layout.coded);
        if coded && self.gpu.info.integer_dot { Form::Codes } else { Form::Floats }
    }

    fn form_after(&self, place: &Place<'_>) -> Form {
        place.after.map_or(Form::Nothing, |(unit, step)| self.form(unit, step))
    }

    fn bias(&self, unit: &Unit, projection: &Projection) -> u32 {
        projection.bias.map_or(NONE, |slot| self.weights.vector(index(unit, slot)))
    }

    fn product(&self, inputs: usize, output_width: usize) -> ProductWords {
        ProductWords {
            units: inputs.div_ceil(UNIT) as u32,
            output_width: output_width as u32,
            ..ProductWords::default()
        }
    }

    fn matvec(
        &mut self,
        place: &Place<'_>,
        kernel: &Matvec,
        (part, matrices): (&Part, std::ops::Range<usize>),
        words: &ProductWords,
        (input, output, coded): (Buffer, &wgpu::Buffer, &wgpu::Buffer),
        groups: usize,
    ) -> Result<Dispatch, BackendError> {
        let form = self.form(place.unit, place.step);
        let params = parameters(self.gpu, &words.words())?;
        let accumulate = if form == Form::Codes { "matvec_codes.wgsl" } else { "matvec_values.wgsl" };
        let layouts: Vec<_> = part.matrices[matrices].iter().map(|piece| piece.layout).collect();
        let files = ["common.wgsl", accumulate, "matvec.wgsl", "encode.wgsl"];
        let source = Source::new(format!("{} with few rows", place.name), MATVEC, &files)
            .batched()
            .count("THREADS", (32 * kernel.group_rows()).min(self.gpu.info.threads_max))
            .count("GROUP_ROWS", kernel.group_rows())
            .count("MODE", kernel.mode as usize)
            .count("OUTPUT", kernel.next as usize)
            .count("PARTS", kernel.parts)
            .flag("HEAD", kernel.head)
            .formats(&layouts);
        let b = self.buffers;
        let inputs = &b.few(input).buffer;
        let buffers = [&part.buffer, &part.buffer, &params, &self.weights.vectors, &b.pass, inputs, output, coded];
        Ok(self.dispatch(place.name, source, &buffers, Grid::Fixed(groups as u32)))
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact about one product")]
    fn gemm(
        &mut self,
        place: &Place<'_>,
        part: &Part,
        which: usize,
        words: &ProductWords,
        mode: Mode,
        output: &wgpu::Buffer,
        head: bool,
    ) -> Result<Dispatch, BackendError> {
        let piece = &part.matrices[which];
        let b = self.buffers;
        let outputs = piece.rows.len();
        let name = format!("{} with many rows", place.name);
        if self.form_of_many(place.unit, place.step) == Form::Halves {
            let words = ProductWords { sums: self.row_scales() as u32, ..words.clone() };
            let params = parameters(self.gpu, &words.words())?;
            let source = Source::new(name, GEMM_MATRIX_UNITS, &["common.wgsl", "gemm_matrix_units.wgsl"])
                .matrix_units()
                .count("MODE", mode as usize)
                .flag("HEAD", head)
                .formats(&[piece.layout])
                .fetched(&piece.layout);
            let vectors = &self.weights.vectors;
            let buffers = [&part.buffer, &part.buffer, &params, vectors, &b.pass, &b.many, output, &b.many];
            let groups = outputs.div_ceil(128) as u32;
            let grid = if head { Grid::PerLogitBlock(groups) } else { Grid::PerRowBlock(groups) };
            return Ok(self.dispatch(place.name, source, &buffers, grid));
        }
        let params = parameters(self.gpu, &words.words())?;
        let source = Source::new(name, GEMM, &["common.wgsl", "gemm.wgsl"])
            .count("MODE", mode as usize)
            .flag("HEAD", head)
            .formats(&[piece.layout]);
        let buffers = [&part.buffer, &part.buffer, &params, &self.weights.vectors, &b.pass, &b.many, output];
        let groups = outputs.div_ceil(64) as u32;
        let grid = if head { Grid::PerLogitTile(groups) } else { Grid::PerRowTile(groups) };
        Ok(self.dispatch(place.name, source, &buffers, grid))
    }

    /// Inputs of a product with few rows from `from`; `Selected` is gathered from `Hidden` and kept.
    fn prepare(
        &mut self,
        place: &Place<'_>,
        form: Form,
        from: Buffer,
        norm: Option<(&Norm, NormUse)>,
        width: usize,
    ) -> Result<Dispatch, BackendError> {
        let few = self.buffers.few(from);
        let target = (&few.buffer, few.sums, few.sum_count);
        self.prepare_into(place, form, from, norm, width, target)
    }

    fn prepare_many(
        &mut self,
        place: &Place<'_>,
        from: Buffer,
        norm: Option<&Norm>,
        width: usize,
        form: Form,
    ) -> Result<Dispatch, BackendError> {
        let norm = norm.map(|norm| (norm, NormUse::Whole));
        self.prepare_into(place, form, from, norm, width, (&self.buffers.many, self.row_scales(), 0))
    }

    /// Word of `many` where the scales of rows of halves start.
    fn row_scales(&self) -> usize {
        self.buffers.many_row_scales
    }

    /// What the product of a step with many rows reads.
    fn form_of_many(&self, unit: &Unit, step: &Step) -> Form {
        let group = self.weights.group(&group_of(unit, step));
        // Numbers beyond half precision stay what they are.
        let halves = |piece: &crate::weights::Piece| !matches!(piece.layout.name, "f32" | "bf16");
        let all = group.parts[0].matrices.iter().all(halves);
        if all && self.gpu.info.matrix_units { Form::Halves } else { Form::Floats }
    }

    fn prepare_into(
        &mut self,
        place: &Place<'_>,
        form: Form,
        from: Buffer,
        norm: Option<(&Norm, NormUse)>,
        width: usize,
        (target, sums, sum_count): (&wgpu::Buffer, usize, usize),
    ) -> Result<Dispatch, BackendError> {
        let gathers = from == Buffer::Selected;
        let source_buffer = if gathers { Buffer::Hidden } else { from };
        let words = [
            width as u32,
            width.div_ceil(UNIT) as u32,
            norm.map_or(NONE, |(norm, _)| self.weights.vector(index(place.unit, norm.weight))),
            norm.map_or(0.0, |(norm, _)| norm.epsilon).to_bits(),
            self.program.buffer_width(source_buffer) as u32,
            sums as u32,
            sum_count as u32,
            0,
        ];
        let params = parameters(self.gpu, &words)?;
        let source = Source::new("prepare", PREPARE, &["pass.wgsl", "prepare.wgsl", "encode.wgsl"])
            .count("ROWS_MAX", self.rows_max)
            .count("LOGIT_ROWS_MAX", self.logit_rows_max)
            .count("OUTPUT", form as usize)
            .count("NORM", norm.map_or(0, |(_, how)| how as usize))
            .flag("GATHER", gathers)
            .flag("KEEP", gathers);
        let b = self.buffers;
        let kept = if gathers { &b.selected } else { &b.nothing };
        let buffers = [&b.pass, &params, &self.weights.vectors, b.get(source_buffer), target, kept];
        let grid = if gathers { Grid::LogitRows } else { Grid::Rows };
        Ok(self.dispatch(place.name, source, &buffers, grid))
    }

    /// Parameters of `heads.wgsl`.
    fn heads(&self, place: &Place<'_>, store: &RopeStore, attention: Option<&Attention>) -> [u32; 12] {
        // The attention of a layer may have another unit's slots; norms belong to the step that rotates.
        let norm = |norm: &Option<Norm>| {
            norm.as_ref()
                .map_or((NONE, 0.0), |norm| (self.weights.vector(index(place.unit, norm.weight)), norm.epsilon))
        };
        let ((query_norm, query_epsilon), (key_norm, key_epsilon)) = (norm(&store.query_norm), norm(&store.key_norm));
        let units = (store.heads * store.head_width).div_ceil(UNIT);
        [
            self.program.sizes.qkv as u32,
            query_norm,
            key_norm,
            query_epsilon.to_bits(),
            key_epsilon.to_bits(),
            self.kv.values_start(place.layer),
            attention.and_then(|attention| attention.window).unwrap_or(0),
            attention.map_or(1.0, |attention| attention.scale).to_bits(),
            attention.and_then(|attention| attention.soft_cap).unwrap_or(0.0).to_bits(),
            units as u32,
            self.program.sizes.attention as u32,
            0,
        ]
    }

    fn unsupported(&self, place: &Place<'_>, what: &'static str) -> BackendError {
        BackendError::Unsupported { backend: NAME, step: format!("{}.{}", place.unit.name, place.name), format: what }
    }
}

fn heads_source(
    name: &str,
    bindings: &'static [crate::shader::Binding],
    files: &[&'static str],
    store: &RopeStore,
    lowering: &Lowering<'_>,
) -> Source {
    Source::new(name, bindings, files)
        .count("ROWS_MAX", lowering.rows_max)
        .count("LOGIT_ROWS_MAX", lowering.logit_rows_max)
        .count("HEADS", store.heads)
        .count("KV_HEADS", store.kv_heads)
        .count("WIDTH", store.head_width)
        .count("PAIRS", store.rope.frequencies.len())
        .flag("INTERLEAVED", store.rope.kind == program::RopeKind::Interleaved)
}

fn index(unit: &Unit, slot: Slot) -> program::TensorIndex {
    unit.weights[slot.0 as usize]
}

/// The norm of a product's inputs.
fn norm_of(step: &Step) -> Option<&Norm> {
    match step {
        Step::NormLinear(step) => Some(&step.norm),
        Step::NormGatedLinear(step) => Some(&step.norm),
        _ => None,
    }
}

/// Whether the first of two steps writes the second's inputs along with the hidden rows.
fn handed_on(program: &Program, first: Option<(&Unit, &Step)>, second: Option<(&Unit, &Step)>) -> bool {
    let (Some((_, Step::LinearAdd(first))), Some((_, second))) = (first, second) else { return false };
    first.post_norm.is_none() && norm_of(second).is_some() && program.sizes.hidden.is_multiple_of(BLOCK_ROWS)
}

/// Whether the step before writes the inputs of `step`.
fn feeds(before: Option<(&Unit, &Step)>, step: &LinearAdd) -> bool {
    match before {
        Some((_, Step::NormGatedLinear(before))) => {
            step.input == Buffer::Gated && before.gate.outputs.is_multiple_of(BLOCK_ROWS)
        }
        Some((_, Step::Attention(before))) => step.input == Buffer::Attention && before.head_width.is_multiple_of(UNIT),
        _ => false,
    }
}

fn hands_on_attention(place: &Place<'_>, step: &Attention) -> bool {
    matches!(place.after, Some((_, Step::LinearAdd(after))) if after.input == Buffer::Attention)
        && step.head_width.is_multiple_of(UNIT)
}

/// Where a bias starts for a part of a matrix that begins at row `start`; NONE where there is none.
fn offset(bias: u32, start: usize) -> u32 {
    if bias == NONE { NONE } else { bias + start as u32 }
}

/// How `prepare.wgsl` uses a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NormUse {
    Weights = 1,
    Whole = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Store = 0,
    Add = 1,
    GatedSilu = 2,
    GatedGelu = 3,
}

struct Matvec {
    mode: Mode,
    /// Matrices that make one output together.
    parts: usize,
    next: Form,
    head: bool,
}

impl Matvec {
    /// Outputs of a workgroup.
    fn group_rows(&self) -> usize {
        if self.next == Form::Nothing { FREE_ROWS } else { BLOCK_ROWS }
    }
}

/// `Params` of `common.wgsl`.
#[derive(Clone, Debug, Default)]
struct ProductWords {
    matrices: [[u32; 8]; MATRICES],
    units: u32,
    output_width: u32,
    soft_cap: f32,
    norm_width: u32,
    norm_epsilon: f32,
    sums: u32,
    sum_count: u32,
    next_norm: u32,
    next_units: u32,
    next_sums: u32,
    next_sum_count: u32,
}

impl ProductWords {
    /// Puts matrix `which` of a part into place `at`; its rows make the outputs from `output` on.
    fn matrix(&mut self, at: usize, part: &Part, which: usize, output: usize, bias: u32, group: usize) {
        let piece = &part.matrices[which];
        let [codes, high, scales, supers] = piece.starts;
        self.matrices[at] = [codes, high, scales, supers, piece.rows.len() as u32, output as u32, bias, group as u32];
    }

    /// No workgroup is for the matrices from `at` on.
    fn no_matrix_from(&mut self, at: usize) {
        for matrix in &mut self.matrices[at..] {
            matrix[7] = u32::MAX;
        }
    }

    fn read_norm(&mut self, norm: &Norm, few: &Few, width: usize) {
        self.norm_width = width as u32;
        self.norm_epsilon = norm.epsilon;
        self.sums = few.sums as u32;
        self.sum_count = few.sum_count as u32;
    }

    fn hand_on(&mut self, norm: u32, few: &Few) {
        self.next_norm = norm;
        self.next_units = few.units as u32;
        self.next_sums = few.sums as u32;
        self.next_sum_count = few.sum_count as u32;
    }

    fn words(&self) -> Vec<u32> {
        let mut words: Vec<u32> = self.matrices.concat();
        words.extend([self.units, self.output_width, self.soft_cap.to_bits(), self.norm_width]);
        words.extend([self.norm_epsilon.to_bits(), self.sums, self.sum_count, self.next_norm]);
        words.extend([self.next_units, self.next_sums, self.next_sum_count, 0]);
        words
    }
}
