//! Weights in GPU memory: matrices that one step multiplies with lie in one buffer, cut by rows where it would be too
//! large for a kernel to see.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use program::{BackendError, Program, Step, TensorBytes, TensorIndex, TensorSpec, Unit};
use tensor::Format;
use wgpu::BufferUsages;

use crate::device::Gpu;
use crate::planes::{Layout, PLANES, stored, units_of};
use crate::staging::Staging;

/// Matrices that belong together, in one buffer for each part.
pub(crate) struct Group {
    pub(crate) parts: Vec<Part>,
}

/// Some rows of each matrix of a group.
pub(crate) struct Part {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) matrices: Vec<Piece>,
}

/// Some rows of a matrix, as planes.
#[derive(Clone)]
pub(crate) struct Piece {
    pub(crate) rows: Range<usize>,
    pub(crate) layout: Layout,
    /// Words from the buffer's start to each plane.
    pub(crate) starts: [u32; PLANES],
}

/// Norm weights and biases as f32, those of a unit one after the other. Units begin where a binding may begin, so that
/// kernels see a unit's vectors at places that are the same for all layers of one shape.
struct Vectors {
    buffer: wgpu::Buffer,
    /// Words before each unit's vectors.
    units: Vec<u32>,
    /// Words before a unit's vector.
    starts: HashMap<(usize, TensorIndex), u32>,
}

/// See the module.
pub(crate) struct Weights {
    groups: HashMap<Vec<TensorIndex>, Arc<Group>>,
    vectors: Vectors,
    uploaded: Vec<bool>,
    staging: Staging,
    /// Whether the matrices' buffers are mapped: from the start to the first pass, where memory is unified.
    mapped: bool,
}

/// The tensors that a step multiplies with, in its order; the table of an embedding.
pub(crate) fn group_of(unit: &Unit, step: &Step) -> Vec<TensorIndex> {
    let slots = match step {
        Step::Embed(embed) => vec![embed.table],
        _ => step.matrices(),
    };
    slots.iter().map(|slot| unit.weights[slot.0 as usize]).collect()
}

impl Weights {
    /// Takes memory for everything that `program` refers to.
    pub(crate) fn new(gpu: &Gpu, program: &Program) -> Result<Weights, BackendError> {
        let mut groups = HashMap::new();
        let alignment = gpu.device.limits().min_storage_buffer_offset_alignment / 4;
        let (mut starts, mut units, mut words) = (HashMap::new(), Vec::new(), 0_u32);
        for (number, unit) in program.units().enumerate() {
            words = words.next_multiple_of(alignment.max(1));
            units.push(words);
            for (_, step) in &program.template(unit).steps {
                let tensors = group_of(unit, step);
                if !tensors.is_empty() && !groups.contains_key(&tensors) {
                    let specs: Vec<&TensorSpec> = tensors.iter().map(|index| program.tensor(*index)).collect();
                    groups.insert(tensors, Arc::new(allocate(gpu, &specs)?));
                }
                for slot in step.vectors() {
                    let index = unit.weights[slot.0 as usize];
                    starts.entry((number, index)).or_insert_with(|| {
                        let start = words;
                        words += program.tensor(index).columns as u32;
                        start
                    });
                }
            }
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        // Units without vectors begin within the buffer too.
        let buffer = gpu.buffer("norm weights and biases", 4 * (u64::from(words) + 1), usage)?;
        let vectors = Vectors { buffer, units, starts };
        let uploaded = vec![false; program.tensors.len()];
        Ok(Weights { groups, vectors, uploaded, staging: Staging::default(), mapped: gpu.info.unified })
    }

    /// The group of exactly these tensors.
    pub(crate) fn group(&self, tensors: &[TensorIndex]) -> Arc<Group> {
        Arc::clone(&self.groups[tensors])
    }

    /// What kernels see of the vectors for unit number `unit`: its own, and those of later units.
    pub(crate) fn vectors(&self, unit: usize) -> wgpu::BufferBinding<'_> {
        let offset = 4 * u64::from(self.vectors.units[unit]);
        wgpu::BufferBinding { buffer: &self.vectors.buffer, offset, size: None }
    }

    /// Where a norm's weights or a bias of unit number `owner` start in what kernels see for unit number `unit`, which is
    /// not after it; in words.
    pub(crate) fn vector(&self, unit: usize, (owner, tensor): (usize, TensorIndex)) -> u32 {
        self.vectors.starts[&(owner, tensor)] - self.vectors.units[unit]
    }

    pub(crate) fn is_uploaded(&self, tensor: TensorIndex) -> bool {
        self.uploaded[tensor.0 as usize]
    }

    /// Writes a tensor to all its places.
    pub(crate) fn upload(
        &mut self,
        gpu: &Gpu,
        spec: &TensorSpec,
        tensor: TensorIndex,
        bytes: &TensorBytes,
    ) -> Result<(), BackendError> {
        let mut values = Vec::new();
        for (_, start) in self.vectors.starts.iter().filter(|((_, index), _)| *index == tensor) {
            if values.is_empty() {
                values = vec![0.0_f32; spec.columns];
                decode(spec.format, bytes, &mut values);
            }
            gpu.queue.write_buffer(&self.vectors.buffer, 4 * u64::from(*start), bytemuck::cast_slice(&values));
        }
        for (tensors, group) in &self.groups {
            for (place, _) in tensors.iter().enumerate().filter(|(_, index)| **index == tensor) {
                for part in &group.parts {
                    self.staging.write(gpu, (part, place), spec, bytes, self.mapped)?;
                }
            }
        }
        self.uploaded[tensor.0 as usize] = true;
        gpu.check()
    }

    /// Gives up what only uploads need; before a pass, which must not read mapped memory.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.mapped) {
            self.groups.values().flat_map(|group| &group.parts).for_each(|part| part.buffer.unmap());
        }
        self.staging = Staging::default();
    }
}

/// Numbers of stored bytes.
pub(crate) fn decode(format: Format, bytes: &[u8], values: &mut [f32]) {
    let codec = format.codec().expect("the program builder refuses formats without a codec");
    (codec.decode)(bytes, values);
}

fn allocate(gpu: &Gpu, specs: &[&TensorSpec]) -> Result<Group, BackendError> {
    let limit = gpu.info.binding_bytes.min(gpu.info.buffer_bytes).min(u64::from(u32::MAX) * 4);
    let rows_max = specs.iter().map(|spec| spec.rows).max().unwrap_or(0);
    let cuts = (1..=rows_max.div_ceil(32).max(1)).find_map(|count| {
        let parts: Vec<(u64, Vec<Piece>)> = (0..count).map(|part| pieces(specs, part, count)).collect();
        parts.iter().all(|(bytes, _)| *bytes <= limit).then_some(parts)
    });
    let refused = || BackendError::OutOfMemory {
        backend: crate::device::NAME,
        what: format!("32 rows of {}, more than a kernel can see of one buffer", specs[0].name),
        bytes: limit,
    };
    let mut parts = Vec::new();
    for (bytes, matrices) in cuts.ok_or_else(refused)? {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let buffer = match gpu.info.unified {
            true => gpu.mapped_buffer(&specs[0].name, bytes, usage | BufferUsages::MAP_WRITE)?,
            false => gpu.buffer(&specs[0].name, bytes, usage)?,
        };
        parts.push(Part { buffer, matrices });
    }
    Ok(Group { parts })
}

/// Part `part` of `count` of each matrix, on borders of 32 rows, and the bytes of all.
fn pieces(specs: &[&TensorSpec], part: usize, count: usize) -> (u64, Vec<Piece>) {
    let mut bytes = 0_u64;
    let mut pieces = Vec::new();
    for spec in specs {
        let border = |index: usize| {
            if index == count { spec.rows } else { (spec.rows * index / count).next_multiple_of(32).min(spec.rows) }
        };
        let rows = border(part)..border(part + 1);
        let layout = Layout::of(stored(spec.format)).expect("what is stored has a layout");
        let units = rows.len() * units_of(spec.columns);
        let mut starts = [0; PLANES];
        for (start, plane) in starts.iter_mut().zip(&layout.planes) {
            *start = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
            bytes += (plane.bytes_of(units) as u64).next_multiple_of(16);
        }
        pieces.push(Piece { rows, layout, starts });
    }
    (bytes, pieces)
}
