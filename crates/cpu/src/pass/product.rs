//! Steps that multiply with weight matrices: prepare the input rows, sweep tiles over the groups, finish each output.

use std::ops::Range;

use program::{Buffer, Head, LinearAdd, Norm, NormGatedLinear, NormLinear, Projection, Unit};

use super::Walk;
use crate::activations::ActivationBlock;
use crate::kernels::tile::{TILE_ROWS_MAX, TileArgs, TileOutput};
use crate::layout::GROUP_ROWS;
use crate::matrix::Matrix;
use crate::memory::Shared;

/// Weight bytes that a sweep of all rows passes over before moving on: they stay in the second-level cache.
const SWEEP_BYTES: usize = 384 << 10;

/// Most matrices that one step multiplies side by side.
const PARTS_MAX: usize = 4;

/// Input rows of a product in the forms its matrices read.
#[derive(Clone, Copy)]
struct Input {
    plain: Shared<f32>,
    plain_width: usize,
    codes: Shared<ActivationBlock>,
    codes_width: usize,
    /// From a row's blocks to its second planes.
    fine_offset: usize,
    rows: usize,
}

/// Where the input rows of a product come from, and what is done to them first.
#[derive(Clone, Copy)]
struct Source<'s> {
    buffer: Buffer,
    rows: usize,
    norm: Option<(&'s Unit, &'s Norm)>,
    forms: Forms,
}

/// Which forms of the input the matrices of a step read.
#[derive(Clone, Copy, Default)]
struct Forms {
    plain: bool,
    codes: bool,
}

impl Forms {
    fn of<'m>(matrices: impl Iterator<Item = &'m Matrix>) -> Forms {
        let mut forms = Forms::default();
        for matrix in matrices {
            forms.codes |= matrix.reads_codes();
            forms.plain |= !matrix.reads_codes();
        }
        forms
    }
}

/// A finished pair: group, row of the pass, the values of both matrices.
type PairSink<'s> = dyn FnMut(usize, usize, &mut [[f32; GROUP_ROWS]; 2]) + 's;

/// A finished tile row: part, group in the part, row of the pass, values.
type Sink<'s> = dyn FnMut(usize, usize, usize, &[f32; GROUP_ROWS]) + 's;

impl Walk<'_> {
    pub(super) fn norm_linear(&mut self, unit: &Unit, step: &NormLinear) {
        let pass = self.pass;
        let (qkv, width) = self.buffer(Buffer::Qkv);
        let mut parts: [Option<&Matrix>; PARTS_MAX] = [None; PARTS_MAX];
        let mut biases: [Option<&[f32]>; PARTS_MAX] = [None; PARTS_MAX];
        let mut starts = [0; PARTS_MAX];
        let mut start = 0;
        for (index, projection) in step.projections.iter().enumerate() {
            parts[index] = Some(pass.matrix(unit, projection.weight));
            biases[index] = projection.bias.map(|slot| pass.vector(unit, slot));
            starts[index] = start;
            start += projection.outputs;
        }
        let forms = Forms::of(parts.iter().flatten().copied());
        let norm = Some((unit, &step.norm));
        let source = Source { buffer: Buffer::Hidden, rows: pass.input.rows(), norm, forms };
        self.sweep(&parts, source, &mut |part, group, row, values| {
            let outputs = step.projections[part].outputs;
            let first = group * GROUP_ROWS;
            let count = GROUP_ROWS.min(outputs - first);
            // SAFETY: this group of this row belongs to a claimed chunk.
            let out = unsafe { qkv.slice_mut(row * width + starts[part] + first, count) };
            finish(out, values, biases[part].map(|bias| &bias[first..]));
        });
    }

    pub(super) fn linear_add(&mut self, unit: &Unit, step: &LinearAdd) {
        let pass = self.pass;
        let matrix = pass.matrix(unit, step.projection.weight);
        let bias = step.projection.bias.map(|slot| pass.vector(unit, slot));
        let (hidden, width) = self.buffer(Buffer::Hidden);
        let projected = pass.exe.scratch.projected;
        let forms = Forms::of(std::iter::once(matrix));
        let source = Source { buffer: step.input, rows: pass.input.rows(), norm: None, forms };
        let parts = [Some(matrix), None, None, None];
        let after_norm = step.post_norm.is_some();
        self.sweep(&parts, source, &mut |_, group, row, values| {
            let first = group * GROUP_ROWS;
            let count = GROUP_ROWS.min(width - first);
            let target = if after_norm { projected } else { hidden };
            // SAFETY: this group of this row belongs to a claimed chunk.
            let out = unsafe { target.slice_mut(row * width + first, count) };
            if after_norm {
                finish(out, values, bias.map(|bias| &bias[first..]));
            } else {
                let mut sum = *values;
                finish(&mut sum[..count], values, bias.map(|bias| &bias[first..]));
                out.iter_mut().zip(&sum).for_each(|(out, value)| *out += value);
            }
        });
        if let Some(norm) = &step.post_norm {
            self.add_normed(unit, norm);
        }
    }

    /// `hidden += norm(projected)`.
    fn add_normed(&mut self, unit: &Unit, norm: &Norm) {
        let (pass, exe) = (self.pass, self.pass.exe);
        let (hidden, width) = self.buffer(Buffer::Hidden);
        let weight = pass.vector(unit, norm.weight);
        let rows = pass.input.rows();
        self.phase(rows, self.row_chunk(rows), |_, chunk| {
            for row in chunk {
                // SAFETY: this row was claimed by this thread.
                unsafe {
                    let projected = exe.scratch.projected.slice_mut(row * width, width);
                    let at = projected.as_mut_ptr();
                    (exe.kernels.norm)(at, weight.as_ptr(), norm.epsilon, width, at);
                    let hidden = hidden.slice_mut(row * width, width);
                    hidden.iter_mut().zip(projected).for_each(|(sum, value)| *sum += *value);
                }
            }
        });
    }

    pub(super) fn norm_gated_linear(&mut self, unit: &Unit, step: &NormGatedLinear) {
        let pass = self.pass;
        let matrices = [pass.matrix(unit, step.gate.weight), pass.matrix(unit, step.up.weight)];
        let bias_of = |projection: &Projection| projection.bias.map(|slot| pass.vector(unit, slot));
        let biases = [bias_of(&step.gate), bias_of(&step.up)];
        let (gated, width) = self.buffer(Buffer::Gated);
        let outputs = step.gate.outputs;
        let gate = (pass.exe.kernels.gate)(step.activation);
        let (rows, forms) = (pass.input.rows(), Forms::of(matrices.into_iter()));
        let source = Source { buffer: Buffer::Hidden, rows, norm: Some((unit, &step.norm)), forms };
        self.sweep_pairs(matrices, source, &mut |group, row, pair| {
            let first = group * GROUP_ROWS;
            let count = GROUP_ROWS.min(outputs - first);
            for (values, bias) in pair.iter_mut().zip(biases) {
                if let Some(bias) = bias {
                    values.iter_mut().zip(&bias[first..]).for_each(|(value, bias)| *value += bias);
                }
            }
            let [gates, ups] = pair;
            // SAFETY: both are sixteen values; this group of this row belongs to a claimed chunk.
            unsafe {
                gate(gates.as_mut_ptr(), ups.as_ptr());
                gated.slice_mut(row * width + first, count).copy_from_slice(&gates[..count]);
            }
        });
    }

    pub(super) fn head(&mut self, unit: &Unit, step: &Head) {
        let pass = self.pass;
        let matrix = pass.matrix(unit, step.projection.weight);
        let bias = step.projection.bias.map(|slot| pass.vector(unit, slot));
        let (logits, width) = self.buffer(Buffer::Logits);
        let rows = pass.input.logit_rows.len();
        let forms = Forms::of(std::iter::once(matrix));
        let source = Source { buffer: Buffer::Selected, rows, norm: None, forms };
        self.sweep(&[Some(matrix), None, None, None], source, &mut |_, group, row, values| {
            let first = group * GROUP_ROWS;
            let count = GROUP_ROWS.min(width - first);
            // SAFETY: this group of this row belongs to a claimed chunk.
            let out = unsafe { logits.slice_mut(row * width + first, count) };
            finish(out, values, bias.map(|bias| &bias[first..]));
            if let Some(cap) = step.soft_cap {
                out.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
            }
        });
    }

    /// Norms and quantises the rows of `source.buffer`. A single row is left to be prepared by every thread for itself,
    /// which is cheaper than another phase; more rows are shared out.
    fn prepare(&mut self, source: Source<'_>) -> Input {
        let exe = self.pass.exe;
        let scratch = &exe.scratch;
        let (from, width) = self.buffer(source.buffer);
        let own = source.rows == 1;
        let index = if own { self.worker.index } else { 0 };
        // A row's blocks, then its second planes.
        let blocks = 2 * (scratch.input_width / 32);
        let (plain, codes) = if own {
            let plain = scratch.own_plain.part(index * scratch.input_width, scratch.input_width);
            (plain, scratch.own_codes.part(index * blocks, blocks))
        } else {
            (scratch.plain, scratch.codes)
        };
        let mut input =
            Input { plain, plain_width: width, codes, codes_width: blocks, fine_offset: blocks / 2, rows: source.rows };
        if !own {
            self.phase(source.rows, self.row_chunk(source.rows), |walk, chunk| {
                for row in chunk {
                    // SAFETY: this row was claimed by this thread.
                    unsafe { walk.prepare_row(source, row, input) };
                }
            });
        }
        if source.norm.is_none() {
            input.plain = from;
        }
        input
    }

    /// Prepares a single row for this thread, if this is the first chunk it claims of a product.
    fn prepare_own(&self, source: Source<'_>, input: Input, prepared: &mut bool) {
        if source.rows == 1 && !*prepared {
            let scratch = &self.pass.exe.scratch;
            let plain = scratch.own_plain.part(self.worker.index * scratch.input_width, scratch.input_width);
            // SAFETY: the thread's own window; the source is settled while a chunk of this phase is held.
            unsafe { self.prepare_row(source, 0, Input { plain, ..input }) };
            *prepared = true;
        }
    }

    /// # Safety
    /// The source row is settled, and no other thread uses the row of `to`.
    unsafe fn prepare_row(&self, source: Source<'_>, row: usize, to: Input) {
        let exe = self.pass.exe;
        let (from, width) = self.buffer(source.buffer);
        // SAFETY: the caller's promise.
        unsafe {
            let mut from = from.slice(row * width, width).as_ptr();
            if let Some((unit, norm)) = source.norm {
                let plain = to.plain.slice_mut(row * to.plain_width, width).as_mut_ptr();
                (exe.kernels.norm)(from, self.pass.vector(unit, norm.weight).as_ptr(), norm.epsilon, width, plain);
                from = plain;
            }
            if source.forms.codes {
                let blocks = width / 32;
                let codes = to.codes.slice_mut(row * to.codes_width, blocks).as_mut_ptr();
                let fine = to.codes.slice_mut(row * to.codes_width + to.fine_offset, blocks).as_mut_ptr();
                (exe.kernels.quantize)(from, blocks, codes, fine);
            }
        }
    }

    /// Multiplies all groups of the parts with all rows; `sink` gets each result once.
    fn sweep(&mut self, parts: &[Option<&Matrix>; PARTS_MAX], source: Source<'_>, sink: &mut Sink<'_>) {
        let input = self.prepare(source);
        let mut prepared = false;
        let total: usize = parts.iter().flatten().map(|matrix| matrix.groups()).sum();
        let chunk = self.group_chunk(parts.iter().flatten().copied(), total, input.rows);
        let mut output: TileOutput = [[[0.0; GROUP_ROWS]; 2]; TILE_ROWS_MAX];
        self.phase(total, chunk, |walk, claimed| {
            walk.prepare_own(source, input, &mut prepared);
            let mut before = 0;
            for (part, matrix) in parts.iter().flatten().enumerate() {
                let first = claimed.start.max(before) - before;
                let last = claimed.end.min(before + matrix.groups()).saturating_sub(before);
                before += matrix.groups();
                if first < last {
                    walk.sweep_part(matrix, first..last, input, &mut output, &mut |group, row, values| {
                        sink(part, group, row, values);
                    });
                }
            }
        });
    }

    fn sweep_part(
        &mut self,
        matrix: &Matrix,
        mut groups: Range<usize>,
        input: Input,
        output: &mut TileOutput,
        sink: &mut dyn FnMut(usize, usize, &[f32; GROUP_ROWS]),
    ) {
        while !groups.is_empty() {
            let span = self.span(matrix, &groups, input.rows, 0);
            self.sweep_span(matrix, &span, input, output, sink);
            groups.start = span.groups.end;
        }
    }

    /// The leading groups of `groups` in the kernel's layout: those that have landed, or as many as fit packed into the
    /// thread's staging buffer `slot`. Blocks in place are decoded later, group by group.
    fn span(&self, matrix: &Matrix, groups: &Range<usize>, rows: usize, slot: usize) -> Span {
        if matrix.is_in_place() {
            return Span { groups: groups.clone(), base: std::ptr::null() };
        }
        if let Some((groups, base)) = matrix.landed(groups) {
            return Span { groups, base };
        }
        let bytes = matrix.group_bytes();
        let groups = groups.start..groups.end.min(groups.start + staged_groups(bytes, rows));
        let (staging, size) = self.pass.exe.staging();
        // SAFETY: the thread's own window.
        let out = unsafe { staging.slice_mut((2 * self.worker.index + slot) * size, groups.len() * bytes) };
        matrix.pack(groups.clone(), out);
        Span { groups, base: out.as_ptr() }
    }

    fn sweep_span(
        &mut self,
        matrix: &Matrix,
        span: &Span,
        input: Input,
        output: &mut TileOutput,
        sink: &mut dyn FnMut(usize, usize, &[f32; GROUP_ROWS]),
    ) {
        let groups = &span.groups;
        let in_place = matrix.is_in_place();
        let by = if in_place { 1 } else { 2 };
        // Blocks in place are decoded once for all rows; packed groups stay in cache, so rows go outside.
        let row_step = if in_place { input.rows } else { panel_rows(input) };
        for first_row in (0..input.rows).step_by(row_step) {
            for first in groups.clone().step_by(by) {
                let count = by.min(groups.end - first);
                let [scratch, _] = &mut self.columns;
                let mut addresses = [span.address(matrix, first, scratch), std::ptr::null()];
                if count == 2 {
                    addresses[1] = span.address(matrix, first + 1, scratch);
                }
                let last_row = (first_row + row_step).min(input.rows);
                for row in (first_row..last_row).step_by(panel_rows(input)) {
                    let rows = panel_rows(input).min(last_row - row);
                    let args = tile_args(matrix, addresses, count, input, row, rows);
                    // SAFETY: addresses and input rows come from the matrix's and the input's own shapes.
                    unsafe { (matrix.tile)(&args, output) };
                    for (offset, results) in output.iter().enumerate().take(rows) {
                        for (group, values) in results.iter().enumerate().take(count) {
                            sink(first + group, row + offset, values);
                        }
                    }
                }
            }
        }
    }

    /// As [`Walk::sweep`] for two matrices of equal shape whose groups are wanted together.
    fn sweep_pairs(&mut self, matrices: [&Matrix; 2], source: Source<'_>, sink: &mut PairSink<'_>) {
        let input = self.prepare(source);
        let mut prepared = false;
        let total = matrices[0].groups();
        let chunk = self.group_chunk(matrices.into_iter(), total, input.rows);
        let mut outputs = [[[[0.0; GROUP_ROWS]; 2]; TILE_ROWS_MAX]; 2];
        self.phase(total, chunk, |walk, claimed| {
            walk.prepare_own(source, input, &mut prepared);
            let mut left = claimed;
            while !left.is_empty() {
                left.start = walk.sweep_pair_span(matrices, &left, input, &mut outputs, sink);
            }
        });
    }

    /// Multiplies the leading groups of `groups` that lie side by side, and returns where they end.
    fn sweep_pair_span(
        &mut self,
        matrices: [&Matrix; 2],
        groups: &Range<usize>,
        input: Input,
        [output, second]: &mut [TileOutput; 2],
        sink: &mut PairSink<'_>,
    ) -> usize {
        let in_place = matrices.iter().any(|matrix| matrix.is_in_place());
        let together = !in_place && std::ptr::fn_addr_eq(matrices[0].tile, matrices[1].tile);
        let gates = self.span(matrices[0], groups, input.rows, 0);
        let ups = self.span(matrices[1], &gates.groups, input.rows, 1);
        let row_step = if in_place { input.rows } else { panel_rows(input) };
        for first_row in (0..input.rows).step_by(row_step) {
            for group in ups.groups.clone() {
                let [a, b] = &mut self.columns;
                let addresses = [gates.address(matrices[0], group, a), ups.address(matrices[1], group, b)];
                let last_row = (first_row + row_step).min(input.rows);
                for row in (first_row..last_row).step_by(panel_rows(input)) {
                    let rows = panel_rows(input).min(last_row - row);
                    // SAFETY: addresses and input rows come from the matrices' and the input's own shapes.
                    unsafe {
                        if together {
                            let args = tile_args(matrices[0], addresses, 2, input, row, rows);
                            (matrices[0].tile)(&args, output);
                        } else {
                            let args = tile_args(matrices[0], addresses, 1, input, row, rows);
                            (matrices[0].tile)(&args, output);
                            let [_, up] = addresses;
                            let args = tile_args(matrices[1], [up, std::ptr::null()], 1, input, row, rows);
                            (matrices[1].tile)(&args, second);
                            output.iter_mut().zip(&*second).for_each(|(out, second)| out[1] = second[0]);
                        }
                    }
                    for (offset, pair) in output.iter_mut().enumerate().take(rows) {
                        sink(group, row + offset, pair);
                    }
                }
            }
        }
        ups.groups.end
    }

    /// Groups in a claimed chunk: what stays in cache while all rows sweep over it, and enough chunks to share out.
    fn group_chunk<'m>(&self, matrices: impl Iterator<Item = &'m Matrix>, total: usize, rows: usize) -> usize {
        let bytes = matrices.map(Matrix::group_bytes).max().unwrap_or(1);
        let cached = if rows <= TILE_ROWS_MAX { total } else { SWEEP_BYTES / bytes };
        let shared = total.div_ceil(self.worker.threads * 8);
        // Even, so that tiles of two groups come out whole.
        cached.min(shared).max(2).next_multiple_of(2)
    }
}

/// Groups that lie side by side in the kernel's layout.
struct Span {
    groups: Range<usize>,
    /// Of the first group; null for blocks in place.
    base: *const u8,
}

impl Span {
    /// Where a group is; blocks in place are decoded into `columns`.
    fn address(&self, matrix: &Matrix, group: usize, columns: &mut Vec<f32>) -> *const u8 {
        if self.base.is_null() {
            return matrix.decode_group(group, columns);
        }
        self.base.wrapping_add((group - self.groups.start) * matrix.group_bytes())
    }
}

/// Groups that are packed at once for `rows` rows: what the first cache keeps for the rows of one tile, and the second for
/// a sweep of many.
fn staged_groups(group_bytes: usize, rows: usize) -> usize {
    if rows <= TILE_ROWS_MAX { 2 } else { (SWEEP_BYTES / group_bytes).max(2) / 2 * 2 }
}

/// Room that a thread needs for packed groups of this size.
pub(crate) fn staging_bytes(group_bytes: usize) -> usize {
    staged_groups(group_bytes, usize::MAX) * group_bytes
}

/// Rows of a tile call: all of a small batch, or what stays in registers for two groups.
fn panel_rows(input: Input) -> usize {
    if input.rows <= TILE_ROWS_MAX { input.rows.max(1) } else { TILE_ROWS_MAX / 2 }
}

fn tile_args(
    matrix: &Matrix,
    groups: [*const u8; 2],
    group_count: usize,
    input: Input,
    row: usize,
    row_count: usize,
) -> TileArgs {
    let (activations, activation_stride, fine) = if matrix.reads_codes() {
        let first = row * input.codes_width;
        let fine = input.codes.address(first + input.fine_offset);
        (input.codes.address(first).cast(), input.codes_width * size_of::<ActivationBlock>(), fine)
    } else {
        let activations = input.plain.address(row * input.plain_width).cast();
        (activations, input.plain_width * size_of::<f32>(), std::ptr::null())
    };
    TileArgs {
        groups,
        group_count,
        activations,
        activation_stride,
        fine,
        fine_stride: input.codes_width,
        row_count,
        columns: matrix.columns,
        streams: input.rows <= TILE_ROWS_MAX,
    }
}

/// Writes the leading values, plus the bias.
fn finish(out: &mut [f32], values: &[f32; GROUP_ROWS], bias: Option<&[f32]>) {
    match bias {
        Some(bias) => out.iter_mut().zip(values).zip(bias).for_each(|((out, value), bias)| *out = value + bias),
        None => out.copy_from_slice(&values[..out.len()]),
    }
}
