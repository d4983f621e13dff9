//! The boundary between what a model computes and who computes it.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use thiserror::Error;

use crate::draw::{Draw, Drawn};
use crate::input::PassInput;
use crate::kv::{KvFormat, KvPlan};
use crate::program::{Program, TensorIndex, TensorSpec};
use crate::step::{Buffer, Step};

/// A compiled program on one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExecutableId(pub u32);

/// Work that was submitted; waiting on it makes its effects visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// The most rows a compiled program is ever given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowBucket {
    /// Rows of a pass.
    pub rows: usize,
    /// Rows of a pass that want logits.
    pub logit_rows: usize,
}

/// The part of a program that one submission runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Run the prologue first.
    pub prologue: bool,
    /// Then these layers.
    pub layers: Range<usize>,
    /// Then the epilogue.
    pub epilogue: bool,
}

impl Segment {
    /// A whole pass.
    pub fn whole(program: &Program) -> Segment {
        Segment { prologue: true, layers: 0..program.layers.len(), epilogue: true }
    }
}

/// How a backend runs a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// With a kernel of its own for these formats.
    Native,
    /// Correctly, but by decoding weights first; said aloud at load.
    Decoded,
    /// Not at all: loading fails and names step and format.
    No,
}

/// What a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Short name: `cpu`, `reference`.
    pub name: &'static str,
    /// One line for people: instruction set, threads, memory.
    pub description: String,
    /// Threads that compute.
    pub threads: usize,
    /// Whether products of many rows multiply halves, with sums in f32.
    pub half_products: bool,
    /// How keys and values may be stored, the best first.
    pub kv_formats: &'static [KvFormat],
}

/// Weight bytes kept alive by whoever owns them, so that a backend may use a mapped file in place.
#[derive(Clone)]
pub struct TensorBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
    release: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl TensorBytes {
    /// Bytes `range` of what `owner` holds.
    ///
    /// # Panics
    /// If the range lies outside the owner's bytes.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> TensorBytes {
        assert!(range.start <= range.end && range.end <= (*owner).as_ref().len(), "tensor range outside its owner");
        TensorBytes { owner, range, release: None }
    }

    /// The same bytes, with what [`TensorBytes::release`] does.
    pub fn with_release(self, release: Arc<dyn Fn() + Send + Sync>) -> TensorBytes {
        TensorBytes { release: Some(release), ..self }
    }

    /// Tells the owner that these bytes will not be needed soon, say because the backend has its own copy now. They stay
    /// readable.
    pub fn release(&self) {
        if let Some(release) = &self.release {
            release();
        }
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for TensorBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorBytes({} bytes)", self.range.len())
    }
}

/// One line of the bandwidth ledger: what a kind of step cost since the ledger was last taken.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerRow {
    /// Step name, such as `gate_up`.
    pub step: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// Weight bytes read.
    pub weight_bytes: u64,
    /// Multiply-adds.
    pub multiply_adds: u64,
    /// Wall time.
    pub seconds: f64,
}

/// What a backend can fail with.
#[derive(Debug, Error)]
pub enum BackendError {
    /// A step in this format has no implementation here.
    #[error(
        "backend {backend} cannot run step {step} with weights in {format}; the backend `cpu` runs every format that has a codec"
    )]
    Unsupported {
        /// The backend's name.
        backend: &'static str,
        /// The step's name.
        step: String,
        /// The weight's format.
        format: &'static str,
    },
    /// Keys and values cannot be stored in this format here.
    #[error("backend {backend} cannot store keys and values in {format}; it can in {known}")]
    KvFormat {
        /// The backend's name.
        backend: &'static str,
        /// The format asked for.
        format: &'static str,
        /// The formats that it has.
        known: String,
    },
    /// Keys and values of this model's heads cannot be stored in this format, on no backend.
    #[error(
        "keys and values in {format} come in blocks of {block}, and this model's heads have {head_width} elements; f16 works for all"
    )]
    KvHeads {
        /// The format asked for.
        format: &'static str,
        /// Elements of its blocks.
        block: usize,
        /// Elements of a head.
        head_width: usize,
    },
    /// Memory was refused.
    #[error("backend {backend} could not allocate {bytes} bytes for {what}")]
    OutOfMemory {
        /// The backend's name.
        backend: &'static str,
        /// What the memory was for.
        what: String,
        /// How much was asked for.
        bytes: u64,
    },
    /// Uploaded bytes do not have the size of the tensor.
    #[error("tensor {tensor} has {actual} bytes where its shape needs {expected}")]
    TensorSize {
        /// The tensor's name.
        tensor: String,
        /// Bytes by shape and format.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The pass breaks a promise of its bucket, page table or vocabulary.
    #[error("invalid pass: {what} is {value}, the limit is {limit}")]
    InvalidPass {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// A pass was submitted before all weights were uploaded.
    #[error("tensor {tensor} was not uploaded before the pass")]
    MissingTensor {
        /// The tensor's name.
        tensor: String,
    },
    /// No device fits what was asked for.
    #[error("no device is {wanted}; there are: {known}. The device `cpu` works everywhere")]
    NoDevice {
        /// The backend's name.
        backend: &'static str,
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// The device or its driver failed; everything on it is lost.
    #[error("the device of backend {backend} was lost: {reason}")]
    DeviceLost {
        /// The backend's name.
        backend: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// A worker thread could not be started or died.
    #[error("a worker thread failed: {reason}")]
    Worker {
        /// What the system said.
        reason: String,
    },
}

/// Compiles and runs programs. Called per pass or per segment, so dynamic dispatch costs nothing.
///
/// Order of calls: `compile`, `allocate`, `upload` of every tensor, then `submit` and `read` as often as wanted.
pub trait Backend: Send {
    /// Name, description, threads.
    fn capabilities(&self) -> &Capabilities;

    /// Whether `step` runs with its matrices in `formats` (the order of [`Step::matrices`], or the table of an embedding).
    fn support(&self, step: &Step, formats: &[tensor::Format]) -> Support;

    /// Bytes that a weight takes once it is uploaded: those of the file, unless the backend lays it out otherwise.
    fn resident_bytes(&self, tensor: &TensorSpec) -> u64 {
        tensor.bytes() as u64
    }

    /// Prepares buffers and kernels for passes of at most `rows`.
    fn compile(&mut self, program: &Arc<Program>, rows: RowBucket) -> Result<ExecutableId, BackendError>;

    /// Sets the pool of pages up, dropping an earlier one.
    fn allocate(&mut self, executable: ExecutableId, plan: KvPlan) -> Result<(), BackendError>;

    /// Gives a tensor's bytes. The backend may keep them or repack them.
    fn upload(
        &mut self,
        executable: ExecutableId,
        tensor: TensorIndex,
        bytes: TensorBytes,
    ) -> Result<Fence, BackendError>;

    /// Waits until work on weights that `upload` put off is done. Passes give the same results before and after, but not
    /// as fast.
    fn settle(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Runs a segment over the rows of `input`. `Hidden` persists between segments of one pass.
    fn submit(
        &mut self,
        executable: ExecutableId,
        segment: &Segment,
        input: &PassInput<'_>,
    ) -> Result<Fence, BackendError>;

    /// Waits for the fence.
    fn wait(&mut self, fence: Fence) -> Result<(), BackendError>;

    /// Copies `rows` of a buffer out, after all submitted work: `into` is (rows, width of the buffer).
    fn read(
        &mut self,
        executable: ExecutableId,
        buffer: Buffer,
        rows: Range<usize>,
        into: &mut [f32],
    ) -> Result<(), BackendError>;

    /// Runs `count` passes of one row, each but the first on the token with the highest logit of the one before (the
    /// first of equals), and returns the `count` tokens found. `input` is the first pass; its page table holds the
    /// positions of all of them, and where it holds more, up to `ahead` further passes may be computed meanwhile: as many
    /// as the caller is likely to ask for next.
    ///
    /// `None` where the backend does not choose tokens itself; then nothing was done.
    fn greedy(
        &mut self,
        _executable: ExecutableId,
        _input: &PassInput<'_>,
        _count: usize,
        _ahead: usize,
    ) -> Result<Option<Vec<u32>>, BackendError> {
        Ok(None)
    }

    /// As `greedy`, with tokens that are drawn: pass by pass with the numbers of `numbers`, from 0 to 1, which has one for
    /// each of the `count` passes and of the `ahead` that may follow.
    fn draw(
        &mut self,
        _executable: ExecutableId,
        _input: &PassInput<'_>,
        _count: usize,
        _ahead: usize,
        _draw: (Draw, &[f32]),
    ) -> Result<Option<Vec<Drawn>>, BackendError> {
        Ok(None)
    }

    /// Measures how fast the device reads its own memory with plain loads, in GB/s. `None` where that is the processor's
    /// memory, which is measured without a backend.
    fn read_gb_s(&mut self) -> Result<Option<f64>, BackendError> {
        Ok(None)
    }

    /// Asks for a ledger, or no longer. A backend for which keeping one costs nothing always does.
    fn keep_ledger(&mut self, _keep: bool) -> Result<(), BackendError> {
        Ok(())
    }

    /// Takes the per-step costs since the last call; empty where none were kept.
    fn take_ledger(&mut self) -> Vec<LedgerRow>;
}
