//! Temperature, fixed or following the entropy.

use super::candidates::Candidates;

/// Divides every logit; at 0 or below only the highest ranked token stays.
pub(super) fn scale(candidates: &mut Candidates, temperature: f32) {
    if temperature <= 0.0 {
        candidates.truncate(1);
        return;
    }
    let max = candidates.max_logit();
    for item in &mut candidates.items {
        // Relative to the highest, because a tiny temperature would overflow otherwise; a softmax sees no difference.
        item.logit = ((item.logit - max) / temperature).max(f32::MIN);
    }
}

/// The temperature between `temperature - range` (never below 0) and `temperature + range` for the entropy of the
/// candidates relative to the entropy of a uniform choice among them, raised to `exponent`.
pub(super) fn dynamic(candidates: &mut Candidates, temperature: f32, range: f32, exponent: f32) -> f32 {
    let lowest = (temperature - range).max(0.0);
    let highest = temperature + range;
    if candidates.items.len() < 2 {
        return highest;
    }
    candidates.softmax();
    let uniform = (candidates.items.len() as f32).ln();
    lowest + (highest - lowest) * (candidates.entropy() / uniform).clamp(0.0, 1.0).powf(exponent)
}

#[cfg(test)]
mod tests {
    use super::super::candidates::Candidates;
    use super::{dynamic, scale};

    fn filled(logits: &[f32]) -> Candidates {
        let mut candidates = Candidates::default();
        candidates.fill(logits, f32::NEG_INFINITY);
        candidates
    }

    #[test]
    fn scaling_is_that_of_the_softmax() {
        let mut candidates = filled(&[1.0, 2.0, 4.0]);
        scale(&mut candidates, 0.5);
        candidates.softmax();
        let weights = [2.0_f64, 4.0, 8.0].map(f64::exp);
        for (item, weight) in candidates.items.iter().zip(weights) {
            let expected = weight / weights.iter().sum::<f64>();
            assert!((f64::from(item.probability) - expected).abs() < 1e-6);
        }
        let mut candidates = filled(&[1.0, 2.0, 4.0]);
        scale(&mut candidates, 1e-38);
        candidates.softmax();
        assert_eq!(candidates.items.iter().map(|item| item.probability).collect::<Vec<_>>(), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn dynamic_temperature_follows_the_entropy() {
        assert_eq!(dynamic(&mut filled(&[1.0; 8]), 1.0, 0.5, 1.0), 1.5);
        assert_eq!(dynamic(&mut filled(&[0.0, 200.0]), 1.0, 0.5, 1.0), 0.5);
        assert_eq!(dynamic(&mut filled(&[0.0, 200.0]), 1.0, 2.0, 1.0), 0.0);
        let half = dynamic(&mut filled(&[0.0, 0.0, -100.0, -100.0]), 1.0, 0.4, 2.0);
        assert!((half - (0.6 + 0.8 * 0.25)).abs() < 1e-6, "{half}");
    }
}
