//! A loaded model: file, tokenizer, chat template and engine.

use std::path::Path;
use std::sync::Arc;

use gguf::GgufFile;
use program::{KvFormat, Program, TensorBytes, TensorIndex};
use session::{Engine, EngineConfig, Sequence, SessionError, WeightSource};
use text::Tokenizer;

use crate::chat::Chat;
use crate::device::{self, Device, GpuKind, Opened, Placement};
use crate::generate::{GenerateOptions, Generation};
use crate::prompt::{ChatFormat, Prompt, TemplateOrigin};
use crate::{Error, chat};

/// Rows of a prefill pass, and at most on a GPU with memory of its own, which computes that many in a moment.
const ROWS: usize = 512;
const ROWS_ON_GPU: usize = 2048;

/// How to load a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where it runs. [`Device::Auto`] takes a GPU where there is one that the model fits; [`Model::placement`] says
    /// what was taken and why.
    pub device: Device,
    /// Threads that compute; `None` takes all physical cores this process may use.
    pub threads: Option<usize>,
    /// Positions to hold; `None` takes the model's own, or as many as fit the memory.
    pub context: Option<usize>,
    /// How keys and values are stored: [`KvFormat::Q8_0`] takes a little more than half the memory of [`KvFormat::F16`].
    /// `None` takes the device's own, F16 on all but the reference.
    pub kv_format: Option<KvFormat>,
    /// Bytes that weights, keys and values and scratch may take; `None` takes what the system says is available, or the
    /// memory of a GPU that has its own.
    pub memory_bytes: Option<u64>,
    /// Rows of a prefill pass; `None` takes 512, and up to 2048 on a GPU with memory of its own, as far as that allows.
    pub rows: Option<usize>,
    /// Rows of a pass that may want logits.
    pub logit_rows: usize,
    /// Replaces the file's `tokenizer.ggml.pre`.
    pub pre_tokenizer: Option<String>,
    /// Replaces the file's chat template.
    pub chat_template: Option<String>,
}

impl LoadOptions {
    /// The CPU with all its cores, the model's own context, passes as large as the device likes them.
    #[expect(clippy::new_without_default, reason = "settings are spelled out, never defaulted by accident")]
    pub fn new() -> LoadOptions {
        LoadOptions {
            device: Device::Cpu,
            threads: None,
            context: None,
            kv_format: None,
            memory_bytes: None,
            rows: None,
            logit_rows: 8,
            pre_tokenizer: None,
            chat_template: None,
        }
    }
}

/// What loading is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadStage {
    /// The vocabulary is being built.
    Vocabulary,
    /// Weights are being uploaded.
    Weights {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// See the module.
pub struct Model {
    file: GgufFile,
    tokenizer: Tokenizer,
    format: ChatFormat,
    engine: Engine,
    placement: Placement,
    sequence: Sequence,
}

impl Model {
    /// Loads the model at `path` with [`LoadOptions::new`]. Any shard of a split model loads all of it.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, Error> {
        Model::load(GgufFile::open(path)?, &LoadOptions::new(), &mut |_| {})
    }

    /// Loads an opened file; `progress` hears what it is busy with.
    pub fn load(file: GgufFile, options: &LoadOptions, progress: &mut dyn FnMut(LoadStage)) -> Result<Model, Error> {
        let model = models::load(&file)?;
        progress(LoadStage::Vocabulary);
        let tokenizer = Tokenizer::from_gguf(file.metadata(), options.pre_tokenizer.as_deref())?;
        let format = ChatFormat::of(&file, &tokenizer, options.chat_template.as_deref())?;
        // Weights may be a mixture of what was and what is.
        file.check_unchanged()?;
        let (engine, placement) = load_engine(&model, options, progress)?;
        file.check_unchanged()?;
        Ok(Model { file, tokenizer, format, engine, placement, sequence: Sequence::default() })
    }

    /// Where it runs, and why there.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What the model computes.
    pub fn program(&self) -> &Program {
        self.engine.program()
    }

    /// The engine, for passes without text.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The engine's settings and plan.
    pub fn engine_info(&self) -> &Engine {
        &self.engine
    }

    /// Where the chat template came from; a fallback is worth telling people.
    pub fn template_origin(&self) -> &TemplateOrigin {
        self.format.origin()
    }

    /// Token ids of a prompt. Bytes that the vocabulary has no token for are missing; see [`Generation::unencodable`].
    pub fn encode(&self, prompt: &Prompt<'_>) -> Result<Vec<u32>, Error> {
        Ok(self.format.encode(&self.tokenizer, prompt)?.ids)
    }

    /// Generates from a prompt, forgetting what came before. Work that an earlier prompt shares is kept.
    pub fn generate(&mut self, prompt: &Prompt<'_>, options: &GenerateOptions) -> Result<Generation<'_>, Error> {
        let encoding = self.format.encode(&self.tokenizer, prompt)?;
        let Model { tokenizer, engine, sequence, .. } = self;
        Generation::start(engine, sequence, tokenizer, encoding, options)
    }

    /// A conversation with the model.
    pub fn chat(&mut self, options: GenerateOptions) -> Chat<'_> {
        chat::start(self, options)
    }
}

/// Loads the engine on the device that was asked for; where that was any, on the CPU if the GPU cannot take the model.
fn load_engine(
    model: &models::Model,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadStage),
) -> Result<(Engine, Placement), Error> {
    let mut on = |opened: &Opened| {
        let kind = opened.placement.gpu.as_ref().map(|gpu| gpu.kind);
        let own_memory = matches!(kind, Some(GpuKind::Discrete | GpuKind::Virtual));
        let config = EngineConfig {
            context: options.context,
            kv_format: options.kv_format.unwrap_or_else(|| options.device.kv_format()),
            rows: options.rows.unwrap_or(if own_memory { ROWS_ON_GPU } else { ROWS }),
            rows_least: options.rows.unwrap_or(ROWS),
            logit_rows: options.logit_rows,
            budget_bytes: options.memory_bytes.unwrap_or_else(|| opened.budget_bytes()),
        };
        let (program, weights) = (Arc::clone(&model.program), FileWeights { model });
        let loaded = Engine::load(opened.backend()?, program, &weights, config, &mut |done, total| {
            progress(LoadStage::Weights { done, total });
        });
        Ok::<Result<Engine, SessionError>, Error>(loaded)
    };
    let opened = device::open(&options.device, options.threads)?;
    match on(&opened)? {
        Ok(engine) => Ok((engine, opened.placement)),
        Err(error) => match opened.instead(&options.device, options.threads, &error) {
            None => Err(error.into()),
            Some(instead) => {
                // The GPU's memory is given back before the CPU's is taken: on some machines they are the same.
                drop(opened);
                Ok((on(&instead)??, instead.placement))
            }
        },
    }
}

/// The weights of an opened file.
pub(crate) struct FileWeights<'m> {
    pub(crate) model: &'m models::Model,
}

impl WeightSource for FileWeights<'_> {
    fn bytes(&self, tensor: TensorIndex) -> Result<TensorBytes, SessionError> {
        Ok(self.model.tensor_bytes(tensor))
    }

    fn release(&self, tensor: TensorIndex) {
        let name = &self.model.program.tensor(tensor).name;
        if let Some(info) = self.model.file.tensor(name) {
            // Advice to the system: where it is refused, the pages stay until memory is short.
            let _ = self.model.file.release(info);
        }
    }
}
