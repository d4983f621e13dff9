//! A compiled program: its weights, pages and scratch, all allocated before the first pass.

use std::ops::Range;
use std::sync::Arc;

use program::cost::{StepCost, step_cost};
use program::{
    BackendError, Buffer, KvPlan, LedgerRow, PassInput, Program, RopeTable, RowBucket, Segment, Step, TensorBytes,
    TensorIndex, TensorSpec,
};

use crate::activations::{ActivationBlock, Outliers};
use crate::backend::Repack;
use crate::kernels::Kernels;
use crate::kernels::pack::Packer;
use crate::layout::{GROUP_ROWS, Layout};
use crate::matrix::{Matrix, Storage, resident_bytes};
use crate::memory::{Region, Shared, Use};
use crate::pages::Pages;
use crate::pass::landing::{Job, Landing, Pending};
use crate::pass::{HEAD_WIDTH_MAX, Pass, PassMemory, pack_rows, staging_bytes};
use crate::pool::Pool;
use program::input_check::{InputCheck, InputLimits, check};

/// What the steps use a tensor as, and what they use.
#[derive(Default)]
pub(crate) struct Weight {
    is_table: bool,
    is_matrix: bool,
    is_vector: bool,
    /// Rows to look up, as the file has them.
    pub(crate) table: Option<TensorBytes>,
    /// For products.
    pub(crate) matrix: Option<Matrix>,
    /// Norm weights and biases.
    pub(crate) vector: Option<Vec<f32>>,
    arena_at: usize,
}

/// Activation buffers of a pass.
pub(crate) struct Scratch {
    _region: Region,
    pub(crate) hidden: Shared<f32>,
    pub(crate) qkv: Shared<f32>,
    pub(crate) attention: Shared<f32>,
    pub(crate) gated: Shared<f32>,
    pub(crate) projected: Shared<f32>,
    pub(crate) selected: Shared<f32>,
    pub(crate) logits: Shared<f32>,
    /// Normed rows for kernels that read f32.
    pub(crate) plain: Shared<f32>,
    /// Quantised rows: (rows, widest input ÷ 32).
    pub(crate) codes: Shared<ActivationBlock>,
    /// Room for the list of their outliers.
    pub(crate) outliers: Shared<Outliers>,
    /// As `plain`, `codes` and `outliers`, one row for each thread, for passes of one row.
    pub(crate) own_plain: Shared<f32>,
    pub(crate) own_codes: Shared<ActivationBlock>,
    pub(crate) own_outliers: Shared<Outliers>,
    /// Cosines, then sines, of each rope table: (tables, rows, 2, pairs).
    pub(crate) rotations: Shared<f32>,
    /// Widest input of any product.
    pub(crate) input_width: usize,
}

/// See the module.
pub(crate) struct Executable {
    pub(crate) program: Arc<Program>,
    pub(crate) bucket: RowBucket,
    pub(crate) kernels: Kernels,
    pub(crate) weights: Vec<Weight>,
    pub(crate) pages: Option<Pages>,
    pub(crate) scratch: Scratch,
    /// Distinct rope tables; steps find theirs by equality at compile time.
    pub(crate) ropes: Vec<RopeTable>,
    /// For each template, the rope table of each step.
    pub(crate) rope_of: Vec<Vec<usize>>,
    /// For each template, what each step costs.
    pub(crate) costs: Vec<Vec<StepCost>>,
    pub(crate) rope_pairs: usize,
    pub(crate) ledger: Vec<LedgerRow>,
    pub(crate) memory: PassMemory,
    input_check: InputCheck,
    repack: Repack,
    /// Before the arena, which it writes to.
    landing: Landing,
    arena: Region,
    /// For each thread, room for two spans of groups that are packed or written out as they are used.
    staging: Region,
    /// Bytes of one of them.
    staging_bytes: usize,
    all_uploaded: bool,
}

impl Executable {
    pub(crate) fn new(
        program: Arc<Program>,
        bucket: RowBucket,
        kernels: Kernels,
        threads: usize,
        repack: Repack,
    ) -> Result<Executable, BackendError> {
        check_head_widths(&program)?;
        let (ropes, rope_of) = rope_tables(&program);
        let costs = step_costs(&program);
        let rope_pairs = ropes.iter().map(|rope| rope.frequencies.len()).max().unwrap_or(0);
        let mut weights: Vec<Weight> = program.tensors.iter().map(|_| Weight::default()).collect();
        mark_roles(&program, &mut weights);
        let (mut arena_end, mut staged) = (0, 0);
        for (weight, spec) in weights.iter_mut().zip(&program.tensors) {
            if weight.is_matrix {
                weight.arena_at = arena_end;
                arena_end += resident_bytes(spec).unwrap_or(0).next_multiple_of(64);
                if let Some(layout) = Layout::of(spec.format) {
                    let packed = layout.group_bytes(spec.columns);
                    staged = staged.max(staging_bytes(packed, packed));
                    if let Some(wide) = (kernels.products)(layout).wide {
                        staged = staged.max(staging_bytes(wide.column_bytes * spec.columns, packed));
                    }
                }
            }
        }
        let staged = staged.next_multiple_of(64);
        let scratch = Scratch::new(&program, bucket, threads, ropes.len() * rope_pairs)?;
        Ok(Executable {
            repack,
            landing: Landing::default(),
            // Kernels prefetch past the end of the last group, never read there.
            arena: Region::new(arena_end, Use::Dense, "weights")?,
            staging: Region::new(2 * threads * staged, Use::Dense, "weights that are prepared as they are used")?,
            staging_bytes: staged,
            program,
            bucket,
            kernels,
            weights,
            pages: None,
            scratch,
            ropes,
            rope_of,
            costs,
            rope_pairs,
            ledger: Vec::new(),
            memory: PassMemory::default(),
            input_check: InputCheck::default(),
            all_uploaded: false,
        })
    }

    pub(crate) fn allocate(&mut self, plan: KvPlan) -> Result<(), BackendError> {
        // The memory of an earlier pool is free before the new one is asked for.
        self.pages = None;
        self.pages = Some(Pages::new(&self.program.kv_shapes(), plan)?);
        Ok(())
    }

    pub(crate) fn upload(&mut self, tensor: TensorIndex, bytes: TensorBytes, pool: &Pool) -> Result<(), BackendError> {
        let spec = self.program.tensor(tensor);
        if bytes.len() != spec.bytes() {
            return Err(BackendError::TensorSize {
                tensor: spec.name.clone(),
                expected: spec.bytes(),
                actual: bytes.len(),
            });
        }
        let weight = &mut self.weights[tensor.0 as usize];
        if weight.is_vector {
            weight.vector = Some(decode(spec, &bytes));
        }
        if weight.is_matrix {
            let storage = match Layout::of(spec.format) {
                Some(layout) => {
                    let (arena, at) = (self.arena.shared(), weight.arena_at);
                    let packer = Packer::new(&self.kernels, layout, spec.row_bytes(), spec.columns);
                    let groups = spec.rows.div_ceil(GROUP_ROWS);
                    let put_off = self.repack != Repack::First && packer.is_fast();
                    let pending = put_off.then(|| Pending::new(bytes.clone(), packer));
                    match &pending {
                        None => pack_rows(pool, &packer, groups, &bytes, arena, at),
                        Some(pending) if self.repack == Repack::Behind => {
                            let release = !weight.is_table;
                            self.landing.push(Job { pending: pending.clone(), groups, arena, at, release })?;
                        }
                        Some(_) => {}
                    }
                    Storage::Packed { arena, at, layout, pending }
                }
                None => {
                    let bytes = bytes.clone();
                    Storage::Blocks { bytes, format: spec.format, row_bytes: spec.row_bytes() }
                }
            };
            let layout = Layout::of(spec.format).unwrap_or(Layout::F32);
            let products = (self.kernels.products)(layout);
            let matrix = Matrix { storage, rows: spec.rows, columns: spec.columns, products };
            weight.matrix = Some(matrix);
        }
        if weight.is_table {
            weight.table = Some(bytes);
        }
        Ok(())
    }

    /// Waits until all weights that are repacked behind the passes have been.
    pub(crate) fn settle(&mut self) -> Result<(), BackendError> {
        self.landing.settle()
    }

    /// Room for groups that are packed or written out as they are used, and the bytes of one span: (threads, 2, bytes).
    pub(crate) fn staging(&self) -> (Shared<u8>, usize) {
        (self.staging.shared(), self.staging_bytes)
    }

    /// Runs a segment. Outputs stay in scratch until the next pass.
    pub(crate) fn run(&mut self, segment: &Segment, input: &PassInput<'_>, pool: &Pool) -> Result<(), BackendError> {
        self.check_uploaded()?;
        let limits = InputLimits {
            rows: self.bucket.rows,
            logit_rows: self.bucket.logit_rows,
            layers: self.program.layers.len(),
            vocabulary: self.program.sizes.vocabulary,
            pages: self.pages.as_ref().map_or(0, |pages| pages.count),
        };
        self.input_check.check(segment, input, &limits)?;
        if input.rows() == 0 {
            return Ok(());
        }
        let memory = std::mem::take(&mut self.memory);
        let pass = Pass::new(self, segment, input, memory);
        pool.run(&|worker| pass.run(worker));
        let memory = pass.into_memory();
        self.note(memory.timings());
        self.memory = memory;
        Ok(())
    }

    pub(crate) fn read(&self, buffer: Buffer, rows: Range<usize>, into: &mut [f32]) -> Result<(), BackendError> {
        let width = self.program.buffer_width(buffer);
        let (shared, limit) = match buffer {
            Buffer::Hidden => (self.scratch.hidden, self.bucket.rows),
            Buffer::Qkv => (self.scratch.qkv, self.bucket.rows),
            Buffer::Attention => (self.scratch.attention, self.bucket.rows),
            Buffer::Gated => (self.scratch.gated, self.bucket.rows),
            Buffer::Selected => (self.scratch.selected, self.bucket.logit_rows),
            Buffer::Logits => (self.scratch.logits, self.bucket.logit_rows),
        };
        check("last row read", rows.end as u64, limit as u64)?;
        check("values asked for", (rows.len() * width) as u64, into.len() as u64)?;
        into[..rows.len() * width].copy_from_slice(shared.settled(rows.start * width, rows.len() * width));
        Ok(())
    }

    pub(crate) fn take_ledger(&mut self) -> Vec<LedgerRow> {
        std::mem::take(&mut self.ledger)
    }

    fn check_uploaded(&mut self) -> Result<(), BackendError> {
        if self.all_uploaded {
            return Ok(());
        }
        for (weight, spec) in self.weights.iter().zip(&self.program.tensors) {
            let missing = weight.is_table && weight.table.is_none()
                || weight.is_matrix && weight.matrix.is_none()
                || weight.is_vector && weight.vector.is_none();
            if missing {
                return Err(BackendError::MissingTensor { tensor: spec.name.clone() });
            }
        }
        self.landing.close();
        self.all_uploaded = true;
        Ok(())
    }

    fn note(&mut self, timings: &[LedgerRow]) {
        for row in timings {
            match self.ledger.iter_mut().find(|known| known.step == row.step) {
                Some(known) => {
                    known.calls += row.calls;
                    known.weight_bytes += row.weight_bytes;
                    known.multiply_adds += row.multiply_adds;
                    known.seconds += row.seconds;
                }
                None => self.ledger.push(row.clone()),
            }
        }
    }
}

fn decode(spec: &TensorSpec, bytes: &[u8]) -> Vec<f32> {
    let codec = spec.format.codec().expect("the program builder refuses formats without a codec");
    let mut values = vec![0.0; spec.rows * spec.columns];
    (codec.decode)(bytes, &mut values);
    values
}

/// Attention keeps a tile's outputs on the stack, which bounds the head width.
fn check_head_widths(program: &Program) -> Result<(), BackendError> {
    for unit in program.units() {
        for (name, step) in &program.template(unit).steps {
            if let Step::Attention(step) = step
                && step.head_width > HEAD_WIDTH_MAX
            {
                let step = format!("{}.{name} (heads of {}, at most {HEAD_WIDTH_MAX})", unit.name, step.head_width);
                return Err(BackendError::Unsupported {
                    backend: "cpu",
                    step,
                    format: "keys and values of any format",
                });
            }
        }
    }
    Ok(())
}

fn mark_roles(program: &Program, weights: &mut [Weight]) {
    for unit in program.units() {
        for (_, step) in &program.template(unit).steps {
            let index = |slot: &program::Slot| unit.weights[slot.0 as usize].0 as usize;
            if let Step::Embed(embed) = step {
                weights[index(&embed.table)].is_table = true;
            }
            for slot in step.matrices() {
                weights[index(&slot)].is_matrix = true;
            }
            for slot in step.vectors() {
                weights[index(&slot)].is_vector = true;
            }
        }
    }
}

/// What each step of each template costs, from any unit that uses it.
fn step_costs(program: &Program) -> Vec<Vec<StepCost>> {
    let mut costs = vec![Vec::new(); program.templates.len()];
    for unit in program.units() {
        let of = &mut costs[unit.template.0 as usize];
        if of.is_empty() {
            of.extend(program.template(unit).steps.iter().map(|(_, step)| step_cost(program, unit, step)));
        }
    }
    costs
}

/// Distinct rope tables, and which one each step of each template uses.
fn rope_tables(program: &Program) -> (Vec<RopeTable>, Vec<Vec<usize>>) {
    let mut ropes: Vec<RopeTable> = Vec::new();
    let mut of = Vec::new();
    for template in &program.templates {
        let mut indices = Vec::new();
        for (_, step) in &template.steps {
            let Step::RopeStore(step) = step else {
                indices.push(0);
                continue;
            };
            let index = ropes.iter().position(|rope| *rope == step.rope).unwrap_or_else(|| {
                ropes.push(step.rope.clone());
                ropes.len() - 1
            });
            indices.push(index);
        }
        of.push(indices);
    }
    (ropes, of)
}

impl Scratch {
    fn new(program: &Program, bucket: RowBucket, threads: usize, rotations: usize) -> Result<Scratch, BackendError> {
        let sizes = program.sizes;
        let rows = bucket.rows.max(bucket.logit_rows);
        let input_width = program
            .units()
            .flat_map(|unit| {
                program.template(unit).steps.iter().flat_map(|(_, step)| step.matrices()).map(move |s| (unit, s))
            })
            .map(|(unit, slot)| program.weight(unit, slot).columns)
            .max()
            .unwrap_or(0)
            .next_multiple_of(32);
        let blocks = input_width / 32;
        let block_floats = size_of::<ActivationBlock>() / size_of::<f32>();
        let outlier_floats = Outliers::room(blocks) * (size_of::<Outliers>() / size_of::<f32>());
        let lengths = [
            rows * sizes.hidden,
            rows * sizes.qkv,
            rows * sizes.attention,
            rows * sizes.gated.next_multiple_of(GROUP_ROWS),
            rows * sizes.hidden,
            bucket.logit_rows * sizes.hidden,
            bucket.logit_rows * sizes.vocabulary,
            rows * input_width,
            rows * blocks * block_floats,
            rows * outlier_floats,
            threads * input_width,
            threads * blocks * block_floats,
            threads * outlier_floats,
            2 * rows * rotations,
        ];
        let mut ends = [0; 14];
        let mut end = 0;
        for (slot, length) in ends.iter_mut().zip(lengths) {
            // Rows of different threads never share a cache line with another buffer.
            end += length.next_multiple_of(16);
            *slot = end;
        }
        let region = Region::new(end * size_of::<f32>(), Use::Sparse, "activations")?;
        let all: Shared<f32> = region.shared();
        let part = |index: usize| all.part(if index == 0 { 0 } else { ends[index - 1] }, lengths[index]);
        Ok(Scratch {
            hidden: part(0),
            qkv: part(1),
            attention: part(2),
            gated: part(3),
            projected: part(4),
            selected: part(5),
            logits: part(6),
            plain: part(7),
            codes: part(8).records(),
            outliers: part(9).records(),
            own_plain: part(10),
            own_codes: part(11).records(),
            own_outliers: part(12).records(),
            rotations: part(13),
            input_width,
            _region: region,
        })
    }
}
