//! Weights in GPU memory: matrices that one step multiplies with lie in one buffer, cut by rows where it would be too
//! large for a kernel to see.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use program::{BackendError, Program, Step, TensorBytes, TensorIndex, TensorSpec, Unit};
use tensor::Format;
use wgpu::BufferUsages;

use crate::device::Gpu;
use crate::planes::{Layout, PLANES, stored, units_of};

/// Stored bytes that are taken apart at a time.
const CHUNK_BYTES: usize = 32 << 20;

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
    staged_bytes: usize,
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
        Ok(Weights { groups, vectors, uploaded, staged_bytes: 0 })
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
        let mut staged = 0;
        for (tensors, group) in &self.groups {
            for (place, _) in tensors.iter().enumerate().filter(|(_, index)| **index == tensor) {
                for part in &group.parts {
                    staged += write(gpu, &part.buffer, &part.matrices[place], spec, bytes);
                }
            }
        }
        self.uploaded[tensor.0 as usize] = true;
        self.staged_bytes += staged;
        // What was written waits in host memory until it is submitted and done.
        if self.staged_bytes > 256 << 20 {
            gpu.queue.submit([]);
            gpu.wait()?;
            self.staged_bytes = 0;
        }
        gpu.check()
    }
}

fn decode(format: Format, bytes: &[u8], values: &mut [f32]) {
    let codec = format.codec().expect("the program builder refuses formats without a codec");
    (codec.decode)(bytes, values);
}

fn allocate(gpu: &Gpu, specs: &[&TensorSpec]) -> Result<Group, BackendError> {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
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
        parts.push(Part { buffer: gpu.buffer(&specs[0].name, bytes, usage)?, matrices });
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

/// Takes the rows of a piece apart, on all cores, and writes its planes. Returns the bytes written.
fn write(gpu: &Gpu, buffer: &wgpu::Buffer, piece: &Piece, spec: &TensorSpec, bytes: &TensorBytes) -> usize {
    let units = units_of(spec.columns);
    let row_bytes = spec.row_bytes();
    let unit_bytes: usize = piece.layout.planes.iter().map(|plane| plane.bytes * 8 / plane.units).sum();
    // Whole words of every plane: four rows of an odd number of scales of one byte.
    let chunk = (CHUNK_BYTES / (units * unit_bytes / 8).max(1)).max(4) / 4 * 4;
    let mut written = 0;
    let mut first = piece.rows.start;
    while first < piece.rows.end {
        let last = (first + chunk).min(piece.rows.end);
        let rows = &bytes[first * row_bytes..last * row_bytes];
        let planes = split(spec, &piece.layout, rows, last - first);
        let before = (first - piece.rows.start) * units;
        for ((plane, start), size) in planes.iter().zip(piece.starts).zip(piece.layout.planes) {
            if !plane.is_empty() {
                gpu.queue.write_buffer(buffer, 4 * u64::from(start) + size.bytes_of(before) as u64, plane);
                written += plane.len();
            }
        }
        first = last;
    }
    written
}

/// The planes of `count` rows, filled up to whole words.
fn split(spec: &TensorSpec, layout: &Layout, rows: &[u8], count: usize) -> [Vec<u8>; PLANES] {
    let units = units_of(spec.columns);
    let native = stored(spec.format) == spec.format;
    let mut planes = layout.planes.map(|plane| vec![0; plane.bytes_of(count * units).next_multiple_of(4)]);
    let workers = thread::available_parallelism().map_or(1, usize::from).min(count.div_ceil(2));
    // So many rows that no two threads share a word.
    let share = count.div_ceil(workers).next_multiple_of(4);
    thread::scope(|scope| {
        let mut rest = planes.each_mut().map(|plane| plane.as_mut_slice());
        for rows in rows.chunks(share * spec.row_bytes()) {
            let count = rows.len() / spec.row_bytes();
            let mut mine: [&mut [u8]; PLANES] = std::array::from_fn(|_| Default::default());
            for ((mine, rest), plane) in mine.iter_mut().zip(&mut rest).zip(layout.planes) {
                let bytes = plane.bytes_of(count * units);
                let (left, right) = std::mem::take(rest).split_at_mut(bytes);
                (*mine, *rest) = (left, right);
            }
            scope.spawn(move || {
                if native {
                    (layout.split)(rows, spec.columns, mine);
                } else {
                    let mut values = vec![0.0_f32; count * spec.columns];
                    decode(spec.format, rows, &mut values);
                    (layout.split)(bytemuck::cast_slice(&values), spec.columns, mine);
                }
            });
        }
    });
    planes
}
