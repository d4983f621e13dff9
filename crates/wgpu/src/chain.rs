//! Decoding without the host: each pass chooses the token of the next one on the GPU. While the host reads the tokens of
//! some passes, the next ones already run.

use std::collections::VecDeque;

use program::{BackendError, DRAW_TOKENS_MAX, Draw, Drawn, Program};
use wgpu::BufferUsages;

use crate::buffers::Buffers;
use crate::device::{Gpu, lost};
use crate::kv::KvPool;
use crate::lower::Dispatch;
use crate::pass::next_pass_counts;
use crate::shader::{ARGMAX, CHOOSE, DRAW, KernelId, Kernels, Source, TOP};

/// Workgroups that look for the largest logit; `SHARES` of `argmax.wgsl`.
const SHARES: u32 = 64;

/// Tokens among which a workgroup looks for the first ones, and such workgroups at most; `SHARES` of `ranked.wgsl`.
const SHARE_TOKENS: usize = 2048;
const TOP_SHARES_MAX: usize = 128;

/// Words of a record of `draw.wgsl`, and how many records there are: as many passes can be in one submission.
const RECORD_WORDS: usize = 2 + 2 * DRAW_TOKENS_MAX;
const RECORDS: usize = 32;

/// How a pass chooses a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choosing {
    Highest,
    Draw(Draw),
}

/// A kernel with what it is bound to, its parameters, and how many workgroups of it.
struct Choice {
    kernel: KernelId,
    bind: wgpu::BindGroup,
    words: Box<[u32]>,
    groups: u32,
}

/// Memory for choosing tokens.
pub(crate) struct ChoiceBuffers {
    /// How many tokens were chosen since the chain began, then the highest ones.
    pub(crate) chosen: wgpu::Buffer,
    /// Tokens that there is room for in it.
    capacity: usize,
    /// Candidates of each share of the vocabulary.
    pub(crate) best: wgpu::Buffer,
    records: wgpu::Buffer,
    numbers: wgpu::Buffer,
}

impl ChoiceBuffers {
    pub(crate) fn new(gpu: &Gpu, kv: &KvPool) -> Result<ChoiceBuffers, BackendError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let capacity = kv.page_count * program::PAGE_ROWS + 1;
        let best_bytes = 8 * (TOP_SHARES_MAX * DRAW_TOKENS_MAX) as u64;
        Ok(ChoiceBuffers {
            chosen: gpu.buffer("chosen tokens", 4 * (capacity as u64 + 1), usage)?,
            capacity,
            best: gpu.buffer("largest logits", best_bytes, usage)?,
            records: gpu.buffer("drawn tokens", 4 * (RECORDS * RECORD_WORDS) as u64, usage)?,
            numbers: gpu.buffer("numbers to draw with", 4 * RECORDS as u64, usage)?,
        })
    }
}

/// Kernels and memory for choosing tokens.
pub(crate) struct Chooser {
    highest: [Choice; 2],
    /// Whether the choice of the highest one also makes the next pass's prologue.
    embeds_highest: bool,
    draw: [Choice; 2],
    memory: ChoiceBuffers,
}

impl Chooser {
    /// `choose_and_embed` takes the place of the second dispatch for the highest logit.
    pub(crate) fn new(
        gpu: &Gpu,
        program: &Program,
        rows_max: usize,
        buffers: &Buffers,
        (memory, choose_and_embed): (ChoiceBuffers, Option<Dispatch>),
        kernels: &mut Kernels,
    ) -> Chooser {
        let vocabulary = program.sizes.vocabulary;
        let mut choice = |source: Source, bound: &[&wgpu::Buffer], groups: u32| {
            let kernel = kernels.kernel(gpu, source);
            let bindings: Vec<_> = bound.iter().map(|buffer| buffer.as_entire_buffer_binding()).collect();
            Choice { kernel, bind: kernels.bind(gpu, kernel, &bindings), words: Box::default(), groups }
        };
        let (pass, logits) = (&buffers.pass, &buffers.logits);
        let ChoiceBuffers { chosen, best, records, numbers, .. } = &memory;
        let argmax = Source::new("argmax", ARGMAX, &["largest.wgsl", "argmax.wgsl"]).count("VOCABULARY", vocabulary);
        let argmax = choice(argmax, &[logits, best], SHARES);
        let embeds_highest = choose_and_embed.is_some();
        let choose = match choose_and_embed {
            Some(Dispatch { kernel, bind, words, .. }) => Choice { kernel, bind, words, groups: 1 },
            None => {
                let files = ["largest.wgsl", "next_pass.wgsl", "choose.wgsl", "choose_alone.wgsl"];
                let source = Source::new("choose", CHOOSE, &files).counts(&next_pass_counts(rows_max));
                choice(source, &[pass, best, chosen], 1)
            }
        };
        let shares = vocabulary.div_ceil(SHARE_TOKENS).clamp(1, TOP_SHARES_MAX);
        let top = Source::new("top", TOP, &["ranked.wgsl", "top.wgsl"])
            .count("SHARES", shares)
            .count("VOCABULARY", vocabulary);
        let join = Source::new("draw", DRAW, &["next_pass.wgsl", "ranked.wgsl", "draw.wgsl"])
            .count("SHARES", shares)
            .count("RECORDS", RECORDS)
            .counts(&next_pass_counts(rows_max))
            .count("VOCABULARY", vocabulary);
        let draw = [
            choice(top, &[logits, best], shares as u32),
            choice(join, &[logits, best, numbers, records, pass, chosen], 1),
        ];
        Chooser { highest: [argmax, choose], embeds_highest, draw, memory }
    }

    /// Whether a pass that chooses in this way leaves the next one's prologue done.
    pub(crate) fn embeds(&self, choosing: Choosing) -> bool {
        self.embeds_highest && choosing == Choosing::Highest
    }

    /// Chooses the first row's token and moves the pass on.
    pub(crate) fn record(&self, gpu: &Gpu, kernels: &Kernels, choosing: Choosing, pass: &mut wgpu::ComputePass<'_>) {
        let (choices, parameters) = match choosing {
            Choosing::Highest => (&self.highest, None),
            Choosing::Draw(draw) => (&self.draw, Some(parameters(draw))),
        };
        for Choice { kernel, bind, words, groups } in choices {
            pass.set_pipeline(kernels.pipeline(gpu, *kernel, 1));
            pass.set_bind_group(0, bind, &[]);
            let words = parameters.as_ref().map_or(&words[..], |parameters| parameters);
            if !words.is_empty() {
                pass.set_immediates(0, bytemuck::cast_slice(words));
            }
            pass.dispatch_workgroups(*groups, 1, 1);
        }
    }

    /// Where the results of passes after `submitted` are, and how many passes have room there.
    fn results(&self, choosing: Choosing, submitted: usize) -> (&wgpu::Buffer, u64, usize) {
        match choosing {
            Choosing::Highest => {
                let room = self.memory.capacity.saturating_sub(submitted + 1);
                (&self.memory.chosen, 4 * (1 + submitted as u64), room)
            }
            Choosing::Draw(_) => {
                let record = submitted % RECORDS;
                (&self.memory.records, 4 * (record * RECORD_WORDS) as u64, RECORDS - record)
            }
        }
    }
}

/// `Params` of `ranked.wgsl`.
fn parameters(draw: Draw) -> [u32; 4] {
    let top_p = if draw.top_p < 1.0 { draw.top_p } else { 2.0 };
    let floor = if draw.min_p > 0.0 { draw.min_p.ln() } else { f32::MIN };
    let sharpness = (1.0 / draw.temperature).min(f32::MAX);
    [draw.top_k.min(DRAW_TOKENS_MAX) as u32, top_p.to_bits(), floor.to_bits(), sharpness.to_bits()]
}

impl Choosing {
    /// Words that a pass leaves.
    fn words(self) -> usize {
        match self {
            Choosing::Highest => 1,
            Choosing::Draw(_) => RECORD_WORDS,
        }
    }

    fn result(self, words: &[u32]) -> Drawn {
        match self {
            Choosing::Highest => Drawn { token: words[0], candidates: Vec::new() },
            Choosing::Draw(_) => {
                let (tokens, logits) = words[2..].split_at(DRAW_TOKENS_MAX);
                let count = (words[1] as usize).min(DRAW_TOKENS_MAX);
                let candidates = tokens.iter().zip(logits).map(|(token, logit)| (*token, f32::from_bits(*logit)));
                Drawn { token: words[0], candidates: candidates.take(count).collect() }
            }
        }
    }
}

/// Passes under way, and tokens that nobody has taken yet.
pub(crate) struct Chain {
    /// Position and token of the first pass whose token was not taken.
    pub(crate) position: u32,
    token: u32,
    pub(crate) choosing: Choosing,
    /// What was read.
    ready: VecDeque<Drawn>,
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
    pub(crate) fn begin(
        gpu: &Gpu,
        chooser: &Chooser,
        choosing: Choosing,
        (position, token): (u32, u32),
        known_pages: &[u32],
    ) -> Chain {
        gpu.queue.write_buffer(&chooser.memory.chosen, 0, &[0; 4]);
        Chain {
            position,
            token,
            choosing,
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

    /// Takes what `count` passes came to, which is ready.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Drawn> {
        let found: Vec<Drawn> = self.ready.drain(..count).collect();
        self.position += count as u32;
        self.token = found.last().map_or(self.token, |found| found.token);
        found
    }

    /// Whether this chain goes on with `token` at `position` on these pages, choosing in the same way.
    pub(crate) fn continues(&self, choosing: Choosing, (position, token): (u32, u32), pages: &[u32]) -> bool {
        self.choosing == choosing && (self.position, self.token) == (position, token) && pages.starts_with(&self.pages)
    }

    /// Whether a pass of this chain was submitted.
    pub(crate) fn is_under_way(&self) -> bool {
        self.submitted > 0
    }

    /// How many more passes can be noted in one submission.
    pub(crate) fn room(&self, chooser: &Chooser) -> usize {
        chooser.results(self.choosing, self.submitted).2
    }

    /// Submits the `count` passes in `encoder`, which write no page but these and draw with these numbers; their tokens
    /// will be read later.
    pub(crate) fn submit(
        &mut self,
        gpu: &Gpu,
        chooser: &Chooser,
        mut encoder: wgpu::CommandEncoder,
        (count, numbers): (usize, &[f32]),
        pages: &[u32],
    ) -> Result<(), BackendError> {
        let (results, start, _) = chooser.results(self.choosing, self.submitted);
        if !numbers.is_empty() {
            let record = self.submitted % RECORDS;
            gpu.queue.write_buffer(&chooser.memory.numbers, 4 * record as u64, bytemuck::cast_slice(numbers));
        }
        let bytes = 4 * (count * self.choosing.words()) as u64;
        let staging = match self.spare.iter().position(|spare| spare.size() >= bytes) {
            Some(index) => self.spare.swap_remove(index),
            None => gpu.buffer("tokens read back", bytes.max(64), BufferUsages::MAP_READ | BufferUsages::COPY_DST)?,
        };
        encoder.copy_buffer_to_buffer(results, start, &staging, 0, bytes);
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
            let bytes = 4 * (count * self.choosing.words()) as u64;
            let mapped = staging.slice(..bytes).get_mapped_range().map_err(|error| lost(error.to_string()))?;
            let words: Vec<u32> = mapped.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
            self.ready.extend(words.chunks_exact(self.choosing.words()).map(|words| self.choosing.result(words)));
        }
        staging.unmap();
        self.spare.push(staging);
        Ok(())
    }
}
