//! The attention step: query rows in tiles over the pages of their sequence.

use std::ops::Range;

use program::Attention;

use super::panels::Led;
use super::rope::Rope;
use super::{Pass, Walk};
use crate::kernels::attention::coded::CodedQuery;
use crate::kernels::attention::{PAGE, PageArgs, QUERY_ROWS, QUERY_STRIDE, SoftmaxState};
use crate::pages::{PageFormat, value_stride};

/// Widest head a tile's buffers hold.
pub(crate) const HEAD_WIDTH_MAX: usize = 512;

/// Query rows of a tile where a sequence has a single row: more tiles, for more threads.
const SINGLE_ROW_QUERIES: usize = 4;

/// What a thread keeps of the tile of attention that it is at.
pub(super) struct TileMemory {
    /// Times the scale of the scores.
    queries: [[f32; QUERY_STRIDE]; QUERY_ROWS],
    /// The queries where keys are codes.
    coded: [CodedQuery; QUERY_ROWS],
    /// (query rows, value stride)
    outputs: [f32; QUERY_ROWS * HEAD_WIDTH_MAX],
}

impl TileMemory {
    pub(super) const EMPTY: TileMemory = TileMemory {
        queries: [[0.0; QUERY_STRIDE]; QUERY_ROWS],
        coded: [CodedQuery::EMPTY; QUERY_ROWS],
        outputs: [0.0; QUERY_ROWS * HEAD_WIDTH_MAX],
    };
}

/// Query vectors of one run of rows and one key head that a tile covers: (row, head) pairs, row by row.
struct Tile {
    first_row: usize,
    kv_head: usize,
    /// First vector of the tile, counted in (row, head of the group) pairs.
    first: usize,
    count: usize,
}

impl Walk<'_> {
    /// Whether queries are rotated and keys stored by the thread that attends with them: if no other row of the pass wants
    /// the keys, and no thread would be idle for it.
    pub(super) fn attends_by_head(&self, rope: Rope<'_>, step: &Attention) -> bool {
        let sequences = self.pass.input.sequences;
        let tiles = (step.heads / step.kv_heads).div_ceil(SINGLE_ROW_QUERIES);
        let each_its_own = sequences.is_sorted_by(|before, next| before < next);
        rope.is_for(step) && each_its_own && (tiles == 1 || sequences.len() * step.kv_heads >= self.worker.threads)
    }

    /// Both steps in one phase, a head of keys and values of a row at a time.
    pub(super) fn rope_and_attention(&mut self, rope: Rope<'_>, step: &Attention) {
        let group = step.heads / step.kv_heads;
        self.phase(self.pass.input.rows() * step.kv_heads, 1, |walk, claimed| {
            for index in claimed {
                let (row, kv_head) = (index / step.kv_heads, index % step.kv_heads);
                // SAFETY: nobody else claims this head of this row.
                unsafe { walk.rope_store_heads(rope, row, kv_head..kv_head + 1) };
                for first in (0..group).step_by(QUERY_ROWS) {
                    let count = QUERY_ROWS.min(group - first);
                    walk.attend_tile(step, rope.layer, &Tile { first_row: row, kv_head, first, count });
                }
            }
        });
    }

    /// `roped` is the preparation that rotates queries and stores keys.
    pub(super) fn attention(&mut self, step: &Attention, layer: usize, roped: Led) {
        let group = step.heads / step.kv_heads;
        let high = |rows: usize| if rows == 1 { SINGLE_ROW_QUERIES } else { QUERY_ROWS };
        let tiles_of = |rows: usize| (rows * group).div_ceil(high(rows)) * step.kv_heads;
        let total: usize = self.pass.runs.iter().map(|(_, rows)| tiles_of(*rows)).sum();
        let chunk = (total / (self.worker.threads * 32)).clamp(1, 8);
        self.phase(total, chunk, |walk, claimed| {
            for mut index in claimed {
                for run @ (first_row, rows) in &walk.pass.runs {
                    let tiles = tiles_of(*rows);
                    if index >= tiles {
                        index -= tiles;
                        continue;
                    }
                    let per_head = tiles / step.kv_heads;
                    let first = index % per_head * high(*rows);
                    let count = high(*rows).min(rows * group - first);
                    let last_row = first_row + (first + count - 1) / group;
                    walk.wait_for(roped, walk.rows_in_sight(*run, last_row));
                    walk.attend_tile(
                        step,
                        layer,
                        &Tile { first_row: *first_row, kv_head: index / per_head, first, count },
                    );
                    break;
                }
            }
        });
    }

    /// Rows of the pass whose keys lie in pages that rows of a run read, up to `last_row`.
    fn rows_in_sight(&self, (first, count): (usize, usize), last_row: usize) -> Range<usize> {
        let Pass { input, runs, .. } = self.pass;
        let sequence_of = |run: &(usize, usize)| input.sequences[run.0];
        if !runs.is_sorted_by(|before, next| sequence_of(before) < sequence_of(next)) {
            // Another run can be of the same sequence.
            return 0..input.rows();
        }
        let page_of = |position: &u32| *position as usize / PAGE;
        let page = page_of(&input.positions[last_row]);
        first..first + input.positions[first..first + count].partition_point(|position| page_of(position) <= page)
    }

    fn attend_tile(&mut self, step: &Attention, layer: usize, tile: &Tile) {
        let (pass, exe) = (self.pass, self.pass.exe);
        let pages = pass.pages();
        let layout = pages.layers[layer];
        let group = step.heads / step.kv_heads;
        let memory = &mut self.tile;
        let mut seen = [(0, 0); QUERY_ROWS];
        for (vector, seen) in seen.iter_mut().enumerate().take(tile.count) {
            let row = tile.first_row + (tile.first + vector) / group;
            let head = tile.kv_head * group + (tile.first + vector) % group;
            let at = row * exe.program.sizes.qkv + head * step.head_width;
            // SAFETY: the query was written in an earlier phase, or by this thread; its width was checked at compile time.
            unsafe {
                let query = exe.scratch.qkv.slice(at, step.head_width);
                if pages.format == PageFormat::Codes {
                    let coded = &mut memory.coded[vector];
                    (exe.kernels.code_query)(query.as_ptr(), step.head_width, step.scale, coded);
                }
                let to = memory.queries[vector].iter_mut();
                to.zip(query).for_each(|(to, element)| *to = element * step.scale);
            }
            let position = pass.input.positions[row] as usize;
            let first_seen = step.window.map_or(0, |window| (position + 1).saturating_sub(window as usize));
            *seen = (first_seen, position + 1);
        }
        let stride = value_stride(step.head_width);
        memory.outputs[..tile.count * stride].fill(0.0);
        let begin = seen[..tile.count].iter().map(|range| range.0).min().unwrap_or(0) / PAGE;
        let end = seen[..tile.count].iter().map(|range| range.1).max().unwrap_or(0).div_ceil(PAGE);
        let table = &pass.input.page_tables[pass.input.sequences[tile.first_row] as usize];
        let mut states = [SoftmaxState::EMPTY; QUERY_ROWS];
        let page_kernel = (exe.kernels.page)(pages.format);
        for page in begin..end {
            let head_of = |page: usize| layout.head(pages, table.pages[page] as usize, tile.kv_head);
            let (head, next) = (head_of(page), head_of((page + 1).min(end - 1)));
            let bound = |position: usize| position.saturating_sub(page * PAGE).min(PAGE);
            let mut args = PageArgs {
                queries: memory.queries.as_flattened().as_ptr(),
                row_count: tile.count,
                head_width: step.head_width,
                head: head.address(0),
                next: next.address(0),
                coded: &memory.coded,
                from: seen.map(|range| bound(range.0)),
                to: seen.map(|range| bound(range.1)),
                soft_cap: step.soft_cap,
                states: &mut states,
                outputs: memory.outputs.as_mut_ptr(),
            };
            // SAFETY: queries and pages were written in earlier phases, or by this thread, and span the widths given.
            unsafe { page_kernel(&mut args) };
        }
        for (vector, state) in states.iter().enumerate().take(tile.count) {
            let row = tile.first_row + (tile.first + vector) / group;
            let head = tile.kv_head * group + (tile.first + vector) % group;
            let at = row * exe.program.sizes.attention + head * step.head_width;
            // SAFETY: this (row, head) belongs to the claimed tile.
            let out = unsafe { exe.scratch.attention.slice_mut(at, step.head_width) };
            let factor = 1.0 / state.sum;
            for (out, value) in out.iter_mut().zip(&memory.outputs[vector * stride..]) {
                *out = value * factor;
            }
        }
    }
}
