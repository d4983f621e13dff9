//! A position in the bytes of a file. Every read checks what is left first; nothing here allocates, except for errors.

use std::fmt::Arguments;

use crate::error::GgufError;

/// Walks forward through `bytes`. Positions are file offsets: the slice is the whole file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position: position.min(bytes.len()) }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// The position, as errors carry it.
    pub(crate) fn offset(&self) -> u64 {
        self.position as u64
    }

    pub(crate) fn left(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    /// The next `count` bytes. `field` names them in an error.
    pub(crate) fn take(&mut self, count: u64, field: Arguments<'_>) -> Result<&'a [u8], GgufError> {
        let left = &self.bytes[self.position..];
        match usize::try_from(count).ok().and_then(|count| left.get(..count)) {
            Some(taken) => {
                self.position += taken.len();
                Ok(taken)
            }
            None => Err(GgufError::Truncated {
                field: field.to_string(),
                offset: self.offset(),
                missing_bytes: count - left.len() as u64,
                file_bytes: self.bytes.len() as u64,
            }),
        }
    }

    pub(crate) fn u32(&mut self, field: Arguments<'_>) -> Result<u32, GgufError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: Arguments<'_>) -> Result<u64, GgufError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Refuses a `count`, read at `offset`, of items that cannot all fit into what is left.
    pub(crate) fn check_count(
        &self,
        count: u64,
        item_bytes: u64,
        offset: u64,
        field: Arguments<'_>,
    ) -> Result<(), GgufError> {
        let left_bytes = self.left();
        if count <= left_bytes / item_bytes {
            return Ok(());
        }
        Err(GgufError::CountTooLarge { field: field.to_string(), offset, count, item_bytes, left_bytes })
    }

    fn array<const N: usize>(&mut self, field: Arguments<'_>) -> Result<[u8; N], GgufError> {
        let taken = self.take(N as u64, field)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }
}
