//! One pass: what the host writes for it, and which dispatches it is made of.

use program::{BackendError, PAGE_ROWS, PassInput, Program, RowBucket, Segment};

use crate::buffers::{Buffers, HEADER, SPLITS_MAX, pages_max};
use crate::chain::Chooser;
use crate::clock::Clock;
use crate::device::Gpu;
use crate::executable::Counters;
use crate::lower::{Grid, UnitDispatches, When};
use crate::shader::{FEW_ROWS, Kernels};
use program::input_check::check;

/// Positions of a row that one workgroup attends to before they are split; `argmax.wgsl` counts alike.
const SPLIT_POSITIONS: usize = 256;

/// How a pass runs.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    logit_rows: usize,
    /// Workgroups that share a row's positions.
    splits: usize,
    tiles: usize,
    /// Each row is of another sequence.
    apart: bool,
}

impl Shape {
    /// One row at `position` that wants logits.
    pub(crate) fn single(position: usize) -> Shape {
        Shape { rows: 1, logit_rows: 1, splits: splits_of(position + 1), tiles: 0, apart: true }
    }
}

/// Workgroups that share a row that sees `positions`.
fn splits_of(positions: usize) -> usize {
    positions.div_ceil(SPLIT_POSITIONS).clamp(1, SPLITS_MAX)
}

/// The words that the host writes for a pass; see `shaders/pass.wgsl`.
pub(crate) struct PassWords {
    bucket: RowBucket,
    pages_max: usize,
    words: Vec<u32>,
    tiles: Vec<[u32; 2]>,
}

impl PassWords {
    pub(crate) fn new(program: &Program, bucket: RowBucket) -> PassWords {
        PassWords { bucket, pages_max: pages_max(program, bucket), words: Vec::new(), tiles: Vec::new() }
    }

    /// Writes what changes from pass to pass.
    pub(crate) fn write(&mut self, gpu: &Gpu, buffers: &Buffers, input: &PassInput<'_>) -> Result<Shape, BackendError> {
        self.write_pages(gpu, buffers, input, &|sequence| {
            let rows = input.sequences.iter().zip(input.positions).filter(|(index, _)| **index as usize == sequence);
            rows.map(|(_, position)| *position as usize / PAGE_ROWS + 1).max().unwrap_or(0)
        })
    }

    /// As `write`, with all pages of the sequences, so that passes can go on without the host.
    pub(crate) fn write_ahead(
        &mut self,
        gpu: &Gpu,
        buffers: &Buffers,
        input: &PassInput<'_>,
    ) -> Result<(), BackendError> {
        let input = PassInput { logit_rows: &[0], ..*input };
        self.write_pages(gpu, buffers, &input, &|sequence| input.page_tables[sequence].pages.len()).map(|_| ())
    }

    /// Writes the pages that a sequence has beyond those of `known`, for passes that go on without the host.
    pub(crate) fn write_further_pages(
        &self,
        gpu: &Gpu,
        buffers: &Buffers,
        known: &[u32],
        pages: &[u32],
    ) -> Result<(), BackendError> {
        check("pages of all sequences of a pass", pages.len() as u64, self.pages_max as u64)?;
        let same = known.iter().zip(pages).take_while(|(known, page)| known == page).count();
        if same < pages.len() {
            let start = HEADER + 3 * self.bucket.rows + self.bucket.logit_rows + same;
            gpu.queue.write_buffer(&buffers.pass, 4 * start as u64, bytemuck::cast_slice(&pages[same..]));
        }
        Ok(())
    }

    fn write_pages(
        &mut self,
        gpu: &Gpu,
        buffers: &Buffers,
        input: &PassInput<'_>,
        used: &dyn Fn(usize) -> usize,
    ) -> Result<Shape, BackendError> {
        let rows = input.rows();
        let last = input.positions.iter().max().map_or(0, |position| *position as usize + 1);
        let splits = if rows > FEW_ROWS { 1 } else { splits_of(last) };
        let counts: Vec<usize> = (0..input.page_tables.len()).map(used).collect();
        let pages: usize = counts.iter().sum();
        check("pages of all sequences of a pass", pages as u64, self.pages_max as u64)?;
        let starts: Vec<u32> = counts
            .iter()
            .scan(0, |end, count| {
                let start = *end;
                *end += *count as u32;
                Some(start)
            })
            .collect();
        let words = &mut self.words;
        words.clear();
        words.extend([rows as u32, input.logit_rows.len() as u32, splits as u32, 0]);
        let mut column = |values: &mut dyn Iterator<Item = u32>, count: usize| {
            let end = words.len() + count;
            words.extend(values);
            words.resize(end, 0);
        };
        column(&mut input.tokens.iter().copied(), self.bucket.rows);
        column(&mut input.positions.iter().copied(), self.bucket.rows);
        column(&mut input.sequences.iter().map(|sequence| starts[*sequence as usize]), self.bucket.rows);
        column(&mut input.logit_rows.iter().copied(), self.bucket.logit_rows);
        for (table, count) in input.page_tables.iter().zip(counts) {
            words.extend_from_slice(&table.pages[..count]);
        }
        gpu.queue.write_buffer(&buffers.pass, 0, bytemuck::cast_slice(words));
        self.tiles.clear();
        if rows > FEW_ROWS {
            self.find_tiles(input, buffers.tile_rows);
            gpu.queue.write_buffer(&buffers.tiles, 0, bytemuck::cast_slice(&self.tiles));
        }
        let mut seen = vec![false; input.page_tables.len()];
        let apart = input.sequences.iter().all(|sequence| !std::mem::replace(&mut seen[*sequence as usize], true));
        Ok(Shape { rows, logit_rows: input.logit_rows.len(), splits, tiles: self.tiles.len(), apart })
    }

    /// Runs of rows of one sequence, cut into tiles.
    fn find_tiles(&mut self, input: &PassInput<'_>, tile_rows: usize) {
        for (row, sequence) in input.sequences.iter().enumerate() {
            match self.tiles.last_mut() {
                Some([first, count])
                    if input.sequences[*first as usize] == *sequence && (*count as usize) < tile_rows =>
                {
                    *count += 1;
                }
                _ => self.tiles.push([row as u32, 1]),
            }
        }
    }
}

/// Records passes into one compute pass of a submission.
pub(crate) struct Recorder<'a> {
    gpu: &'a Gpu,
    units: &'a [UnitDispatches],
    clock: Option<&'a mut Clock>,
    counters: Counters,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(gpu: &'a Gpu, units: &'a [UnitDispatches], clock: Option<&'a mut Clock>) -> Recorder<'a> {
        Recorder { gpu, units, clock, counters: Counters::default() }
    }

    /// Records a pass of `units` for each shape; with a chooser, each pass chooses the token of the next.
    pub(crate) fn pass(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        units: &[usize],
        shapes: &[Shape],
        chooser: Option<&Chooser>,
    ) {
        let kernels = self.gpu.kernels();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: None });
        if let Some(clock) = &mut self.clock {
            clock.stamp(&mut pass, "");
        }
        for shape in shapes {
            for unit in units {
                self.unit(&mut pass, &kernels, *unit, *shape);
            }
            if let Some(chooser) = chooser {
                chooser.record(self.gpu, &kernels, &mut pass);
                if let Some(clock) = &mut self.clock {
                    clock.stamp(&mut pass, "choose");
                }
            }
            self.counters.passes += 1;
        }
    }

    pub(crate) fn finish(self) -> Counters {
        self.counters
    }

    fn unit(&mut self, pass: &mut wgpu::ComputePass<'_>, kernels: &Kernels, unit: usize, shape: Shape) {
        let is_epilogue = unit + 1 == self.units.len();
        let rows = if is_epilogue { shape.logit_rows } else { shape.rows };
        if rows == 0 {
            return;
        }
        let dispatches = &self.units[unit];
        let list = if rows <= FEW_ROWS { &dispatches.few } else { &dispatches.many };
        for dispatch in list.iter().filter(|dispatch| applies(dispatch.when, shape)) {
            let (x, y, z) = workgroups(dispatch.grid, shape);
            pass.set_pipeline(kernels.pipeline(self.gpu, dispatch.kernel, rows));
            pass.set_bind_group(0, &dispatch.bind, &[]);
            pass.dispatch_workgroups(x, y, z);
            if let Some(clock) = &mut self.clock {
                clock.stamp(pass, dispatch.step);
            }
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
        Grid::PerRowBlock(count) => (rows.div_ceil(128), count, 1),
        Grid::PerLogitBlock(count) => (logit_rows.div_ceil(128), count, 1),
    }
}

/// Indices of a segment's units among prologue, layers and epilogue.
pub(crate) fn units_of(segment: &Segment, program: &Program) -> Vec<usize> {
    let prologue = segment.prologue.then_some(0);
    let epilogue = segment.epilogue.then_some(program.layers.len() + 1);
    prologue.into_iter().chain(segment.layers.clone().map(|layer| layer + 1)).chain(epilogue).collect()
}
