//! Split models: from one shard's metadata and name to its siblings, and the checks that they belong together.
//!
//! Sibling names are made from the opened file's own name, so they stay in its folder. Metadata decides whether a
//! file is a shard; the name only leads to the others.

use std::path::{Path, PathBuf};

use crate::error::GgufError;
use crate::metadata::{ALIGNMENT_KEY, Metadata};

const NUMBER_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSOR_COUNT_KEY: &str = "split.tensors.count";

/// What one shard says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardKeys {
    /// From 0.
    pub(crate) number: u64,
    pub(crate) count: u64,
    /// Tensors of all shards.
    pub(crate) tensor_count: u64,
}

impl ShardKeys {
    /// The `split.*` keys; `None` for a model of one file.
    pub(crate) fn of(metadata: &Metadata) -> Result<Option<Self>, GgufError> {
        let count = u64::from(metadata.read::<u16>(COUNT_KEY)?.unwrap_or(0));
        if count <= 1 {
            return Ok(None);
        }
        let number = metadata.require(NUMBER_KEY)?;
        if number >= count {
            return Err(GgufError::OverLimit {
                field: NUMBER_KEY.to_owned(),
                offset: metadata.value_offset(NUMBER_KEY).unwrap_or_default(),
                value: number,
                limit: count - 1,
            });
        }
        Ok(Some(Self { number, count, tensor_count: metadata.require(TENSOR_COUNT_KEY)? }))
    }

    /// The paths of all shards, in order, from the `path` of this one.
    pub(crate) fn paths(self, path: &Path) -> Result<impl Iterator<Item = PathBuf>, GgufError> {
        let suffix = shard_suffix(self.number, self.count);
        let name = path.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.strip_suffix(&suffix));
        let stem = stem.ok_or(GgufError::ShardName { number: self.number, count: self.count })?.to_owned();
        let folder = path.to_path_buf();
        Ok((0..self.count).map(move |number| folder.with_file_name(stem.clone() + &shard_suffix(number, self.count))))
    }

    /// Refuses a shard in place `number` whose keys say otherwise.
    pub(crate) fn check_sibling(self, number: u64, sibling: Option<Self>) -> Result<(), GgufError> {
        let found = sibling.ok_or_else(|| mismatch(COUNT_KEY, &"absent", &self.count))?;
        if found.number != number {
            return Err(mismatch(NUMBER_KEY, &found.number, &number));
        }
        if found.count != self.count {
            return Err(mismatch(COUNT_KEY, &found.count, &self.count));
        }
        if found.tensor_count != self.tensor_count {
            return Err(mismatch(TENSOR_COUNT_KEY, &found.tensor_count, &self.tensor_count));
        }
        Ok(())
    }
}

/// Refuses a shard whose metadata contradicts the first one's: a key in both, such as the architecture or the name,
/// must hold the same value. Most shards hold no key but `split.*`.
pub(crate) fn check_same_model(first: &Metadata, shard: &Metadata) -> Result<(), GgufError> {
    for (key, found) in shard.iter() {
        let own = key == NUMBER_KEY || key == ALIGNMENT_KEY;
        match first.get(key) {
            Some(expected) if !own && !expected.same_bits(&found) => {
                return Err(mismatch(key, &found.preview(), &expected.preview()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `-00001-of-00002.gguf` for number 0 of 2: how the names of a split model's files end.
pub fn shard_suffix(number: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}

fn mismatch(field: &str, found: &dyn ToString, expected: &dyn ToString) -> GgufError {
    GgufError::ShardMismatch { field: field.to_owned(), found: found.to_string(), expected: expected.to_string() }
}
