//! Mirostat 2.0: keeps the surprise of the chosen tokens near a target.
//!
//! Algorithm 2 of Basu et al., "Mirostat: a neural text decoding algorithm that directly controls perplexity" (2021).

use super::candidates::Candidates;

/// The controller's state.
#[derive(Debug, Clone)]
pub(super) struct MirostatState {
    tau: f32,
    eta: f32,
    /// The largest surprise allowed next, in bits.
    mu: f32,
}

impl MirostatState {
    pub(super) fn new(tau: f32, eta: f32) -> Self {
        Self { tau, eta, mu: 2.0 * tau }
    }

    pub(super) fn reset(&mut self) {
        self.mu = 2.0 * self.tau;
    }

    /// Chooses the index of a candidate and learns from its surprise.
    pub(super) fn choose(&mut self, candidates: &mut Candidates, uniform: f64) -> usize {
        candidates.sort_first(1);
        candidates.softmax();
        let mu = self.mu;
        if -candidates.items[0].probability.log2() > mu {
            candidates.truncate(1);
        } else {
            candidates.retain(|item| -item.probability.log2() <= mu);
        }
        candidates.softmax();
        let index = candidates.draw(uniform);
        let surprise = -candidates.items[index].probability.log2();
        self.mu -= self.eta * (surprise - self.tau);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::Candidates;
    use super::super::rng::Rng;
    use super::MirostatState;

    fn filled(logits: &[f32]) -> Candidates {
        let mut candidates = Candidates::default();
        candidates.fill(logits, f32::NEG_INFINITY);
        candidates
    }

    #[test]
    fn one_step_by_hand() {
        // Surprises of 1, 2, 3 and 3 bits; 2 τ = 2.4 keeps the first two, with probabilities 2/3 and 1/3.
        let logits = [0.5_f32, 0.25, 0.125, 0.125].map(f32::ln);
        let mut state = MirostatState::new(1.2, 0.5);
        let mut candidates = filled(&logits);
        assert_eq!(state.choose(&mut candidates, 0.7), 1);
        assert_eq!(candidates.items.len(), 2);
        let expected = 2.4 - 0.5 * (3.0_f32.log2() - 1.2);
        assert!((state.mu - expected).abs() < 1e-6, "{} {expected}", state.mu);
        state.reset();
        assert_eq!(state.mu, 2.4);
    }

    #[test]
    fn the_most_likely_token_is_always_allowed() {
        let mut state = MirostatState::new(0.0, 0.1);
        let mut candidates = filled(&[0.0, 0.1, 0.0]);
        let index = state.choose(&mut candidates, 0.999);
        assert_eq!(candidates.items[index].id, 1);
    }

    #[test]
    fn surprise_settles_at_the_target() {
        let logits: Vec<f32> = (1..2000).map(|rank| -1.1 * (rank as f32).ln()).collect();
        let mut state = MirostatState::new(3.0, 0.1);
        let mut rng = Rng::new(1);
        let mut surprises = Vec::new();
        for _ in 0..3000 {
            let mut candidates = filled(&logits);
            let index = state.choose(&mut candidates, rng.uniform());
            surprises.push(-candidates.items[index].probability.log2());
        }
        let mean = surprises[500..].iter().sum::<f32>() / 2500.0;
        assert!((mean - 3.0).abs() < 0.1, "{mean}");
    }
}
