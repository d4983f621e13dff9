//! Stages that drop unlikely tokens: top-n-sigma, locally typical, top-p and min-p. Top-k is
//! [`Candidates::fill_top`]. Every one of them leaves at least one token.

use super::candidates::{Candidate, Candidates};

/// The lowest logit that top-n-sigma keeps: `n` standard deviations below the highest. Logits of -∞ are not counted.
pub(super) fn sigma_floor(logits: &[f32], highest: f32, n: f32) -> f32 {
    let finite = || logits.iter().copied().filter(|&logit| logit > f32::NEG_INFINITY).map(f64::from);
    let count = finite().count() as f64;
    let mean = finite().sum::<f64>() / count;
    let variance = finite().map(|logit| (logit - mean).powi(2)).sum::<f64>() / count;
    (f64::from(highest) - f64::from(n) * variance.sqrt()) as f32
}

/// Keeps the tokens whose surprise is nearest to the entropy, until their probabilities exceed `p`.
/// Their order afterwards is by that distance. Tokens of probability 0 add nothing to the entropy; in llama.cpp they
/// make it NaN, so after top-n-sigma the two differ.
pub(super) fn typical(candidates: &mut Candidates, p: f32, scratch: &mut Vec<(f32, Candidate)>) {
    candidates.softmax();
    let entropy = candidates.entropy();
    scratch.clear();
    scratch.extend(candidates.items.iter().map(|item| ((-item.probability.ln() - entropy).abs(), *item)));
    scratch.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.rank(&b.1)));
    let mut sum = 0.0;
    let last = scratch.iter().position(|(_, item)| {
        sum += f64::from(item.probability);
        sum > f64::from(p)
    });
    scratch.truncate(last.map_or(scratch.len(), |last| last + 1));
    candidates.replace(scratch.iter().map(|(_, item)| *item));
}

/// Keeps the most likely tokens until their probabilities reach `p`.
pub(super) fn top_p(candidates: &mut Candidates, p: f32) {
    candidates.softmax();
    let mut sum = 0.0;
    let mut count = 0;
    let mut sorted = 0;
    while count < candidates.items.len() {
        if count == sorted {
            // Few tokens usually suffice, so the tail is not sorted before it is needed.
            sorted = (sorted * 4).max(64);
            candidates.sort_first(sorted);
        }
        sum += f64::from(candidates.items[count].probability);
        count += 1;
        if sum >= f64::from(p) {
            break;
        }
    }
    candidates.truncate(count);
}

/// Keeps the tokens at least `p` times as likely as the most likely one.
pub(super) fn min_p(candidates: &mut Candidates, p: f32) {
    let floor = candidates.max_logit() + p.ln();
    candidates.retain(|item| item.logit >= floor);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(logits: &[f32]) -> Candidates {
        let mut candidates = Candidates::default();
        candidates.fill(logits, f32::NEG_INFINITY);
        candidates
    }

    fn ids(candidates: &Candidates) -> Vec<u32> {
        let mut ids: Vec<u32> = candidates.items.iter().map(|item| item.id).collect();
        ids.sort_unstable();
        ids
    }

    /// (id, probability), most likely first.
    fn distribution(logits: &[f32]) -> Vec<(u32, f64)> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut all: Vec<(u32, f64)> = (0..).zip(weights.iter().map(|weight| weight / sum)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all
    }

    /// The shortest prefix whose probabilities satisfy `enough`; nothing if rounding could decide.
    fn prefix(order: &[(u32, f64)], p: f64) -> Option<Vec<u32>> {
        let mut sum = 0.0;
        let mut kept = Vec::new();
        for (id, probability) in order {
            kept.push(*id);
            sum += probability;
            if (sum - p).abs() < 1e-5 {
                return None;
            }
            if sum > p {
                break;
            }
        }
        kept.sort_unstable();
        Some(kept)
    }

    proptest! {
        #[test]
        fn top_p_is_the_textbook(logits in prop::collection::vec(-8.0_f32..8.0, 1..200), p in 0.0_f32..1.0) {
            let mut candidates = filled(&logits);
            top_p(&mut candidates, p);
            if let Some(expected) = prefix(&distribution(&logits), f64::from(p)) {
                prop_assert_eq!(ids(&candidates), expected);
            }
        }

        #[test]
        fn min_p_is_the_textbook(logits in prop::collection::vec(-8.0_f32..8.0, 1..100), p in 0.001_f32..1.0) {
            let mut candidates = filled(&logits);
            min_p(&mut candidates, p);
            let all = distribution(&logits);
            let bound = all[0].1 * f64::from(p);
            prop_assume!(all.iter().skip(1).all(|(_, probability)| (probability / bound - 1.0).abs() > 1e-5));
            let mut expected: Vec<u32> = all.iter().filter(|(_, q)| *q >= bound * 0.999_999).map(|(id, _)| *id).collect();
            expected.sort_unstable();
            prop_assert_eq!(ids(&candidates), expected);
        }

        #[test]
        fn typical_is_the_textbook(logits in prop::collection::vec(-4.0_f32..4.0, 1..60), p in 0.0_f32..1.0) {
            let mut candidates = filled(&logits);
            typical(&mut candidates, p, &mut Vec::new());
            let mut all = distribution(&logits);
            let entropy: f64 = -all.iter().map(|(_, q)| q * q.ln()).sum::<f64>();
            let distance = |q: f64| (-q.ln() - entropy).abs();
            all.sort_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
            prop_assume!(all.windows(2).all(|pair| distance(pair[1].1) - distance(pair[0].1) > 1e-4));
            if let Some(expected) = prefix(&all, f64::from(p)) {
                prop_assert_eq!(ids(&candidates), expected);
            }
        }

        #[test]
        fn sigma_is_the_textbook(logits in prop::collection::vec(-8.0_f32..8.0, 2..100), n in 0.1_f32..3.0) {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut with_banned = logits.clone();
            with_banned.push(f32::NEG_INFINITY);
            let floor = sigma_floor(&with_banned, max, n);
            let len = logits.len() as f64;
            let mean = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / len;
            let variance = logits.iter().map(|&logit| (f64::from(logit) - mean).powi(2)).sum::<f64>() / len;
            prop_assert!((f64::from(floor) - (f64::from(max) - f64::from(n) * variance.sqrt())).abs() < 1e-4);
        }
    }

    #[test]
    fn extremes_leave_one_token_or_all() {
        let logits = [1.0, 3.0, 2.0, 3.0];
        let mut candidates = filled(&logits);
        top_p(&mut candidates, 0.0);
        assert_eq!(ids(&candidates), [1]);
        let mut candidates = filled(&logits);
        min_p(&mut candidates, 1.0);
        assert_eq!(ids(&candidates), [1, 3]);
        let mut candidates = filled(&logits);
        typical(&mut candidates, 0.0, &mut Vec::new());
        assert_eq!(candidates.items.len(), 1);
        let mut candidates = filled(&logits);
        top_p(&mut candidates, 1.0);
        assert_eq!(candidates.items.len(), 4);
    }
}
