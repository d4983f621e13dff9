//! Where a file's bytes are: a map, a copy, or memory of the caller's. The crate's only unsafe code.
//!
//! Contract of a map: nobody writes to the file or shrinks it while it is open. Rust cannot enforce that; the bytes
//! of a file that is written to may change between two looks, and a file that shrinks makes the operating system kill
//! the process on access. `Access::Read` has neither risk, and [`Source::check_unchanged`] tells the second in advance.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::error::GgufError;
use crate::file::Access;
use crate::header;
use crate::lookalike::HEAD_BYTES;

/// Advice is given for ranges of this many bytes, a multiple of every page size in use.
#[cfg(unix)]
const ADVICE_BYTES: usize = 64 * 1024;

/// The bytes of one file.
pub(crate) enum Source {
    /// A read-only map of a file; the handle stays for its size.
    Map { map: Mmap, file: File },
    /// A copy in memory of its own pages, so that tensors keep the alignment that they have in the file.
    Copy(MmapMut),
    /// The caller's.
    Memory(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl Source {
    /// Opens a file that starts like GGUF; anything else is refused before it is mapped or read.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self, GgufError> {
        let failed = |action| move |source| GgufError::io(action, path, source);
        // Before opening: opening a pipe would wait for its writer.
        check_is_file(&fs::metadata(path).map_err(failed("open"))?)?;
        let mut file = File::open(path).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("open"))?;
        check_is_file(&metadata)?;
        let file_bytes = metadata.len();

        let mut head = Vec::with_capacity(HEAD_BYTES);
        file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(failed("read"))?;
        header::check_magic(&head)?;
        match access {
            Access::Map => {
                // SAFETY: the map is read-only; that the file stays as it is is the module's contract.
                let map = unsafe { Mmap::map(&file) }.map_err(failed("map"))?;
                Ok(Self::Map { map, file })
            }
            Access::Read => {
                let out_of_memory = || GgufError::OutOfMemory { bytes: file_bytes };
                let length = usize::try_from(file_bytes).map_err(|_| out_of_memory())?;
                let mut copy = MmapOptions::new().len(length).map_anon().map_err(|_| out_of_memory())?;
                let (start, rest) = copy
                    .split_at_mut_checked(head.len())
                    .ok_or_else(|| failed("read")(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank")))?;
                start.copy_from_slice(&head);
                file.read_exact(rest).map_err(failed("read"))?;
                Ok(Self::Copy(copy))
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Map { map, .. } => map,
            Self::Copy(copy) => copy,
            Self::Memory(memory) => (**memory).as_ref(),
        }
    }

    /// Whether a mapped file still has the size it had; memory always has.
    pub(crate) fn check_unchanged(&self, path: &Path) -> Result<(), GgufError> {
        let Self::Map { map, file } = self else {
            return Ok(());
        };
        let bytes_now = file.metadata().map_err(|source| GgufError::io("read", path, source))?.len();
        let bytes_at_open = map.len() as u64;
        if bytes_now == bytes_at_open {
            return Ok(());
        }
        Err(GgufError::FileChanged { bytes_at_open, bytes_now })
    }

    /// Tells the kernel that all of a map will be read once, front to back. Does nothing for memory.
    #[cfg(unix)]
    pub(crate) fn advise_sequential(&self) -> io::Result<()> {
        match self {
            Self::Map { map, .. } => map.advise(memmap2::Advice::Sequential),
            Self::Copy(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// Asks the kernel to read `range` of a map ahead. Does nothing for memory.
    #[cfg(unix)]
    pub(crate) fn advise_will_need(&self, range: Range<usize>) -> io::Result<()> {
        match self {
            Self::Map { map, .. } => map.advise_range(memmap2::Advice::WillNeed, range.start, range.len()),
            Self::Copy(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// Gives the whole pages inside `range` of a map back; reading them again reads the file again. Does nothing for
    /// memory, whose bytes would be lost.
    #[cfg(unix)]
    pub(crate) fn release(&self, range: Range<usize>) -> io::Result<()> {
        let inner = inner_pages(range);
        match self {
            Self::Map { map, .. } if !inner.is_empty() => {
                // SAFETY: the map is shared with the file and never written, so dropped pages come back with the
                // same bytes: no reference into the map sees a change.
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, inner.start, inner.len()) }
            }
            Self::Map { .. } | Self::Copy(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// Advice has no counterpart here.
    #[cfg(not(unix))]
    pub(crate) fn advise_sequential(&self) -> io::Result<()> {
        Ok(())
    }

    /// Advice has no counterpart here.
    #[cfg(not(unix))]
    pub(crate) fn advise_will_need(&self, _range: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    /// Advice has no counterpart here.
    #[cfg(not(unix))]
    pub(crate) fn release(&self, _range: Range<usize>) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Map { .. } => "Map",
            Self::Copy(_) => "Copy",
            Self::Memory(_) => "Memory",
        };
        write!(f, "{name}({} bytes)", self.bytes().len())
    }
}

/// The part of `range` that consists of whole advice units; empty if there is none.
#[cfg(unix)]
fn inner_pages(range: Range<usize>) -> Range<usize> {
    range.start.next_multiple_of(ADVICE_BYTES)..range.end / ADVICE_BYTES * ADVICE_BYTES
}

fn check_is_file(metadata: &fs::Metadata) -> Result<(), GgufError> {
    if metadata.is_dir() {
        Err(GgufError::NotAFile { found: "a directory" })
    } else if metadata.is_file() {
        Ok(())
    } else {
        Err(GgufError::NotAFile { found: "a device or pipe" })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn releases_whole_pages_only() {
        assert_eq!(inner_pages(1..3 * ADVICE_BYTES - 1), ADVICE_BYTES..2 * ADVICE_BYTES);
        assert_eq!(inner_pages(0..ADVICE_BYTES), 0..ADVICE_BYTES);
        assert!(inner_pages(1..ADVICE_BYTES).is_empty());
    }
}
