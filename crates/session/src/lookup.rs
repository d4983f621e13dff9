//! Prompt lookup: guesses the next tokens from the last time the text went the same way (Saxena 2023, "prompt lookup
//! decoding"). A guess costs little, is checked by the model itself, and never changes what is generated.

use std::collections::HashMap;

/// Tokens that must agree before a guess is made.
const MATCH_TOKENS: usize = 3;
/// Longest guess.
pub(crate) const DRAFT_TOKENS_MAX: usize = 7;
/// Tokens without guesses after the first failure; each further one doubles them.
const PAUSE_FIRST: u32 = 2;
/// Longest pause: on text that never repeats, guesses cost below one per cent.
const PAUSE_LAST: u32 = 256;

/// Tokens for each pass's worth of time that a guess must yield not to count as a failure.
const GAIN_MIN: f64 = 1.05;
/// Length of the first guess.
const DRAFT_TOKENS_FIRST: usize = 3;

/// Whether to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speculation {
    /// One token for each pass.
    Off,
    /// Guess from the prompt and the answer so far.
    PromptLookup,
}

/// What was said so far, indexed by runs of [`MATCH_TOKENS`] tokens, and how well guesses went lately.
#[derive(Debug)]
pub(crate) struct Lookup {
    tokens: Vec<u32>,
    /// Position after the latest occurrence of each run but the one that ends the text.
    after: HashMap<[u32; MATCH_TOKENS], usize>,
    pause: u32,
    next_pause: u32,
    length: usize,
}

impl Lookup {
    pub(crate) fn new() -> Lookup {
        Lookup {
            tokens: Vec::new(),
            after: HashMap::new(),
            pause: 0,
            next_pause: PAUSE_FIRST,
            length: DRAFT_TOKENS_FIRST,
        }
    }

    /// Appends a token that is certain.
    pub(crate) fn push(&mut self, token: u32) {
        if let Some(run) = self.last_run() {
            self.after.insert(run, self.tokens.len());
        }
        self.tokens.push(token);
    }

    /// A guess at what follows, at most `limit` tokens; empty where nothing suggests one.
    pub(crate) fn draft(&mut self, limit: usize) -> &[u32] {
        if self.pause > 0 {
            self.pause -= 1;
            return &[];
        }
        let start = self.last_run().and_then(|run| self.after.get(&run).copied());
        let Some(start) = start else { return &[] };
        let end = (start + self.length.min(limit)).min(self.tokens.len());
        &self.tokens[start..end]
    }

    /// Tells how many of the `drafted` tokens the model agreed with, and what the pass cost in passes of one token.
    pub(crate) fn note(&mut self, drafted: usize, accepted: usize, cost: f64) {
        self.length = if accepted == drafted { (2 * self.length).min(DRAFT_TOKENS_MAX) } else { (accepted + 1).max(2) };
        if (1 + accepted) as f64 > cost * GAIN_MIN {
            self.next_pause = PAUSE_FIRST;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(PAUSE_LAST);
        }
    }

    fn last_run(&self) -> Option<[u32; MATCH_TOKENS]> {
        self.tokens.last_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_guessed_from_their_latest_occurrence() {
        let mut lookup = Lookup::new();
        for token in [1, 2, 3, 4, 5, 6, 1, 2, 3] {
            lookup.push(token);
        }
        assert_eq!(lookup.draft(2), [4, 5]);
        assert_eq!(lookup.draft(99), [4, 5, 6]);
        lookup.note(3, 3, 1.2);
        assert_eq!(lookup.draft(99), [4, 5, 6, 1, 2, 3]);
        lookup.push(9);
        assert_eq!(lookup.draft(4), [0; 0]);
        for token in [1, 2, 3] {
            lookup.push(token);
        }
        assert_eq!(lookup.draft(1), [9]);
    }

    #[test]
    fn failures_pause_ever_longer_and_a_success_ends_that() {
        let mut lookup = Lookup::new();
        for token in [1, 2, 3, 4, 1, 2, 3] {
            lookup.push(token);
        }
        for pause in [2, 4, 8] {
            assert!(!lookup.draft(4).is_empty());
            lookup.note(4, 0, 1.2);
            for _ in 0..pause {
                assert!(lookup.draft(4).is_empty());
            }
        }
        assert!(!lookup.draft(4).is_empty());
        lookup.note(4, 3, 1.2);
        lookup.note(4, 1, 2.0);
        assert!(lookup.draft(4).is_empty() && lookup.draft(4).is_empty() && !lookup.draft(4).is_empty());
    }
}
