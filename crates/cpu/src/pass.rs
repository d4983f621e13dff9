//! One pass: every thread walks the same phases and takes chunks of each one's work until all of it is done.
//!
//! A phase waits for work, never for a thread: a thread whose core was taken by another process holds nobody up unless
//! it is in the middle of a chunk, and finds later that its phases were done by others.
//!
//! A phase may be led by a preparation of rows, shared out as well: whoever needs a panel of rows waits for that panel,
//! and nobody for all of them.
//!
//! The contract of all unsafe code here: each chunk of a phase is claimed once, chunks write disjoint parts, and nobody
//! reads what their own phase writes, but for rows that led it, once their panels are ready. A thread reads only between
//! claiming a chunk and finishing it, while no later phase can have begun.

mod attend;
mod input;
pub(crate) mod landing;
mod panels;
mod product;
mod rope;
mod rows;
mod store;
mod sweep;
#[cfg(test)]
mod tests;

pub(crate) use attend::HEAD_WIDTH_MAX;
pub(crate) use sweep::staging_bytes;

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use program::cost::StepCost;
use program::{Buffer, LedgerRow, PassInput, Program, Segment, Step, Unit};

use crate::executable::Executable;
use crate::kernels::pack::Packer;
use crate::matrix::Matrix;
use crate::memory::Shared;
use crate::pages::Pages;
use crate::pass::attend::TileMemory;
use crate::pass::landing::pack_into;
use crate::pass::panels::{Led, Panels};
use crate::pass::rows::NormedSum;
use crate::pool::{Pool, Worker};

/// Repacks a matrix into the arena, groups of rows in parallel.
pub(crate) fn pack_rows(pool: &Pool, packer: &Packer, groups: usize, bytes: &[u8], arena: Shared<u8>, at: usize) {
    let next = AtomicUsize::new(0);
    let chunk = ((1 << 20) / packer.group_bytes()).max(1);
    pool.run(&|_| {
        loop {
            let first = next.fetch_add(chunk, Ordering::Relaxed);
            if first >= groups {
                break;
            }
            // SAFETY: each group is claimed once, and no pass runs during an upload.
            unsafe { pack_into(packer, bytes, first..groups.min(first + chunk), arena, at) };
        }
    });
}

/// A pass in progress; see the module for what makes sharing it sound.
pub(crate) struct Pass<'p> {
    exe: &'p Executable,
    segment: &'p Segment,
    input: &'p PassInput<'p>,
    /// What was claimed and what was finished of each phase.
    phases: Vec<PhaseCounters>,
    panels: Panels,
    /// Rows of one sequence that follow each other: first row and count.
    runs: Vec<(usize, usize)>,
    /// Written by thread 0 alone.
    timings: UnsafeCell<Vec<LedgerRow>>,
}

/// What a pass keeps its books in, kept from pass to pass so that none allocates.
#[derive(Default)]
pub(crate) struct PassMemory {
    phases: Vec<PhaseCounters>,
    panels: Panels,
    runs: Vec<(usize, usize)>,
    timings: Vec<LedgerRow>,
}

impl PassMemory {
    /// Wall time and cost of each step of the pass, in order.
    pub(crate) fn timings(&self) -> &[LedgerRow] {
        &self.timings
    }
}

/// Progress of one phase, in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct PhaseCounters {
    claimed: AtomicUsize,
    /// Only counted of phases that are waited for as a whole.
    finished: AtomicUsize,
}

// SAFETY: `timings` is touched by thread 0 alone during a run; all else is read-only or atomic.
unsafe impl Sync for Pass<'_> {}

/// Phases and preparations that a step takes at most.
const PHASES_PER_STEP: usize = 3;
/// And the pass besides: rotations, and the last layer's normed sum.
const OTHER_PHASES: usize = 2;

/// A thread's walk through a pass.
struct Walk<'p> {
    pass: &'p Pass<'p>,
    worker: Worker<'p>,
    phase: usize,
    /// Preparations of rows so far.
    led: usize,
    /// What is still to be added to the hidden rows.
    owed: Option<NormedSum<'p>>,
    /// Decoded columns of matrices that stay in place: one buffer for each of a pair.
    columns: [Vec<f32>; 2],
    tile: TileMemory,
    started: Option<Instant>,
}

impl<'p> Pass<'p> {
    pub(crate) fn new(
        exe: &'p Executable,
        segment: &'p Segment,
        input: &'p PassInput<'p>,
        memory: PassMemory,
    ) -> Pass<'p> {
        let PassMemory { mut phases, mut panels, mut runs, mut timings } = memory;
        let steps: usize = exe.program.units().map(|unit| exe.program.template(unit).steps.len()).sum();
        phases.iter_mut().for_each(|phase| *phase = PhaseCounters::default());
        phases.resize_with(steps * PHASES_PER_STEP + OTHER_PHASES, PhaseCounters::default);
        panels.clear(input.rows().max(input.logit_rows.len()));
        runs.clear();
        for row in 0..input.rows() {
            match runs.last_mut() {
                Some((first, count)) if input.sequences[*first] == input.sequences[row] => *count += 1,
                _ => runs.push((row, 1)),
            }
        }
        timings.clear();
        timings.reserve(steps);
        Pass { exe, segment, input, phases, panels, runs, timings: UnsafeCell::new(timings) }
    }

    /// Runs the segment on one thread of the pool.
    pub(crate) fn run(&self, worker: Worker<'_>) {
        let started = (worker.index == 0).then(Instant::now);
        let (columns, tile) = ([Vec::new(), Vec::new()], TileMemory::EMPTY);
        let mut walk = Walk { pass: self, worker, phase: 0, led: 0, owed: None, columns, tile, started };
        let program = &*self.exe.program;
        let rows = self.input.rows();
        walk.rotations();
        if self.segment.prologue {
            walk.unit(program, &program.prologue, 0, rows);
        }
        for layer in self.segment.layers.clone() {
            walk.unit(program, &program.layers[layer], layer, rows);
        }
        walk.settle();
        if self.segment.epilogue && !self.input.logit_rows.is_empty() {
            walk.unit(program, &program.epilogue, 0, self.input.logit_rows.len());
        }
    }

    pub(crate) fn into_memory(self) -> PassMemory {
        PassMemory { phases: self.phases, panels: self.panels, runs: self.runs, timings: self.timings.into_inner() }
    }

    fn pages(&self) -> &Pages {
        self.exe.pages.as_ref().expect("the input check refuses passes without pages")
    }

    fn matrix(&self, unit: &Unit, slot: program::Slot) -> &Matrix {
        self.exe.weights[unit.weights[slot.0 as usize].0 as usize].matrix.as_ref().expect("checked before the pass")
    }

    fn vector(&self, unit: &Unit, slot: program::Slot) -> &[f32] {
        self.exe.weights[unit.weights[slot.0 as usize].0 as usize].vector.as_ref().expect("checked before the pass")
    }
}

impl<'p> Walk<'p> {
    /// `rows` is how many rows the unit's steps compute.
    fn unit(&mut self, program: &'p Program, unit: &'p Unit, layer: usize, rows: usize) {
        let (steps, template, exe) = (&program.template(unit).steps, unit.template.0 as usize, self.pass.exe);
        let costs = &exe.costs[template];
        let mut roped = Led::NOTHING;
        let mut index = 0;
        while index < steps.len() {
            let (mut name, mut cost) = (steps[index].0, costs[index]);
            let step = &steps[index].1;
            match step {
                Step::Embed(step) => self.embed(unit, step),
                Step::NormLinear(step) => self.norm_linear(unit, step),
                Step::RopeStore(step) => {
                    let rope = self.rope(unit, step, exe.rope_of[template][index], layer);
                    match steps.get(index + 1) {
                        Some((next, Step::Attention(step))) if self.attends_by_head(rope, step) => {
                            self.rope_and_attention(rope, step);
                            index += 1;
                            name = next;
                            cost.weight_bytes += costs[index].weight_bytes;
                        }
                        Some((_, Step::Attention(_))) => roped = self.rope_store(rope),
                        _ => {
                            let led = self.rope_store(rope);
                            self.wait_for(led, 0..rows);
                        }
                    }
                }
                Step::Attention(step) => self.attention(step, layer, roped),
                Step::LinearAdd(step) => self.linear_add(unit, step),
                Step::NormGatedLinear(step) => self.norm_gated_linear(unit, step),
                Step::Select => self.select(),
                Step::Norm(step) => self.norm_selected(unit, step),
                Step::Head(step) => self.head(unit, step),
            }
            self.note(name, cost, rows);
            index += 1;
        }
    }

    /// Runs one phase: `work` gets each chunk of `0..total` that this thread claims. On return all of it is finished.
    fn phase(&mut self, total: usize, chunk: usize, mut work: impl FnMut(&mut Self, Range<usize>)) {
        let finished = &self.pass.phases[self.phase].finished;
        self.claim_all(total, chunk, |walk, claimed| {
            let count = claimed.len();
            work(walk, claimed);
            finished.fetch_add(count, Ordering::Release);
        });
        self.worker.wait_until(|| finished.load(Ordering::Acquire) == total);
    }

    /// As [`Walk::phase`], but waits for nobody.
    fn claim_all(&mut self, total: usize, chunk: usize, mut work: impl FnMut(&mut Self, Range<usize>)) {
        let claimed = &self.pass.phases[self.phase].claimed;
        self.phase += 1;
        loop {
            let first = claimed.fetch_add(chunk, Ordering::Relaxed);
            if first >= total {
                break;
            }
            work(self, first..(first + chunk).min(total));
        }
    }

    /// Rows in a chunk of row-wise work: enough chunks for every thread, few enough to be cheap.
    fn row_chunk(&self, rows: usize) -> usize {
        rows.div_ceil(self.worker.threads * 4).max(1)
    }

    fn note(&mut self, name: &'static str, cost: StepCost, rows: usize) {
        let Some(started) = self.started else { return };
        let now = Instant::now();
        let row = LedgerRow {
            step: name,
            calls: 1,
            weight_bytes: cost.weight_bytes,
            multiply_adds: cost.multiply_adds_per_row * rows as u64,
            seconds: (now - started).as_secs_f64(),
        };
        // SAFETY: only thread 0 has a start time, and the vector is read after the run.
        unsafe { (*self.pass.timings.get()).push(row) };
        self.started = Some(now);
    }

    /// The buffer behind a name, and its row width.
    fn buffer(&self, buffer: Buffer) -> (Shared<f32>, usize) {
        let scratch = &self.pass.exe.scratch;
        let shared = match buffer {
            Buffer::Hidden => scratch.hidden,
            Buffer::Qkv => scratch.qkv,
            Buffer::Attention => scratch.attention,
            Buffer::Gated => scratch.gated,
            Buffer::Selected => scratch.selected,
            Buffer::Logits => scratch.logits,
        };
        (shared, self.pass.exe.program.buffer_width(buffer))
    }
}
