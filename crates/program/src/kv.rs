//! How keys and values are kept: formats, their sizes, and which of them a backend and a model's heads allow.
//!
//! Where the bytes of a page lie is each backend's own affair; how many there are is not.

use std::fmt;

use crate::backend::{BackendError, Capabilities};
use crate::program::Program;
use crate::step::Step;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// IEEE half precision: the default of every runtime in the field.
    F16,
    /// Codes of eight bits, a scale in half precision for 32 neighbouring elements of a head: ggml's Q8_0, in a little
    /// more than half the bytes. The scale is the largest magnitude ÷ 127, codes are rounded to nearest.
    Q8_0,
    /// Single precision: for comparisons.
    F32,
}

/// One layer's keys (or values) at one position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvShape {
    /// Key and value heads.
    pub heads: usize,
    /// Elements of one head.
    pub head_width: usize,
}

impl KvShape {
    /// Elements of all heads.
    pub fn width(self) -> usize {
        self.heads * self.head_width
    }
}

impl KvFormat {
    /// Every format.
    pub const ALL: [KvFormat; 3] = [KvFormat::F16, KvFormat::Q8_0, KvFormat::F32];

    /// The name, as llama.cpp's `--cache-type-k` has it.
    pub fn name(self) -> &'static str {
        match self {
            KvFormat::F16 => "f16",
            KvFormat::Q8_0 => "q8_0",
            KvFormat::F32 => "f32",
        }
    }

    /// Elements that are stored together. A head is a whole number of such blocks.
    pub fn block(self) -> usize {
        match self {
            KvFormat::F16 | KvFormat::F32 => 1,
            KvFormat::Q8_0 => 32,
        }
    }

    /// Bytes that `elements` take, a whole number of blocks.
    pub fn bytes(self, elements: usize) -> usize {
        match self {
            KvFormat::F16 => 2 * elements,
            KvFormat::Q8_0 => elements.div_ceil(32) * 34,
            KvFormat::F32 => 4 * elements,
        }
    }
}

impl fmt::Display for KvFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Keys and values to hold: `pages` pages of [`crate::PAGE_ROWS`] positions in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvPlan {
    /// Pages in the pool, each spanning all layers.
    pub pages: usize,
    /// How they are stored.
    pub format: KvFormat,
}

impl KvPlan {
    /// Whether a backend with `capabilities` can hold the keys and values of `program` like this; to be asked before
    /// anything is allocated.
    ///
    /// # Errors
    /// [`BackendError::KvFormat`] or [`BackendError::KvHeads`], which name what would work.
    pub fn check(&self, program: &Program, capabilities: &Capabilities) -> Result<(), BackendError> {
        let backend = capabilities.name;
        if !capabilities.kv_formats.contains(&self.format) {
            let known: Vec<&str> = capabilities.kv_formats.iter().map(|format| format.name()).collect();
            return Err(BackendError::KvFormat { backend, format: self.format.name(), known: known.join(", ") });
        }
        let block = self.format.block();
        match program.kv_shapes().iter().find(|shape| !shape.head_width.is_multiple_of(block)) {
            None => Ok(()),
            Some(shape) => {
                Err(BackendError::KvHeads { format: self.format.name(), block, head_width: shape.head_width })
            }
        }
    }
}

impl Program {
    /// What one position stores in each layer, once for keys and once for values.
    pub fn kv_shapes(&self) -> Vec<KvShape> {
        let shape = |unit| {
            self.template(unit).steps.iter().find_map(|(_, step)| match step {
                Step::RopeStore(s) => Some(KvShape { heads: s.kv_heads, head_width: s.head_width }),
                _ => None,
            })
        };
        self.layers.iter().map(|unit| shape(unit).unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_by_hand() {
        // Two heads of 64: 128 halves, and four blocks of 32 codes and a half.
        assert_eq!(KvFormat::F16.bytes(128), 256);
        assert_eq!(KvFormat::Q8_0.bytes(128), 136);
        assert_eq!(KvFormat::F32.bytes(128), 512);
    }
}
