//! Generation as an iterator of events. Dropping it cancels, also between the chunks of a prefill.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use program::Drawn;

use crate::SessionError;
use crate::engine::{Engine, Sequence};
use crate::lookup::{Lookup, Speculation};
use crate::sampler::Sampler;

/// Tokens that a device may choose before the first of them is told.
const BURST_TOKENS_MAX: usize = 8;

/// Time for them, so that text still seems to flow.
const BURST_TIME: Duration = Duration::from_millis(20);

/// When to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateConfig {
    /// Tokens to generate at most; `None` goes on to the end of the context.
    pub tokens_max: Option<usize>,
    /// Ids that end the answer; the last event carries none of them.
    pub end_ids: Vec<u32>,
    /// Whether to guess ahead; the tokens are the same either way.
    pub speculation: Speculation,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its answer.
    Stop,
    /// The token limit or the context was reached.
    Length,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Wall time of the prompt's passes.
    pub prefill: Duration,
    /// Prompt tokens computed.
    pub prefill_tokens: usize,
    /// Wall time of the passes after the prompt's, sampling included.
    pub decode: Duration,
    /// Tokens chosen by those passes. The first generated token comes from the prompt's last pass.
    pub decode_tokens: usize,
    /// Passes after the prompt's: fewer than tokens where guesses were right.
    pub decode_passes: usize,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A chunk of the prompt was computed.
    Prefill {
        /// Prompt tokens computed so far.
        done: usize,
        /// Prompt tokens in all.
        total: usize,
    },
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
    },
    /// The end; no event follows.
    Finish {
        /// Why.
        reason: FinishReason,
        /// The token that ended the answer, where one did; it is not in the sequence.
        end_id: Option<u32>,
        /// Where the time went.
        timings: Timings,
    },
}

/// A running generation.
///
/// The sequence holds the prompt's tokens and every generated token but the last, which has not been computed yet.
pub struct Generation<'e> {
    engine: &'e mut Engine,
    sequence: &'e mut Sequence,
    sampler: Sampler,
    config: GenerateConfig,
    prompt: Vec<u32>,
    done: usize,
    /// Chosen, not yet told.
    chosen: VecDeque<u32>,
    lookup: Option<Lookup>,
    /// Whether to ask the device for tokens; not again once it has said that it does not choose.
    choose_on_device: bool,
    /// Tokens to ask it for.
    burst: usize,
    /// Fastest pass of one token so far, to weigh guesses against.
    single_pass: Duration,
    /// Told, not yet computed.
    told: Option<u32>,
    told_count: usize,
    timings: Timings,
    ended: bool,
}

impl<'e> Generation<'e> {
    /// Continues `prompt`, of which the sequence already holds a beginning. Nothing is computed before the first event
    /// is asked for.
    ///
    /// # Errors
    /// An empty prompt, one that does not continue the sequence, unknown ids, a prompt longer than the context.
    pub fn new(
        engine: &'e mut Engine,
        sequence: &'e mut Sequence,
        mut sampler: Sampler,
        prompt: &[u32],
        config: GenerateConfig,
    ) -> Result<Generation<'e>, SessionError> {
        if prompt.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        let held = sequence.len();
        if !prompt.starts_with(sequence.tokens()) || held == prompt.len() {
            return Err(SessionError::NotAContinuation { held, given: prompt.len() });
        }
        engine.check(sequence, &prompt[held..])?;
        for token in &prompt[..held] {
            sampler.accept(*token);
        }
        let mut lookup = (config.speculation == Speculation::PromptLookup).then(Lookup::new);
        if let Some(lookup) = &mut lookup {
            prompt.iter().for_each(|token| lookup.push(*token));
        }
        Ok(Generation {
            engine,
            sequence,
            sampler,
            config,
            prompt: prompt[held..].to_vec(),
            done: 0,
            chosen: VecDeque::new(),
            lookup,
            choose_on_device: true,
            burst: 1,
            single_pass: Duration::MAX,
            told: None,
            told_count: 0,
            timings: Timings::default(),
            ended: false,
        })
    }

    /// What was measured so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    fn step(&mut self) -> Result<Event, SessionError> {
        if self.done < self.prompt.len() {
            return self.prefill();
        }
        let limit = self.config.tokens_max.unwrap_or(usize::MAX);
        if self.told_count >= limit {
            return Ok(self.finish(FinishReason::Length, None));
        }
        if let (true, Some(token)) = (self.chosen.is_empty(), self.told) {
            if self.sequence.len() >= self.engine.context() {
                return Ok(self.finish(FinishReason::Length, None));
            }
            self.decode(token, limit - self.told_count)?;
            self.timings.decode_passes += 1;
            self.timings.decode_tokens += self.chosen.len();
        }
        let id = self.chosen.pop_front().expect("a prefill or a decoded token chose one");
        if self.config.end_ids.contains(&id) {
            return Ok(self.finish(FinishReason::Stop, Some(id)));
        }
        self.told = Some(id);
        self.told_count += 1;
        Ok(Event::Token { id })
    }

    /// Computes `token`, the last one told, and chooses what follows: one token, or more where guesses were right.
    fn decode(&mut self, token: u32, wanted: usize) -> Result<(), SessionError> {
        if self.choose_on_device && self.decode_on_device(token, wanted)? {
            return Ok(());
        }
        let room = self.engine.context() - self.sequence.len() - 1;
        let limit = room.min(wanted - 1).min(self.engine.logit_rows_max() - 1).min(self.engine.rows_max() - 1);
        let started = Instant::now();
        let mut tokens = vec![token];
        if let Some(lookup) = &mut self.lookup {
            tokens.extend_from_slice(lookup.draft(limit));
        }
        let before = self.sequence.len();
        let vocabulary = self.engine.program().sizes.vocabulary;
        let logits = self.engine.each_logits(self.sequence, &tokens)?;
        for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
            let next = choose(&mut self.sampler, logits)?;
            self.chosen.push_back(next);
            let agreed = tokens.get(row + 1) == Some(&next);
            if !agreed || self.config.end_ids.contains(&next) {
                break;
            }
        }
        let agreed = self.chosen.len() - 1;
        self.engine.truncate(self.sequence, before + 1 + agreed);
        let elapsed = started.elapsed();
        self.timings.decode += elapsed;
        if let Some(lookup) = &mut self.lookup {
            self.chosen.iter().for_each(|token| lookup.push(*token));
            if tokens.len() == 1 {
                self.single_pass = self.single_pass.min(elapsed);
            } else {
                lookup.note(tokens.len() - 1, agreed, elapsed.as_secs_f64() / self.single_pass.as_secs_f64());
            }
        }
        Ok(())
    }

    /// As `decode`, where the device chooses the tokens itself; false, and nothing done, where it does not.
    ///
    /// Of tokens that are drawn the sampler has the last word: where it would have drawn another, which only rounding
    /// explains, the device goes on with that one.
    fn decode_on_device(&mut self, token: u32, wanted: usize) -> Result<bool, SessionError> {
        let before = self.sequence.len();
        let count = self.burst.min(wanted).min(self.engine.context() - before);
        let started = Instant::now();
        let ahead = (wanted - count).min(BURST_TOKENS_MAX);
        let found = if self.sampler.takes_highest() {
            let tokens = self.engine.greedy(self.sequence, token, count, ahead)?;
            tokens.map(|tokens| tokens.into_iter().map(|token| Drawn { token, candidates: Vec::new() }).collect())
        } else if let Some((draw, numbers)) = self.sampler.draws(count + ahead) {
            self.engine.draw(self.sequence, token, count, ahead, (draw, &numbers))?
        } else {
            None
        };
        let Some(found): Option<Vec<Drawn>> = found else {
            self.choose_on_device = false;
            return Ok(false);
        };
        for Drawn { token, candidates } in &found {
            let agreed = match candidates.as_slice() {
                [] => *token,
                candidates => self.sampler.sample_among(candidates)?,
            };
            self.sampler.accept(agreed);
            self.chosen.push_back(agreed);
            if agreed != *token || self.config.end_ids.contains(&agreed) {
                break;
            }
        }
        self.engine.truncate(self.sequence, before + self.chosen.len());
        let elapsed = started.elapsed();
        self.burst =
            if elapsed < BURST_TIME { (self.burst * 2).min(BURST_TOKENS_MAX) } else { (self.burst / 2).max(1) };
        self.timings.decode += elapsed;
        Ok(true)
    }

    fn finish(&mut self, reason: FinishReason, end_id: Option<u32>) -> Event {
        self.ended = true;
        Event::Finish { reason, end_id, timings: self.timings }
    }

    /// Computes one chunk of the prompt; the last one leaves the first token to emit.
    fn prefill(&mut self) -> Result<Event, SessionError> {
        let started = Instant::now();
        let end = (self.done + self.engine.rows_max()).min(self.prompt.len());
        let chunk = &self.prompt[self.done..end];
        for token in chunk {
            self.sampler.accept(*token);
        }
        if end < self.prompt.len() {
            self.engine.extend(self.sequence, chunk)?;
        } else {
            let logits = self.engine.next_logits(self.sequence, chunk)?;
            if self.config.tokens_max != Some(0) {
                let first = choose(&mut self.sampler, logits)?;
                self.chosen.push_back(first);
                if let Some(lookup) = &mut self.lookup {
                    lookup.push(first);
                }
            }
        }
        self.timings.prefill += started.elapsed();
        self.timings.prefill_tokens += chunk.len();
        self.done = end;
        Ok(Event::Prefill { done: end, total: self.prompt.len() })
    }
}

fn choose(sampler: &mut Sampler, logits: &[f32]) -> Result<u32, SessionError> {
    let token = sampler.sample(logits)?;
    sampler.accept(token);
    Ok(token)
}

impl Iterator for Generation<'_> {
    type Item = Result<Event, SessionError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let outcome = self.step();
        self.ended |= outcome.is_err();
        Some(outcome)
    }
}
