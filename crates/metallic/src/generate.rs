//! Generation with text: an iterator of events. Dropping it cancels, also in the middle of a prefill.

use session::sampler::{Sampler, SamplerConfig};
use session::{Engine, GenerateConfig, Sequence};
use text::stop::StopMatcher;
use text::{EncodeOptions, Encoding, StreamDecoder, StreamOptions, StreamStart, Tokenizer, Unencodable};

pub use session::{FinishReason, Speculation, Timings};

use crate::Error;

/// How to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Tokens to generate at most; `None` goes on to the end of the context.
    pub tokens_max: Option<usize>,
    /// How to choose tokens.
    pub sampler: SamplerConfig,
    /// The same seed gives the same tokens; `None` takes a random one.
    pub seed: Option<u64>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Texts over which DRY sees no repetition.
    pub dry_breakers: Vec<String>,
    /// Go on past the model's end-of-answer tokens.
    pub ignore_end: bool,
    /// Show control tokens in the text.
    pub show_special: bool,
    /// Whether to guess ahead; `None` guesses at temperature 0. The tokens are the same either way.
    pub speculation: Option<Speculation>,
}

impl GenerateOptions {
    /// llama.cpp's sampling, a random seed, no limits.
    #[expect(clippy::new_without_default, reason = "settings are spelled out, never defaulted by accident")]
    pub fn new() -> GenerateOptions {
        GenerateOptions {
            tokens_max: None,
            sampler: SamplerConfig::llama_cpp_defaults(),
            seed: None,
            stop: Vec::new(),
            dry_breakers: ["\n", ":", "\"", "*"].map(str::to_owned).to_vec(),
            ignore_end: false,
            show_special: false,
            speculation: None,
        }
    }

    /// The most likely token, always.
    pub fn greedy() -> GenerateOptions {
        GenerateOptions { sampler: SamplerConfig::greedy(), ..GenerateOptions::new() }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A chunk of the prompt was computed.
    Prefill {
        /// Prompt tokens computed so far.
        done: usize,
        /// Prompt tokens in all; less than the prompt's length where an earlier answer shares its beginning.
        total: usize,
    },
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
        /// Text that is now certain: whole characters, and no part of a stop text. Often this token's, sometimes more
        /// or nothing.
        text: String,
    },
    /// The end; no event follows.
    Finish {
        /// Why.
        reason: FinishReason,
        /// Text that was held back and is certain now.
        text: String,
        /// Where the time went.
        timings: Timings,
    },
}

/// A running generation; see the module.
pub struct Generation<'m> {
    inner: session::Generation<'m>,
    prompt: Vec<u32>,
    unencodable: Vec<Unencodable>,
    sampler_seed: u64,
    decoder: StreamDecoder<'m>,
    stops: StopMatcher,
    stopped: bool,
    ended: bool,
}

impl<'m> Generation<'m> {
    /// Continues `prompt` on `sequence`, keeping what the sequence already has of it.
    pub(crate) fn start(
        engine: &'m mut Engine,
        sequence: &'m mut Sequence,
        tokenizer: &'m Tokenizer,
        prompt: Encoding,
        options: &GenerateOptions,
    ) -> Result<Generation<'m>, Error> {
        let Encoding { ids: prompt, unencodable } = prompt;
        let mut config = options.sampler.clone();
        if config.dry_multiplier != 0.0 {
            config.dry_sequence_breakers = breakers(tokenizer, &options.dry_breakers);
        }
        let seed = options.seed.unwrap_or_else(random_seed);
        let sampler =
            Sampler::new(config, engine.program().sizes.vocabulary, seed).map_err(session::SessionError::from)?;
        let end_ids = if options.ignore_end { Vec::new() } else { tokenizer.end_ids().to_vec() };
        // The last token is computed again: its logits are needed.
        let shared = sequence.tokens().iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        engine.truncate(sequence, shared.min(prompt.len().saturating_sub(1)));
        let greedy = options.sampler.temperature <= 0.0;
        let guess = if greedy { Speculation::PromptLookup } else { Speculation::Off };
        let speculation = options.speculation.unwrap_or(guess);
        let config = GenerateConfig { tokens_max: options.tokens_max, end_ids, speculation };
        let inner = session::Generation::new(engine, sequence, sampler, &prompt, config)?;
        let show = StreamOptions { skip_special: !options.show_special, start: StreamStart::Continuation };
        Ok(Generation {
            inner,
            prompt,
            unencodable,
            sampler_seed: seed,
            decoder: StreamDecoder::new(tokenizer, show),
            stops: StopMatcher::new(options.stop.iter().cloned()),
            stopped: false,
            ended: false,
        })
    }

    /// The prompt's token ids.
    pub fn prompt_tokens(&self) -> &[u32] {
        &self.prompt
    }

    /// Bytes of the prompt, after rendering, for which the vocabulary has no token: the model does not see them.
    pub fn unencodable(&self) -> &[Unencodable] {
        &self.unencodable
    }

    /// The seed in use.
    pub fn seed(&self) -> u64 {
        self.sampler_seed
    }

    fn token(&mut self, id: u32) -> Event {
        let push = self.stops.push(self.decoder.push(id));
        self.stopped = push.stopped.is_some();
        Event::Token { id, text: push.text_to_emit }
    }

    fn finish(&mut self, reason: FinishReason, timings: Timings) -> Event {
        self.ended = true;
        let mut text = String::new();
        if !self.stopped {
            let push = self.stops.push(self.decoder.finish());
            text = push.text_to_emit;
            if push.stopped.is_none() {
                text.push_str(&self.stops.finish());
            }
        }
        Event::Finish { reason, text, timings }
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.stopped {
            let timings = self.inner.timings();
            return Some(Ok(self.finish(FinishReason::Stop, timings)));
        }
        match self.inner.next()? {
            Ok(session::Event::Prefill { done, total }) => Some(Ok(Event::Prefill { done, total })),
            Ok(session::Event::Token { id }) => Some(Ok(self.token(id))),
            Ok(session::Event::Finish { reason, timings, .. }) => Some(Ok(self.finish(reason, timings))),
            Err(error) => {
                self.ended = true;
                Some(Err(error.into()))
            }
        }
    }
}

/// Token sequences that a repetition does not reach across: the texts as tokens, and every token that contains one.
fn breakers(tokenizer: &Tokenizer, texts: &[String]) -> Vec<Vec<u32>> {
    let options = EncodeOptions { add_special: false, parse_special: false };
    let whole = texts.iter().map(|text| tokenizer.encode(text, options).ids).filter(|ids| !ids.is_empty());
    let count = u32::try_from(tokenizer.token_count()).unwrap_or(u32::MAX);
    let containing = (0..count).filter(|id| {
        let bytes = tokenizer.token_bytes(*id).unwrap_or_default();
        texts.iter().any(|text| !text.is_empty() && bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    });
    whole.chain(containing.map(|id| vec![id])).collect()
}

/// From the standard library's hash keys, which the system seeds.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
