//! Greedy decoding without the host: each pass chooses the token of the next one on the GPU. While the host reads the
//! tokens of some passes, the next ones already run.

use std::collections::VecDeque;

use program::{BackendError, Program};
use wgpu::BufferUsages;

use crate::buffers::Buffers;
use crate::device::{Gpu, lost};
use crate::kv::KvPool;
use crate::shader::{ARGMAX, KernelId, Kernels, Source};

/// Workgroups that look for the largest logit; `SHARES` of the shader.
const SHARES: u32 = 64;

/// Kernels and memory for choosing tokens.
pub(crate) struct Chooser {
    first: (KernelId, wgpu::BindGroup),
    last: (KernelId, wgpu::BindGroup),
    /// How many tokens were chosen since the chain began, then these tokens.
    chosen: wgpu::Buffer,
    capacity: usize,
}

impl Chooser {
    pub(crate) fn new(
        gpu: &Gpu,
        program: &Program,
        rows_max: usize,
        buffers: &Buffers,
        kv: &KvPool,
        kernels: &mut Kernels,
    ) -> Result<Chooser, BackendError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let capacity = kv.page_count * program::PAGE_ROWS + 1;
        let chosen = gpu.buffer("chosen tokens", 4 * (capacity as u64 + 1), usage)?;
        let best = gpu.buffer("largest logits", 8 * u64::from(SHARES), usage)?;
        let bound = [&buffers.pass, &buffers.logits, &best, &chosen].map(wgpu::Buffer::as_entire_buffer_binding);
        let mut kernel = |last: bool| {
            let source = Source::new("argmax", ARGMAX, &["argmax.wgsl"])
                .flag("LAST", last)
                .count("VOCABULARY", program.sizes.vocabulary)
                .count("ROWS_MAX", rows_max);
            let id = kernels.kernel(gpu, source);
            (id, kernels.bind(gpu, id, &bound))
        };
        let (first, last) = (kernel(false), kernel(true));
        Ok(Chooser { first, last, chosen, capacity })
    }

    /// Chooses the first row's token and moves the pass on.
    pub(crate) fn record(&self, gpu: &Gpu, kernels: &Kernels, pass: &mut wgpu::ComputePass<'_>) {
        for ((kernel, bind), groups) in [(&self.first, SHARES), (&self.last, 1)] {
            pass.set_pipeline(kernels.pipeline(gpu, *kernel, 1));
            pass.set_bind_group(0, bind, &[]);
            pass.dispatch_workgroups(groups, 1, 1);
        }
    }
}

/// Passes under way, and tokens that nobody has taken yet.
pub(crate) struct Chain {
    /// Position and token of the first pass whose token was not taken.
    pub(crate) position: u32,
    token: u32,
    /// Tokens that were read.
    ready: VecDeque<u32>,
    /// Pages of the sequence as far as passes were submitted.
    pages: Vec<u32>,
    /// Pages of the sequence that the GPU knows.
    pub(crate) known_pages: Vec<u32>,
    batches: VecDeque<Batch>,
    /// Passes submitted since the chain began.
    submitted: usize,
    spare: Vec<wgpu::Buffer>,
}

struct Batch {
    count: usize,
    staging: wgpu::Buffer,
    index: wgpu::SubmissionIndex,
}

impl Chain {
    /// A chain that begins with a pass that is written already.
    pub(crate) fn begin(gpu: &Gpu, chooser: &Chooser, position: u32, token: u32, known_pages: &[u32]) -> Chain {
        gpu.queue.write_buffer(&chooser.chosen, 0, &[0; 4]);
        Chain {
            position,
            token,
            ready: VecDeque::new(),
            pages: Vec::new(),
            known_pages: known_pages.to_vec(),
            batches: VecDeque::new(),
            submitted: 0,
            spare: Vec::new(),
        }
    }

    /// Passes submitted whose tokens were not taken.
    pub(crate) fn ahead(&self) -> usize {
        self.ready.len() + self.batches.iter().map(|batch| batch.count).sum::<usize>()
    }

    /// Tokens that were read and not taken.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes `count` tokens, which are ready.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u32> {
        let tokens: Vec<u32> = self.ready.drain(..count).collect();
        self.position += count as u32;
        self.token = tokens.last().copied().unwrap_or(self.token);
        tokens
    }

    /// Whether this chain goes on with `token` at `position` on these pages.
    pub(crate) fn continues(&self, position: u32, token: u32, pages: &[u32]) -> bool {
        self.position == position && self.token == token && pages.starts_with(&self.pages)
    }

    /// Whether `count` more passes can be noted.
    pub(crate) fn has_room(&self, chooser: &Chooser, count: usize) -> bool {
        self.submitted + count < chooser.capacity
    }

    /// Submits the `count` passes in `encoder`, which write no page but these; their tokens will be read later.
    pub(crate) fn submit(
        &mut self,
        gpu: &Gpu,
        chooser: &Chooser,
        mut encoder: wgpu::CommandEncoder,
        count: usize,
        pages: &[u32],
    ) -> Result<(), BackendError> {
        let bytes = 4 * count as u64;
        let staging = match self.spare.iter().position(|spare| spare.size() >= bytes) {
            Some(index) => self.spare.swap_remove(index),
            None => gpu.buffer("tokens read back", bytes.max(64), BufferUsages::MAP_READ | BufferUsages::COPY_DST)?,
        };
        encoder.copy_buffer_to_buffer(&chooser.chosen, 4 * (1 + self.submitted as u64), &staging, 0, bytes);
        let index = gpu.queue.submit([encoder.finish()]);
        staging.slice(..bytes).map_async(wgpu::MapMode::Read, |_| {});
        self.submitted += count;
        self.pages = pages.to_vec();
        self.batches.push_back(Batch { count, staging, index });
        Ok(())
    }

    /// Waits for the oldest passes and reads their tokens.
    pub(crate) fn read(&mut self, gpu: &Gpu) -> Result<(), BackendError> {
        let Some(Batch { count, staging, index }) = self.batches.pop_front() else { return Ok(()) };
        let waited = gpu.device.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None });
        gpu.check()?;
        waited.map_err(|error| lost(error.to_string()))?;
        {
            let mapped =
                staging.slice(..4 * count as u64).get_mapped_range().map_err(|error| lost(error.to_string()))?;
            let words = mapped.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
            self.ready.extend(words);
        }
        staging.unmap();
        self.spare.push(staging);
        Ok(())
    }
}
