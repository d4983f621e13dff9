//! The way of weights into GPU memory: taken apart on all cores, written once.
//!
//! Where the GPU shares the processor's memory, buffers are written in place. Elsewhere the planes go into host memory that
//! the GPU copies from; a few buffers of it are used in turn, so that cores take the next rows apart while the GPU copies.

use std::collections::VecDeque;
use std::thread;

use program::{BackendError, TensorSpec};
use wgpu::{BufferUsages, WriteOnly};

use crate::device::{Gpu, lost};
use crate::planes::{Layout, PLANES, stored, units_of};
use crate::weights::{Part, decode};

/// Bytes of planes of a staging buffer, and how many of these there are at most.
const STAGE_BYTES: usize = 32 << 20;
const STAGES: usize = 3;

/// Bytes of a row's planes that a thread takes apart at a time: they stay in its cache.
const SCRATCH_BYTES: usize = 256 << 10;

/// Stored rows, and the planes that they become.
#[derive(Clone, Copy)]
struct Rows<'a> {
    spec: &'a TensorSpec,
    layout: &'a Layout,
    bytes: &'a [u8],
}

/// Bytes before each plane, and of it.
type Places = [(u64, usize); PLANES];

/// Host memory that the GPU copies from.
#[derive(Default)]
pub(crate) struct Staging {
    /// In the order in which they are free again.
    busy: VecDeque<(wgpu::Buffer, wgpu::SubmissionIndex)>,
}

impl Staging {
    /// Writes matrix `which` of a part from the stored bytes of the whole tensor; in place where the part is `mapped`.
    pub(crate) fn write(
        &mut self,
        gpu: &Gpu,
        (part, which): (&Part, usize),
        spec: &TensorSpec,
        bytes: &[u8],
        mapped: bool,
    ) -> Result<(), BackendError> {
        let piece = &part.matrices[which];
        let units = units_of(spec.columns);
        let unit_bytes: usize = piece.layout.planes.iter().map(|plane| plane.bytes_of(8)).sum();
        // Whole words of every plane: four rows of an odd number of scales of one byte.
        let staged = (STAGE_BYTES / (units * unit_bytes / 8).max(1)).max(4) / 4 * 4;
        let rows_at_once = if mapped { piece.rows.len() } else { staged };
        let mut first = piece.rows.start;
        while first < piece.rows.end {
            let count = rows_at_once.min(piece.rows.end - first);
            let bytes = &bytes[first * spec.row_bytes()..(first + count) * spec.row_bytes()];
            let rows = Rows { spec, layout: &piece.layout, bytes };
            let before = (first - piece.rows.start) * units;
            let places: Places = std::array::from_fn(|plane| {
                let size = piece.layout.planes[plane];
                let start = 4 * u64::from(piece.starts[plane]) + size.bytes_of(before) as u64;
                (start, size.bytes_of(count * units).next_multiple_of(4))
            });
            if mapped {
                rows.split_into(&part.buffer, places)?;
            } else {
                self.copy(gpu, &part.buffer, places, rows)?;
            }
            first += count;
        }
        Ok(())
    }

    /// Takes rows apart into a staging buffer and has the GPU copy them to `places` of `buffer`.
    fn copy(&mut self, gpu: &Gpu, buffer: &wgpu::Buffer, places: Places, rows: Rows<'_>) -> Result<(), BackendError> {
        let mut end = 0;
        let staged = places.map(|(_, bytes)| {
            let start = end;
            // Where a mapped range may begin.
            end += (bytes as u64).next_multiple_of(wgpu::MAP_ALIGNMENT);
            (start, bytes)
        });
        let stage = self.take(gpu, end)?;
        rows.split_into(&stage, staged)?;
        stage.unmap();
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        for ((to, bytes), (from, _)) in places.into_iter().zip(staged) {
            if bytes > 0 {
                encoder.copy_buffer_to_buffer(&stage, from, buffer, to, bytes as u64);
            }
        }
        let index = gpu.queue.submit([encoder.finish()]);
        stage.slice(..).map_async(wgpu::MapMode::Write, |_| {});
        self.busy.push_back((stage, index));
        Ok(())
    }

    /// A mapped buffer of at least `bytes`: a new one, or the one that has been under way for longest.
    fn take(&mut self, gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer, BackendError> {
        if self.busy.len() >= STAGES
            && let Some((stage, index)) = self.busy.pop_front()
        {
            let waited = gpu.device.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None });
            gpu.check()?;
            waited.map_err(|error| lost(error.to_string()))?;
            if stage.size() >= bytes {
                return Ok(stage);
            }
        }
        let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
        gpu.mapped_buffer("weights under way", bytes.max(STAGE_BYTES as u64), usage)
    }
}

/// A part of mapped memory that one thread writes.
struct Place<'a>(WriteOnly<'a, [u8]>);

// SAFETY: it is the only way to its bytes, as `&mut [u8]` would be, which may be sent.
unsafe impl Send for Place<'_> {}

impl Rows<'_> {
    /// Takes the rows apart, on all cores, into the planes' places in mapped memory.
    fn split_into(self, buffer: &wgpu::Buffer, places: Places) -> Result<(), BackendError> {
        let Rows { spec, layout, bytes } = self;
        let units = units_of(spec.columns);
        let count = bytes.len() / spec.row_bytes();
        let workers = thread::available_parallelism().map_or(1, usize::from).min(count.div_ceil(4));
        // So many rows that no two threads share a word.
        let share = count.div_ceil(workers).next_multiple_of(4);
        let mut views = Vec::new();
        for (start, bytes) in places {
            let range = start..start + bytes as u64;
            views.push(match bytes {
                0 => None,
                _ => Some(buffer.get_mapped_range_mut(range).map_err(|error| lost(error.to_string()))?),
            });
        }
        let mut rest: Vec<WriteOnly<'_, [u8]>> = views
            .iter_mut()
            .map(|view| view.as_mut().map_or(WriteOnly::from_mut(&mut [][..]), |view| view.slice(..)))
            .collect();
        thread::scope(|scope| {
            for bytes in bytes.chunks(share * spec.row_bytes()) {
                let last = bytes.len() / spec.row_bytes() < share;
                let mut mine = Vec::new();
                for (rest, plane) in rest.iter_mut().zip(layout.planes) {
                    let length = if last { rest.len() } else { plane.bytes_of(share * units) };
                    mine.push(Place(rest.split_off(..length).expect("planes are as long as their rows")));
                }
                scope.spawn(move || Rows { bytes, ..self }.split(mine));
            }
        });
        Ok(())
    }

    /// Takes the rows apart in pieces that stay in the cache.
    fn split(self, mut planes: Vec<Place<'_>>) {
        let Rows { spec, layout, bytes } = self;
        let units = units_of(spec.columns);
        let native = stored(spec.format) == spec.format;
        let at_once = (SCRATCH_BYTES / spec.row_bytes().max(1) / 4 * 4).max(4);
        let mut scratch = layout.planes.map(|plane| vec![0; plane.bytes_of(at_once * units)]);
        let mut values = Vec::new();
        for rows in bytes.chunks(at_once * spec.row_bytes()) {
            let count = rows.len() / spec.row_bytes();
            let mut lengths = layout.planes.map(|plane| plane.bytes_of(count * units)).into_iter();
            let parts = scratch.each_mut().map(|plane| &mut plane[..lengths.next().unwrap_or(0)]);
            if native {
                (layout.split)(rows, spec.columns, parts);
            } else {
                values.resize(count * spec.columns, 0.0_f32);
                decode(spec.format, rows, &mut values);
                (layout.split)(bytemuck::cast_slice(&values), spec.columns, parts);
            }
            for ((plane, scratch), size) in planes.iter_mut().zip(&scratch).zip(layout.planes) {
                let bytes = size.bytes_of(count * units);
                plane
                    .0
                    .split_off(..bytes)
                    .expect("planes are as long as their rows")
                    .copy_from_slice(&scratch[..bytes]);
            }
        }
    }
}
