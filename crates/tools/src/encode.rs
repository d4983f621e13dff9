//! One tensor from one format to another, in pieces: rows are decoded, encoded and checked by several threads, and
//! written in order.
//!
//! Blocks are independent, so the bytes do not depend on the number of threads or the size of a piece.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use tensor::{Codec, Format, Shape};

use crate::error::ToolError;
use crate::watch::Meter;

/// Chunks for each thread that are encoded before they are written: enough that threads seldom wait for each other, and few
/// enough that slow formats still tell how far they are.
const CHUNKS_PER_THREAD: usize = 16;

/// Elements that a thread takes at a time: enough to hide the taking.
const CHUNK_ELEMENTS: usize = 1 << 15;

/// A tensor on its way from one format to another.
pub(crate) struct Conversion<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: Shape,
    /// The format of `source`.
    pub(crate) from: Format,
    pub(crate) source: &'a [u8],
    /// Its blocks divide the rows.
    pub(crate) to: Format,
    /// One number for each column of each matrix, or none.
    pub(crate) importances: Option<&'a [f32]>,
    pub(crate) threads: usize,
}

/// What a conversion cost in precision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Loss {
    /// Sum of squared values.
    pub(crate) squares: f64,
    /// Sum of squared differences to what the new blocks decode to.
    pub(crate) squared_errors: f64,
}

impl Loss {
    /// The root mean square error, relative to that of the values; 0 for a tensor of zeros.
    pub(crate) fn relative_error(&self) -> f64 {
        if self.squares > 0.0 { (self.squared_errors / self.squares).sqrt() } else { 0.0 }
    }
}

/// Rows that one thread converts.
struct Chunk<'a> {
    row: usize,
    source: &'a [u8],
    encoded: &'a mut [u8],
}

impl Conversion<'_> {
    /// Writes the converted tensor to `out`.
    pub(crate) fn run(&self, out: &mut dyn Write, meter: &mut Meter<'_, '_>) -> Result<Loss, ToolError> {
        let rows = Rows::of(self)?;
        let mut loss = Loss::default();
        let slab_elements = CHUNK_ELEMENTS * CHUNKS_PER_THREAD * self.threads.max(1);
        let slab_rows = (slab_elements / rows.columns.max(1)).max(1);
        let mut encoded = vec![0; slab_rows.min(rows.count) * rows.encoded_bytes];
        for first in (0..rows.count).step_by(slab_rows) {
            let count = slab_rows.min(rows.count - first);
            let source = &self.source[first * rows.source_bytes..][..count * rows.source_bytes];
            let encoded = &mut encoded[..count * rows.encoded_bytes];
            let slab = self.slab(&rows, first, source, encoded)?;
            loss.squares += slab.squares;
            loss.squared_errors += slab.squared_errors;
            out.write_all(encoded).map_err(ToolError::Output)?;
            meter.add(self.name, source.len() as u64)?;
        }
        Ok(loss)
    }

    /// Converts consecutive rows; the sums are added in the order of rows.
    fn slab(&self, rows: &Rows, first: usize, source: &[u8], encoded: &mut [u8]) -> Result<Loss, ToolError> {
        let chunk_rows = (CHUNK_ELEMENTS / rows.columns.max(1)).max(1);
        let parts =
            source.chunks(chunk_rows * rows.source_bytes).zip(encoded.chunks_mut(chunk_rows * rows.encoded_bytes));
        let chunks: Vec<Chunk<'_>> = parts
            .enumerate()
            .map(|(index, (source, encoded))| Chunk { row: first + index * chunk_rows, source, encoded })
            .collect();
        let threads = self.threads.clamp(1, chunks.len().max(1));
        let losses = Mutex::new(Vec::new());
        let count = chunks.len();
        let queue = Mutex::new(chunks.into_iter().enumerate());
        let failed = AtomicBool::new(false);
        let work = || {
            let mut buffers = Buffers::default();
            while !failed.load(Ordering::Relaxed) {
                let next = locked(&queue).next();
                let Some((index, mut chunk)) = next else { break };
                let result = self.chunk(rows, &mut chunk, &mut buffers);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                locked(&losses).push((index, result));
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                thread::Builder::new().spawn_scoped(scope, work).map_err(ToolError::Thread)?;
            }
            work();
            Ok::<(), ToolError>(())
        })?;
        let mut losses = losses.into_inner().unwrap_or_else(PoisonError::into_inner);
        losses.sort_by_key(|(index, _)| *index);
        debug_assert!(failed.into_inner() || losses.len() == count);
        let mut sum = Loss::default();
        for (_, loss) in losses {
            let loss = loss?;
            sum.squares += loss.squares;
            sum.squared_errors += loss.squared_errors;
        }
        Ok(sum)
    }

    fn chunk(&self, rows: &Rows, chunk: &mut Chunk<'_>, buffers: &mut Buffers) -> Result<Loss, ToolError> {
        let count = chunk.source.len() / rows.source_bytes * rows.columns;
        buffers.values.resize(count, 0.0);
        buffers.decoded.resize(count, 0.0);
        let (values, decoded) = (&mut buffers.values[..count], &mut buffers.decoded[..count]);
        (rows.from.decode)(chunk.source, values);
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(ToolError::NotFinite {
                tensor: self.name.to_owned(),
                value: values[at],
                row: (chunk.row + at / rows.columns) as u64,
                column: (at % rows.columns) as u64,
            });
        }
        match self.importances {
            None => (rows.to.encode)(values, chunk.encoded),
            Some(importances) => {
                let lines = values.chunks_exact(rows.columns).zip(chunk.encoded.chunks_exact_mut(rows.encoded_bytes));
                for (row, (values, encoded)) in (chunk.row..).zip(lines) {
                    let matrix = row / rows.per_matrix;
                    let importances = &importances[matrix * rows.columns..][..rows.columns];
                    (rows.to.encode_weighted)(values, importances, encoded);
                }
            }
        }
        (rows.to.decode)(chunk.encoded, decoded);
        let mut loss = Loss::default();
        for (index, (value, decoded)) in values.iter().zip(&*decoded).enumerate() {
            if !decoded.is_finite() {
                return Err(ToolError::BeyondFormat {
                    tensor: self.name.to_owned(),
                    format: self.to.name(),
                    row: (chunk.row + index / rows.columns) as u64,
                });
            }
            loss.squares += f64::from(*value) * f64::from(*value);
            loss.squared_errors += f64::from(value - decoded) * f64::from(value - decoded);
        }
        Ok(loss)
    }
}

/// A panic of another thread ends the scope; what it left in a lock is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Buffers {
    values: Vec<f32>,
    decoded: Vec<f32>,
}

/// A tensor's rows in both formats.
struct Rows {
    columns: usize,
    count: usize,
    /// Rows of one matrix of a stack.
    per_matrix: usize,
    source_bytes: usize,
    encoded_bytes: usize,
    from: Codec,
    to: Codec,
}

impl Rows {
    fn of(conversion: &Conversion<'_>) -> Result<Rows, ToolError> {
        let Conversion { name, shape, from, to, source, .. } = conversion;
        let name = || (*name).to_owned();
        let decoder = from.codec().ok_or_else(|| ToolError::NoDecoder { tensor: name(), format: from.name() })?;
        let encoder = to.codec().ok_or_else(|| ToolError::NoEncoder { tensor: name(), format: to.name() })?;
        let encoded_bytes = to.row_bytes(shape.row_elements()).expect("formats are chosen to fit the rows");
        // A tensor of an opened file lies in memory, so its counts fit `usize`.
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let count = size(shape.rows().unwrap_or(0));
        Ok(Rows {
            columns: size(shape.row_elements()),
            count,
            per_matrix: size(shape.dimensions().get(1).copied().unwrap_or(1)),
            source_bytes: source.len() / count.max(1),
            encoded_bytes: size(encoded_bytes),
            from: decoder,
            to: encoder,
        })
    }
}
