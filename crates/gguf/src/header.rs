//! The first 24 bytes: magic, version, and the two counts. Reads nothing behind them.

use crate::cursor::Cursor;
use crate::error::GgufError;
use crate::lookalike::{HEAD_BYTES, Lookalike};

/// `GGUF`, at byte 0.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// Magic, version and the two counts.
pub(crate) const HEADER_BYTES: usize = 4 + 4 + 8 + 8;

/// The version that the writer writes; the reader knows 2 as well, whose layout is the same.
pub(crate) const VERSION: u32 = 3;

/// Metadata entries of one file. The largest model files have about a thousand; an index of this many takes 10 MiB.
pub(crate) const METADATA_COUNT_MAX: u64 = 1 << 17;

/// Tensors of one file. A mixture of 400 unmerged experts in 100 layers has 120,000; a table of this many takes 20 MiB.
pub(crate) const TENSOR_COUNT_MAX: u64 = 1 << 17;

/// Key length, a one-byte key, value type, a one-byte value.
const METADATA_ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;

/// Name length, a one-byte name, dimension count, type, offset.
const TENSOR_ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 4 + 8;

/// What the header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) tensor_count: u64,
    pub(crate) metadata_count: u64,
}

/// Reads the header; both counts are bounded by the bytes that follow.
pub(crate) fn read(cursor: &mut Cursor<'_>, head: &[u8]) -> Result<Header, GgufError> {
    check_magic(head)?;
    cursor.take(MAGIC.len() as u64, format_args!("magic"))?;
    let version = cursor.u32(format_args!("version"))?;
    match version {
        2 | VERSION => {}
        _ if (1..=VERSION).contains(&version.swap_bytes()) => {
            return Err(GgufError::BigEndian { version });
        }
        _ => return Err(GgufError::UnsupportedVersion { version }),
    }
    let tensors_at = cursor.offset();
    let tensor_count = cursor.u64(format_args!("tensor count"))?;
    let metadata_at = cursor.offset();
    let metadata_count = cursor.u64(format_args!("metadata count"))?;
    check_limit("tensor count", tensors_at, tensor_count, TENSOR_COUNT_MAX)?;
    check_limit("metadata count", metadata_at, metadata_count, METADATA_COUNT_MAX)?;
    cursor.check_count(tensor_count, TENSOR_ENTRY_BYTES_MIN, tensors_at, format_args!("tensor count"))?;
    cursor.check_count(metadata_count, METADATA_ENTRY_BYTES_MIN, metadata_at, format_args!("metadata count"))?;
    Ok(Header { version, tensor_count, metadata_count })
}

/// Refuses what is not GGUF by its first bytes; a beginning of the magic counts as a truncated file.
pub(crate) fn check_magic(head: &[u8]) -> Result<(), GgufError> {
    if !head.is_empty() && (head.starts_with(MAGIC) || MAGIC.starts_with(head)) {
        return Ok(());
    }
    Err(GgufError::NotGguf { found: Lookalike::of(&head[..head.len().min(HEAD_BYTES)]) })
}

fn check_limit(field: &str, offset: u64, value: u64, limit: u64) -> Result<(), GgufError> {
    if value <= limit {
        return Ok(());
    }
    Err(GgufError::OverLimit { field: field.to_owned(), offset, value, limit })
}
