//! From logits to the next token: a chain of stages in the order and with the defaults of llama.cpp.
//!
//! Logit bias → penalties → DRY → top-n-sigma → top-k → typical-p → top-p → min-p → XTC → temperature → draw.
//! With Mirostat the chain is logit bias → temperature → Mirostat, as in llama.cpp; the other fields are not read.
//!
//! The same configuration, seed and logits give the same tokens. This module knows no strings and no model; what
//! token ids mean is the caller's affair.

mod candidates;
mod dry;
mod mirostat;
mod on_device;
mod penalties;
mod rng;
mod temperature;
#[cfg(test)]
mod tests;
mod truncation;
mod xtc;

use thiserror::Error;

use candidates::{Candidate, Candidates, Scan, scan};
use dry::Dry;
use mirostat::MirostatState;
use penalties::Penalties;
use rng::Rng;

/// How to choose tokens. Start from [`SamplerConfig::llama_cpp_defaults`] or [`SamplerConfig::greedy`].
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerConfig {
    /// Added to the logits of single tokens; -∞ bans a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the latest tokens the three penalties look at; 0 is off, -1 is all.
    pub penalty_last_n: i32,
    /// Divides positive and multiplies negative logits of tokens seen; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted for each time a token was seen; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted once for a token seen; 0 is off.
    pub presence_penalty: f32,
    /// Scale of the DRY penalty; 0 is off.
    pub dry_multiplier: f32,
    /// Growth of the DRY penalty with each repeated token; below 1 is off.
    pub dry_base: f32,
    /// Repetitions shorter than this are free.
    pub dry_allowed_length: i32,
    /// How many of the latest tokens DRY looks at; 0 is off, -1 is all.
    pub dry_penalty_last_n: i32,
    /// Token sequences over which no repetition reaches, usually those of `\n`, `:`, `"` and `*`.
    pub dry_sequence_breakers: Vec<Vec<u32>>,
    /// Keeps tokens within so many standard deviations of the highest logit; 0 or below is off.
    pub top_n_sigma: f32,
    /// Keeps the so many most likely tokens; 0 is off.
    pub top_k: i32,
    /// Keeps the most typical tokens of so much probability; 1 is off.
    pub typical_p: f32,
    /// Keeps the most likely tokens of so much probability; 1 is off.
    pub top_p: f32,
    /// Keeps tokens at least so many times as likely as the most likely one; 0 is off.
    pub min_p: f32,
    /// How often XTC acts; 0 is off.
    pub xtc_probability: f32,
    /// How likely a token has to be for XTC to count it as a top choice; above 0.5 is off.
    pub xtc_threshold: f32,
    /// 0 or below takes the most likely token of those left.
    pub temperature: f32,
    /// How far the temperature moves with the entropy; 0 is off.
    pub dynatemp_range: f32,
    /// How the relative entropy maps to the temperature.
    pub dynatemp_exponent: f32,
    /// Replaces the chain.
    pub mirostat: Mirostat,
}

/// Whether surprise is controlled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mirostat {
    /// The ordinary chain.
    Off,
    /// Mirostat 2.0; llama.cpp's values are 5 and 0.1.
    V2 {
        /// Target surprise, in bits.
        tau: f32,
        /// Learning rate.
        eta: f32,
    },
}

/// Longer sequence breakers are refused: each token of the window is compared with them.
const BREAKER_LEN_MAX: usize = 32;

impl SamplerConfig {
    /// What llama.cpp does when told nothing.
    pub fn llama_cpp_defaults() -> Self {
        Self {
            logit_bias: Vec::new(),
            penalty_last_n: 64,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 64,
            dry_sequence_breakers: Vec::new(),
            top_n_sigma: -1.0,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.95,
            min_p: 0.05,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            mirostat: Mirostat::Off,
        }
    }

    /// Always the most likely token, nothing else.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::llama_cpp_defaults() }
    }

    /// Finds the first field with a value that means nothing.
    pub fn validate(&self) -> Result<(), SamplerError> {
        let (tau, eta) = match self.mirostat {
            Mirostat::Off => (0.0, 0.0),
            Mirostat::V2 { tau, eta } => (tau, eta),
        };
        let any = f64::MIN..=f64::MAX;
        let from_zero = 0.0..=f64::MAX;
        let share = 0.0..=1.0;
        let last_n = -1.0..=f64::from(i32::MAX);
        let count = 0.0..=f64::from(i32::MAX);
        let fields = [
            ("penalty_last_n", f64::from(self.penalty_last_n), &last_n),
            ("repeat_penalty", f64::from(self.repeat_penalty), &(f64::from(f32::MIN_POSITIVE)..=f64::MAX)),
            ("frequency_penalty", f64::from(self.frequency_penalty), &any),
            ("presence_penalty", f64::from(self.presence_penalty), &any),
            ("dry_multiplier", f64::from(self.dry_multiplier), &from_zero),
            ("dry_base", f64::from(self.dry_base), &from_zero),
            ("dry_allowed_length", f64::from(self.dry_allowed_length), &count),
            ("dry_penalty_last_n", f64::from(self.dry_penalty_last_n), &last_n),
            ("top_n_sigma", f64::from(self.top_n_sigma), &any),
            ("top_k", f64::from(self.top_k), &count),
            ("typical_p", f64::from(self.typical_p), &share),
            ("top_p", f64::from(self.top_p), &share),
            ("min_p", f64::from(self.min_p), &share),
            ("xtc_probability", f64::from(self.xtc_probability), &share),
            ("xtc_threshold", f64::from(self.xtc_threshold), &share),
            ("temperature", f64::from(self.temperature), &any),
            ("dynatemp_range", f64::from(self.dynatemp_range), &from_zero),
            ("dynatemp_exponent", f64::from(self.dynatemp_exponent), &from_zero),
            ("mirostat.tau", f64::from(tau), &from_zero),
            ("mirostat.eta", f64::from(eta), &from_zero),
        ];
        for (field, value, range) in fields {
            // Infinities convert to f64 infinities, and NaN lies in no range.
            if !range.contains(&value) {
                return Err(SamplerError::OutOfRange { field, value, min: *range.start(), max: *range.end() });
            }
        }
        for &(token, bias) in &self.logit_bias {
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(SamplerError::LogitBias { token, bias });
            }
        }
        for (index, breaker) in self.dry_sequence_breakers.iter().enumerate() {
            if !(1..=BREAKER_LEN_MAX).contains(&breaker.len()) {
                return Err(SamplerError::SequenceBreaker { index, tokens: breaker.len() });
            }
        }
        Ok(())
    }

    fn penalties(&self) -> Option<Penalties> {
        let penalties = Penalties {
            repeat: self.repeat_penalty,
            frequency: self.frequency_penalty,
            presence: self.presence_penalty,
        };
        let on = self.mirostat == Mirostat::Off && self.penalty_last_n != 0 && !penalties.is_off();
        on.then_some(penalties)
    }

    fn dry_is_on(&self) -> bool {
        self.mirostat == Mirostat::Off
            && self.dry_multiplier != 0.0
            && self.dry_base >= 1.0
            && self.dry_penalty_last_n != 0
    }

    fn xtc_is_on(&self) -> bool {
        self.xtc_probability > 0.0 && self.xtc_threshold <= 0.5
    }

    /// Whether the answer is the highest logit, whatever the other stages do: only these two can drop it.
    fn is_argmax(&self) -> bool {
        let fixed = self.temperature <= 0.0 && self.dynatemp_range <= 0.0;
        match self.mirostat {
            Mirostat::Off => fixed && self.typical_p >= 1.0 && !self.xtc_is_on(),
            Mirostat::V2 { .. } => self.temperature <= 0.0,
        }
    }
}

/// Why a sampler cannot be made or cannot choose.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SamplerError {
    /// A field of the configuration is not a number or not in its range.
    #[error("sampler: `{field}` is {value}; it has to be from {min} to {max}")]
    OutOfRange {
        /// The field of [`SamplerConfig`].
        field: &'static str,
        /// Its value.
        value: f64,
        /// The lowest value accepted.
        min: f64,
        /// The highest value accepted.
        max: f64,
    },
    /// A bias is NaN or +∞.
    #[error("sampler: the logit bias of token {token} is {bias}; it has to be a number or -inf")]
    LogitBias {
        /// The token.
        token: u32,
        /// Its bias.
        bias: f32,
    },
    /// A bias names a token that does not exist.
    #[error("sampler: a logit bias is given for token {token}, but the vocabulary has {vocabulary_len} tokens")]
    LogitBiasToken {
        /// The token.
        token: u32,
        /// Tokens in the vocabulary.
        vocabulary_len: usize,
    },
    /// A sequence breaker is empty or long.
    #[error("sampler: dry_sequence_breakers[{index}] has {tokens} tokens; it has to be 1 to {BREAKER_LEN_MAX}")]
    SequenceBreaker {
        /// Position in the list.
        index: usize,
        /// Its length.
        tokens: usize,
    },
    /// The logits are not those of this vocabulary.
    #[error("sampler: {found} logits for a vocabulary of {expected} tokens")]
    LogitCount {
        /// Tokens in the vocabulary.
        expected: usize,
        /// Logits given.
        found: usize,
    },
    /// A logit is NaN or +∞: the model computed nonsense.
    #[error("sampler: the logit of token {token} is {logit}; the model's output is not usable")]
    BadLogit {
        /// The first such token.
        token: usize,
        /// Its logit.
        logit: f32,
    },
    /// Every logit is -∞.
    #[error("sampler: every token is banned")]
    NothingLeft,
}

/// A chain of stages with its history and random numbers, for one sequence.
#[derive(Debug)]
pub struct Sampler {
    config: SamplerConfig,
    vocabulary_len: usize,
    seed: u64,
    rng: Rng,
    history: History,
    penalties: Option<Penalties>,
    dry: Option<Dry>,
    mirostat: Option<MirostatState>,
    candidates: Candidates,
    /// (vocabulary): logits after bias and penalties.
    logits: Vec<f32>,
    /// (vocabulary): all zero between calls.
    counts: Vec<u32>,
    typical_scratch: Vec<(f32, Candidate)>,
}

impl Sampler {
    /// A sampler that has seen nothing. `vocabulary_len` is the number of logits that every call will bring.
    pub fn new(config: SamplerConfig, vocabulary_len: usize, seed: u64) -> Result<Self, SamplerError> {
        config.validate()?;
        if let Some(&(token, _)) = config.logit_bias.iter().find(|(token, _)| *token as usize >= vocabulary_len) {
            return Err(SamplerError::LogitBiasToken { token, vocabulary_len });
        }
        let penalties = config.penalties();
        let dry = config.dry_is_on().then(|| {
            let allowed_length = usize::try_from(config.dry_allowed_length).unwrap_or(0);
            let breakers = &config.dry_sequence_breakers;
            Dry::new(config.dry_multiplier, config.dry_base, allowed_length, breakers, vocabulary_len)
        });
        let windows = [
            penalties.map(|_| window_len(config.penalty_last_n)),
            dry.as_ref().map(|_| window_len(config.dry_penalty_last_n)),
        ];
        let mirostat = match config.mirostat {
            Mirostat::Off => None,
            Mirostat::V2 { tau, eta } => Some(MirostatState::new(tau, eta)),
        };
        Ok(Self {
            vocabulary_len,
            seed,
            rng: Rng::new(seed),
            history: History { tokens: Vec::new(), window: windows.into_iter().flatten().max().unwrap_or(0) },
            counts: vec![0; if penalties.is_some() { vocabulary_len } else { 0 }],
            penalties,
            dry,
            mirostat,
            candidates: Candidates::default(),
            logits: Vec::new(),
            typical_scratch: Vec::new(),
            config,
        })
    }

    /// Whether the choice is the highest logit, whatever was said before; then a device can choose.
    pub fn takes_highest(&self) -> bool {
        self.config.is_argmax() && self.penalties.is_none() && self.dry.is_none() && self.config.logit_bias.is_empty()
    }

    /// Takes note of a token of the prompt or of the answer. A token outside the vocabulary has no logit to
    /// penalise, but it separates repetitions.
    pub fn accept(&mut self, token: u32) {
        self.history.push(token);
    }

    /// Back to the state of a new sampler with the same seed.
    pub fn reset(&mut self) {
        self.rng = Rng::new(self.seed);
        self.history.tokens.clear();
        if let Some(mirostat) = &mut self.mirostat {
            mirostat.reset();
        }
    }

    /// Chooses a token; it is not accepted yet. `logits` has one entry for each token of the vocabulary; -∞ bans one.
    ///
    /// Random numbers are taken in this order: one for XTC if it is on, one for the draw unless the choice is the
    /// highest logit by configuration.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SamplerError> {
        if logits.len() != self.vocabulary_len {
            return Err(SamplerError::LogitCount { expected: self.vocabulary_len, found: logits.len() });
        }
        let mut highest = usable(logits)?;
        let changes = self.penalties.is_some() || self.dry.is_some() || !self.config.logit_bias.is_empty();
        // Taken out and put back, because the stages below borrow the rest of the sampler.
        let mut changed = std::mem::take(&mut self.logits);
        if changes {
            changed.clear();
            changed.extend_from_slice(logits);
            self.change(&mut changed);
        }
        let result = if changes { usable(&changed) } else { Ok(highest) }.map(|best| {
            highest = best;
            self.choose(if changes { &changed } else { logits }, highest)
        });
        self.logits = changed;
        result
    }

    fn change(&mut self, logits: &mut [f32]) {
        for &(token, bias) in &self.config.logit_bias {
            logits[token as usize] += bias;
        }
        if let Some(penalties) = &self.penalties {
            let window = self.history.last(window_len(self.config.penalty_last_n));
            penalties.apply(window, &mut self.counts, logits);
        }
        if let Some(dry) = &mut self.dry {
            dry.apply(self.history.last(window_len(self.config.dry_penalty_last_n)), logits);
        }
    }

    fn choose(&mut self, logits: &[f32], (best, highest): (usize, f32)) -> u32 {
        if self.config.is_argmax() {
            return best as u32;
        }
        let config = &self.config;
        let candidates = &mut self.candidates;
        if let Some(mirostat) = &mut self.mirostat {
            candidates.fill(logits, f32::NEG_INFINITY);
            temperature::scale(candidates, config.temperature);
            let index = mirostat.choose(candidates, self.rng.uniform());
            return candidates.items[index].id;
        }
        let floor = match config.top_n_sigma {
            n if n > 0.0 => truncation::sigma_floor(logits, highest, n),
            _ => f32::NEG_INFINITY,
        };
        match usize::try_from(config.top_k) {
            Ok(count) if count > 0 => candidates.fill_top(logits, floor, count),
            _ => candidates.fill(logits, floor),
        }
        self.draw_candidate()
    }

    /// The stages after top-k.
    fn draw_candidate(&mut self) -> u32 {
        let config = &self.config;
        let candidates = &mut self.candidates;
        if config.typical_p < 1.0 {
            truncation::typical(candidates, config.typical_p, &mut self.typical_scratch);
        }
        if config.top_p < 1.0 {
            truncation::top_p(candidates, config.top_p);
        }
        if config.min_p > 0.0 {
            truncation::min_p(candidates, config.min_p);
        }
        if config.xtc_is_on() && self.rng.uniform() <= f64::from(config.xtc_probability) {
            xtc::exclude_top_choices(candidates, config.xtc_threshold);
        }
        let temperature = match config.dynatemp_range {
            range if range > 0.0 => {
                temperature::dynamic(candidates, config.temperature, range, config.dynatemp_exponent)
            }
            _ => config.temperature,
        };
        temperature::scale(candidates, temperature);
        candidates.softmax();
        let index = candidates.draw(self.rng.uniform());
        candidates.items[index].id
    }
}

/// The highest logit and its token.
fn usable(logits: &[f32]) -> Result<(usize, f32), SamplerError> {
    let Scan { best: (best, highest), has_nan } = scan(logits);
    if has_nan || highest == f32::INFINITY {
        let bad = logits.iter().position(|&logit| logit.is_nan() || logit == f32::INFINITY).unwrap_or(best);
        return Err(SamplerError::BadLogit { token: bad, logit: logits.get(bad).copied().unwrap_or(highest) });
    }
    if highest == f32::NEG_INFINITY {
        return Err(SamplerError::NothingLeft);
    }
    Ok((best, highest))
}

/// -1 is everything.
fn window_len(last_n: i32) -> usize {
    usize::try_from(last_n).unwrap_or(usize::MAX)
}

/// The latest tokens, contiguous, in memory that grows to twice the window and no further.
#[derive(Debug)]
struct History {
    tokens: Vec<u32>,
    window: usize,
}

impl History {
    fn push(&mut self, token: u32) {
        if self.window == 0 {
            return;
        }
        if self.tokens.len() >= self.window.saturating_mul(2) {
            let start = self.tokens.len() - self.window;
            self.tokens.copy_within(start.., 0);
            self.tokens.truncate(self.window);
        }
        self.tokens.push(token);
    }

    fn last(&self, count: usize) -> &[u32] {
        &self.tokens[self.tokens.len().saturating_sub(count)..]
    }
}
