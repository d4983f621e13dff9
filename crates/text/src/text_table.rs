//! Byte strings in one flat arena, numbered from 0, with a hash index from bytes to number.
//! No allocation per string. The hash is seeded per table, so that a file cannot be made to collide.

use std::hash::{BuildHasher, RandomState};

use crate::error::TokenizerError;
use crate::prefetch::prefetch;

const EMPTY: u64 = u64::MAX;

/// The arena and its index. Numbers are dense, so a number is also an index into side tables.
pub(crate) struct TextTable {
    arena: Vec<u8>,
    /// Where each string ends in the arena; it starts where the one before ends.
    ends: Vec<u32>,
    /// Open addressing, a power of two: upper half of the hash << 32 | number.
    slots: Vec<u64>,
    indexed: usize,
    seed: u64,
}

impl TextTable {
    /// An empty table. Capacities are hints and come from data already in memory.
    pub(crate) fn with_capacity(strings: usize, bytes: usize) -> Self {
        Self {
            arena: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(strings),
            slots: vec![EMPTY; slots_for(strings)],
            indexed: 0,
            seed: RandomState::new().hash_one(0u64),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes with this number; empty for a number that is none.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> &[u8] {
        let i = number as usize;
        let Some(&end) = self.ends.get(i) else {
            return &[];
        };
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.arena[start as usize..end as usize]
    }

    /// Appends bytes that `find` shall not know, and returns their number.
    pub(crate) fn push(&mut self, text: &[u8]) -> Result<u32, TokenizerError> {
        let number = u32::try_from(self.ends.len()).map_err(|_| TokenizerError::VocabularyTooLarge)?;
        let end = u32::try_from(self.arena.len() + text.len()).map_err(|_| TokenizerError::VocabularyTooLarge)?;
        self.arena.extend_from_slice(text);
        self.ends.push(end);
        Ok(number)
    }

    /// Appends bytes that `find` shall know. Fails with the number of equal bytes already there.
    pub(crate) fn insert(&mut self, text: &[u8]) -> Result<Result<u32, u32>, TokenizerError> {
        let hash = self.hash(text);
        if let Some(existing) = self.find_hashed(text, hash) {
            return Ok(Err(existing));
        }
        let number = self.push(text)?;
        if (self.indexed + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.indexed += 1;
        place(&mut self.slots, hash, number);
        Ok(Ok(number))
    }

    /// The number of these bytes.
    #[inline]
    pub(crate) fn find(&self, text: &[u8]) -> Option<u32> {
        self.find_hashed(text, self.hash(text))
    }

    /// Asks for the memory that `find` reads first; gives the hash of the bytes.
    #[inline]
    pub(crate) fn expect(&self, text: &[u8]) -> u64 {
        let hash = self.hash(text);
        prefetch(&self.slots, hash as usize & (self.slots.len() - 1));
        hash
    }

    /// The only number that bytes of this hash may well have; asks for the memory that says where its bytes are. None where no
    /// such bytes have a number.
    #[inline]
    pub(crate) fn expect_candidate(&self, hash: u64) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != EMPTY {
            if self.slots[at] >> 32 == hash >> 32 {
                let number = self.slots[at] as u32;
                prefetch(&self.ends, number as usize);
                return Some(number);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Asks for the bytes with this number.
    #[inline]
    pub(crate) fn expect_text(&self, number: u32) {
        if let Some(&end) = self.ends.get(number as usize) {
            prefetch(&self.arena, (end as usize).saturating_sub(1));
        }
    }

    #[inline]
    fn find_hashed(&self, text: &[u8], hash: u64) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            let number = slot as u32;
            if slot >> 32 == hash >> 32 && self.get(number) == text {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mut slots = vec![EMPTY; self.slots.len() * 2];
        for &slot in self.slots.iter().filter(|&&slot| slot != EMPTY) {
            place(&mut slots, self.hash(self.get(slot as u32)), slot as u32);
        }
        self.slots = slots;
    }

    #[inline]
    fn hash(&self, text: &[u8]) -> u64 {
        hash_bytes(text, self.seed)
    }
}

fn slots_for(strings: usize) -> usize {
    (strings + strings / 2).max(8).next_power_of_two()
}

fn place(slots: &mut [u64], hash: u64, number: u32) {
    let mask = slots.len() - 1;
    let mut at = hash as usize & mask;
    while slots[at] != EMPTY {
        at = (at + 1) & mask;
    }
    // The number u32::MAX with an all-ones hash would read as EMPTY; `push` never gives that number.
    slots[at] = (hash & 0xffff_ffff_0000_0000) | u64::from(number);
}

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiply and fold, eight bytes a step.
#[inline]
pub(crate) fn hash_bytes(text: &[u8], seed: u64) -> u64 {
    let mut hash = seed ^ (text.len() as u64).wrapping_mul(MIX);
    let mut eights = text.chunks_exact(8);
    for eight in &mut eights {
        hash = fold(hash ^ u64::from_le_bytes(eight.try_into().expect("a chunk of eight bytes")), MIX);
    }
    let rest = eights.remainder();
    let tail = match rest.len() {
        0 => 0,
        n @ 1..=3 => u64::from(rest[0]) | u64::from(rest[n / 2]) << 8 | u64::from(rest[n - 1]) << 16,
        n => {
            let low = u32::from_le_bytes(rest[..4].try_into().expect("four bytes"));
            let high = u32::from_le_bytes(rest[n - 4..].try_into().expect("four bytes"));
            u64::from(low) | u64::from(high) << 32
        }
    };
    fold(hash ^ tail, MIX ^ seed)
}

/// Both halves of the 128-bit product, folded together.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted_through_growth() {
        let mut table = TextTable::with_capacity(0, 0);
        for i in 0..5000u32 {
            let text = "x".repeat(i as usize % 40) + &i.to_string();
            assert_eq!(table.insert(text.as_bytes()).unwrap(), Ok(i));
        }
        assert_eq!(table.push(b"hidden").unwrap(), 5000);
        assert_eq!(table.find(b"hidden"), None);
        assert_eq!(table.get(5000), b"hidden");
        for i in 0..5000u32 {
            let text = "x".repeat(i as usize % 40) + &i.to_string();
            assert_eq!(table.find(text.as_bytes()), Some(i));
            assert_eq!(table.insert(text.as_bytes()).unwrap(), Err(i));
        }
        assert_eq!(table.get(9999), b"");
    }
}
