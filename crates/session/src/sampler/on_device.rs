//! What a device needs to draw tokens by itself, and the sampler's word on what it drew.

use program::{DRAW_TOKENS_MAX, Draw};

use super::{Sampler, SamplerError};

impl Sampler {
    /// How a device can draw the next `count` tokens in this sampler's place, and the numbers to draw with. `None` where a
    /// choice takes more than the logits of a few likely tokens.
    pub fn draws(&self, count: usize) -> Option<(Draw, Vec<f32>)> {
        let config = &self.config;
        let top_k = usize::try_from(config.top_k).ok().filter(|top_k| (1..=DRAW_TOKENS_MAX).contains(top_k))?;
        let plain = !config.is_argmax()
            && config.temperature > 0.0
            && config.dynatemp_range <= 0.0
            && config.top_n_sigma <= 0.0
            && config.typical_p >= 1.0
            && !config.xtc_is_on()
            && config.logit_bias.is_empty()
            && self.mirostat.is_none()
            && self.penalties.is_none()
            && self.dry.is_none();
        let mut rng = self.rng.clone();
        let draw = Draw { top_k, top_p: config.top_p, min_p: config.min_p, temperature: config.temperature };
        plain.then(|| (draw, (0..count).map(|_| rng.uniform() as f32).collect()))
    }

    /// As [`Sampler::sample`] on logits of which `candidates` are the `top_k` highest, for a sampler that
    /// [`Sampler::draws`] said can do with these.
    pub fn sample_among(&mut self, candidates: &[(u32, f32)]) -> Result<u32, SamplerError> {
        let bad = |(_, logit): &&(u32, f32)| logit.is_nan() || *logit == f32::INFINITY;
        if let Some((token, logit)) = candidates.iter().find(bad) {
            return Err(SamplerError::BadLogit { token: *token as usize, logit: *logit });
        }
        self.candidates.fill_ranked(candidates);
        if self.candidates.items.is_empty() {
            return Err(SamplerError::NothingLeft);
        }
        Ok(self.draw_candidate())
    }
}
