//! Sweeps of tiles over the groups of matrices: which thread multiplies what, and in what order. Never looks at a result.

use std::ops::Range;

use super::Walk;
use super::input::{Input, Source};
use crate::activations::PANEL_ROWS;
use crate::kernels::Products;
use crate::kernels::tile::{STREAM_ROWS, STRIP_GROUPS, TileArgs, TileFn, TileOutput};
use crate::layout::GROUP_ROWS;
use crate::matrix::Matrix;
use crate::memory::Shared;

/// Weight bytes that a sweep of all rows passes over before moving on: they stay in the second-level cache.
const SWEEP_BYTES: usize = 384 << 10;

/// Most matrices that one step multiplies side by side.
pub(super) const PARTS_MAX: usize = 4;

/// Where results are written in the end.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) buffer: Shared<f32>,
    /// From one row to the next.
    pub(super) width: usize,
    /// Of the matrix's first output in a row.
    pub(super) start: usize,
}

impl Target {
    /// The `count` outputs from `first` on of a row of the pass.
    ///
    /// # Safety
    /// They belong to a claimed chunk.
    pub(super) unsafe fn outputs<'t>(self, row: usize, first: usize, count: usize) -> &'t mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.buffer.slice_mut(row * self.width + self.start + first, count) }
    }
}

/// A matrix and where its results are written.
pub(super) type Part<'m> = (&'m Matrix, Target);

/// Results of a tile: which groups and rows of the pass they are of.
pub(super) struct Done<'o> {
    group: usize,
    group_count: usize,
    row: usize,
    row_count: usize,
    values: &'o mut TileOutput,
}

impl Done<'_> {
    /// Each row of the pass, with the first output and the values of each group.
    pub(super) fn each(&self, mut to: impl FnMut(usize, usize, &[f32; GROUP_ROWS])) {
        for row in 0..self.row_count {
            let values = &self.values.as_flattened()[2 * row..][..self.group_count];
            for (group, values) in (self.group..).zip(values) {
                to(self.row + row, group * GROUP_ROWS, values);
            }
        }
    }

    /// Each row of the pass, with the first output and the values of both matrices.
    pub(super) fn each_pair(&mut self, mut to: impl FnMut(usize, usize, &mut [[f32; GROUP_ROWS]; 2])) {
        for row in 0..self.row_count {
            let pairs = &mut self.values[row..][..self.group_count];
            for (group, pair) in (self.group..).zip(pairs) {
                to(self.row + row, group * GROUP_ROWS, pair);
            }
        }
    }
}

/// Takes each result once, with the part that it is of and where that is written.
pub(super) type Sink<'s> = dyn FnMut(usize, Target, Done<'_>) + 's;

/// Takes each pair of results once.
pub(super) type PairSink<'s> = dyn FnMut(Done<'_>) + 's;

impl Walk<'_> {
    /// Multiplies all groups of the parts with all rows.
    pub(super) fn sweep(&mut self, parts: &[Option<Part<'_>>; PARTS_MAX], source: Source<'_>, sink: &mut Sink<'_>) {
        let input = self.prepare(source);
        let mut prepared = false;
        let total: usize = parts.iter().flatten().map(|(matrix, _)| matrix.groups()).sum();
        let chunk = self.group_chunk(parts.iter().flatten().map(|(matrix, _)| *matrix), total, input.rows);
        let mut output: TileOutput = [[[0.0; GROUP_ROWS]; 2]; PANEL_ROWS];
        self.phase(total, chunk, |walk, claimed| {
            walk.prepare_own(source, input, &mut prepared);
            let mut before = 0;
            for (part, (matrix, target)) in parts.iter().flatten().enumerate() {
                let first = claimed.start.max(before) - before;
                let last = claimed.end.min(before + matrix.groups()).saturating_sub(before);
                before += matrix.groups();
                let mut groups = first..last;
                while !groups.is_empty() {
                    let span = walk.span(matrix, &groups, input.rows, 0);
                    groups.start = span.groups.end;
                    walk.sweep_span((matrix, *target), &span, input, &mut output, &mut |done| {
                        sink(part, *target, done);
                    });
                }
            }
        });
    }

    /// The leading groups of `groups` as a kernel reads them: those that have landed, or as many as fit packed or written out
    /// into the thread's staging buffer `slot`. Blocks in place are decoded later, group by group.
    fn span(&self, matrix: &Matrix, groups: &Range<usize>, rows: usize, slot: usize) -> Span {
        let (Products { tile, wide }, packed_bytes) = (matrix.products, matrix.group_bytes());
        if matrix.is_in_place() {
            return Span { groups: groups.clone(), base: std::ptr::null(), group_bytes: packed_bytes, tile };
        }
        let wide = wide.filter(|wide| rows >= wide.rows);
        let landed = matrix.landed(groups);
        let (groups, base) = match (landed, wide) {
            (Some((groups, base)), None) => return Span { groups, base, group_bytes: packed_bytes, tile },
            (Some((groups, base)), Some(_)) => (groups, Some(base)),
            (None, _) => (groups.clone(), None),
        };
        let group_bytes = wide.map_or(packed_bytes, |wide| wide.column_bytes * matrix.columns);
        let groups = groups.start..groups.end.min(groups.start + staged_groups(group_bytes, rows));
        let staged = groups.len() * group_bytes;
        let out = self.stage(staged + packed_bytes, slot);
        // SAFETY: the thread's own window has room for the groups and, behind them, for one that is packed first.
        unsafe {
            match (base, wide) {
                (Some(base), Some(wide)) => (wide.write)(base, groups.len() * matrix.columns, out.address_mut(0)),
                (None, Some(wide)) => {
                    for (index, group) in groups.clone().enumerate() {
                        let packed = out.slice_mut(staged, packed_bytes);
                        matrix.pack(group..group + 1, packed);
                        (wide.write)(packed.as_ptr(), matrix.columns, out.address_mut(index * group_bytes));
                    }
                }
                (_, None) => matrix.pack(groups.clone(), out.slice_mut(0, staged)),
            }
        }
        Span { groups, base: out.address(0), group_bytes, tile: wide.map_or(tile, |wide| wide.tile) }
    }

    /// The beginning of the thread's staging buffer `slot`.
    fn stage(&self, bytes: usize, slot: usize) -> Shared<u8> {
        let (staging, size) = self.pass.exe.staging();
        staging.part((2 * self.worker.index + slot) * size, bytes)
    }

    fn sweep_span(
        &mut self,
        (matrix, target): Part<'_>,
        span: &Span,
        input: Input,
        output: &mut TileOutput,
        sink: &mut dyn FnMut(Done<'_>),
    ) {
        let groups = &span.groups;
        let in_place = matrix.is_in_place();
        let by = match input.rows {
            _ if in_place => 1,
            1 => STRIP_GROUPS,
            _ => 2,
        };
        for rows in sweeps(input.rows, in_place) {
            self.wait_for(input.led, rows.clone());
            for group in groups.clone().step_by(by) {
                let group_count = by.min(groups.end - group);
                let [scratch, _] = &mut self.columns;
                let mut addresses = [span.address(matrix, group, scratch), std::ptr::null()];
                if group_count > 1 {
                    addresses[1] = span.address(matrix, group + 1, scratch);
                }
                for row in rows.clone().step_by(PANEL_ROWS) {
                    let row_count = PANEL_ROWS.min(rows.end - row);
                    let tile = Tile { input, target, group, row, row_count };
                    let args = tile.args(matrix, addresses, (group_count, 2 * span.group_bytes));
                    // SAFETY: addresses and input rows come from the matrix's and the input's own shapes.
                    unsafe { (span.tile)(&args, output) };
                    sink(Done { group, group_count, row, row_count, values: output });
                }
            }
        }
    }

    /// As [`Walk::sweep`] for two matrices of equal shape whose groups are wanted together.
    pub(super) fn sweep_pairs(
        &mut self,
        matrices: [&Matrix; 2],
        target: Target,
        source: Source<'_>,
        sink: &mut PairSink<'_>,
    ) {
        let input = self.prepare(source);
        let mut prepared = false;
        let total = matrices[0].groups();
        let chunk = self.group_chunk(matrices.into_iter(), total, input.rows);
        let mut outputs = [[[[0.0; GROUP_ROWS]; 2]; PANEL_ROWS]; 2];
        self.phase(total, chunk, |walk, claimed| {
            walk.prepare_own(source, input, &mut prepared);
            let mut left = claimed;
            while !left.is_empty() {
                left.start = walk.sweep_pair_span(matrices, &left, (input, target), &mut outputs, sink);
            }
        });
    }

    /// Multiplies the leading groups of `groups` that lie side by side, and returns where they end.
    fn sweep_pair_span(
        &mut self,
        matrices: [&Matrix; 2],
        groups: &Range<usize>,
        (input, target): (Input, Target),
        [output, second]: &mut [TileOutput; 2],
        sink: &mut PairSink<'_>,
    ) -> usize {
        let in_place = matrices.iter().any(|matrix| matrix.is_in_place());
        let gates = self.span(matrices[0], groups, input.rows, 0);
        let ups = self.span(matrices[1], &gates.groups, input.rows, 1);
        let together = !in_place && std::ptr::fn_addr_eq(gates.tile, ups.tile);
        for rows in sweeps(input.rows, in_place) {
            self.wait_for(input.led, rows.clone());
            let by = if together && input.rows == 1 { STRIP_GROUPS / 2 } else { 1 };
            for group in ups.groups.clone().step_by(by) {
                let pairs = by.min(ups.groups.end - group);
                let [a, b] = &mut self.columns;
                let addresses = [gates.address(matrices[0], group, a), ups.address(matrices[1], group, b)];
                for row in rows.clone().step_by(PANEL_ROWS) {
                    let row_count = PANEL_ROWS.min(rows.end - row);
                    let tile = Tile { input, target, group, row, row_count };
                    // SAFETY: addresses and input rows come from the matrices' and the input's own shapes.
                    unsafe {
                        if together {
                            (gates.tile)(&tile.args(matrices[0], addresses, (2 * pairs, gates.group_bytes)), output);
                        } else {
                            (gates.tile)(&tile.args(matrices[0], addresses, (1, 0)), output);
                            let up = [addresses[1], std::ptr::null()];
                            (ups.tile)(&tile.args(matrices[1], up, (1, 0)), second);
                            let pairs = output.iter_mut().zip(&*second).take(row_count);
                            pairs.for_each(|(out, second)| out[1] = second[0]);
                        }
                    }
                    sink(Done { group, group_count: pairs, row, row_count, values: output });
                }
            }
        }
        ups.groups.end
    }

    /// Groups in a claimed chunk: what stays in cache while all rows sweep over it, and enough chunks to share out.
    fn group_chunk<'m>(&self, matrices: impl Iterator<Item = &'m Matrix>, total: usize, rows: usize) -> usize {
        let bytes = matrices.map(Matrix::group_bytes).max().unwrap_or(1);
        let cached = if rows <= STREAM_ROWS { total } else { SWEEP_BYTES / bytes };
        let shared = total.div_ceil(self.worker.threads * 8);
        even_chunk(total, cached.min(shared), cached, self.worker.threads)
    }
}

/// About `wanted` and at most `most` of `total` groups, as many as let all threads end at the same time; even, so that tiles of
/// two groups come out whole.
fn even_chunk(total: usize, wanted: usize, most: usize, threads: usize) -> usize {
    let wanted = wanted.max(2).next_multiple_of(2);
    // Of many groups, one chunk more or less counts for little.
    if wanted > 32 {
        return wanted;
    }
    let furthest = (2 * wanted).min(most).max(2);
    let end = |chunk: usize| total.div_ceil(chunk).div_ceil(threads) * chunk;
    let chunks = (1..=furthest / 2).rev().map(|pairs| 2 * pairs);
    chunks.min_by_key(|&chunk| (end(chunk), wanted.abs_diff(chunk))).unwrap_or(wanted)
}

/// Rows that sweep over all groups before the next ones do. Packed groups stay in cache, so panels go outside; blocks in
/// place are decoded once for all rows.
fn sweeps(rows: usize, in_place: bool) -> impl Iterator<Item = Range<usize>> {
    let step = if in_place { rows } else { PANEL_ROWS };
    (0..rows).step_by(step).map(move |first| first..rows.min(first + step))
}

/// Groups that lie side by side in the kernel's layout.
struct Span {
    groups: Range<usize>,
    /// Of the first group; null for blocks in place.
    base: *const u8,
    group_bytes: usize,
    tile: TileFn,
}

impl Span {
    /// Where a group is; blocks in place are decoded into `columns`.
    fn address(&self, matrix: &Matrix, group: usize, columns: &mut Vec<f32>) -> *const u8 {
        if self.base.is_null() {
            return matrix.decode_group(group, columns);
        }
        self.base.wrapping_add((group - self.groups.start) * self.group_bytes)
    }
}

/// Groups that are packed or written out at once for `rows` rows: what the first cache keeps for the rows of one tile, and the
/// second for a sweep of many.
fn staged_groups(group_bytes: usize, rows: usize) -> usize {
    if rows <= STREAM_ROWS { 2 } else { (SWEEP_BYTES / group_bytes).max(2) / 2 * 2 }
}

/// Room that a thread needs for groups of this size, and for one of `packed_bytes`.
pub(crate) fn staging_bytes(group_bytes: usize, packed_bytes: usize) -> usize {
    staged_groups(group_bytes, usize::MAX) * group_bytes + packed_bytes
}

/// A panel of rows, and the first of the groups that it is multiplied with.
struct Tile {
    input: Input,
    target: Target,
    group: usize,
    row: usize,
    row_count: usize,
}

impl Tile {
    fn args(&self, matrix: &Matrix, groups: [*const u8; 2], (group_count, step): (usize, usize)) -> TileArgs {
        let (activations, activation_stride, outliers) = self.input.panel(matrix, self.row);
        let Target { buffer, width, start } = self.target;
        let target = buffer.address(self.row * width + start + self.group * GROUP_ROWS).cast();
        TileArgs {
            groups,
            step,
            group_count,
            activations,
            activation_stride,
            outliers,
            row_count: self.row_count,
            columns: matrix.columns,
            target: (target, width * size_of::<f32>()),
            streams: self.input.rows <= STREAM_ROWS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::even_chunk;

    #[test]
    fn chunks_let_threads_end_together() {
        // (groups, wanted, most, threads, chunk)
        for (total, wanted, most, threads, expected) in [
            (36, 3, 25, 2, 6),
            (60, 4, 25, 2, 6),
            (96, 6, 12, 2, 6),
            (56, 4, 4, 2, 4),
            (304, 19, 304, 2, 8),
            (9496, 594, 9496, 2, 594),
            (1, 1, 1, 8, 2),
            (7, 1, 1, 1, 2),
        ] {
            assert_eq!(even_chunk(total, wanted, most, threads), expected, "{total} groups, {threads} threads");
        }
    }
}
