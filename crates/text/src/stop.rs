//! Stop strings in streamed text.
//!
//! A stop string may begin in one piece of text and end in a later one, so text that could still turn out to be the
//! beginning of a stop string is held back, and everything before it is passed on at once. This module knows no
//! tokens; pieces are whole characters.

/// Watches a stream of text pieces for stop strings.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Always a proper prefix of some stop string.
    held: String,
    stopped: bool,
}

/// What one piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Text that is certainly no part of a stop string, in stream order.
    pub text_to_emit: String,
    /// The index, in the list given to [`StopMatcher::new`], of the stop string found. The text before it has been
    /// emitted; the stop string and what follows are dropped.
    pub stopped: Option<usize>,
}

impl StopMatcher {
    /// Empty stop strings are never found.
    pub fn new<S: Into<String>>(stops: impl IntoIterator<Item = S>) -> Self {
        Self { stops: stops.into_iter().map(Into::into).collect(), held: String::new(), stopped: false }
    }

    /// Takes the next piece. The match that begins first wins, and of those the longest that is complete.
    /// Once a stop string was found, nothing more is emitted.
    pub fn push(&mut self, piece: &str) -> Push {
        if self.stopped {
            return Push { text_to_emit: String::new(), stopped: None };
        }
        let held_before = self.held.len();
        let mut text = std::mem::take(&mut self.held);
        text.push_str(piece);
        if let Some((start, index)) = self.find(&text, held_before) {
            self.stopped = true;
            text.truncate(start);
            return Push { text_to_emit: text, stopped: Some(index) };
        }
        let held_len = self.stops.iter().map(|stop| held_len(&text, stop)).max().unwrap_or(0);
        self.held = text.split_off(text.len() - held_len);
        Push { text_to_emit: text, stopped: None }
    }

    /// The text still held back, when the stream ends without a stop string. The matcher is as new afterwards.
    pub fn finish(&mut self) -> String {
        self.stopped = false;
        std::mem::take(&mut self.held)
    }

    fn find(&self, text: &str, held_before: usize) -> Option<(usize, usize)> {
        let candidates = self.stops.iter().enumerate().filter(|(_, stop)| !stop.is_empty());
        candidates
            .filter_map(|(index, stop)| {
                let start = text.find(stop.as_str())?;
                debug_assert!(start + stop.len() > held_before, "an earlier piece already contained the stop string");
                Some((start, std::cmp::Reverse(stop.len()), index))
            })
            .min()
            .map(|(start, _, index)| (start, index))
    }
}

/// The length of the longest suffix of `text` that is a proper prefix of `stop`.
fn held_len(text: &str, stop: &str) -> usize {
    let (text, stop) = (text.as_bytes(), stop.as_bytes());
    let longest = text.len().min(stop.len().saturating_sub(1));
    // A prefix of a str begins at a character boundary of the text, because its first byte is no continuation byte;
    // it ends with the text.
    (1..=longest).rev().find(|&len| text.ends_with(&stop[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Push, StopMatcher};

    fn push(matcher: &mut StopMatcher, piece: &str) -> (String, Option<usize>) {
        let Push { text_to_emit, stopped } = matcher.push(piece);
        (text_to_emit, stopped)
    }

    #[test]
    fn a_stop_string_across_pieces_is_found_and_text_before_it_emitted() {
        let mut matcher = StopMatcher::new(["</s>", "\n\nUser:"]);
        assert_eq!(push(&mut matcher, "Hi <"), ("Hi ".to_owned(), None));
        assert_eq!(push(&mut matcher, "/"), (String::new(), None));
        assert_eq!(push(&mut matcher, "b>\n"), ("</b>".to_owned(), None));
        assert_eq!(push(&mut matcher, "\nUs"), (String::new(), None));
        assert_eq!(push(&mut matcher, "er: more"), (String::new(), Some(1)));
        assert_eq!(push(&mut matcher, "</s>"), (String::new(), None));
    }

    #[test]
    fn held_text_comes_out_at_the_end() {
        let mut matcher = StopMatcher::new(["ende", ""]);
        assert_eq!(push(&mut matcher, "am en"), ("am ".to_owned(), None));
        assert_eq!(matcher.finish(), "en");
        assert_eq!(matcher.finish(), "");
        assert_eq!(push(&mut matcher, "ende"), (String::new(), Some(0)));
    }

    #[test]
    fn a_false_start_is_released_as_soon_as_it_is_certain() {
        let mut matcher = StopMatcher::new(["aab"]);
        assert_eq!(push(&mut matcher, "aaa"), ("a".to_owned(), None));
        assert_eq!(push(&mut matcher, "b"), (String::new(), Some(0)));
    }

    #[test]
    fn characters_are_never_cut() {
        let mut matcher = StopMatcher::new(["é\u{301}x", "\u{e0}b"]);
        assert_eq!(push(&mut matcher, "caf\u{e9}"), ("caf".to_owned(), None));
        // "è" shares its first byte with "é" and "à" but is held for neither.
        assert_eq!(push(&mut matcher, "\u{e8}"), ("\u{e9}\u{e8}".to_owned(), None));
    }

    /// Every stream over a small alphabet, cut in every way that a seeded generator finds, against a search of the
    /// whole text.
    #[test]
    fn agrees_with_a_search_of_the_whole_text() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as usize) % bound
        };
        let alphabet = ["a", "b", "é", "ß", "🙂"];
        let mut found = 0;
        for _ in 0..20_000 {
            let text_len = random(14);
            let pieces: Vec<String> =
                (0..text_len).map(|_| (0..random(3)).map(|_| alphabet[random(alphabet.len())]).collect()).collect();
            let stops: Vec<String> =
                (0..1 + random(3)).map(|_| (0..1 + random(4)).map(|_| alphabet[random(3)]).collect()).collect();
            let whole = pieces.concat();

            let mut matcher = StopMatcher::new(stops.clone());
            let mut emitted = String::new();
            let mut consumed = String::new();
            let mut stopped = None;
            for piece in &pieces {
                consumed.push_str(piece);
                let push = matcher.push(piece);
                emitted.push_str(&push.text_to_emit);
                if push.stopped.is_some() {
                    stopped = push.stopped;
                    break;
                }
                let could_begin = |start: &usize| stops.iter().any(|stop| stop.starts_with(&consumed[*start..]));
                let held_from = consumed.char_indices().map(|(start, _)| start).find(could_begin);
                assert_eq!(emitted, consumed[..held_from.unwrap_or(consumed.len())], "{pieces:?} {stops:?}");
            }
            match stopped {
                Some(index) => {
                    let first = stops.iter().filter_map(|stop| consumed.find(stop.as_str())).min().unwrap();
                    assert_eq!(emitted, consumed[..first]);
                    assert!(consumed[first..].starts_with(&stops[index]));
                    found += 1;
                }
                None => {
                    assert!(stops.iter().all(|stop| !whole.contains(stop.as_str())), "{pieces:?} {stops:?}");
                    emitted.push_str(&matcher.finish());
                    assert_eq!(emitted, whole);
                }
            }
        }
        assert!(found > 1000, "the generator hardly ever makes a stop string: {found}");
    }
}
