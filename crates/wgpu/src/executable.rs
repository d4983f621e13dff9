//! A program compiled for one GPU: its memory, its dispatches, and passes of it.

use std::ops::Range;
use std::sync::Arc;

use program::{
    BackendError, Buffer, KvPlan, LedgerRow, PassInput, Program, RowBucket, Segment, Step, TensorBytes, TensorIndex,
};

use crate::buffers::{Buffers, HEADER, SPLITS_MAX, TILE_ROWS, pages_max};
use crate::device::{Gpu, NAME};
use crate::input_check::{InputCheck, InputLimits, check};
use crate::kv::KvPool;
use crate::lower::{Dispatch, Grid, Lowering, UnitDispatches, When};
use crate::read::Reader;
use crate::shader::{FEW_ROWS, Kernels};
use crate::weights::Weights;

/// Positions of a row that one workgroup attends to before they are split.
const SPLIT_POSITIONS: usize = 256;

/// See the module.
pub(crate) struct Executable {
    gpu: Arc<Gpu>,
    program: Arc<Program>,
    bucket: RowBucket,
    buffers: Buffers,
    weights: Weights,
    kv: Option<KvPool>,
    /// Prologue, layers, epilogue.
    units: Vec<UnitDispatches>,
    checks: InputCheck,
    reader: Reader,
    /// The words of the pass, kept from pass to pass.
    words: Vec<u32>,
    tiles: Vec<[u32; 2]>,
    counters: Counters,
}

/// What passes cost since they were last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Passes that were submitted.
    pub passes: u64,
    /// Submissions to the queue.
    pub submits: u64,
    /// Dispatches of all.
    pub dispatches: u64,
    /// Dispatches of layers, of all layers together.
    pub layer_dispatches: u64,
}

/// How a pass runs.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    logit_rows: usize,
    /// Workgroups that share a row's positions.
    splits: usize,
    tiles: usize,
    /// Each row is of another sequence.
    apart: bool,
}

impl Executable {
    pub(crate) fn new(gpu: Arc<Gpu>, program: Arc<Program>, bucket: RowBucket) -> Result<Executable, BackendError> {
        check_heads(&program)?;
        let buffers = Buffers::new(&gpu, &program, bucket)?;
        let weights = Weights::new(&gpu, &program)?;
        let reader = Reader::new();
        Ok(Executable {
            gpu,
            program,
            bucket,
            buffers,
            weights,
            kv: None,
            units: Vec::new(),
            checks: InputCheck::default(),
            reader,
            words: Vec::new(),
            tiles: Vec::new(),
            counters: Counters::default(),
        })
    }

    pub(crate) fn allocate(&mut self, plan: KvPlan) -> Result<(), BackendError> {
        self.units.clear();
        self.kv = None;
        let kv = KvPool::new(&self.gpu, &self.program, plan)?;
        let mut kernels = self.gpu.kernels();
        let mut lowering = Lowering {
            gpu: &self.gpu,
            program: &self.program,
            rows_max: self.bucket.rows,
            logit_rows_max: self.bucket.logit_rows,
            buffers: &self.buffers,
            weights: &self.weights,
            kernels: &mut kernels,
            kv: &kv,
        };
        self.units = lowering.run()?;
        drop(kernels);
        self.kv = Some(kv);
        self.gpu.check()
    }

    pub(crate) fn upload(&mut self, tensor: TensorIndex, bytes: &TensorBytes) -> Result<(), BackendError> {
        check("tensor", u64::from(tensor.0) + 1, self.program.tensors.len() as u64)?;
        let spec = self.program.tensor(tensor);
        if bytes.len() != spec.bytes() {
            return Err(BackendError::TensorSize {
                tensor: spec.name.clone(),
                expected: spec.bytes(),
                actual: bytes.len(),
            });
        }
        self.weights.upload(&self.gpu, spec, tensor, bytes)
    }

    pub(crate) fn submit(&mut self, segment: &Segment, input: &PassInput<'_>) -> Result<(), BackendError> {
        let pages = self.kv.as_ref().map_or(0, |kv| kv.page_count);
        let limits = InputLimits {
            rows: self.bucket.rows,
            logit_rows: self.bucket.logit_rows,
            layers: self.program.layers.len(),
            vocabulary: self.program.sizes.vocabulary,
            pages,
        };
        self.checks.check(segment, input, &limits)?;
        let units = units_of(segment, &self.program);
        self.check_uploaded(&units)?;
        if input.rows() == 0 {
            return Ok(());
        }
        let shape = self.write_pass(input)?;
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        {
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: None });
            let gpu = Arc::clone(&self.gpu);
            let kernels = gpu.kernels();
            for unit in units {
                self.record(&mut pass, &kernels, unit, shape);
            }
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.counters.passes += 1;
        self.counters.submits += 1;
        self.gpu.check()
    }

    pub(crate) fn read(&mut self, buffer: Buffer, rows: Range<usize>, into: &mut [f32]) -> Result<(), BackendError> {
        let width = self.program.buffer_width(buffer);
        let count = match buffer {
            Buffer::Selected | Buffer::Logits => self.bucket.logit_rows,
            Buffer::Hidden | Buffer::Qkv | Buffer::Attention | Buffer::Gated => self.bucket.rows,
        };
        check("end of the rows to read", rows.end as u64, count as u64)?;
        check("start of the rows to read", rows.start as u64, rows.end as u64)?;
        if into.len() != rows.len() * width {
            let (value, limit) = (into.len() as u64, (rows.len() * width) as u64);
            return Err(BackendError::InvalidPass { what: "length of the slice to read into", value, limit });
        }
        self.reader.read(&self.gpu, self.buffers.get(buffer), 4 * (rows.start * width) as u64, into)
    }

    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.gpu.wait()
    }

    pub(crate) fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    pub(crate) fn take_ledger(&mut self) -> Vec<LedgerRow> {
        Vec::new()
    }

    fn check_uploaded(&self, units: &[usize]) -> Result<(), BackendError> {
        for (_, unit) in self.program.units().enumerate().filter(|(index, _)| units.contains(index)) {
            if let Some(missing) = unit.weights.iter().find(|index| !self.weights.is_uploaded(**index)) {
                return Err(BackendError::MissingTensor { tensor: self.program.tensor(*missing).name.clone() });
            }
        }
        Ok(())
    }

    /// Writes what changes from pass to pass.
    fn write_pass(&mut self, input: &PassInput<'_>) -> Result<Shape, BackendError> {
        let last = input.positions.iter().max().map_or(0, |position| *position as usize + 1);
        self.kv.as_mut().expect("checked pages come from a pool").fill_rotations(&self.gpu, last);
        let rows = input.rows();
        let splits = if rows > FEW_ROWS { 1 } else { last.div_ceil(SPLIT_POSITIONS).clamp(1, SPLITS_MAX) };
        let words = &mut self.words;
        words.clear();
        words.extend([rows as u32, input.logit_rows.len() as u32, splits as u32, 0]);
        debug_assert_eq!(words.len(), HEADER);
        let pad = |words: &mut Vec<u32>, start: usize, count: usize| words.resize(start + count, 0);
        for values in [input.tokens, input.positions] {
            let start = words.len();
            words.extend_from_slice(values);
            pad(words, start, self.bucket.rows);
        }
        let mut starts = Vec::with_capacity(input.page_tables.len());
        let mut pages = 0;
        for (sequence, table) in input.page_tables.iter().enumerate() {
            starts.push(pages as u32);
            let positions =
                input.sequences.iter().zip(input.positions).filter(|(index, _)| **index as usize == sequence);
            let used = positions.map(|(_, position)| *position as usize / program::PAGE_ROWS + 1).max().unwrap_or(0);
            pages += used.min(table.pages.len());
        }
        check("pages of all sequences of a pass", pages as u64, pages_max(&self.program, self.bucket) as u64)?;
        let start = words.len();
        words.extend(input.sequences.iter().map(|sequence| starts[*sequence as usize]));
        pad(words, start, self.bucket.rows);
        let start = words.len();
        words.extend_from_slice(input.logit_rows);
        pad(words, start, self.bucket.logit_rows);
        for (sequence, table) in input.page_tables.iter().enumerate() {
            let end = starts.get(sequence + 1).map_or(pages, |next| *next as usize);
            words.extend_from_slice(&table.pages[..end - starts[sequence] as usize]);
        }
        self.gpu.queue.write_buffer(&self.buffers.pass, 0, bytemuck::cast_slice(words));
        if rows > FEW_ROWS {
            self.find_tiles(input);
            self.gpu.queue.write_buffer(&self.buffers.tiles, 0, bytemuck::cast_slice(&self.tiles));
        }
        let mut seen = vec![false; input.page_tables.len()];
        let apart = input.sequences.iter().all(|sequence| !std::mem::replace(&mut seen[*sequence as usize], true));
        Ok(Shape { rows, logit_rows: input.logit_rows.len(), splits, tiles: self.tiles.len(), apart })
    }

    /// Runs of rows of one sequence, cut into tiles.
    fn find_tiles(&mut self, input: &PassInput<'_>) {
        self.tiles.clear();
        for (row, sequence) in input.sequences.iter().enumerate() {
            match self.tiles.last_mut() {
                Some([first, count])
                    if input.sequences[*first as usize] == *sequence && (*count as usize) < TILE_ROWS =>
                {
                    *count += 1;
                }
                _ => self.tiles.push([row as u32, 1]),
            }
        }
    }

    fn record(&mut self, pass: &mut wgpu::ComputePass<'_>, kernels: &Kernels, unit: usize, shape: Shape) {
        let is_epilogue = unit + 1 == self.units.len();
        let rows = if is_epilogue { shape.logit_rows } else { shape.rows };
        if rows == 0 {
            return;
        }
        let dispatches = &self.units[unit];
        let list = if rows <= FEW_ROWS { &dispatches.few } else { &dispatches.many };
        for dispatch in list.iter().filter(|dispatch| applies(dispatch.when, shape)) {
            let (x, y, z) = workgroups(dispatch.grid, shape);
            pass.set_pipeline(kernels.pipeline(&self.gpu, dispatch.kernel, rows));
            pass.set_bind_group(0, &dispatch.bind, &[]);
            pass.dispatch_workgroups(x, y, z);
            self.counters.dispatches += 1;
            self.counters.layer_dispatches += u64::from(unit > 0 && !is_epilogue);
        }
    }
}

fn applies(when: When, shape: Shape) -> bool {
    let split = shape.splits > 1;
    match when {
        When::Always => true,
        When::Shared => !shape.apart,
        When::Apart { split: wanted } => shape.apart && wanted == split,
        When::Together { split: wanted } => !shape.apart && wanted == split,
        When::Split => split,
    }
}

fn workgroups(grid: Grid, shape: Shape) -> (u32, u32, u32) {
    let (rows, logit_rows) = (shape.rows as u32, shape.logit_rows as u32);
    match grid {
        Grid::Fixed(count) => (count, 1, 1),
        Grid::Rows => (rows, 1, 1),
        Grid::LogitRows => (logit_rows, 1, 1),
        Grid::PerRow(count) => (count, rows, 1),
        Grid::PerSplit(count) => (count, rows, shape.splits as u32),
        Grid::PerTile(count) => (shape.tiles as u32, count, 1),
        Grid::PerRowTile(count) => (count, rows.div_ceil(64), 1),
        Grid::PerLogitTile(count) => (count, logit_rows.div_ceil(64), 1),
    }
}

/// Indices of a segment's units among prologue, layers and epilogue.
fn units_of(segment: &Segment, program: &Program) -> Vec<usize> {
    let prologue = segment.prologue.then_some(0);
    let epilogue = segment.epilogue.then_some(program.layers.len() + 1);
    prologue.into_iter().chain(segment.layers.clone().map(|layer| layer + 1)).chain(epilogue).collect()
}

/// Heads that the kernels cannot share among lanes.
fn check_heads(program: &Program) -> Result<(), BackendError> {
    for unit in program.units() {
        for (name, step) in &program.template(unit).steps {
            if let Step::RopeStore(step) = step
                && (!step.head_width.is_multiple_of(8) || step.head_width > 512)
            {
                return Err(BackendError::Unsupported {
                    backend: NAME,
                    step: format!("{}.{name}", unit.name),
                    format: "heads whose width is not a multiple of 8, or over 512",
                });
            }
        }
    }
    Ok(())
}

/// One dispatch's step, for the ledger.
pub(crate) fn step_of(dispatch: &Dispatch) -> &'static str {
    dispatch.step
}
