//! The backend: compiles programs for a GPU and runs their passes.

use std::ops::Range;
use std::sync::Arc;

use program::input_check::check;
use program::{
    Backend, BackendError, Buffer, Capabilities, DRAW_TOKENS_MAX, Draw, Drawn, ExecutableId, Fence, KvFormat, KvPlan,
    LedgerRow, PassInput, Program, RowBucket, Segment, Step, Support, TensorBytes, TensorIndex, TensorSpec,
};
use tensor::Format;

use crate::chain::Choosing;
use crate::device::{Choice, DeviceInfo, Gpu, NAME, Variants};
use crate::executable::{Counters, Executable};
use crate::planes::{Layout, stored, units_of};

/// See the module.
pub struct GpuBackend {
    capabilities: Capabilities,
    gpu: Arc<Gpu>,
    executables: Vec<Executable>,
    submitted: u64,
}

impl GpuBackend {
    /// Opens a GPU.
    ///
    /// # Errors
    /// [`BackendError::NoDevice`] with the devices there are, where none fits `choice`.
    pub fn open(choice: &Choice, variants: Variants) -> Result<GpuBackend, BackendError> {
        let gpu = Arc::new(Gpu::open(choice, variants)?);
        let capabilities = Capabilities {
            name: NAME,
            description: gpu.info.to_string(),
            threads: 1,
            half_products: gpu.info.matrix_units,
            kv_formats: &[KvFormat::F16, KvFormat::Q8_0],
        };
        Ok(GpuBackend { capabilities, gpu, executables: Vec::new(), submitted: 0 })
    }

    /// Another backend on the same device, which keeps what was compiled for it.
    pub fn share(&self) -> GpuBackend {
        let (capabilities, gpu) = (self.capabilities.clone(), Arc::clone(&self.gpu));
        GpuBackend { capabilities, gpu, executables: Vec::new(), submitted: 0 }
    }

    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The device in use.
    pub fn device(&self) -> &DeviceInfo {
        &self.gpu.info
    }

    /// Takes what passes cost since the last call.
    pub fn take_counters(&mut self) -> Counters {
        let mut sum = Counters::default();
        for executable in &mut self.executables {
            sum += executable.take_counters();
        }
        sum
    }

    fn executable(&mut self, id: ExecutableId) -> Result<&mut Executable, BackendError> {
        let limit = (self.executables.len() as u64).saturating_sub(1);
        let missing = BackendError::InvalidPass { what: "executable", value: u64::from(id.0), limit };
        self.executables.get_mut(id.0 as usize).ok_or(missing)
    }

    fn fence(&mut self) -> Fence {
        self.submitted += 1;
        Fence(self.submitted)
    }
}

impl Backend for GpuBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn support(&self, _step: &Step, formats: &[Format]) -> Support {
        if formats.iter().any(|format| format.codec().is_none()) {
            Support::No
        } else if formats.iter().all(|format| Layout::of(*format).is_some()) {
            Support::Native
        } else {
            Support::Decoded
        }
    }

    fn resident_bytes(&self, tensor: &TensorSpec) -> u64 {
        let units = tensor.rows * units_of(tensor.columns);
        let layout = Layout::of(stored(tensor.format)).expect("what is stored has a layout");
        layout.planes.iter().map(|plane| plane.bytes_of(units) as u64).sum()
    }

    fn compile(&mut self, program: &Arc<Program>, rows: RowBucket) -> Result<ExecutableId, BackendError> {
        let id = ExecutableId(u32::try_from(self.executables.len()).unwrap_or(u32::MAX));
        self.executables.push(Executable::new(Arc::clone(&self.gpu), Arc::clone(program), rows)?);
        Ok(id)
    }

    fn allocate(&mut self, executable: ExecutableId, plan: KvPlan) -> Result<(), BackendError> {
        let capabilities = self.capabilities.clone();
        let executable = self.executable(executable)?;
        plan.check(executable.program(), &capabilities)?;
        executable.allocate(plan)
    }

    fn upload(
        &mut self,
        executable: ExecutableId,
        tensor: TensorIndex,
        bytes: TensorBytes,
    ) -> Result<Fence, BackendError> {
        self.executable(executable)?.upload(tensor, &bytes)?;
        Ok(self.fence())
    }

    fn submit(
        &mut self,
        executable: ExecutableId,
        segment: &Segment,
        input: &PassInput<'_>,
    ) -> Result<Fence, BackendError> {
        self.executable(executable)?.submit(segment, input)?;
        Ok(self.fence())
    }

    fn wait(&mut self, _fence: Fence) -> Result<(), BackendError> {
        // Reading waits; what is written next comes after what was submitted.
        self.gpu.check()
    }

    fn read(
        &mut self,
        executable: ExecutableId,
        buffer: Buffer,
        rows: Range<usize>,
        into: &mut [f32],
    ) -> Result<(), BackendError> {
        self.executable(executable)?.read(buffer, rows, into)
    }

    fn greedy(
        &mut self,
        executable: ExecutableId,
        input: &PassInput<'_>,
        count: usize,
        ahead: usize,
    ) -> Result<Option<Vec<u32>>, BackendError> {
        let found = self.executable(executable)?.run_alone(input, (count, ahead), Choosing::Highest, &[])?;
        Ok(Some(found.into_iter().map(|found| found.token).collect()))
    }

    fn draw(
        &mut self,
        executable: ExecutableId,
        input: &PassInput<'_>,
        count: usize,
        ahead: usize,
        (draw, numbers): (Draw, &[f32]),
    ) -> Result<Option<Vec<Drawn>>, BackendError> {
        check("tokens to draw among", 1, draw.top_k as u64)?;
        check("tokens to draw among", draw.top_k as u64, DRAW_TOKENS_MAX as u64)?;
        check("passes to draw for", (count + ahead) as u64, numbers.len() as u64)?;
        self.executable(executable)?.run_alone(input, (count, ahead), Choosing::Draw(draw), numbers).map(Some)
    }

    fn read_gb_s(&mut self) -> Result<Option<f64>, BackendError> {
        crate::read_rate::measure(&self.gpu).map(Some)
    }

    fn keep_ledger(&mut self, keep: bool) -> Result<(), BackendError> {
        self.executables.iter_mut().try_for_each(|executable| executable.keep_ledger(keep))
    }

    fn take_ledger(&mut self) -> Vec<LedgerRow> {
        self.executables.iter_mut().flat_map(Executable::take_ledger).collect()
    }
}
