//! Perplexity in llama.cpp's definition: chunks are independent, the second half of each is scored.

use session::Sequence;
use text::EncodeOptions;

use crate::Error;
use crate::model::Model;

/// The measure and what it was taken over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `e^(mean negative log-likelihood)` of the scored tokens.
    pub perplexity: f64,
    /// Standard error of `perplexity`.
    pub standard_error: f64,
    /// Scored tokens.
    pub tokens: usize,
    /// Chunks.
    pub chunks: usize,
}

/// Measures `text` over chunks of `chunk` tokens; `progress` hears chunks done, chunks in all, and the value so far.
///
/// The first token of each chunk becomes BOS where the vocabulary adds it.
///
/// # Errors
/// A chunk below four tokens or above the context, a text of fewer than two chunks.
pub fn perplexity(
    model: &mut Model,
    text: &str,
    chunk: usize,
    progress: &mut dyn FnMut(usize, usize, f64),
) -> Result<Perplexity, Error> {
    let context = model.engine_info().context();
    if chunk < 4 || chunk > context {
        let allowed = format!("between 4 and the context of {context}");
        return Err(Error::InvalidSetting { what: "chunk", value: chunk.to_string(), allowed });
    }
    let options = EncodeOptions { add_special: true, parse_special: false };
    let mut ids = model.tokenizer().encode(text, options).ids;
    if ids.len() < 2 * chunk {
        return Err(Error::TextTooShort { tokens: ids.len(), chunk, needed: 2 * chunk });
    }
    let bos = model.tokenizer().added_bos();
    let chunks = ids.len() / chunk;
    let first = chunk / 2;
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0usize);
    let engine = model.engine();
    for (index, tokens) in ids.chunks_exact_mut(chunk).enumerate() {
        if let Some(bos) = bos {
            tokens[0] = bos;
        }
        let mut sequence = Sequence::default();
        let tokens = &*tokens;
        let outcome = engine.all_logits(
            &mut sequence,
            tokens,
            &|position| position >= first && position + 1 < chunk,
            &mut |position, logits| {
                let loss = log_sum_exp(logits) - f64::from(logits[tokens[position + 1] as usize]);
                sum += loss;
                squares += loss * loss;
                count += 1;
            },
        );
        engine.truncate(&mut sequence, 0);
        outcome?;
        progress(index + 1, chunks, (sum / count as f64).exp());
    }
    let mean = sum / count as f64;
    let variance = squares / count as f64 - mean * mean;
    let perplexity = mean.exp();
    let standard_error = if count > 1 { (variance / (count - 1) as f64).max(0.0).sqrt() * perplexity } else { 0.0 };
    Ok(Perplexity { perplexity, standard_error, tokens: count, chunks })
}

/// `ln Σ e^logit`, summed in f64.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}
