//! The fast CPU backend: compiles programs into executables and runs their passes on the pool.

use std::ops::Range;
use std::sync::Arc;

use program::{
    Backend, BackendError, Buffer, Capabilities, ExecutableId, Fence, KvPlan, LedgerRow, PassInput, Program, RowBucket,
    Segment, Step, Support, TensorBytes, TensorIndex, TensorSpec,
};
use tensor::Format;

use crate::arch::{IsaChoice, Level};
use crate::executable::Executable;
use crate::kernels::Kernels;
use crate::layout::Layout;
use crate::matrix::resident_bytes;
use crate::pages::PageFormat;
use crate::pool::Pool;

/// How the backend is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuConfig {
    /// Threads that compute, the caller's among them; see [`crate::default_threads`].
    pub threads: usize,
    /// Instruction set.
    pub isa: IsaChoice,
    /// When weights are repacked.
    pub repack: Repack,
}

/// When weights are repacked into the layout that the kernels read. A choice about time and memory: the bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repack {
    /// Behind the first passes, by a thread of its own that ends with its work and gives the file's pages back. Passes pack
    /// what they need meanwhile. Formats that pack slowly are packed first.
    Behind,
    /// Before `upload` returns, by all threads.
    First,
    /// Not at all: every pass packs what it needs, which makes decoding slower and saves the memory of a copy. Formats that
    /// pack slowly are packed first.
    Never,
}

/// See the module.
pub struct CpuBackend {
    capabilities: Capabilities,
    kernels: Kernels,
    pool: Pool,
    executables: Vec<Executable>,
    repack: Repack,
}

impl CpuBackend {
    /// A backend with its threads started.
    pub fn new(config: CpuConfig) -> Result<CpuBackend, BackendError> {
        let level = Level::detect(config.isa);
        let threads = config.threads.max(1);
        let plural = if threads == 1 { "thread" } else { "threads" };
        Ok(CpuBackend {
            capabilities: Capabilities {
                name: "cpu",
                description: format!("{}, {threads} {plural}", level.name()),
                threads,
                half_products: false,
                kv_formats: &PageFormat::PLANNED,
            },
            kernels: Kernels::of(level),
            pool: Pool::new(threads)?,
            executables: Vec::new(),
            repack: config.repack,
        })
    }

    fn executable(&mut self, id: ExecutableId) -> &mut Executable {
        &mut self.executables[id.0 as usize]
    }
}

impl Backend for CpuBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn support(&self, step: &Step, formats: &[Format]) -> Support {
        if formats.iter().any(|format| format.codec().is_none()) {
            return Support::No;
        }
        let in_place = matches!(step, Step::Embed(_)) || formats.iter().all(|format| Layout::of(*format).is_some());
        if in_place { Support::Native } else { Support::Decoded }
    }

    fn resident_bytes(&self, tensor: &TensorSpec) -> u64 {
        // A matrix of a single row is a vector, kept as the file has it.
        resident_bytes(tensor).filter(|_| tensor.rows > 1).unwrap_or(tensor.bytes()) as u64
    }

    fn compile(&mut self, program: &Arc<Program>, rows: RowBucket) -> Result<ExecutableId, BackendError> {
        let id = ExecutableId(u32::try_from(self.executables.len()).unwrap_or(u32::MAX));
        let threads = self.capabilities.threads;
        let executable = Executable::new(Arc::clone(program), rows, self.kernels, threads, self.repack)?;
        self.executables.push(executable);
        Ok(id)
    }

    fn allocate(&mut self, executable: ExecutableId, plan: KvPlan) -> Result<(), BackendError> {
        plan.check(&self.executables[executable.0 as usize].program, &self.capabilities)?;
        self.executable(executable).allocate(plan)
    }

    fn upload(
        &mut self,
        executable: ExecutableId,
        tensor: TensorIndex,
        bytes: TensorBytes,
    ) -> Result<Fence, BackendError> {
        self.executables[executable.0 as usize].upload(tensor, bytes, &self.pool)?;
        Ok(Fence(0))
    }

    fn settle(&mut self) -> Result<(), BackendError> {
        self.executables.iter_mut().try_for_each(Executable::settle)
    }

    fn submit(
        &mut self,
        executable: ExecutableId,
        segment: &Segment,
        input: &PassInput<'_>,
    ) -> Result<Fence, BackendError> {
        self.executables[executable.0 as usize].run(segment, input, &self.pool)?;
        Ok(Fence(0))
    }

    fn wait(&mut self, _fence: Fence) -> Result<(), BackendError> {
        // Work is done when `submit` returns, and what `upload` put off changes no result.
        Ok(())
    }

    fn read(
        &mut self,
        executable: ExecutableId,
        buffer: Buffer,
        rows: Range<usize>,
        into: &mut [f32],
    ) -> Result<(), BackendError> {
        self.executable(executable).read(buffer, rows, into)
    }

    fn take_ledger(&mut self) -> Vec<LedgerRow> {
        self.executables.iter_mut().flat_map(Executable::take_ledger).collect()
    }
}
