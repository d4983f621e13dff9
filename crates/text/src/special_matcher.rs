//! Tells which of a set of texts occur in a prompt and where, in one pass. Which of two that
//! overlap counts is for the caller to decide.

/// Sorted texts with an index by first byte.
pub(crate) struct Matcher {
    /// (text, the caller's number), ascending by text.
    texts: Vec<(Box<[u8]>, usize)>,
    /// Where texts with first byte `b` start in `texts`; they end at `starts[b + 1]`.
    starts: Vec<usize>,
    first_bytes: Vec<u8>,
    /// The texts' first two bytes, one bit a pair.
    pairs: Vec<u64>,
}

/// With at most this many different first bytes, looking for each of them beats a table walk.
const FEW_FIRST_BYTES: usize = 3;

impl Matcher {
    /// The caller's numbers are what `present_in` gives back, ascending.
    pub(crate) fn new(texts: Vec<(usize, &str)>) -> Self {
        let mut texts: Vec<(Box<[u8]>, usize)> = texts.into_iter().map(|(i, t)| (t.as_bytes().into(), i)).collect();
        texts.sort_unstable();
        let starts: Vec<usize> = (0..=256).map(|b| texts.partition_point(|(t, _)| usize::from(t[0]) < b)).collect();
        let first_bytes = (0..=255u8).filter(|&b| starts[usize::from(b)] < starts[usize::from(b) + 1]).collect();
        let mut pairs = vec![0; (1 << 16) / 64];
        for (text, _) in &texts {
            // A text of one byte is there whatever follows.
            let seconds = text.get(1).map_or(0..=255, |&second| second..=second);
            for pair in seconds.map(|second| pair_of(text[0], second)) {
                pairs[pair / 64] |= 1 << (pair % 64);
            }
        }
        Self { texts, starts, first_bytes, pairs }
    }

    /// Calls `found` with start and number for every place where a text occurs, by ascending start.
    pub(crate) fn for_each_place(&self, text: &str, mut found: impl FnMut(usize, usize)) {
        let bytes = text.as_bytes();
        match self.first_bytes.as_slice() {
            [] => {}
            [only] if only.is_ascii() => {
                for (at, _) in text.match_indices(*only as char) {
                    self.places_at(bytes, at, &mut found);
                }
            }
            few if few.len() <= FEW_FIRST_BYTES && few.iter().all(u8::is_ascii) => {
                let first = few.iter().filter_map(|&b| text.find(b as char)).min();
                for at in first.unwrap_or(bytes.len())..bytes.len() {
                    self.places_at(bytes, at, &mut found);
                }
            }
            _ => {
                for at in 0..bytes.len() {
                    self.places_at(bytes, at, &mut found);
                }
            }
        }
    }

    /// The numbers of the texts that occur in `text`, ascending.
    pub(crate) fn present_in(&self, text: &str) -> Vec<usize> {
        let mut present = std::collections::BTreeSet::new();
        self.for_each_place(text, |_, number| {
            present.insert(number);
        });
        present.into_iter().collect()
    }

    #[inline]
    fn places_at(&self, bytes: &[u8], at: usize, found: &mut impl FnMut(usize, usize)) {
        let pair = pair_of(bytes[at], bytes.get(at + 1).copied().unwrap_or(0));
        if self.pairs[pair / 64] >> (pair % 64) & 1 == 0 && at + 1 < bytes.len() {
            return;
        }
        let rest = &bytes[at..];
        let b = usize::from(rest[0]);
        let (mut low, mut high) = (self.starts[b], self.starts[b + 1]);
        let mut depth = 1;
        // All texts of low..high start like the rest for `depth` bytes.
        while low < high {
            let (first, number) = &self.texts[low];
            if first.len() == depth {
                found(at, *number);
                low += 1;
                continue;
            }
            let Some(&next) = rest.get(depth) else {
                return;
            };
            if first[depth] != next || self.texts[high - 1].0[depth] != next {
                let candidates = &self.texts[low..high];
                high = low + candidates.partition_point(|(t, _)| t[depth] <= next);
                low += candidates.partition_point(|(t, _)| t[depth] < next);
            }
            depth += 1;
        }
    }
}

fn pair_of(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_nested_and_overlapping_texts() {
        let matcher = Matcher::new(vec![(4, "<a>"), (2, "<ab"), (9, "<a"), (1, "b>"), (7, "zz")]);
        assert_eq!(matcher.present_in("x<a>"), [4, 9]);
        assert_eq!(matcher.present_in("<ab>"), [1, 2, 9]);
        assert_eq!(matcher.present_in("<"), [0usize; 0]);
        assert_eq!(matcher.present_in(""), [0usize; 0]);
        assert_eq!(Matcher::new(vec![]).present_in("anything"), [0usize; 0]);
    }
}
