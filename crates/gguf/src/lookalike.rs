//! What a file is when it is not GGUF, told by its first bytes so that the message can say what to do.
//!
//! A guess for people; nothing is ever read on the strength of it.

use std::fmt;

/// How many first bytes [`Lookalike::of`] wants to see.
pub(crate) const HEAD_BYTES: usize = 512;

/// safetensors refuses headers over this size, so a larger number is something else.
const SAFETENSORS_HEADER_BYTES_MAX: u64 = 100_000_000;

/// What the first bytes look like. `Display` gives a name and a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookalike {
    /// No bytes at all.
    Empty,
    /// A web page, usually an error or a login.
    Html,
    /// JSON text, usually a server's error.
    Json,
    /// A git-lfs pointer: the repository was cloned without its large files.
    GitLfsPointer,
    /// The formats before GGUF, by their magic.
    OldGgml {
        /// `ggml`, `ggmf`, `ggjt` or `ggla`.
        magic: &'static str,
    },
    /// `gguf` in lower case.
    LowerCase,
    /// safetensors.
    Safetensors,
    /// A zip archive, such as a PyTorch checkpoint.
    Zip,
    /// A bare Python pickle, such as an old PyTorch checkpoint.
    Pickle,
    /// gzip, zstd, xz or bzip2.
    Compressed,
    /// None of these; the first four bytes, 0 where there are fewer.
    Unknown {
        /// The first four bytes.
        first: [u8; 4],
    },
}

/// The magics of the formats before GGUF, as a little-endian number writes them.
const OLD_MAGICS: &[(&[u8], &str)] = &[(b"lmgg", "ggml"), (b"fmgg", "ggmf"), (b"tjgg", "ggjt"), (b"algg", "ggla")];

const COMPRESSED_MAGICS: &[&[u8]] =
    &[&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], &[0xfd, b'7', b'z', b'X', b'Z'], b"BZh"];

impl Lookalike {
    /// What `head`, the first bytes of a file that does not start with `GGUF`, looks like.
    pub(crate) fn of(head: &[u8]) -> Self {
        let old = OLD_MAGICS.iter().find(|(bytes, name)| head.starts_with(bytes) || head.starts_with(name.as_bytes()));
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        if head.is_empty() {
            Self::Empty
        } else if let Some(&(_, magic)) = old {
            Self::OldGgml { magic }
        } else if head.starts_with(b"gguf") {
            Self::LowerCase
        } else if head.starts_with(b"version https://git-lfs") {
            Self::GitLfsPointer
        } else if head.starts_with(b"PK\x03\x04") {
            Self::Zip
        } else if is_safetensors(head) {
            Self::Safetensors
        } else if head.len() > 1 && head[0] == 0x80 && (2..=5).contains(&head[1]) {
            Self::Pickle
        } else if COMPRESSED_MAGICS.iter().any(|magic| head.starts_with(magic)) {
            Self::Compressed
        } else if ["<!doctype", "<html", "<?xml", "<head"].iter().any(|tag| starts_with_tag(text, tag)) {
            Self::Html
        } else if text.starts_with(b"{") {
            Self::Json
        } else {
            let mut first = [0; 4];
            let count = head.len().min(4);
            first[..count].copy_from_slice(&head[..count]);
            Self::Unknown { first }
        }
    }
}

impl fmt::Display for Lookalike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty; download it again"),
            Self::Html => f.write_str(
                "this is a web page, perhaps an error or a login page; download the file itself, not its page",
            ),
            Self::Json => f.write_str(
                "this is JSON text, perhaps a server's error or a model's config; look inside, then download the .gguf",
            ),
            Self::GitLfsPointer => f.write_str(
                "this is a git-lfs pointer, not the model; run `git lfs pull` in the repository it came from",
            ),
            Self::OldGgml { magic } => {
                write!(f, "this is the old {magic} format of 2023, which nothing current reads; get the model as GGUF")
            }
            Self::LowerCase => f.write_str(
                "the magic is `gguf` in lower case, expected `GGUF`; the file was altered, download it again",
            ),
            Self::Safetensors => f.write_str(
                "this is a safetensors file; get the model as GGUF or convert it (convert_hf_to_gguf.py of llama.cpp)",
            ),
            Self::Zip => {
                f.write_str("this is a zip archive or PyTorch checkpoint; unpack it, or get the model as GGUF")
            }
            Self::Pickle => f.write_str("this is a Python pickle (PyTorch checkpoint); get the model as GGUF"),
            Self::Compressed => f.write_str("this is a compressed file; decompress it first"),
            Self::Unknown { first } => {
                write!(f, "the magic at byte 0 is `{}`, expected `GGUF`; is this the right file?", first.escape_ascii())
            }
        }
    }
}

fn is_safetensors(head: &[u8]) -> bool {
    head.split_first_chunk::<8>().is_some_and(|(length, rest)| {
        rest.first() == Some(&b'{') && (2..=SAFETENSORS_HEADER_BYTES_MAX).contains(&u64::from_le_bytes(*length))
    })
}

fn starts_with_tag(text: &[u8], tag: &str) -> bool {
    text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()))
}
