//! One pass: what the host writes for it, and which dispatches it is made of.

use program::{BackendError, PAGE_ROWS, PassInput, Program, RowBucket, Segment};

use crate::buffers::{Buffers, HEADER, SPLITS_MAX, pages_max};
use crate::chain::{Chooser, Choosing};
use crate::clock::{CHOOSE, Clock};
use crate::device::Gpu;
use crate::executable::Counters;
use crate::lower::{Dispatch, Grid, UnitDispatches, When};
use crate::shader::{FEW_ROWS, Kernels};
use program::input_check::check;

/// Positions of a row that one workgroup attends to rather than several, whose sums take a dispatch to join.
const WHOLE_POSITIONS: usize = 512;

/// Positions of a split, and the least number of splits.
const SPLIT_POSITIONS: usize = 256;
const SPLITS_MIN: usize = 8;

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

    /// Whether it is one row that wants logits.
    pub(crate) fn is_single(self) -> bool {
        (self.rows, self.logit_rows) == (1, 1)
    }
}

/// Workgroups that share a row that sees `positions`.
fn splits_of(positions: usize) -> usize {
    if positions <= WHOLE_POSITIONS {
        return 1;
    }
    positions.div_ceil(SPLIT_POSITIONS).clamp(SPLITS_MIN, SPLITS_MAX)
}

/// Constants of `next_pass.wgsl`, which counts splits as [`splits_of`] does.
pub(crate) fn next_pass_counts(rows_max: usize) -> [(&'static str, u32); 5] {
    [
        ("ROWS_MAX", rows_max as u32),
        ("WHOLE_POSITIONS", WHOLE_POSITIONS as u32),
        ("SPLIT_POSITIONS", SPLIT_POSITIONS as u32),
        ("SPLITS_MIN", SPLITS_MIN as u32),
        ("SPLITS_MAX", SPLITS_MAX as u32),
    ]
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

/// Records passes of units, in order.
#[derive(Clone, Copy)]
pub(crate) struct Recorder<'a> {
    gpu: &'a Gpu,
    kernels: &'a Kernels,
    units: &'a [UnitDispatches],
    /// Indices among `units`.
    chosen: &'a [usize],
    /// With it, each pass chooses the token of the next.
    chooser: Option<(&'a Chooser, Choosing)>,
    /// The first pass's prologue is done.
    embedded: bool,
}

impl<'a> Recorder<'a> {
    /// Makes the pipelines that passes of `shape` need and that there are not yet, on all cores.
    pub(crate) fn new(
        gpu: &'a Gpu,
        kernels: &'a Kernels,
        units: &'a [UnitDispatches],
        chosen: &'a [usize],
        (chooser, embedded): (Option<(&'a Chooser, Choosing)>, bool),
        shape: Shape,
    ) -> Recorder<'a> {
        let recorder = Recorder { gpu, kernels, units, chosen, chooser, embedded };
        kernels.make(gpu, recorder.dispatches(shape, embedded).map(|(_, rows, dispatch)| (dispatch.kernel, rows)));
        recorder
    }

    /// Records a pass for each shape into one compute pass.
    pub(crate) fn record(
        self,
        encoder: &mut wgpu::CommandEncoder,
        shapes: &[Shape],
        mut clock: Option<&mut Clock>,
    ) -> Counters {
        let mut counters = Counters::default();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: None });
        if let Some(clock) = &mut clock {
            clock.stamp(&mut pass, "");
        }
        let mut embedded = self.embedded;
        for shape in shapes {
            for (unit, rows, dispatch) in self.dispatches(*shape, embedded) {
                let (x, y, z) = workgroups(dispatch.grid, *shape);
                pass.set_pipeline(self.kernels.pipeline(self.gpu, dispatch.kernel, rows));
                pass.set_bind_group(0, &dispatch.bind, &[]);
                if !dispatch.words.is_empty() {
                    pass.set_immediates(0, bytemuck::cast_slice(&dispatch.words));
                }
                pass.dispatch_workgroups(x, y, z);
                if let Some(clock) = &mut clock {
                    clock.stamp(&mut pass, dispatch.step);
                }
                counters.dispatches += 1;
                counters.layer_dispatches += u64::from(unit > 0 && unit + 1 < self.units.len());
            }
            if let Some((chooser, choosing)) = self.chooser {
                chooser.record(self.gpu, self.kernels, choosing, &mut pass);
                embedded = chooser.embeds(choosing);
                if let Some(clock) = &mut clock {
                    clock.stamp(&mut pass, CHOOSE);
                }
            }
            counters.passes += 1;
        }
        counters
    }

    /// Dispatches of a pass with their units and rows, without those of the prologue if the row is `embedded`.
    fn dispatches(self, shape: Shape, embedded: bool) -> impl Iterator<Item = (usize, usize, &'a Dispatch)> {
        let (units, chosen) = (self.units, self.chosen);
        chosen.iter().filter(move |unit| **unit > 0 || !embedded).flat_map(move |unit| {
            let rows = if unit + 1 == units.len() { shape.logit_rows } else { shape.rows };
            let list: &[Dispatch] = match rows {
                0 => &[],
                1..=FEW_ROWS => &units[*unit].few,
                _ => &units[*unit].many,
            };
            let list = list.iter().filter(move |dispatch| applies(dispatch.when, shape));
            list.map(move |dispatch| (*unit, rows, dispatch))
        })
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
        When::Single => shape.is_single(),
        When::NotSingle => !shape.is_single(),
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
