//! Pages of keys and values, and tables of rotations.

use std::sync::Arc;

use program::{BackendError, KvFormat, KvPlan, PAGE_ROWS, Program, RopeTable, Step};
use wgpu::BufferUsages;

use crate::device::Gpu;

/// Positions whose rotations are computed at a time.
const ROPE_CHUNK: usize = 256;

/// See the module.
pub(crate) struct KvPool {
    pub(crate) page_count: usize,
    pub(crate) format: KvFormat,
    layers: Vec<Layer>,
    tables: Vec<Table>,
    /// Positions that the tables hold.
    filled: usize,
}

/// Keys, then values, of all pages of a layer: (page, kv head, position in the page, element), as halves or as codes of a
/// byte. Codes are followed by scales, (page, kv head, position in the page, block of 32) halves, again of the keys first.
struct Layer {
    pages: wgpu::Buffer,
    starts: KvStarts,
}

/// Where a layer's parts start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvStarts {
    /// Octets of elements before the values.
    pub(crate) values: u32,
    /// Halves before the scales of keys, and of values; 0 without scales.
    pub(crate) scales: [u32; 2],
}

impl KvStarts {
    /// For so many elements of keys, and as many of values.
    fn new(format: KvFormat, elements: usize) -> KvStarts {
        let count = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let scales = match format {
            // The codes of keys and values take as many bytes as a half for each of the keys.
            KvFormat::Q8_0 => [count(elements), count(elements + elements / 32)],
            KvFormat::F16 | KvFormat::F32 => [0, 0],
        };
        KvStarts { values: count(elements / 8), scales }
    }
}

/// Cosine and sine for each position and pair.
struct Table {
    frequencies: Arc<[f64]>,
    magnitude: f32,
    buffer: wgpu::Buffer,
}

impl KvPool {
    pub(crate) fn new(gpu: &Gpu, program: &Program, plan: KvPlan) -> Result<KvPool, BackendError> {
        let storage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let mut layers = Vec::new();
        for shape in program.kv_shapes() {
            let elements = plan.pages * PAGE_ROWS * shape.width();
            let pages = gpu.buffer("keys and values", 2 * plan.format.bytes(elements) as u64, storage)?;
            layers.push(Layer { pages, starts: KvStarts::new(plan.format, elements) });
        }
        let mut tables: Vec<Table> = Vec::new();
        for (_, step) in program.units().flat_map(|unit| &program.template(unit).steps) {
            let Step::RopeStore(step) = step else { continue };
            if !tables.iter().any(|table| table.is(&step.rope)) {
                let pairs = step.rope.frequencies.len();
                tables.push(Table {
                    frequencies: Arc::clone(&step.rope.frequencies),
                    magnitude: step.rope.magnitude,
                    buffer: gpu.buffer("rotations", (plan.pages * PAGE_ROWS * pairs * 8) as u64, storage)?,
                });
            }
        }
        Ok(KvPool { page_count: plan.pages, format: plan.format, layers, tables, filled: 0 })
    }

    /// The pages of a layer.
    pub(crate) fn pages(&self, layer: usize) -> &wgpu::Buffer {
        &self.layers[layer].pages
    }

    /// Where the parts of a layer start.
    pub(crate) fn starts(&self, layer: usize) -> KvStarts {
        self.layers[layer].starts
    }

    /// The rotations of a table.
    pub(crate) fn rope(&self, rope: &RopeTable) -> &wgpu::Buffer {
        &self.tables.iter().find(|table| table.is(rope)).expect("every rotation has a table").buffer
    }

    /// Makes sure that the tables hold all positions below `end`. Angles are `f64`: at position 10⁵ an `f32` is off by
    /// 10⁻².
    pub(crate) fn fill_rotations(&mut self, gpu: &Gpu, end: usize) {
        let limit = self.page_count * PAGE_ROWS;
        while self.filled < end.min(limit) {
            let last = (self.filled + ROPE_CHUNK).min(limit);
            for table in &self.tables {
                let turns: Vec<[f32; 2]> = (self.filled..last)
                    .flat_map(|position| table.frequencies.iter().map(move |frequency| position as f64 * frequency))
                    .map(|angle| [angle.cos() as f32 * table.magnitude, angle.sin() as f32 * table.magnitude])
                    .collect();
                let start = (self.filled * table.frequencies.len() * 8) as u64;
                if !turns.is_empty() {
                    gpu.queue.write_buffer(&table.buffer, start, bytemuck::cast_slice(&turns));
                }
            }
            self.filled = last;
        }
    }
}

impl Table {
    fn is(&self, rope: &RopeTable) -> bool {
        self.frequencies == rope.frequencies && self.magnitude.to_bits() == rope.magnitude.to_bits()
    }
}
