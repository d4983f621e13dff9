//! XTC ("exclude top choices"): sometimes drops all but the least likely of the tokens that are likely enough.

use super::candidates::Candidates;

/// Of the tokens with a probability of at least `threshold`, keeps only the least likely one, and everything below.
/// Whether the stage acts at all is the caller's draw.
pub(super) fn exclude_top_choices(candidates: &mut Candidates, threshold: f32) {
    candidates.softmax();
    let choices = candidates.items.iter().filter(|item| item.probability >= threshold).count();
    if choices > 1 {
        candidates.drop_first(choices - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::Candidates;
    use super::exclude_top_choices;

    fn after(probabilities: &[f32], threshold: f32) -> Vec<u32> {
        let logits: Vec<f32> = probabilities.iter().map(|probability| probability.ln()).collect();
        let mut candidates = Candidates::default();
        candidates.fill(&logits, f32::NEG_INFINITY);
        exclude_top_choices(&mut candidates, threshold);
        let mut ids: Vec<u32> = candidates.items.iter().map(|item| item.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn only_the_least_likely_of_the_top_choices_stays() {
        let probabilities = [0.05, 0.4, 0.3, 0.25];
        assert_eq!(after(&probabilities, 0.2), [0, 3]);
        assert_eq!(after(&probabilities, 0.28), [0, 2, 3]);
        assert_eq!(after(&probabilities, 0.35), [0, 1, 2, 3]);
        assert_eq!(after(&probabilities, 0.45), [0, 1, 2, 3]);
        assert_eq!(after(&probabilities, 0.0), [0]);
        assert_eq!(after(&[1.0], 0.1), [0]);
    }
}
