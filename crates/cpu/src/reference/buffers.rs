//! What a pass reads and writes besides weights: activation rows, and pages of keys and values.

use half::f16;
use program::{BackendError, Buffer, KvFormat, KvPlan, KvShape, PAGE_ROWS, PageTable, Program, RowBucket};
use tensor::format::{Block, BlockQ8_0};

use super::zeroes;

/// A matrix of activations, row by row.
#[derive(Debug)]
pub(super) struct Rows {
    /// (rows, width)
    pub(super) values: Vec<f32>,
    pub(super) width: usize,
}

impl Rows {
    pub(super) fn new(rows: usize, width: usize) -> Rows {
        Rows { values: vec![0.0; rows * width], width }
    }

    pub(super) fn count(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.width..][..self.width]
    }
}

/// One matrix for each [`Buffer`].
#[derive(Debug)]
pub(super) struct Buffers {
    pub(super) hidden: Rows,
    pub(super) qkv: Rows,
    pub(super) attention: Rows,
    pub(super) gated: Rows,
    pub(super) selected: Rows,
    pub(super) logits: Rows,
}

impl Buffers {
    pub(super) fn new(program: &Program, bucket: RowBucket) -> Result<Buffers, BackendError> {
        let buffer = |name: &str, buffer: Buffer, rows: usize| {
            let width = program.buffer_width(buffer);
            zeroes(name, rows.checked_mul(width)).map(|values| Rows { values, width })
        };
        Ok(Buffers {
            hidden: buffer("the hidden rows", Buffer::Hidden, bucket.rows)?,
            qkv: buffer("queries, keys and values", Buffer::Qkv, bucket.rows)?,
            attention: buffer("attention outputs", Buffer::Attention, bucket.rows)?,
            gated: buffer("the feed-forward rows", Buffer::Gated, bucket.rows)?,
            selected: buffer("the selected rows", Buffer::Selected, bucket.logit_rows)?,
            logits: buffer("the logits", Buffer::Logits, bucket.logit_rows)?,
        })
    }

    pub(super) fn get(&self, buffer: Buffer) -> &Rows {
        match buffer {
            Buffer::Hidden => &self.hidden,
            Buffer::Qkv => &self.qkv,
            Buffer::Attention => &self.attention,
            Buffer::Gated => &self.gated,
            Buffer::Selected => &self.selected,
            Buffer::Logits => &self.logits,
        }
    }
}

/// Keys and values of every layer, in pages.
///
/// Elements are kept as `f32`, rounded when stored to what the format holds: to half precision, or by Q8_0's codec to
/// codes and scales and back.
#[derive(Debug)]
pub(super) struct KvPool {
    pub(super) pages: usize,
    format: KvFormat,
    layers: Vec<KvLayer>,
}

#[derive(Debug)]
struct KvLayer {
    /// (pages × PAGE_ROWS, kv_heads × head_width)
    keys: Rows,
    /// (pages × PAGE_ROWS, kv_heads × head_width)
    values: Rows,
}

impl KvPool {
    /// No page at all.
    pub(super) fn empty() -> KvPool {
        KvPool { pages: 0, format: KvFormat::F32, layers: Vec::new() }
    }

    /// `shapes` holds what each layer stores; the plan was checked.
    pub(super) fn new(shapes: &[KvShape], plan: KvPlan) -> Result<KvPool, BackendError> {
        let rows = |width: usize| {
            let count = plan.pages.checked_mul(PAGE_ROWS).and_then(|positions| positions.checked_mul(width));
            zeroes("keys and values", count).map(|values| Rows { values, width })
        };
        let layers =
            shapes.iter().map(|shape| Ok(KvLayer { keys: rows(shape.width())?, values: rows(shape.width())? }));
        Ok(KvPool { pages: plan.pages, format: plan.format, layers: layers.collect::<Result<_, BackendError>>()? })
    }

    /// Stores one position's keys and values: both (kv_heads × head_width).
    pub(super) fn store(&mut self, layer: usize, pages: &PageTable, position: usize, keys: &[f32], values: &[f32]) {
        let line = line_of(pages, position);
        let format = self.format;
        let layer = &mut self.layers[layer];
        for (stored, given) in [(layer.keys.row_mut(line), keys), (layer.values.row_mut(line), values)] {
            stored.copy_from_slice(given);
            match format {
                KvFormat::F32 => {}
                KvFormat::F16 => stored.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32()),
                KvFormat::Q8_0 => {
                    for block in stored.chunks_exact_mut(BlockQ8_0::ELEMENTS) {
                        BlockQ8_0::encode(block, None).decode(block);
                    }
                }
            }
        }
    }

    /// The keys of one position: (kv_heads × head_width).
    pub(super) fn keys(&self, layer: usize, pages: &PageTable, position: usize) -> &[f32] {
        self.layers[layer].keys.row(line_of(pages, position))
    }

    /// The values of one position: (kv_heads × head_width).
    pub(super) fn values(&self, layer: usize, pages: &PageTable, position: usize) -> &[f32] {
        self.layers[layer].values.row(line_of(pages, position))
    }
}

fn line_of(pages: &PageTable, position: usize) -> usize {
    pages.pages[position / PAGE_ROWS] as usize * PAGE_ROWS + position % PAGE_ROWS
}
