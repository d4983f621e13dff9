//! Metadata carried from one file to another, with some keys replaced, added or left out.

use gguf::{Metadata, Value, Writer};

use crate::error::ToolError;

/// Keys that describe a shard and not a model.
pub(crate) const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];

/// Copies `metadata` in order. A key in `replaced` gets its new value in its old place, those that are new come last, and
/// those in `dropped` do not come.
pub(crate) fn carry(
    writer: &mut Writer,
    metadata: &Metadata,
    replaced: &[(String, Value<'_>)],
    dropped: &[&str],
) -> Result<(), ToolError> {
    for (key, value) in metadata.iter().filter(|(key, _)| !dropped.contains(key)) {
        let value = replaced.iter().find(|(name, _)| name == key).map_or(value, |(_, value)| *value);
        writer.set(key, value)?;
    }
    for (key, value) in replaced.iter().filter(|(key, _)| metadata.get(key).is_none()) {
        writer.set(key, *value)?;
    }
    Ok(())
}
