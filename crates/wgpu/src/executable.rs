//! A program compiled for one GPU: its memory, its dispatches, and what happens to it from upload to read-back.

use std::ops::Range;
use std::sync::Arc;

use program::{
    BackendError, Buffer, Drawn, KvPlan, LedgerRow, PassInput, Program, RowBucket, Segment, Step, TensorBytes,
    TensorIndex,
};

use crate::buffers::Buffers;
use crate::chain::{Chain, ChoiceBuffers, Chooser, Choosing};
use crate::clock::Clock;
use crate::device::{Gpu, NAME};
use crate::kv::KvPool;
use crate::lower::{Grid, Lowered, Lowering, UnitDispatches};
use crate::pass::{PassWords, Recorder, Shape, units_of};
use crate::read::Reader;
use crate::weights::Weights;
use program::input_check::{InputCheck, InputLimits, check};

/// See the module.
pub(crate) struct Executable {
    gpu: Arc<Gpu>,
    program: Arc<Program>,
    bucket: RowBucket,
    buffers: Buffers,
    weights: Weights,
    pool: Option<Pool>,
    checks: InputCheck,
    reader: Reader,
    words: PassWords,
    chain: Option<Chain>,
    clock: Option<Clock>,
    counters: Counters,
    /// How the last pass ran.
    last: Option<Shape>,
}

/// What is made for a pool of pages.
struct Pool {
    kv: KvPool,
    chooser: Chooser,
    /// Prologue, layers, epilogue.
    units: Vec<UnitDispatches>,
}

/// What passes cost since they were last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Passes that were submitted.
    pub passes: u64,
    /// Submissions to the queue, without those that read results back.
    pub submits: u64,
    /// Dispatches of all passes.
    pub dispatches: u64,
    /// Dispatches of layers, of all layers together.
    pub layer_dispatches: u64,
}

impl Executable {
    pub(crate) fn new(gpu: Arc<Gpu>, program: Arc<Program>, bucket: RowBucket) -> Result<Executable, BackendError> {
        check_heads(&program)?;
        let buffers = Buffers::new(&gpu, &program, bucket)?;
        let weights = Weights::new(&gpu, &program)?;
        Ok(Executable {
            gpu,
            words: PassWords::new(&program, bucket),
            program,
            bucket,
            buffers,
            weights,
            pool: None,
            checks: InputCheck::default(),
            reader: Reader::new(),
            chain: None,
            clock: None,
            last: None,
            counters: Counters::default(),
        })
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// The plan was checked.
    pub(crate) fn allocate(&mut self, plan: KvPlan) -> Result<(), BackendError> {
        self.chain = None;
        // The memory of an earlier pool is free before the new one is asked for.
        self.pool = None;
        let (gpu, program, buffers) = (&*self.gpu, &*self.program, &self.buffers);
        let kv = KvPool::new(gpu, program, plan)?;
        let choices = ChoiceBuffers::new(gpu, &kv)?;
        let mut kernels = gpu.kernels();
        let mut lowering = Lowering {
            gpu,
            program,
            rows_max: self.bucket.rows,
            logit_rows_max: self.bucket.logit_rows,
            buffers,
            weights: &self.weights,
            kernels: &mut kernels,
            kv: &kv,
            choices: &choices,
        };
        let Lowered { units, choose_and_embed } = lowering.run()?;
        let choices = (choices, choose_and_embed);
        let chooser = Chooser::new(gpu, program, self.bucket.rows, buffers, choices, &mut kernels);
        drop(kernels);
        self.pool = Some(Pool { kv, chooser, units });
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
        let units = self.check(segment, input)?;
        self.chain = None;
        let Some(pool) = self.pool.as_mut().filter(|_| input.rows() > 0) else { return Ok(()) };
        let last = input.positions.iter().max().map_or(0, |position| *position as usize + 1);
        pool.kv.fill_rotations(&self.gpu, last);
        let shape = self.words.write(&self.gpu, &self.buffers, input)?;
        self.last = Some(shape);
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let kernels = self.gpu.kernels();
        let recorder = Recorder::new(&self.gpu, &kernels, &pool.units, &units, (None, false), shape);
        self.counters += recorder.record(&mut encoder, &[shape], self.clock.as_mut());
        drop(kernels);
        if let Some(clock) = &self.clock {
            clock.resolve(&mut encoder);
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.counters.submits += 1;
        if let Some(clock) = &mut self.clock {
            clock.read(&self.gpu)?;
            units.iter().for_each(|unit| clock.count(&self.program, *unit, shape.rows));
        }
        self.gpu.check()
    }

    /// See [`program::Backend::greedy`] and [`program::Backend::draw`]; `numbers` are for draws.
    pub(crate) fn run_alone(
        &mut self,
        input: &PassInput<'_>,
        (count, ahead): (usize, usize),
        choosing: Choosing,
        numbers: &[f32],
    ) -> Result<Vec<Drawn>, BackendError> {
        check("rows of a pass that goes on by itself", input.rows() as u64, 1)?;
        let units = self.check(&Segment::whole(&self.program), input)?;
        check("passes", 1, count as u64)?;
        let first = (input.positions[0], input.tokens[0]);
        let pages = input.page_tables[input.sequences[0] as usize].pages.as_slice();
        let limit = (pages.len() * program::PAGE_ROWS).min(self.program.sizes.context);
        check("positions of the passes", u64::from(first.0) + count as u64, limit as u64)?;
        let pool = self.pool.as_ref().expect("pages that were checked come from a pool");
        if self.chain.as_ref().is_none_or(|chain| !chain.continues(choosing, first, pages)) {
            self.words.write_ahead(&self.gpu, &self.buffers, input)?;
            self.chain = Some(Chain::begin(&self.gpu, &pool.chooser, choosing, first, pages));
        }
        // Taken out, so that a chain that failed is gone.
        let mut chain = self.chain.take().expect("begun above");
        // The sequence may have grown since.
        self.words.write_further_pages(&self.gpu, &self.buffers, &chain.known_pages, pages)?;
        chain.known_pages = pages.to_vec();
        // A ledger waits for each submission.
        let most = count + if self.clock.is_some() { 0 } else { ahead };
        while chain.ready() < count {
            // Each submission is as long as what is under way, so that the device begins soon and then never waits.
            while chain.ahead() < most {
                let under_way = chain.ahead() - chain.ready();
                let positions = limit - (chain.position as usize + chain.ahead());
                let more = under_way.clamp(1, count).min(most - chain.ahead()).min(positions);
                let more = more.min(chain.room(&self.pool.as_ref().expect("as above").chooser));
                if more == 0 {
                    break;
                }
                self.submit_ahead(&mut chain, &units, more, pages, numbers)?;
            }
            check("passes to wait for", 1, (chain.ahead() - chain.ready()) as u64)?;
            chain.read(&self.gpu)?;
        }
        let found = chain.take(count);
        let vocabulary = self.program.sizes.vocabulary as u64;
        found.iter().try_for_each(|found| {
            check("token of logits that are no numbers", u64::from(found.token) + 1, vocabulary)
        })?;
        self.chain = Some(chain);
        Ok(found)
    }

    /// Submits `count` further passes of a chain.
    fn submit_ahead(
        &mut self,
        chain: &mut Chain,
        units: &[usize],
        count: usize,
        pages: &[u32],
        numbers: &[f32],
    ) -> Result<(), BackendError> {
        let pool = self.pool.as_mut().expect("a chain has a pool");
        let first = chain.position as usize + chain.ahead();
        pool.kv.fill_rotations(&self.gpu, first + count);
        let shapes: Vec<Shape> = (first..first + count).map(Shape::single).collect();
        let kernels = self.gpu.kernels();
        let chooser = Some((&pool.chooser, chain.choosing));
        let embedded = chain.is_under_way() && pool.chooser.embeds(chain.choosing);
        let recorder = Recorder::new(&self.gpu, &kernels, &pool.units, units, (chooser, embedded), shapes[0]);
        let descriptor = wgpu::CommandEncoderDescriptor { label: None };
        let mut encoder = self.gpu.device.create_command_encoder(&descriptor);
        self.counters += recorder.record(&mut encoder, &shapes, self.clock.as_mut());
        drop(kernels);
        if let Some(clock) = &self.clock {
            clock.resolve(&mut encoder);
        }
        let numbers = match chain.choosing {
            Choosing::Highest => &[],
            Choosing::Draw(_) => &numbers[chain.ahead()..chain.ahead() + count],
        };
        let known = &pages[..(first + count).div_ceil(program::PAGE_ROWS)];
        chain.submit(&self.gpu, &pool.chooser, encoder, (count, numbers), known)?;
        self.counters.submits += 1;
        if let Some(clock) = &mut self.clock {
            clock.read(&self.gpu)?;
            for unit in units {
                (0..count).for_each(|_| clock.count(&self.program, *unit, 1));
            }
            clock.count_choices(count);
        }
        Ok(())
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
        if buffer == Buffer::Selected {
            self.select();
        }
        self.reader.read(&self.gpu, self.buffers.get(buffer), 4 * (rows.start * width) as u64, into)
    }

    /// Selects the row of a pass of a single one, which hands it on to the head in another form.
    fn select(&self) {
        let (Some(pool), Some(shape)) = (&self.pool, self.last) else { return };
        let Some(epilogue) = pool.units.last().filter(|_| shape.is_single()) else { return };
        let kernels = self.gpu.kernels();
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for dispatch in epilogue.few.iter().filter(|dispatch| dispatch.grid == Grid::LogitRows) {
                pass.set_pipeline(kernels.pipeline(&self.gpu, dispatch.kernel, 1));
                pass.set_bind_group(0, &dispatch.bind, &[]);
                pass.dispatch_workgroups(1, 1, 1);
            }
        }
        self.gpu.queue.submit([encoder.finish()]);
    }

    pub(crate) fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    pub(crate) fn keep_ledger(&mut self, keep: bool) -> Result<(), BackendError> {
        self.clock = if keep { Clock::new(&self.gpu)? } else { None };
        Ok(())
    }

    pub(crate) fn take_ledger(&mut self) -> Vec<LedgerRow> {
        self.clock.as_mut().map(Clock::take).unwrap_or_default()
    }

    /// Checks a pass, and returns the indices of its units among prologue, layers and epilogue.
    fn check(&mut self, segment: &Segment, input: &PassInput<'_>) -> Result<Vec<usize>, BackendError> {
        let limits = InputLimits {
            rows: self.bucket.rows,
            logit_rows: self.bucket.logit_rows,
            layers: self.program.layers.len(),
            vocabulary: self.program.sizes.vocabulary,
            pages: self.pool.as_ref().map_or(0, |pool| pool.kv.page_count),
        };
        self.checks.check(segment, input, &limits)?;
        self.weights.settle();
        let units = units_of(segment, &self.program);
        for (_, unit) in self.program.units().enumerate().filter(|(index, _)| units.contains(index)) {
            if let Some(missing) = unit.weights.iter().find(|index| !self.weights.is_uploaded(**index)) {
                return Err(BackendError::MissingTensor { tensor: self.program.tensor(*missing).name.clone() });
            }
        }
        Ok(units)
    }
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.passes += other.passes;
        self.submits += other.submits;
        self.dispatches += other.dispatches;
        self.layer_dispatches += other.layer_dispatches;
    }
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
