//! Byte strings and their ids, walked byte by byte: which keys a text starts with. Built once, never changed.

use std::collections::VecDeque;
use std::ops::Range;

use crate::error::TokenizerError;
use crate::vocabulary::TokenId;

/// A node of a trie: what the bytes walked so far lead to.
pub(crate) type Node = u32;

/// Nodes in breadth-first order, so that the children of one are neighbours.
pub(crate) struct Trie {
    /// By node: its first child. The children end where those of the next node begin.
    first_child: Vec<u32>,
    /// By node: the byte that leads to it.
    label: Vec<u8>,
    /// By node: the id of the key that ends here, or `NONE`.
    value: Vec<TokenId>,
}

const NONE: TokenId = TokenId::MAX;

/// A text is walked from each of its characters, at most this far. Tokens of BERT and T5 vocabularies have 21 and 48.
const KEY_BYTES_MAX: usize = 1024;

impl Trie {
    /// Where every walk begins.
    pub(crate) const ROOT: Node = 0;

    /// A trie of these keys; empty ones are left out, and of equal ones the last counts.
    pub(crate) fn new<'k>(keys: impl Iterator<Item = (&'k [u8], TokenId)>) -> Result<Self, TokenizerError> {
        let mut keys: Vec<_> = keys.filter(|(key, _)| !key.is_empty()).collect();
        if let Some((key, id)) = keys.iter().find(|(key, _)| key.len() > KEY_BYTES_MAX) {
            return Err(TokenizerError::TokenTooLong { id: *id, bytes: key.len(), limit: KEY_BYTES_MAX });
        }
        keys.sort_unstable();
        let mut trie = Self { first_child: Vec::new(), label: vec![0], value: vec![NONE] };
        // Keys that go through the node, and how many of their bytes lead to it.
        let mut open: VecDeque<(Range<usize>, usize)> = VecDeque::from([(0..keys.len(), 0)]);
        while let Some((mut through, depth)) = open.pop_front() {
            let node = trie.first_child.len();
            trie.first_child.push(count(trie.label.len())?);
            while through.start < through.end && keys[through.start].0.len() == depth {
                trie.value[node] = keys[through.start].1;
                through.start += 1;
            }
            while through.start < through.end {
                let byte = keys[through.start].0[depth];
                let same = keys[through.clone()].partition_point(|(key, _)| key[depth] == byte);
                trie.label.push(byte);
                trie.value.push(NONE);
                open.push_back((through.start..through.start + same, depth + 1));
                through.start += same;
            }
        }
        trie.first_child.push(count(trie.label.len())?);
        Ok(trie)
    }

    /// The node that `byte` leads to.
    #[inline]
    pub(crate) fn step(&self, node: Node, byte: u8) -> Option<Node> {
        let first = self.first_child[node as usize];
        let children = first as usize..self.first_child[node as usize + 1] as usize;
        let at = self.label[children].binary_search(&byte).ok()?;
        Some(first + at as u32)
    }

    /// The id of the key that ends at a node.
    #[inline]
    pub(crate) fn value(&self, node: Node) -> Option<TokenId> {
        Some(self.value[node as usize]).filter(|&id| id != NONE)
    }

    /// The longest key that `text` starts with: its id and its length.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(TokenId, usize)> {
        let (mut node, mut longest) = (Self::ROOT, None);
        for (i, &byte) in text.iter().enumerate() {
            let Some(next) = self.step(node, byte) else {
                break;
            };
            node = next;
            longest = self.value(node).map(|id| (id, i + 1)).or(longest);
        }
        longest
    }
}

/// Nodes are numbered in 32 bits.
fn count(nodes: usize) -> Result<u32, TokenizerError> {
    u32::try_from(nodes).map_err(|_| TokenizerError::VocabularyTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_longest_key() {
        let keys: [&[u8]; 6] = [b"a", b"abc", b"", b"b\xff", b"ab", b"a"];
        let trie = Trie::new(keys.into_iter().zip(0..)).unwrap();
        assert_eq!(trie.longest(b"abd"), Some((4, 2)));
        assert_eq!(trie.longest(b"abcd"), Some((1, 3)));
        assert_eq!(trie.longest(b"a"), Some((5, 1)), "of equal keys the last");
        assert_eq!(trie.longest(b"b\xff"), Some((3, 2)));
        assert_eq!(trie.longest(b"b"), None, "a prefix is no key");
        assert_eq!(trie.longest(b""), None, "the empty key was left out");
        assert_eq!(Trie::new(std::iter::empty()).unwrap().longest(b"x"), None);
    }
}
