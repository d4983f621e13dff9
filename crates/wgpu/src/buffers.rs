//! Activation buffers.

use program::{BackendError, Buffer, Program, RowBucket};
use wgpu::BufferUsages;

use crate::device::Gpu;
use crate::planes::{UNIT, units_of};
use crate::shader::FEW_ROWS;

/// Words in front of a pass: rows, rows that want logits, splits of attention, nothing.
pub(crate) const HEADER: usize = 4;

/// Splits of one row's positions at most.
pub(crate) const SPLITS_MAX: usize = 32;

/// Outputs that a workgroup of `matvec.wgsl` makes: a block of `encode.wgsl`.
pub(crate) const BLOCK: usize = 8;

/// Rows of a tile of `attention_tiles.wgsl`.
const TILE_ROWS: usize = 16;

/// Rows of a tile of `attention_matrix_units.wgsl`.
pub(crate) const MATRIX_TILE_ROWS: usize = 64;

/// Widest head whose sums fit the registers of its subgroup.
const MATRIX_HEAD_WIDTH_MAX: usize = 128;

/// Every activation buffer of an executable.
pub(crate) struct Buffers {
    /// See `shaders/pass.wgsl`.
    pub(crate) pass: wgpu::Buffer,
    /// First row and count of each tile of rows: (tiles, 2).
    pub(crate) tiles: wgpu::Buffer,
    /// (rows, hidden).
    pub(crate) hidden: wgpu::Buffer,
    /// (rows, qkv).
    pub(crate) qkv: wgpu::Buffer,
    /// (rows, attention).
    pub(crate) attention: wgpu::Buffer,
    /// (rows, gated).
    pub(crate) gated: wgpu::Buffer,
    /// (rows, hidden): a projection before its norm.
    pub(crate) projected: wgpu::Buffer,
    /// (logit rows, hidden).
    pub(crate) selected: wgpu::Buffer,
    /// (logit rows, vocabulary).
    pub(crate) logits: wgpu::Buffer,
    /// Inputs of products with few rows, as codes or f32: what comes from `hidden`, `attention`, `gated`, `selected`.
    pub(crate) few: [Few; 4],
    /// Inputs of products with many rows.
    pub(crate) many: wgpu::Buffer,
    /// Word where the scales of rows of halves start in `many`.
    pub(crate) many_row_scales: usize,
    /// Rows of a tile that attends together.
    pub(crate) tile_rows: usize,
    /// Splits of attention.
    pub(crate) partials: wgpu::Buffer,
    /// Bound where a kernel does not use a binding.
    pub(crate) nothing: wgpu::Buffer,
}

/// Inputs of products with few rows.
pub(crate) struct Few {
    pub(crate) buffer: wgpu::Buffer,
    /// Units of a row.
    pub(crate) units: usize,
    /// Word where sums of squares start.
    pub(crate) sums: usize,
    /// Sums of each row, a multiple of four: those beyond the last block are zero.
    pub(crate) sum_count: usize,
}

impl Buffers {
    pub(crate) fn new(gpu: &Gpu, program: &Program, bucket: RowBucket) -> Result<Buffers, BackendError> {
        let sizes = program.sizes;
        let storage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let make = |what: &str, words: usize| gpu.buffer(what, 4 * words as u64, storage);
        let (rows, logit_rows) = (bucket.rows, bucket.logit_rows);
        let inputs = [sizes.hidden, sizes.attention, sizes.gated, sizes.hidden];
        let widest = inputs.iter().map(|width| units_of(*width) * UNIT).max().unwrap_or(0);
        let heads = program.units().flat_map(|unit| &program.template(unit).steps).map(|(_, step)| match step {
            program::Step::Attention(attention) => attention.heads * (attention.head_width + 2),
            _ => 0,
        });
        let attends_by_matrix =
            program.units().flat_map(|unit| &program.template(unit).steps).all(|(_, step)| match step {
                program::Step::Attention(attention) => {
                    attention.head_width.is_multiple_of(16) && attention.head_width <= MATRIX_HEAD_WIDTH_MAX
                }
                _ => true,
            });
        let partials = heads.max().unwrap_or(0) * SPLITS_MAX * FEW_ROWS.min(rows);
        let few = inputs.map(|width| {
            let units = units_of(width);
            (units, width.div_ceil(BLOCK).next_multiple_of(4))
        });
        let make_few = |(units, sum_count): (usize, usize)| {
            let sums = FEW_ROWS * units * UNIT;
            let buffer = make("inputs of few rows", sums + FEW_ROWS * sum_count)?;
            Ok::<Few, BackendError>(Few { buffer, units, sums, sum_count })
        };
        let few = [make_few(few[0])?, make_few(few[1])?, make_few(few[2])?, make_few(few[3])?];
        Ok(Buffers {
            pass: make("the pass", HEADER + 3 * rows + logit_rows + pages_max(program, bucket))?,
            tiles: make("tiles of rows", 2 * rows)?,
            hidden: make("hidden rows", rows * sizes.hidden)?,
            qkv: make("queries, keys and values", rows * sizes.qkv)?,
            attention: make("attention outputs", rows * sizes.attention)?,
            gated: make("gated rows", rows * sizes.gated)?,
            projected: make("projected rows", rows * sizes.hidden)?,
            selected: make("selected rows", logit_rows * sizes.hidden)?,
            logits: make("logits", logit_rows * sizes.vocabulary)?,
            // Row scales come after the rows.
            many: make("inputs of many rows", rows.max(logit_rows) * (widest + 1))?,
            many_row_scales: rows.max(logit_rows) * widest,
            tile_rows: if gpu.info.matrix_units && attends_by_matrix { MATRIX_TILE_ROWS } else { TILE_ROWS },
            partials: make("splits of attention", partials)?,
            nothing: make("nothing", 4)?,
            few,
        })
    }

    /// The buffer of the program's name for it.
    pub(crate) fn get(&self, buffer: Buffer) -> &wgpu::Buffer {
        match buffer {
            Buffer::Hidden => &self.hidden,
            Buffer::Qkv => &self.qkv,
            Buffer::Attention => &self.attention,
            Buffer::Gated => &self.gated,
            Buffer::Selected => &self.selected,
            Buffer::Logits => &self.logits,
        }
    }

    /// The inputs that come from a buffer.
    pub(crate) fn few(&self, buffer: Buffer) -> &Few {
        match buffer {
            Buffer::Hidden | Buffer::Qkv => &self.few[0],
            Buffer::Attention => &self.few[1],
            Buffer::Gated => &self.few[2],
            Buffer::Selected | Buffer::Logits => &self.few[3],
        }
    }
}

/// Page indices that a pass may carry: each row's own sequence at the model's whole context.
pub(crate) fn pages_max(program: &Program, bucket: RowBucket) -> usize {
    program.sizes.context.div_ceil(program::PAGE_ROWS).max(64) * bucket.rows.min(FEW_ROWS) + bucket.rows
}
