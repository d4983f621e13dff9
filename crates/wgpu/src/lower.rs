//! From steps to dispatches: what each step of a program becomes, for passes of few rows and of many.
//!
//! With few rows, products are sums over weights (`matvec.wgsl`) and hand their outputs on in the form in which the next
//! product reads them; that makes five or six dispatches a layer. With many rows, inputs are prepared by a dispatch of their
//! own and products are tiled.

use program::{Attention, BackendError, Buffer, LinearAdd, Norm, Program, Projection, Slot, Step, Unit};

use crate::buffers::Buffers;
use crate::chain::ChoiceBuffers;
use crate::device::{Gpu, NAME};
use crate::kv::KvPool;
use crate::planes::UNIT;
use crate::shader::{KernelId, Kernels, Source};
use crate::weights::{Weights, group_of};

mod embedding;
mod heads;
mod kernels;
mod steps;

/// One dispatch of a pass.
pub(crate) struct Dispatch {
    /// The step's short name, for the ledger.
    pub(crate) step: &'static str,
    pub(crate) kernel: KernelId,
    pub(crate) bind: wgpu::BindGroup,
    /// Parameters, which travel with the commands; none where the kernel has constants instead.
    pub(crate) words: Box<[u32]>,
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
    /// A single row that wants logits; or any others.
    Single,
    NotSingle,
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
    pub(crate) choices: &'a ChoiceBuffers,
}

/// What a program becomes.
pub(crate) struct Lowered {
    /// Dispatches of the prologue, the layers and the epilogue.
    pub(crate) units: Vec<UnitDispatches>,
    /// The choice of the token with the highest logit, and the next pass's prologue with it, if one dispatch can do both.
    pub(crate) choose_and_embed: Option<Dispatch>,
}

/// A step with its neighbours in the order of the whole program.
struct Place<'p> {
    unit: &'p Unit,
    /// Number of the unit among prologue, layers and epilogue.
    number: usize,
    name: &'static str,
    step: &'p Step,
    before: Option<(&'p Unit, &'p Step)>,
    after: Option<(&'p Unit, &'p Step)>,
    /// Number of the unit of the step after.
    number_after: usize,
}

impl Place<'_> {
    /// Index of the layer; meaningless elsewhere.
    fn layer(&self) -> usize {
        self.number.saturating_sub(1)
    }
}

impl Lowering<'_> {
    pub(crate) fn run(&mut self) -> Result<Lowered, BackendError> {
        let program = self.program;
        let steps: Vec<(usize, &Unit, &'static str, &Step)> = program
            .units()
            .enumerate()
            .flat_map(|(index, unit)| {
                program.template(unit).steps.iter().map(move |(name, step)| (index, unit, *name, step))
            })
            .collect();
        let mut units: Vec<UnitDispatches> = program.units().map(|_| UnitDispatches::default()).collect();
        let mut choose_and_embed = None;
        for (position, (index, unit, name, step)) in steps.iter().enumerate() {
            let neighbour =
                |at: Option<usize>| at.and_then(|at| steps.get(at)).map(|(_, unit, _, step)| (*unit, *step));
            let place = Place {
                unit,
                number: *index,
                name,
                step,
                before: neighbour(position.checked_sub(1)),
                after: neighbour(Some(position + 1)),
                number_after: steps.get(position + 1).map_or(*index, |(index, ..)| *index),
            };
            self.step(&place, &mut units[*index])?;
            if position == 0 {
                choose_and_embed = self.choose_and_embed(&place, self.choices);
            }
        }
        Ok(Lowered { units, choose_and_embed })
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

    fn dispatch(
        &mut self,
        step: &'static str,
        source: Source,
        words: &[u32],
        buffers: &[wgpu::BufferBinding<'_>],
        grid: Grid,
    ) -> Dispatch {
        let kernel = self.kernels.kernel(self.gpu, source);
        let bind = self.kernels.bind(self.gpu, kernel, buffers);
        Dispatch { step, kernel, bind, words: words.into(), grid, when: When::Always }
    }

    /// What the products of a step read.
    fn form(&self, unit: &Unit, step: &Step) -> Form {
        let group = self.weights.group(&group_of(unit, step));
        let coded = group.parts[0].matrices.iter().all(|piece| piece.layout.coded);
        if coded && self.gpu.info.integer_dot { Form::Codes } else { Form::Floats }
    }

    /// What the product of a step with many rows reads.
    fn form_of_many(&self, unit: &Unit, step: &Step) -> Form {
        let group = self.weights.group(&group_of(unit, step));
        // Numbers beyond half precision stay what they are.
        let halves = |piece: &crate::weights::Piece| !matches!(piece.layout.name, "f32" | "bf16");
        let all = group.parts[0].matrices.iter().all(halves);
        if all && self.gpu.info.matrix_units { Form::Halves } else { Form::Floats }
    }

    fn form_after(&self, place: &Place<'_>) -> Form {
        place.after.map_or(Form::Nothing, |(unit, step)| self.form(unit, step))
    }

    fn bias(&self, place: &Place<'_>, projection: &Projection) -> u32 {
        projection.bias.map_or(NONE, |slot| self.vector(place, slot))
    }

    /// Where a vector of the unit starts, for kernels of that unit.
    fn vector(&self, place: &Place<'_>, slot: Slot) -> u32 {
        self.weights.vector(place.number, (place.number, index(place.unit, slot)))
    }

    fn unsupported(&self, place: &Place<'_>, what: &'static str) -> BackendError {
        BackendError::Unsupported { backend: NAME, step: format!("{}.{}", place.unit.name, place.name), format: what }
    }
}

/// A buffer as a kernel sees all of it.
fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    buffer.as_entire_buffer_binding()
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
    first.post_norm.is_none() && norm_of(second).is_some() && program.sizes.hidden.is_multiple_of(UNIT)
}

/// What the last layer hands its row on to, if a pass is a single row that wants logits: the norm of the epilogue and the
/// head after it.
fn head_fed(program: &Program) -> Option<(&Unit, &Norm, &Step)> {
    let epilogue = &program.epilogue;
    let [(_, Step::Select), (_, Step::Norm(norm)), (_, head @ Step::Head(_))] = &program.template(epilogue).steps[..]
    else {
        return None;
    };
    let last = program.template(program.layers.last()?).steps.last();
    let feeds = matches!(last, Some((_, Step::LinearAdd(last))) if last.post_norm.is_none());
    (feeds && program.sizes.hidden.is_multiple_of(UNIT)).then_some((epilogue, norm, head))
}

/// Whether the step before writes the inputs of `step`.
fn feeds(before: Option<(&Unit, &Step)>, step: &LinearAdd) -> bool {
    match before {
        Some((_, Step::NormGatedLinear(before))) => {
            step.input == Buffer::Gated && before.gate.outputs.is_multiple_of(UNIT)
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
