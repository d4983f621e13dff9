//! The readable backend: it defines what every step means, and every other backend is tested against it.
//!
//! Single-threaded, `f32` throughout, no step fused and no weight repacked: each weight row is decoded by its format's
//! reference codec once per pass and multiplied with every row. It is never chosen for speed.
//!
//! State and checks live here; what each step computes is in `steps`.

use std::collections::TryReserveError;
use std::ops::Range;
use std::sync::Arc;

use program::{
    Backend, BackendError, Buffer, Capabilities, ExecutableId, Fence, KvFormat, KvPlan, LedgerRow, PAGE_ROWS,
    PassInput, Program, RowBucket, Segment, Step, Support, TensorBytes, TensorIndex, Unit,
};
use tensor::Format;

mod buffers;
mod steps;

#[cfg(test)]
mod tests;

use buffers::{Buffers, KvPool};
use steps::Pass;

const NAME: &str = "reference";

/// See the module.
#[derive(Debug)]
pub struct ReferenceBackend {
    capabilities: Capabilities,
    executables: Vec<Executable>,
    submitted: u64,
}

#[derive(Debug)]
struct Executable {
    program: Arc<Program>,
    bucket: RowBucket,
    /// One for each of the program's tensors, once uploaded.
    weights: Vec<Option<TensorBytes>>,
    buffers: Buffers,
    pool: KvPool,
}

impl ReferenceBackend {
    /// A backend with nothing compiled.
    pub fn new() -> ReferenceBackend {
        let description = "readable f32 reference, 1 thread".to_owned();
        ReferenceBackend {
            capabilities: Capabilities {
                name: NAME,
                description,
                threads: 1,
                half_products: false,
                kv_formats: &[KvFormat::F32, KvFormat::F16, KvFormat::Q8_0],
            },
            executables: Vec::new(),
            submitted: 0,
        }
    }

    fn executable(&mut self, id: ExecutableId) -> Result<&mut Executable, BackendError> {
        let compiled = self.executables.len();
        self.executables.get_mut(id.0 as usize).ok_or(BackendError::InvalidPass {
            what: "executable",
            value: u64::from(id.0),
            limit: (compiled as u64).saturating_sub(1),
        })
    }

    /// Work is finished when `submit` or `upload` returns, so every fence has already passed.
    fn passed_fence(&mut self) -> Fence {
        self.submitted += 1;
        Fence(self.submitted)
    }
}

impl Default for ReferenceBackend {
    fn default() -> Self {
        ReferenceBackend::new()
    }
}

impl Backend for ReferenceBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn support(&self, _step: &Step, formats: &[Format]) -> Support {
        if formats.iter().all(|format| *format == Format::F32) {
            Support::Native
        } else if formats.iter().all(|format| format.codec().is_some()) {
            Support::Decoded
        } else {
            Support::No
        }
    }

    fn compile(&mut self, program: &Arc<Program>, rows: RowBucket) -> Result<ExecutableId, BackendError> {
        for unit in program.units() {
            for (name, step) in &program.template(unit).steps {
                let slots = step.matrices().into_iter().chain(step.vectors()).chain(match step {
                    Step::Embed(embed) => Some(embed.table),
                    _ => None,
                });
                let formats: Vec<Format> = slots.map(|slot| program.weight(unit, slot).format).collect();
                if self.support(step, &formats) == Support::No {
                    let format = formats.iter().find(|format| format.codec().is_none());
                    return Err(BackendError::Unsupported {
                        backend: NAME,
                        step: format!("{}.{name}", unit.name),
                        format: format.map_or("no format", |format| format.name()),
                    });
                }
            }
        }
        let executable = Executable {
            program: Arc::clone(program),
            bucket: rows,
            weights: vec![None; program.tensors.len()],
            buffers: Buffers::new(program, rows)?,
            pool: KvPool::empty(),
        };
        let id = u32::try_from(self.executables.len()).expect("fewer than 2^32 programs fit in memory");
        self.executables.push(executable);
        Ok(ExecutableId(id))
    }

    fn allocate(&mut self, executable: ExecutableId, plan: KvPlan) -> Result<(), BackendError> {
        let capabilities = self.capabilities.clone();
        let executable = self.executable(executable)?;
        plan.check(&executable.program, &capabilities)?;
        executable.pool = KvPool::empty();
        executable.pool = KvPool::new(&executable.program.kv_shapes(), plan)?;
        Ok(())
    }

    fn upload(
        &mut self,
        executable: ExecutableId,
        tensor: TensorIndex,
        bytes: TensorBytes,
    ) -> Result<Fence, BackendError> {
        let executable = self.executable(executable)?;
        let index = tensor.0 as usize;
        check("tensor", u64::from(tensor.0), executable.weights.len())?;
        let spec = executable.program.tensor(tensor);
        if bytes.len() != spec.bytes() {
            return Err(BackendError::TensorSize {
                tensor: spec.name.clone(),
                expected: spec.bytes(),
                actual: bytes.len(),
            });
        }
        executable.weights[index] = Some(bytes);
        Ok(self.passed_fence())
    }

    fn submit(
        &mut self,
        executable: ExecutableId,
        segment: &Segment,
        input: &PassInput<'_>,
    ) -> Result<Fence, BackendError> {
        let executable = self.executable(executable)?;
        let program = Arc::clone(&executable.program);
        check_segment(segment, &program)?;
        check_input(input, executable.bucket, &program, executable.pool.pages)?;
        let units = units_of(segment, &program);
        for (unit, _) in &units {
            executable.check_uploaded(unit)?;
        }
        for (unit, layer) in units {
            let mut pass = Pass {
                program: &program,
                unit,
                layer,
                weights: &executable.weights,
                input,
                buffers: &mut executable.buffers,
                pool: &mut executable.pool,
            };
            for (_, step) in &program.template(unit).steps {
                pass.run(step);
            }
        }
        Ok(self.passed_fence())
    }

    fn wait(&mut self, _fence: Fence) -> Result<(), BackendError> {
        Ok(())
    }

    fn read(
        &mut self,
        executable: ExecutableId,
        buffer: Buffer,
        rows: Range<usize>,
        into: &mut [f32],
    ) -> Result<(), BackendError> {
        let rows_of_buffer = &self.executable(executable)?.buffers;
        let source = rows_of_buffer.get(buffer);
        check_at_most("end of the rows to read", rows.end as u64, source.count() as u64)?;
        check_at_most("start of the rows to read", rows.start as u64, rows.end as u64)?;
        let wanted = &source.values[rows.start * source.width..rows.end * source.width];
        if wanted.len() != into.len() {
            return Err(BackendError::InvalidPass {
                what: "length of the slice to read into",
                value: into.len() as u64,
                limit: wanted.len() as u64,
            });
        }
        into.copy_from_slice(wanted);
        Ok(())
    }

    fn take_ledger(&mut self) -> Vec<LedgerRow> {
        Vec::new()
    }
}

impl Executable {
    fn check_uploaded(&self, unit: &Unit) -> Result<(), BackendError> {
        match unit.weights.iter().find(|index| self.weights[index.0 as usize].is_none()) {
            Some(index) => Err(BackendError::MissingTensor { tensor: self.program.tensor(*index).name.clone() }),
            None => Ok(()),
        }
    }
}

/// The units of a segment in order, each with its index among the layers (0 outside them).
fn units_of<'p>(segment: &Segment, program: &'p Program) -> Vec<(&'p Unit, usize)> {
    let mut units = Vec::new();
    if segment.prologue {
        units.push((&program.prologue, 0));
    }
    units.extend(segment.layers.clone().map(|layer| (&program.layers[layer], layer)));
    if segment.epilogue {
        units.push((&program.epilogue, 0));
    }
    units
}

fn check_segment(segment: &Segment, program: &Program) -> Result<(), BackendError> {
    check_at_most("end of the segment's layers", segment.layers.end as u64, program.layers.len() as u64)?;
    check_at_most("start of the segment's layers", segment.layers.start as u64, segment.layers.end as u64)
}

fn check_input(
    input: &PassInput<'_>,
    bucket: RowBucket,
    program: &Program,
    pool_pages: usize,
) -> Result<(), BackendError> {
    let rows = input.rows();
    check_at_most("number of rows", rows as u64, bucket.rows as u64)?;
    check_at_most("number of logit rows", input.logit_rows.len() as u64, bucket.logit_rows as u64)?;
    for (what, count) in
        [("number of positions", input.positions.len()), ("number of sequences", input.sequences.len())]
    {
        if count != rows {
            return Err(BackendError::InvalidPass { what, value: count as u64, limit: rows as u64 });
        }
    }
    for token in input.tokens {
        check("token", u64::from(*token), program.sizes.vocabulary)?;
    }
    for row in input.logit_rows {
        check("logit row", u64::from(*row), rows)?;
    }
    if let Some(pair) = input.logit_rows.windows(2).find(|pair| pair[0] >= pair[1]) {
        let (what, limit) = ("logit row before a later one", u64::from(pair[1]));
        return Err(BackendError::InvalidPass { what, value: u64::from(pair[0]), limit });
    }
    for (sequence, position) in input.sequences.iter().zip(input.positions) {
        check("sequence", u64::from(*sequence), input.page_tables.len())?;
        let pages = &input.page_tables[*sequence as usize].pages;
        let page_index = *position as usize / PAGE_ROWS;
        check("position in its page table", u64::from(*position), pages.len().saturating_mul(PAGE_ROWS))?;
        for page in &pages[..=page_index] {
            check("page", u64::from(*page), pool_pages)?;
        }
    }
    Ok(())
}

/// `value` must lie below `count`.
fn check(what: &'static str, value: u64, count: usize) -> Result<(), BackendError> {
    if value < count as u64 {
        Ok(())
    } else {
        Err(BackendError::InvalidPass { what, value, limit: (count as u64).saturating_sub(1) })
    }
}

fn check_at_most(what: &'static str, value: u64, limit: u64) -> Result<(), BackendError> {
    if value <= limit { Ok(()) } else { Err(BackendError::InvalidPass { what, value, limit }) }
}

/// `count` zeroes, or the backend's own out-of-memory error.
fn zeroes(what: &str, count: Option<usize>) -> Result<Vec<f32>, BackendError> {
    let refused = |count: usize| BackendError::OutOfMemory {
        backend: NAME,
        what: what.to_owned(),
        bytes: (count as u64).saturating_mul(size_of::<f32>() as u64),
    };
    let count = count.ok_or_else(|| refused(usize::MAX))?;
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_: TryReserveError| refused(count))?;
    values.resize(count, 0.0);
    Ok(values)
}
