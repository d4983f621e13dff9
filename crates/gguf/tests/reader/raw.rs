//! GGUF bytes field by field, independent of the crate's writer, so that every field can be wrong.

use metallic_gguf::{GgufError, GgufFile};

/// A file in the making; the counts in its header are those of `entries` and `tensors` unless overridden.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) version: u32,
    pub(crate) tensor_count: Option<u64>,
    pub(crate) metadata_count: Option<u64>,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) alignment: usize,
    /// Length of the data section, all zeros.
    pub(crate) data_bytes: usize,
}

impl Raw {
    pub(crate) fn new() -> Self {
        Self {
            version: 3,
            tensor_count: None,
            metadata_count: None,
            entries: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data_bytes: 0,
        }
    }

    /// Adds an entry of type `kind` with these value bytes.
    pub(crate) fn entry(mut self, key: &[u8], kind: u32, value: &[u8]) -> Self {
        self.entries.push([&text(key)[..], &kind.to_le_bytes(), value].concat());
        self
    }

    /// Adds a tensor info; `kind` is a ggml type id.
    pub(crate) fn tensor(mut self, name: &[u8], dimensions: &[u64], kind: u32, offset: u64) -> Self {
        let mut info = text(name);
        info.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|dimension| info.extend(dimension.to_le_bytes()));
        info.extend(kind.to_le_bytes());
        info.extend(offset.to_le_bytes());
        self.tensors.push(info);
        self
    }

    pub(crate) fn data(mut self, bytes: usize) -> Self {
        self.data_bytes = bytes;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.metadata_count.unwrap_or(self.entries.len() as u64).to_le_bytes());
        bytes.extend(self.entries.concat());
        bytes.extend(self.tensors.concat());
        if self.data_bytes > 0 {
            bytes.resize(bytes.len().next_multiple_of(self.alignment) + self.data_bytes, 0);
        }
        bytes
    }

    pub(crate) fn open(&self) -> Result<GgufFile, GgufError> {
        GgufFile::from_bytes(self.bytes())
    }

    /// The error of a file that must not open.
    pub(crate) fn error(&self) -> GgufError {
        self.open().expect_err("this file must be refused")
    }
}

/// A string with its length in front.
pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// An array's element type and count, with these bytes behind them.
pub(crate) fn array(kind: u32, count: u64, body: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), body].concat()
}

/// A file of the shared corpus.
pub(crate) fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf").join(name)
}
