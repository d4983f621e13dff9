//! Tokens with a role: which ids begin and end things, which text is never merged from smaller
//! tokens, and how such text is found in a prompt. The rules, including the lists of well-known
//! texts, are llama.cpp's (0c1e57098, `llama-vocab.cpp`), because files rely on them.

use std::ops::Range;

use crate::special_matcher::Matcher;
use crate::vocabulary::{SpecialIds, TokenId, Vocabulary, VocabularyNote, VocabularySource, attr};

const EOT_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const EOM_TEXTS: &[&str] = &["<|eom_id|>"];
const FIM_PREFIX_TEXTS: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
const FIM_SUFFIX_TEXTS: &[&str] = &[
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
const FIM_MIDDLE_TEXTS: &[&str] = &[
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];
const FIM_PADDING_TEXTS: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REPOSITORY_TEXTS: &[&str] = &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];
const FIM_SEPARATOR_TEXTS: &[&str] = &["<|file_sep|>"];
/// Texts that end a generation wherever they appear.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];
/// Texts that are shown and matched like a user's own tokens, whatever their type.
const ALWAYS_SHOWN_TEXTS: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The roles of a vocabulary's tokens.
pub(crate) struct Roles {
    pub(crate) ids: SpecialIds,
    /// Ids that end a generation, ascending.
    pub(crate) end_ids: Vec<TokenId>,
}

/// Finds the roles. Changes the kind of tokens whose text says otherwise than their type.
pub(crate) fn assign_roles(
    vocabulary: &mut Vocabulary,
    source: &VocabularySource<'_>,
    defaults: SpecialIds,
    notes: &mut Vec<VocabularyNote>,
) -> Roles {
    let mut ids = ids_in_range(vocabulary, source.special_ids, defaults, notes);
    for (role, texts) in [
        (&mut ids.eot, EOT_TEXTS),
        (&mut ids.eom, EOM_TEXTS),
        (&mut ids.fim_prefix, FIM_PREFIX_TEXTS),
        (&mut ids.fim_suffix, FIM_SUFFIX_TEXTS),
        (&mut ids.fim_middle, FIM_MIDDLE_TEXTS),
        (&mut ids.fim_padding, FIM_PADDING_TEXTS),
        (&mut ids.fim_repository, FIM_REPOSITORY_TEXTS),
        (&mut ids.fim_separator, FIM_SEPARATOR_TEXTS),
    ] {
        if role.is_none()
            && let Some(id) = texts.iter().find_map(|text| vocabulary.find_raw(text.as_bytes()))
        {
            *role = Some(id);
            make_control(vocabulary, id, notes);
        }
    }
    let mut end_ids: Vec<TokenId> =
        [ids.fim_padding, ids.fim_repository, ids.fim_separator].into_iter().flatten().collect();
    for text in END_TEXTS {
        if let Some(id) = vocabulary.find_raw(text.as_bytes()) {
            make_control(vocabulary, id, notes);
            end_ids.push(id);
        }
    }
    for text in ALWAYS_SHOWN_TEXTS {
        if let Some(id) = vocabulary.find_raw(text.as_bytes()) {
            vocabulary.attrs[id as usize] = attr::USER_DEFINED;
        }
    }
    end_ids.extend([ids.eos, ids.eot, ids.eom].into_iter().flatten());
    end_ids.sort_unstable();
    end_ids.dedup();
    drop_middle_markers(vocabulary, &mut end_ids);
    set_strips(vocabulary, source.model_name.unwrap_or_default(), source.pre.unwrap_or_default());
    Roles { ids, end_ids }
}

fn ids_in_range(
    vocabulary: &Vocabulary,
    source: SpecialIds,
    defaults: SpecialIds,
    notes: &mut Vec<VocabularyNote>,
) -> SpecialIds {
    let count = vocabulary.len() as TokenId;
    let mut pick = |role, named: Option<TokenId>, default: Option<TokenId>| match named {
        Some(id) if id < count => Some(id),
        Some(id) => {
            notes.push(VocabularyNote::SpecialIdOutOfRange { role, id });
            default.filter(|&id| id < count)
        }
        None => default.filter(|&id| id < count),
    };
    SpecialIds {
        bos: pick("bos", source.bos, defaults.bos),
        eos: pick("eos", source.eos, defaults.eos),
        eot: pick("eot", source.eot, defaults.eot),
        eom: pick("eom", source.eom, defaults.eom),
        unknown: pick("unknown", source.unknown, defaults.unknown),
        separator: pick("separator", source.separator, defaults.separator),
        padding: pick("padding", source.padding, defaults.padding),
        mask: pick("mask", source.mask, defaults.mask),
        fim_prefix: pick("fim_prefix", source.fim_prefix, defaults.fim_prefix),
        fim_suffix: pick("fim_suffix", source.fim_suffix, defaults.fim_suffix),
        fim_middle: pick("fim_middle", source.fim_middle, defaults.fim_middle),
        fim_padding: pick("fim_padding", source.fim_padding, defaults.fim_padding),
        fim_repository: pick("fim_repository", source.fim_repository, defaults.fim_repository),
        fim_separator: pick("fim_separator", source.fim_separator, defaults.fim_separator),
    }
}

fn make_control(vocabulary: &mut Vocabulary, id: TokenId, notes: &mut Vec<VocabularyNote>) {
    let kind = &mut vocabulary.attrs[id as usize];
    if *kind & attr::CONTROL == 0 {
        *kind |= attr::CONTROL;
        notes.push(VocabularyNote::TreatedAsControl { id });
    }
}

/// Where a family has its own end of turn, a text of `END_TEXTS` may be an ordinary mark.
fn drop_middle_markers(vocabulary: &mut Vocabulary, end_ids: &mut Vec<TokenId>) {
    let find = |text: &str| vocabulary.find_raw(text.as_bytes()).filter(|id| end_ids.contains(id));
    let calls = find("<|call|>").or(find("<|calls|>")).is_some();
    let ends_otherwise = calls && (find("<|return|>").is_some() || find("<|flush|>").is_some());
    let end = find("<|end|>").filter(|_| ends_otherwise);
    let own_eos = find("<|tool_response>").or(find("<|plamo:eos|>")).is_some();
    let strike = find("</s>").filter(|_| own_eos);
    if let Some(id) = end {
        end_ids.retain(|&e| e != id);
        vocabulary.attrs[id as usize] = attr::USER_DEFINED;
    }
    if let Some(id) = strike {
        end_ids.retain(|&e| e != id);
        vocabulary.attrs[id as usize] = attr::NORMAL;
    }
}

/// White space that special tokens swallow is not in the files; it goes by the model's name.
fn set_strips(vocabulary: &mut Vocabulary, model_name: &str, pre: &str) {
    let name = model_name.to_ascii_lowercase();
    if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].iter().any(|jina| pre.contains(jina)) {
        set_strip(vocabulary, "<mask>", attr::STRIP_LEFT);
    } else if name.contains("phi-3") || name.contains("phi3") {
        for kind in &mut vocabulary.attrs {
            if *kind & (attr::CONTROL | attr::USER_DEFINED | attr::UNKNOWN) != 0 {
                *kind |= attr::STRIP_RIGHT;
            }
        }
        set_strip(vocabulary, "</s>", attr::STRIP_RIGHT);
        for text in ["<unk>", "<s>", "<|endoftext|>"] {
            if let Some(id) = vocabulary.find_raw(text.as_bytes()) {
                vocabulary.attrs[id as usize] &= !attr::STRIP_RIGHT;
            }
        }
    } else if name.contains("modern-bert") {
        set_strip(vocabulary, "[MASK]", attr::STRIP_LEFT);
    }
}

fn set_strip(vocabulary: &mut Vocabulary, text: &str, side: u8) {
    if let Some(id) = vocabulary.find_raw(text.as_bytes()) {
        vocabulary.attrs[id as usize] |= side;
    }
}

/// A stretch of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// Text to tokenize, as a byte range.
    Text(Range<usize>),
    /// A special token.
    Token(TokenId),
}

/// Finds special tokens in text.
pub(crate) struct SpecialTokens {
    /// Longest first; of two that overlap, the longer wins wherever it stands.
    by_length: Vec<SpecialToken>,
    all: Matcher,
    user_defined: Matcher,
    /// Whether any swallows white space, which moves the ends of the text around it.
    strips: bool,
}

/// More overlapping places than this are settled token by token, in bounded memory.
const CLUSTER_PLACES_MAX: usize = 4096;

struct SpecialToken {
    id: TokenId,
    text: Box<str>,
    strip_left: bool,
    strip_right: bool,
}

impl SpecialTokens {
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let special = attr::CONTROL | attr::USER_DEFINED | attr::UNKNOWN;
        let mut by_length: Vec<_> = (0..vocabulary.len() as TokenId)
            .filter(|&id| vocabulary.attrs[id as usize] & special != 0)
            .filter_map(|id| {
                // A text that is no UTF-8 cannot occur in a prompt, which is.
                let text = std::str::from_utf8(vocabulary.raw_text(id)).ok()?;
                let kind = vocabulary.attrs[id as usize];
                (!text.is_empty()).then(|| SpecialToken {
                    id,
                    text: text.into(),
                    strip_left: kind & attr::STRIP_LEFT != 0,
                    strip_right: kind & attr::STRIP_RIGHT != 0,
                })
            })
            .collect();
        by_length.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let is_user_defined =
            |token: &SpecialToken| vocabulary.attrs[token.id as usize] & (attr::CONTROL | attr::UNKNOWN) == 0;
        let texts = || by_length.iter().enumerate().map(|(i, token)| (i, &*token.text));
        let all = Matcher::new(texts().collect());
        let user_defined = Matcher::new(texts().filter(|(i, _)| is_user_defined(&by_length[*i])).collect());
        let strips = by_length.iter().any(|token| token.strip_left || token.strip_right);
        Self { by_length, all, user_defined, strips }
    }

    /// Cuts `text` at special tokens: user-defined ones always, control and unknown ones only if
    /// `parse_special`. The result is empty for an empty text.
    pub(crate) fn partition(&self, text: &str, parse_special: bool, fragments: &mut Vec<Fragment>) {
        fragments.clear();
        if text.is_empty() {
            return;
        }
        let matcher = if parse_special { &self.all } else { &self.user_defined };
        if self.strips || !self.cut_at_clusters(text, matcher, fragments) {
            self.cut_token_by_token(text, matcher, fragments);
        }
    }

    /// The rule as it is meant: each token in turn, longest first, cuts what the ones before left.
    fn cut_token_by_token(&self, text: &str, matcher: &Matcher, fragments: &mut Vec<Fragment>) {
        fragments.clear();
        fragments.push(Fragment::Text(0..text.len()));
        for i in matcher.present_in(text) {
            let token = &self.by_length[i];
            let mut cut = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments.drain(..) {
                match fragment {
                    Fragment::Text(range) => token.cut(text, range, &mut cut),
                    Fragment::Token(_) => cut.push(fragment),
                }
            }
            *fragments = cut;
        }
    }

    /// The same in one pass: places that overlap, directly or through others, are settled among
    /// themselves. False where too many do.
    fn cut_at_clusters(&self, text: &str, matcher: &Matcher, fragments: &mut Vec<Fragment>) -> bool {
        let mut cluster: Vec<(usize, usize)> = Vec::new();
        let (mut cluster_end, mut at, mut overflow) = (0, 0, false);
        let mut accepted = Vec::new();
        let mut settle = |cluster: &mut Vec<(usize, usize)>, cluster_end: usize| {
            self.settle(cluster, cluster_end, &mut accepted);
            for &(start, i) in &accepted {
                if start > at {
                    fragments.push(Fragment::Text(at..start));
                }
                fragments.push(Fragment::Token(self.by_length[i].id));
                at = start + self.by_length[i].text.len();
            }
            cluster.clear();
        };
        matcher.for_each_place(text, |start, i| {
            if start >= cluster_end {
                settle(&mut cluster, cluster_end);
            }
            if cluster.len() < CLUSTER_PLACES_MAX {
                cluster.push((i, start));
            } else {
                overflow = true;
            }
            cluster_end = cluster_end.max(start + self.by_length[i].text.len());
        });
        settle(&mut cluster, cluster_end);
        if at < text.len() {
            fragments.push(Fragment::Text(at..text.len()));
        }
        !overflow
    }

    /// Picks from overlapping places (rank, start) the ones that count, as (start, rank) by start.
    fn settle(&self, cluster: &mut [(usize, usize)], end: usize, accepted: &mut Vec<(usize, usize)>) {
        accepted.clear();
        let Some(&(best, start)) = cluster.iter().min() else {
            return;
        };
        // The usual case: one token, or the longest run of one that covers the shorter.
        if start == cluster[0].1 && start + self.by_length[best].text.len() == end {
            accepted.push((start, best));
            return;
        }
        cluster.sort_unstable();
        for &(i, start) in cluster.iter() {
            let after = accepted.partition_point(|&(other, _)| other < start);
            let free_before = after.checked_sub(1).is_none_or(|before| {
                let (other, j) = accepted[before];
                other + self.by_length[j].text.len() <= start
            });
            let free_after =
                accepted.get(after).is_none_or(|&(other, _)| start + self.by_length[i].text.len() <= other);
            if free_before && free_after {
                accepted.insert(after, (start, i));
            }
        }
    }
}

impl SpecialToken {
    /// Cuts one stretch at every occurrence, left to right.
    fn cut(&self, text: &str, mut range: Range<usize>, out: &mut Vec<Fragment>) {
        while let Some(found) = text[range.clone()].find(&*self.text) {
            let mut before = range.start..range.start + found;
            if self.strip_left {
                before.end = before.start + trim_ascii_end(&text[before.clone()]);
            }
            if !before.is_empty() {
                out.push(Fragment::Text(before));
            }
            out.push(Fragment::Token(self.id));
            range.start += found + self.text.len();
            if self.strip_right {
                range.start = range.end - text[range.clone()].trim_start_matches(is_c_space).len();
            }
        }
        if !range.is_empty() {
            out.push(Fragment::Text(range));
        }
    }
}

fn trim_ascii_end(text: &str) -> usize {
    text.trim_end_matches(is_c_space).len()
}

/// What C's `isspace` calls a space.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special(texts: &[&str]) -> SpecialTokens {
        let mut by_length: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(id, &text)| SpecialToken {
                id: id as TokenId,
                text: text.into(),
                strip_left: false,
                strip_right: false,
            })
            .collect();
        by_length.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let matcher = || Matcher::new(by_length.iter().enumerate().map(|(i, token)| (i, &*token.text)).collect());
        let (all, user_defined) = (matcher(), matcher());
        SpecialTokens { by_length, all, user_defined, strips: false }
    }

    #[test]
    fn one_pass_cuts_like_one_token_after_the_other() {
        let special = special(&["aba", "ab", "ba", "bab", "aabb", "a", "cc", "abc"]);
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        for number in 0..3u32.pow(9) {
            let text: String = (0..9).map(|i| ['a', 'b', 'c'][(number / 3u32.pow(i) % 3) as usize]).collect();
            fast.clear();
            assert!(special.cut_at_clusters(&text, &special.all, &mut fast));
            special.cut_token_by_token(&text, &special.all, &mut slow);
            assert_eq!(fast, slow, "{text}");
        }
    }

    #[test]
    fn too_many_overlaps_are_cut_token_by_token() {
        let special = special(&["  ", "   ", "    "]);
        let text = " ".repeat(40_001);
        let mut fragments = Vec::new();
        assert!(!special.cut_at_clusters(&text, &special.all, &mut fragments));
        special.partition(&text, false, &mut fragments);
        assert_eq!(fragments.len(), 10_001);
        assert_eq!(fragments[10_000], Fragment::Text(40_000..40_001));
    }
}
