//! The tokens that may still be chosen, and the passes over a whole vocabulary.
//!
//! Order is total everywhere: by logit downwards, equal logits by token id upwards. So no result depends on how a
//! selection algorithm happens to treat equals.

use std::cmp::Ordering;

/// A token that may still be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    /// Never NaN and never infinite.
    pub(super) logit: f32,
    /// Only valid right after [`Candidates::softmax`].
    pub(super) probability: f32,
}

impl Candidate {
    /// `Less` if `self` ranks before `other`.
    pub(super) fn rank(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
}

/// What one pass over the logits of a vocabulary tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scan {
    /// The lowest id with the highest logit, and that logit. Meaningless with a NaN.
    pub(super) best: (usize, f32),
    pub(super) has_nan: bool,
}

/// Long enough for the compiler's vectors, short enough that looking at one block twice costs nothing.
const BLOCK: usize = 256;

pub(super) fn scan(logits: &[f32]) -> Scan {
    let mut best = (0, f32::NEG_INFINITY);
    let mut has_nan = false;
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let (block_max, block_nan) = block_max(block);
        has_nan |= block_nan;
        if block_max > best.1 {
            let offset = block.iter().position(|&logit| logit == block_max).unwrap_or(0);
            best = (index * BLOCK + offset, block_max);
        }
    }
    Scan { best, has_nan }
}

/// Eight running maxima, because a single one is a chain of dependent comparisons.
fn block_max(block: &[f32]) -> (f32, bool) {
    let mut lanes = [f32::NEG_INFINITY; 8];
    let mut nan = [false; 8];
    let chunks = block.chunks_exact(8);
    let tail = chunks.remainder();
    for chunk in chunks {
        for lane in 0..8 {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
            nan[lane] |= chunk[lane].is_nan();
        }
    }
    let max = lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |max, &logit| if logit > max { logit } else { max });
    (max, nan.contains(&true) || tail.iter().any(|logit| logit.is_nan()))
}

/// The remaining tokens; those with a logit of -∞ are never among them.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) items: Vec<Candidate>,
    /// `items[..sorted]` are the highest ranked, in order.
    sorted: usize,
}

impl Candidates {
    /// All tokens with a logit of at least `floor`.
    pub(super) fn fill(&mut self, logits: &[f32], floor: f32) {
        self.items.clear();
        self.sorted = 0;
        let tokens = (0..).zip(logits).filter(|&(_, &logit)| logit >= floor && logit > f32::NEG_INFINITY);
        self.items.extend(tokens.map(|(id, &logit)| Candidate { id, logit, probability: 0.0 }));
    }

    /// The `count` highest ranked tokens with a logit of at least `floor`, in order. One pass; the vocabulary is
    /// never copied or sorted.
    pub(super) fn fill_top(&mut self, logits: &[f32], floor: f32, count: usize) {
        self.items.clear();
        let mut threshold = floor;
        let mut block_start = 0_u32;
        for block in logits.chunks(BLOCK) {
            if block_max(block).0 >= threshold {
                for (id, &logit) in (block_start..).zip(block) {
                    if logit >= threshold && logit > f32::NEG_INFINITY {
                        self.items.push(Candidate { id, logit, probability: 0.0 });
                    }
                }
                // Twice the count is kept between selections, so that each one pays for many tokens.
                if self.items.len() >= count.saturating_mul(2).saturating_add(BLOCK) {
                    self.keep_top(count);
                    threshold = self.items.iter().fold(f32::INFINITY, |min, item| min.min(item.logit));
                }
            }
            block_start += BLOCK as u32;
        }
        self.keep_top(count);
        self.sorted = 0;
        self.sort_first(count);
    }

    /// These tokens, which are in order.
    pub(super) fn fill_ranked(&mut self, ranked: &[(u32, f32)]) {
        self.items.clear();
        let usable = ranked.iter().filter(|(_, logit)| *logit > f32::NEG_INFINITY);
        self.items.extend(usable.map(|&(id, logit)| Candidate { id, logit, probability: 0.0 }));
        self.sorted = self.items.len();
    }

    fn keep_top(&mut self, count: usize) {
        if count < self.items.len() {
            self.items.select_nth_unstable_by(count, Candidate::rank);
            self.items.truncate(count);
        }
    }

    /// Puts the `count` highest ranked first, in order.
    pub(super) fn sort_first(&mut self, count: usize) {
        let count = count.min(self.items.len());
        if count <= self.sorted {
            return;
        }
        let rest = &mut self.items[self.sorted..];
        let wanted = count - self.sorted;
        if wanted < rest.len() {
            rest.select_nth_unstable_by(wanted, Candidate::rank);
        }
        rest[..wanted].sort_unstable_by(Candidate::rank);
        self.sorted = count;
    }

    /// The highest logit; -∞ without candidates.
    pub(super) fn max_logit(&self) -> f32 {
        let unsorted = if self.sorted > 0 { &self.items[..1] } else { &self.items[..] };
        unsorted.iter().fold(f32::NEG_INFINITY, |max, item| max.max(item.logit))
    }

    /// Sets every probability to e^(logit - max) over the sum of these.
    pub(super) fn softmax(&mut self) {
        let max = self.max_logit();
        let mut sum = 0.0_f64;
        for item in &mut self.items {
            item.probability = (item.logit - max).exp();
            sum += f64::from(item.probability);
        }
        for item in &mut self.items {
            item.probability = (f64::from(item.probability) / sum) as f32;
        }
    }

    /// Keeps the first `count` of the order that [`Candidates::sort_first`] makes.
    pub(super) fn truncate(&mut self, count: usize) {
        self.sort_first(count);
        self.items.truncate(count);
        self.sorted = self.sorted.min(self.items.len());
    }

    /// Other candidates, in an order that says nothing about their rank.
    pub(super) fn replace(&mut self, items: impl Iterator<Item = Candidate>) {
        self.items.clear();
        self.items.extend(items);
        self.sorted = 0;
    }

    /// Drops the `count` highest ranked.
    pub(super) fn drop_first(&mut self, count: usize) {
        self.sort_first(count);
        self.items.drain(..count);
        self.sorted -= count;
    }

    /// Keeps those that pass, in their order. Passing must not depend on rank but through the logit.
    pub(super) fn retain(&mut self, keep: impl Fn(&Candidate) -> bool) {
        let sorted_kept = self.items[..self.sorted].iter().take_while(|item| keep(item)).count();
        let prefix_is_whole = self.items[..self.sorted].iter().skip(sorted_kept).all(|item| !keep(item));
        self.items.retain(keep);
        self.sorted = if prefix_is_whole { sorted_kept } else { 0 };
    }

    /// Shannon entropy of the probabilities, in nats.
    pub(super) fn entropy(&self) -> f32 {
        let terms = self.items.iter().filter(|item| item.probability > 0.0);
        -terms.map(|item| f64::from(item.probability) * f64::from(item.probability).ln()).sum::<f64>() as f32
    }

    /// The index of the candidate at `uniform`, in [0, 1), of the way through the probabilities, in stored order.
    pub(super) fn draw(&self, uniform: f64) -> usize {
        let sum: f64 = self.items.iter().map(|item| f64::from(item.probability)).sum();
        let target = sum * uniform;
        let mut running = 0.0;
        for (index, item) in self.items.iter().enumerate() {
            running += f64::from(item.probability);
            if running > target {
                return index;
            }
        }
        // Not reached: the running sum ends as the same sum, and a uniform number below 1 scales it down.
        self.items.iter().rposition(|item| item.probability > 0.0).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Candidates, scan};

    fn noise(len: usize, levels: u64) -> Vec<f32> {
        let mut state = 1_u64;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % levels) as f32 - levels as f32 / 2.0
            })
            .collect()
    }

    fn ranked(logits: &[f32]) -> Vec<(u32, f32)> {
        let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all
    }

    fn pairs(candidates: &Candidates) -> Vec<(u32, f32)> {
        candidates.items.iter().map(|item| (item.id, item.logit)).collect()
    }

    #[test]
    fn scan_finds_the_first_of_the_highest_and_any_nan() {
        for len in [1, 7, 8, 255, 256, 257, 1000] {
            let mut logits = noise(len, 10);
            let best = ranked(&logits)[0];
            assert_eq!(scan(&logits).best, (best.0 as usize, best.1));
            for position in [0, len / 2, len - 1] {
                assert!(!scan(&logits).has_nan);
                let kept = std::mem::replace(&mut logits[position], f32::NAN);
                assert!(scan(&logits).has_nan);
                logits[position] = kept;
            }
        }
    }

    #[test]
    fn fill_top_is_a_full_sort_cut_off() {
        // Few levels make many ties, many levels few.
        for levels in [3, 50, 1 << 30] {
            let mut logits = noise(5000, levels);
            logits[17] = f32::NEG_INFINITY;
            let all = ranked(&logits);
            for count in [1, 2, 40, 300, 2500, 4999, 5000, 9999] {
                let mut candidates = Candidates::default();
                candidates.fill_top(&logits, f32::NEG_INFINITY, count);
                assert_eq!(pairs(&candidates), all[..count.min(4999)], "{levels} {count}");
            }
        }
    }

    #[test]
    fn sorting_in_steps_is_sorting_at_once() {
        let logits = noise(3000, 200);
        let all = ranked(&logits);
        let mut candidates = Candidates::default();
        candidates.fill(&logits, f32::NEG_INFINITY);
        for count in [1, 2, 100, 100, 99, 1500] {
            candidates.sort_first(count);
            assert_eq!(pairs(&candidates)[..count], all[..count]);
        }
        candidates.retain(|item: &Candidate| item.logit >= -20.0);
        candidates.truncate(1600);
        assert_eq!(pairs(&candidates), all[..1600]);
        candidates.drop_first(10);
        assert_eq!(candidates.max_logit(), all[10].1);
        candidates.truncate(5);
        assert_eq!(pairs(&candidates), all[10..15]);
    }
}
