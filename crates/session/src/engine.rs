//! A program loaded into a backend, and the sequences it computes.

use std::sync::Arc;

use program::{
    Backend, BackendError, Buffer, Draw, Drawn, ExecutableId, KvFormat, KvPlan, LedgerRow, PageTable, PassInput,
    Program, RowBucket, Segment, Support, TensorBytes, TensorIndex,
};

use crate::SessionError;
use crate::pages::PagePool;
use crate::residency::{Plan, PlanRequest, bucket_within, plan};

/// Where the engine's weights come from.
pub trait WeightSource {
    /// The bytes of a tensor.
    fn bytes(&self, tensor: TensorIndex) -> Result<TensorBytes, SessionError>;

    /// Called once the backend has its own copy of a tensor and the source's will not be read again.
    fn release(&self, tensor: TensorIndex);
}

/// How an engine is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Positions to hold; `None` takes the model's own, or as many as fit.
    pub context: Option<usize>,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Rows of a prefill pass.
    pub rows: usize,
    /// Rows that it may come down to, by halves, as long as activations take more than a quarter of the memory that weights
    /// leave; as many as `rows` where it may not.
    pub rows_least: usize,
    /// Rows of a pass that may want logits.
    pub logit_rows: usize,
    /// Bytes that weights, pages and scratch may take in all.
    pub budget_bytes: u64,
}

/// One token sequence: what its keys and values are computed from.
#[derive(Debug, Default)]
pub struct Sequence {
    tokens: Vec<u32>,
    pages: PageTable,
}

impl Sequence {
    /// The tokens whose keys and values are held.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of positions taken.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no position is taken.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// How a step runs that has no kernel of its own; see [`Engine::decoded_steps`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedStep {
    /// Format that is decoded as it is used.
    pub format: &'static str,
    /// Weights of that format.
    pub tensors: usize,
}

/// Reads a buffer of the pass that is running: (rows, width).
pub type ReadBuffer<'a> = dyn FnMut(Buffer) -> Result<Vec<f32>, SessionError> + 'a;

/// Looks at a pass between two layers; see [`Engine::layer_by_layer`].
pub type LayerVisit<'a> = dyn FnMut(Option<usize>, &mut ReadBuffer<'_>) -> Result<(), SessionError> + 'a;

/// See the module.
pub struct Engine {
    backend: Box<dyn Backend>,
    program: Arc<Program>,
    executable: ExecutableId,
    bucket: RowBucket,
    plan: Plan,
    pages: PagePool,
    decoded: Vec<DecodedStep>,
    logits: Vec<f32>,
    /// Kept from pass to pass.
    positions: Vec<u32>,
    sequences: Vec<u32>,
}

impl Engine {
    /// Plans, compiles and uploads. `progress` hears the bytes uploaded so far, and all there are.
    pub fn load(
        mut backend: Box<dyn Backend>,
        program: Arc<Program>,
        weights: &dyn WeightSource,
        config: EngineConfig,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Engine, SessionError> {
        let weight_bytes = program.tensors.iter().map(|tensor| backend.resident_bytes(tensor)).sum();
        let logit_rows = config.logit_rows.max(1);
        let left = config.budget_bytes.saturating_sub(weight_bytes);
        let bucket = bucket_within(&program, (config.rows, config.rows_least), logit_rows, left / 4);
        let kv_plan = |pages| KvPlan { pages, format: config.kv_format };
        // Before the plan: what cannot be stored at all should not be called too large.
        kv_plan(0).check(&program, backend.capabilities())?;
        let plan = plan(
            &program,
            &PlanRequest {
                context: config.context,
                kv_format: config.kv_format,
                rows: bucket,
                weight_bytes,
                budget_bytes: config.budget_bytes,
            },
        )?;
        let decoded = check_support(&*backend, &program)?;
        let executable = backend.compile(&program, bucket)?;
        backend.allocate(executable, kv_plan(plan.pages()))?;
        let tables = looked_up(&program);
        let total: u64 = program.tensors.iter().map(|tensor| tensor.bytes() as u64).sum();
        let mut done = 0;
        for (position, spec) in program.tensors.iter().enumerate() {
            let index = TensorIndex(u32::try_from(position).expect("tensor counts fit 32 bits"));
            progress(done, total);
            let fence = backend.upload(executable, index, weights.bytes(index)?)?;
            backend.wait(fence)?;
            let copied = spec.format.codec().is_some() && !decoded.iter().any(|d| d.format == spec.format.name());
            if copied && !tables.contains(&index) {
                weights.release(index);
            }
            done += spec.bytes() as u64;
        }
        progress(done, total);
        let pages = PagePool::new(u32::try_from(plan.pages()).unwrap_or(u32::MAX));
        Ok(Engine {
            backend,
            program,
            executable,
            bucket,
            plan,
            pages,
            decoded,
            logits: Vec::new(),
            positions: Vec::new(),
            sequences: Vec::new(),
        })
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The backend, for its description.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// What was planned at load.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Formats that this backend decodes as it uses them, slower than its own kernels; to be said aloud.
    pub fn decoded_steps(&self) -> &[DecodedStep] {
        &self.decoded
    }

    /// Positions a sequence may take.
    pub fn context(&self) -> usize {
        self.plan.context
    }

    /// Rows of a prefill pass.
    pub fn rows_max(&self) -> usize {
        self.bucket.rows
    }

    /// Rows of a pass that may want logits.
    pub fn logit_rows_max(&self) -> usize {
        self.bucket.logit_rows
    }

    /// Takes the per-step costs since the last call.
    pub fn take_ledger(&mut self) -> Vec<LedgerRow> {
        self.backend.take_ledger()
    }

    /// Waits until the backend is done with what it put off at load; see [`Backend::settle`].
    pub fn settle(&mut self) -> Result<(), SessionError> {
        Ok(self.backend.settle()?)
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, sequence: &mut Sequence, len: usize) {
        sequence.tokens.truncate(len);
        self.pages.shrink(&mut sequence.pages, len);
    }

    /// Checks that `tokens` may follow `sequence`.
    pub fn check(&self, sequence: &Sequence, tokens: &[u32]) -> Result<(), SessionError> {
        let vocabulary = self.program.sizes.vocabulary;
        if let Some(position) = tokens.iter().position(|token| *token as usize >= vocabulary) {
            return Err(SessionError::UnknownToken { token: tokens[position], position, vocabulary });
        }
        if sequence.len() + tokens.len() > self.context() {
            return Err(SessionError::ContextOverflow {
                context: self.context(),
                used: sequence.len(),
                wanted: tokens.len(),
                model_context: self.program.sizes.context,
            });
        }
        Ok(())
    }

    /// Appends `tokens`, at most [`Engine::rows_max`], without asking for logits.
    pub fn extend(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Result<(), SessionError> {
        self.pass(sequence, tokens, &[]).map(|_| ())
    }

    /// Appends `tokens`, at most [`Engine::rows_max`], and returns the logits after the last: (vocabulary).
    pub fn next_logits(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Result<&[f32], SessionError> {
        let last = u32::try_from(tokens.len()).unwrap_or(u32::MAX).checked_sub(1).ok_or(SessionError::EmptyPrompt)?;
        self.pass(sequence, tokens, &[last])
    }

    /// Appends `tokens`, at most [`Engine::rows_max`] and [`Engine::logit_rows_max`], and returns the logits after each:
    /// (tokens, vocabulary).
    pub fn each_logits(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Result<&[f32], SessionError> {
        let rows: Vec<u32> = (0..u32::try_from(tokens.len()).unwrap_or(u32::MAX)).collect();
        self.pass(sequence, tokens, &rows)
    }

    /// Appends one token to each sequence in a single pass and returns the logits after each: (sequences, vocabulary).
    /// A sequence gets the same bits as alone.
    ///
    /// At most [`Engine::rows_max`] and [`Engine::logit_rows_max`] sequences.
    pub fn batch_logits(&mut self, rows: &mut [(&mut Sequence, u32)]) -> Result<&[f32], SessionError> {
        for (sequence, token) in rows.iter_mut() {
            self.check(sequence, &[*token])?;
            let positions = sequence.len() + 1;
            self.pages.grow(&mut sequence.pages, positions)?;
        }
        let tokens: Vec<u32> = rows.iter().map(|(_, token)| *token).collect();
        let positions: Vec<u32> = rows.iter().map(|(sequence, _)| sequence.len() as u32).collect();
        let tables: Vec<PageTable> = rows.iter().map(|(sequence, _)| sequence.pages.clone()).collect();
        let indices: Vec<u32> = (0..rows.len() as u32).collect();
        let input = PassInput {
            tokens: &tokens,
            positions: &positions,
            sequences: &indices,
            page_tables: &tables,
            logit_rows: &indices,
        };
        let fence = self.backend.submit(self.executable, &Segment::whole(&self.program), &input)?;
        self.backend.wait(fence)?;
        for (sequence, token) in rows.iter_mut() {
            sequence.tokens.push(*token);
        }
        self.read_logits(rows.len())
    }

    /// Appends `token` and the `count - 1` most likely tokens that follow it, one by one, and returns the `count` tokens
    /// that do. `None`, and nothing done, where the backend leaves choosing to the host.
    pub fn greedy(
        &mut self,
        sequence: &mut Sequence,
        token: u32,
        count: usize,
        ahead: usize,
    ) -> Result<Option<Vec<u32>>, SessionError> {
        let tokens = |found: &Vec<u32>| found.clone();
        self.run_alone(sequence, token, (count, ahead), tokens, |backend, id, input, count| {
            backend.greedy(id, input, count, ahead)
        })
    }

    /// As `greedy`, with tokens drawn by `draw` with `numbers`, one for each of `count + ahead` passes.
    pub fn draw(
        &mut self,
        sequence: &mut Sequence,
        token: u32,
        count: usize,
        ahead: usize,
        (draw, numbers): (Draw, &[f32]),
    ) -> Result<Option<Vec<Drawn>>, SessionError> {
        let tokens = |found: &Vec<Drawn>| found.iter().map(|drawn| drawn.token).collect();
        self.run_alone(sequence, token, (count, ahead), tokens, |backend, id, input, count| {
            backend.draw(id, input, count, ahead, (draw, numbers))
        })
    }

    /// Appends `token` and all but the last of the tokens that `run` finds.
    fn run_alone<F>(
        &mut self,
        sequence: &mut Sequence,
        token: u32,
        (count, ahead): (usize, usize),
        tokens_of: impl FnOnce(&F) -> Vec<u32>,
        run: impl FnOnce(&mut dyn Backend, ExecutableId, &PassInput<'_>, usize) -> Result<Option<F>, BackendError>,
    ) -> Result<Option<F>, SessionError> {
        self.check(sequence, &[token])?;
        let start = sequence.len();
        let count = count.clamp(1, self.context() - start);
        self.pages.grow(&mut sequence.pages, start + count)?;
        // Room to compute ahead is welcome, not needed.
        let _ = self.pages.grow(&mut sequence.pages, (start + count + ahead).min(self.context()));
        let input = PassInput {
            tokens: &[token],
            positions: &[u32::try_from(start).unwrap_or(u32::MAX)],
            sequences: &[0],
            page_tables: std::slice::from_ref(&sequence.pages),
            logit_rows: &[0],
        };
        let found = run(&mut *self.backend, self.executable, &input, count);
        match &found {
            Ok(Some(found)) => {
                let tokens = tokens_of(found);
                sequence.tokens.push(token);
                sequence.tokens.extend_from_slice(&tokens[..tokens.len() - 1]);
            }
            Ok(None) | Err(_) => self.pages.shrink(&mut sequence.pages, start),
        }
        Ok(found?)
    }

    /// See [`program::Backend::read_gb_s`].
    pub fn read_gb_s(&mut self) -> Result<Option<f64>, SessionError> {
        Ok(self.backend.read_gb_s()?)
    }

    /// Asks for a ledger of passes, or no longer.
    pub fn keep_ledger(&mut self, keep: bool) -> Result<(), SessionError> {
        Ok(self.backend.keep_ledger(keep)?)
    }

    /// Appends all `tokens` in chunks and calls `sink(position, logits)` for each position that `wanted` accepts.
    pub fn all_logits(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        wanted: &dyn Fn(usize) -> bool,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), SessionError> {
        self.check(sequence, tokens)?;
        let vocabulary = self.program.sizes.vocabulary;
        for chunk in tokens.chunks(self.bucket.rows) {
            let start = sequence.len();
            let rows: Vec<u32> = (0..chunk.len()).filter(|row| wanted(start + row)).map(|row| row as u32).collect();
            let mut batches = rows.chunks(self.bucket.logit_rows);
            let first = batches.next().unwrap_or(&[]);
            let logits = self.pass(sequence, chunk, first)?;
            for (row, logits) in first.iter().zip(logits.chunks_exact(vocabulary)) {
                sink(start + *row as usize, logits);
            }
            for batch in batches {
                let logits = self.epilogue(sequence, chunk, start, batch)?;
                for (row, logits) in batch.iter().zip(logits.chunks_exact(vocabulary)) {
                    sink(start + *row as usize, logits);
                }
            }
        }
        Ok(())
    }

    /// Appends `tokens`, at most [`Engine::rows_max`], one layer at a time without the epilogue. After the prologue
    /// (`None`) and after each layer `visit` may read buffers: (tokens, width).
    pub fn layer_by_layer(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        visit: &mut LayerVisit<'_>,
    ) -> Result<(), SessionError> {
        self.check(sequence, tokens)?;
        let start = sequence.len();
        self.pages.grow(&mut sequence.pages, start + tokens.len())?;
        for layer in std::iter::once(None).chain((0..self.program.layers.len()).map(Some)) {
            let layers = layer.map_or(0..0, |layer| layer..layer + 1);
            let segment = Segment { prologue: layer.is_none(), layers, epilogue: false };
            self.submit(&segment, sequence, tokens, start, &[])?;
            visit(layer, &mut |buffer| {
                let mut values = vec![0.0; tokens.len() * self.program.buffer_width(buffer)];
                self.backend.read(self.executable, buffer, 0..tokens.len(), &mut values)?;
                Ok(values)
            })?;
        }
        sequence.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// One pass over `tokens` at the end of the sequence.
    fn pass(&mut self, sequence: &mut Sequence, tokens: &[u32], logit_rows: &[u32]) -> Result<&[f32], SessionError> {
        self.check(sequence, tokens)?;
        let start = sequence.len();
        self.pages.grow(&mut sequence.pages, start + tokens.len())?;
        let segment = Segment { epilogue: !logit_rows.is_empty(), ..Segment::whole(&self.program) };
        let outcome = self.submit(&segment, sequence, tokens, start, logit_rows);
        if let Err(error) = outcome {
            self.pages.shrink(&mut sequence.pages, start);
            return Err(error);
        }
        sequence.tokens.extend_from_slice(tokens);
        self.read_logits(logit_rows.len())
    }

    /// Logits of further rows of the pass that ran last.
    fn epilogue(
        &mut self,
        sequence: &Sequence,
        tokens: &[u32],
        start: usize,
        logit_rows: &[u32],
    ) -> Result<&[f32], SessionError> {
        let segment = Segment { prologue: false, layers: 0..0, epilogue: true };
        self.submit(&segment, sequence, tokens, start, logit_rows)?;
        self.read_logits(logit_rows.len())
    }

    fn submit(
        &mut self,
        segment: &Segment,
        sequence: &Sequence,
        tokens: &[u32],
        start: usize,
        logit_rows: &[u32],
    ) -> Result<(), SessionError> {
        let positions = (start..start + tokens.len()).map(|position| u32::try_from(position).unwrap_or(u32::MAX));
        self.positions.clear();
        self.positions.extend(positions);
        self.sequences.clear();
        self.sequences.resize(tokens.len(), 0);
        let input = PassInput {
            tokens,
            positions: &self.positions,
            sequences: &self.sequences,
            page_tables: std::slice::from_ref(&sequence.pages),
            logit_rows,
        };
        let fence = self.backend.submit(self.executable, segment, &input)?;
        Ok(self.backend.wait(fence)?)
    }

    fn read_logits(&mut self, rows: usize) -> Result<&[f32], SessionError> {
        self.logits.resize(rows * self.program.sizes.vocabulary, 0.0);
        self.backend.read(self.executable, Buffer::Logits, 0..rows, &mut self.logits)?;
        Ok(&self.logits)
    }
}

/// Asks the backend about every step; formats it only runs decoded are collected.
fn check_support(backend: &dyn Backend, program: &Program) -> Result<Vec<DecodedStep>, SessionError> {
    let mut decoded: Vec<DecodedStep> = Vec::new();
    for unit in program.units() {
        for (_, step) in &program.template(unit).steps {
            for slot in step.matrices() {
                let format = program.weight(unit, slot).format;
                match backend.support(step, &[format]) {
                    Support::Native => {}
                    Support::Decoded => match decoded.iter_mut().find(|known| known.format == format.name()) {
                        Some(known) => known.tensors += 1,
                        None => decoded.push(DecodedStep { format: format.name(), tensors: 1 }),
                    },
                    Support::No => {
                        let backend = backend.capabilities().name;
                        let step = format!("{}.{}", unit.name, step.kind());
                        return Err(program::BackendError::Unsupported { backend, step, format: format.name() }.into());
                    }
                }
            }
        }
    }
    Ok(decoded)
}

/// Tensors whose rows are looked up in place.
fn looked_up(program: &Program) -> Vec<TensorIndex> {
    let mut tables = Vec::new();
    for unit in program.units() {
        for (_, step) in &program.template(unit).steps {
            if let program::Step::Embed(embed) = step {
                tables.push(unit.weights[embed.table.0 as usize]);
            }
        }
    }
    tables
}
