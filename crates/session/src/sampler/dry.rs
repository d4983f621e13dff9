//! DRY ("don't repeat yourself"): a penalty on tokens that would continue a verbatim repetition.
//!
//! If the latest n tokens have occurred before, the token that followed them then is penalised by
//! `multiplier · base^(n - allowed_length)`. A sequence breaker ends what counts as "the latest tokens", so that
//! the layout of lists and dialogues may repeat. This module knows no strings: breakers are token sequences.

/// One configuration of DRY with its working memory.
#[derive(Debug)]
pub(super) struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: usize,
    /// Sorted, so that those with the same first token are neighbours.
    breakers: Vec<Vec<u32>>,
    /// For every distance back from the newest token: how many tokens agree, read backwards.
    repeats: Vec<usize>,
    /// For every token: the longest repetition that it would continue, plus 1; zero outside `apply`.
    longest: Vec<usize>,
}

/// e^x is finite in f32 up to here.
const EXPONENT_MAX: f32 = 88.722_84;

impl Dry {
    pub(super) fn new(
        multiplier: f32,
        base: f32,
        allowed_length: usize,
        breakers: &[Vec<u32>],
        vocabulary_len: usize,
    ) -> Self {
        let mut breakers = breakers.to_vec();
        breakers.sort();
        Self { multiplier, base, allowed_length, breakers, repeats: Vec::new(), longest: vec![0; vocabulary_len] }
    }

    /// Changes the logits of tokens that would continue a repetition within `window`, whose last token is the newest.
    pub(super) fn apply(&mut self, window: &[u32], logits: &mut [f32]) {
        if window.len() <= self.allowed_length {
            return;
        }
        let length_max = self.tokens_since_breaker(window);
        if length_max < self.allowed_length {
            return;
        }
        backward_repeats(window, &mut self.repeats);
        let newest = window.len() - 1;
        for distance in 1..window.len() {
            let length = self.repeats[distance].min(length_max);
            let continuation = window[newest - distance + 1] as usize;
            if let Some(longest) = self.longest.get_mut(continuation).filter(|_| length >= self.allowed_length) {
                *longest = (*longest).max(length + 1);
            }
        }
        for &token in window {
            let (Some(longest), Some(logit)) = (self.longest.get_mut(token as usize), logits.get_mut(token as usize))
            else {
                continue;
            };
            let length = std::mem::take(longest);
            if length > 0 && !self.is_breaker(token) {
                *logit -= self.penalty(length - 1);
            }
        }
    }

    fn penalty(&self, length: usize) -> f32 {
        let mut exponent = (length - self.allowed_length) as f32;
        if self.base > 1.000_001 {
            exponent = exponent.min((EXPONENT_MAX / self.base.ln()).floor());
        }
        // The product may still overflow: no logit survives that, but -∞ is how a token is banned, not an error.
        self.multiplier * self.base.powf(exponent)
    }

    /// How many of the latest tokens come after the newest complete breaker.
    fn tokens_since_breaker(&self, window: &[u32]) -> usize {
        for (start, &head) in window.iter().enumerate().rev() {
            let here = self.with_head(head).iter().filter(|breaker| window[start..].starts_with(breaker));
            if let Some(longest) = here.map(Vec::len).max() {
                return window.len() - start - longest;
            }
        }
        window.len()
    }

    fn with_head(&self, head: u32) -> &[Vec<u32>] {
        let start = self.breakers.partition_point(|breaker| breaker.first() < Some(&head));
        let count = self.breakers[start..].partition_point(|breaker| breaker.first() == Some(&head));
        &self.breakers[start..start + count]
    }

    fn is_breaker(&self, token: u32) -> bool {
        self.with_head(token).first().is_some_and(|breaker| breaker.len() == 1)
    }
}

/// `repeats[d]` becomes the number of tokens that agree when `window` is read backwards from its newest token and from
/// the one `d` before that. The Z algorithm on the reversed window: linear in its length.
fn backward_repeats(window: &[u32], repeats: &mut Vec<usize>) {
    let len = window.len();
    let newest = len - 1;
    repeats.clear();
    repeats.resize(len, 0);
    let (mut box_start, mut box_end) = (0, 0);
    for distance in 1..len {
        let mut length = 0;
        if distance < box_end {
            length = repeats[distance - box_start].min(box_end - distance);
        }
        while distance + length < len && window[newest - length] == window[newest - distance - length] {
            length += 1;
        }
        repeats[distance] = length;
        if distance + length > box_end {
            (box_start, box_end) = (distance, distance + length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dry, backward_repeats};

    /// The definition, without the linear algorithm.
    fn naive_penalties(window: &[u32], breakers: &[Vec<u32>], allowed: usize, vocabulary: usize) -> Vec<f32> {
        let mut limit = window.len();
        'search: for start in (0..window.len()).rev() {
            let lengths = breakers.iter().filter(|breaker| window[start..].starts_with(breaker)).map(Vec::len);
            if let Some(longest) = lengths.max() {
                limit = window.len() - start - longest;
                break 'search;
            }
        }
        let mut penalties = vec![0.0_f32; vocabulary];
        for (token, penalty) in (0_u32..).zip(&mut penalties) {
            if breakers.contains(&vec![token]) {
                continue;
            }
            for at in 0..window.len() {
                if window[at] != token {
                    continue;
                }
                let agree = (1..=at).take_while(|&back| window[at - back] == window[window.len() - back]).count();
                let length = agree.min(limit);
                if length >= allowed && limit >= allowed && window.len() > allowed && at > 0 {
                    *penalty = penalty.max(0.5 * 1.75_f32.powi((length - allowed) as i32));
                }
            }
        }
        penalties
    }

    #[test]
    fn a_known_repetition_is_penalised_by_its_length() {
        // The window of the published example: a b c c b c y a b c.
        let (a, b, c, y) = (0, 1, 2, 3);
        let window = [a, b, c, c, b, c, y, a, b, c];
        let mut logits = [0.0; 5];
        Dry::new(2.0, 3.0, 2, &[], 5).apply(&window, &mut logits);
        // "a b c" was followed by c, "b c" by y, and "c" by b: one token is below the allowed length.
        assert_eq!(logits, [0.0, 0.0, -6.0, -2.0, 0.0]);

        let mut logits = [0.0; 5];
        Dry::new(2.0, 3.0, 2, &[vec![y]], 5).apply(&window, &mut logits);
        assert_eq!(logits, [0.0, 0.0, -6.0, 0.0, 0.0], "a breaker is never penalised");
        let mut logits = [0.0; 5];
        Dry::new(2.0, 3.0, 2, &[vec![a]], 5).apply(&window, &mut logits);
        assert_eq!(logits, [0.0, 0.0, -2.0, -2.0, 0.0], "only the two tokens after the breaker count");
        let mut logits = [0.0; 5];
        Dry::new(2.0, 3.0, 2, &[vec![a, b]], 5).apply(&window, &mut logits);
        assert_eq!(logits, [0.0; 5], "only one token after the breaker counts");
    }

    #[test]
    fn long_repetitions_stay_finite_or_ban() {
        let window = vec![1; 4000];
        let mut logits = [0.0, 0.0];
        Dry::new(1.0, 1.75, 2, &[], 2).apply(&window, &mut logits);
        assert_eq!(logits[0], 0.0);
        assert!(logits[1] < -1e38 && logits[1].is_finite());
    }

    #[test]
    fn agrees_with_the_definition() {
        let mut state = 42_u64;
        let mut random = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as usize) % bound
        };
        for _ in 0..5000 {
            let vocabulary = 2 + random(4);
            let window: Vec<u32> = (0..1 + random(24)).map(|_| random(vocabulary) as u32).collect();
            let breakers: Vec<Vec<u32>> =
                (0..random(3)).map(|_| (0..1 + random(3)).map(|_| random(vocabulary + 1) as u32).collect()).collect();
            let allowed = random(4);
            let mut logits = vec![0.0; vocabulary];
            let mut dry = Dry::new(0.5, 1.75, allowed, &breakers, vocabulary);
            dry.apply(&window, &mut logits);
            for (logit, penalty) in logits.iter().zip(naive_penalties(&window, &breakers, allowed, vocabulary)) {
                assert!((logit + penalty).abs() <= 1e-5 * penalty, "{window:?} {breakers:?} {allowed}: {logits:?}");
            }
            assert!(dry.longest.iter().all(|&longest| longest == 0));
        }
    }

    #[test]
    fn repeats_are_counted_backwards() {
        let mut repeats = Vec::new();
        backward_repeats(&[1, 2, 1, 2, 1, 2], &mut repeats);
        assert_eq!(repeats, [0, 0, 4, 0, 2, 0]);
    }
}
