//! The table of tensor formats: one row per ggml type that is alive.
//!
//! Names, ids and block sizes are those of ggml (`ggml.h`, `ggml-common.h`), which define GGUF's types.

use std::fmt;

use thiserror::Error;

mod block;
mod float;
mod grid;
mod integer;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
mod scaled;
mod search;
mod tq1_0;
mod tq2_0;
mod word_search;

pub use block::{Block, Half};
pub use grid::{IQ3_S_LEVELS, IQ3_XXS_LEVELS, TWO_BIT_LEVELS, Words};
pub use iq1_m::BlockIQ1M;
pub use iq1_s::BlockIQ1S;
pub use iq2_s::BlockIQ2S;
pub use iq2_xs::BlockIQ2XS;
pub use iq2_xxs::BlockIQ2XXS;
pub use iq3_s::BlockIQ3S;
pub use iq3_xxs::BlockIQ3XXS;
pub use iq4_nl::{BlockIQ4NL, IQ4_LEVELS};
pub use iq4_xs::BlockIQ4XS;
pub use mxfp4::{BlockMXFP4, E2M1_LEVELS};
pub use nvfp4::BlockNVFP4;
pub use q1_0::BlockQ1_0;
pub use q2_0::BlockQ2_0;
pub use q2_k::BlockQ2K;
pub use q3_k::BlockQ3K;
pub use q4_0::BlockQ4_0;
pub use q4_1::BlockQ4_1;
pub use q4_k::{BlockQ4K, SixBitPairs};
pub use q5_0::BlockQ5_0;
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5K;
pub use q6_k::BlockQ6K;
pub use q8_0::BlockQ8_0;
pub use q8_1::BlockQ8_1;
pub use q8_k::BlockQ8K;
pub use tq1_0::BlockTQ1_0;
pub use tq2_0::BlockTQ2_0;

/// A tensor element or block format, named as ggml names it.
#[expect(non_camel_case_types, reason = "formats keep their GGUF names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the row in FORMATS describes each format")]
pub enum Format {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ2_XXS,
    IQ2_XS,
    IQ3_XXS,
    IQ1_S,
    IQ4_NL,
    IQ3_S,
    IQ2_S,
    IQ4_XS,
    IQ1_M,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
    Q2_0,
}

/// Conversion between a format's blocks and `f32`, written to be read and used as the oracle for every fast path.
///
/// All functions panic when their slices disagree in length or end inside a block.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// Decodes whole blocks; `values.len()` equals the element count of `blocks`.
    pub decode: fn(blocks: &[u8], values: &mut [f32]),
    /// Encodes whole blocks; the inverse of `decode` up to the format's precision.
    pub encode: fn(values: &[f32], blocks: &mut [u8]),
    /// As `encode`, with errors kept small where importances are large.
    ///
    /// `importances` holds one number for each column of a row, of any scale, such as the mean square of the activations
    /// that the column is multiplied with; `values` holds whole rows. A block whose importances are negative, not finite or
    /// all zero is encoded without them, and so is a format that leaves nothing to choose.
    pub encode_weighted: fn(values: &[f32], importances: &[f32], blocks: &mut [u8]),
}

/// One row of [`FORMATS`].
#[derive(Clone, Copy, Debug)]
pub struct FormatInfo {
    /// The format this row describes.
    pub format: Format,
    /// ggml's name, as it appears in file names and messages.
    pub name: &'static str,
    /// The id stored in a GGUF tensor info.
    pub ggml_id: u32,
    /// Elements in one block.
    pub block_elements: usize,
    /// Bytes of one block.
    pub block_bytes: usize,
    /// Absent where this build would know a format by its layout alone; every format of today has one.
    pub codec: Option<Codec>,
}

/// Every format, in the order of [`Format`]'s variants.
///
/// Columns: format, ggml's name, ggml's id, elements and bytes of a block; numbers have one
/// element to a block.
pub static FORMATS: &[FormatInfo] = &[
    number(Format::F32, "F32", 0, 4, float::F32),
    number(Format::F16, "F16", 1, 2, float::F16),
    number(Format::BF16, "BF16", 30, 2, float::BF16),
    number(Format::F64, "F64", 28, 8, float::F64),
    number(Format::I8, "I8", 24, 1, integer::I8),
    number(Format::I16, "I16", 25, 2, integer::I16),
    number(Format::I32, "I32", 26, 4, integer::I32),
    number(Format::I64, "I64", 27, 8, integer::I64),
    blocks::<BlockQ4_0>(Format::Q4_0, "Q4_0", 2, 32, 18),
    blocks::<BlockQ4_1>(Format::Q4_1, "Q4_1", 3, 32, 20),
    blocks::<BlockQ5_0>(Format::Q5_0, "Q5_0", 6, 32, 22),
    blocks::<BlockQ5_1>(Format::Q5_1, "Q5_1", 7, 32, 24),
    blocks::<BlockQ8_0>(Format::Q8_0, "Q8_0", 8, 32, 34),
    blocks::<BlockQ8_1>(Format::Q8_1, "Q8_1", 9, 32, 36),
    blocks::<BlockQ2K>(Format::Q2_K, "Q2_K", 10, 256, 84),
    blocks::<BlockQ3K>(Format::Q3_K, "Q3_K", 11, 256, 110),
    blocks::<BlockQ4K>(Format::Q4_K, "Q4_K", 12, 256, 144),
    blocks::<BlockQ5K>(Format::Q5_K, "Q5_K", 13, 256, 176),
    blocks::<BlockQ6K>(Format::Q6_K, "Q6_K", 14, 256, 210),
    blocks::<BlockQ8K>(Format::Q8_K, "Q8_K", 15, 256, 292),
    blocks::<BlockIQ2XXS>(Format::IQ2_XXS, "IQ2_XXS", 16, 256, 66),
    blocks::<BlockIQ2XS>(Format::IQ2_XS, "IQ2_XS", 17, 256, 74),
    blocks::<BlockIQ3XXS>(Format::IQ3_XXS, "IQ3_XXS", 18, 256, 98),
    blocks::<BlockIQ1S>(Format::IQ1_S, "IQ1_S", 19, 256, 50),
    blocks::<BlockIQ4NL>(Format::IQ4_NL, "IQ4_NL", 20, 32, 18),
    blocks::<BlockIQ3S>(Format::IQ3_S, "IQ3_S", 21, 256, 110),
    blocks::<BlockIQ2S>(Format::IQ2_S, "IQ2_S", 22, 256, 82),
    blocks::<BlockIQ4XS>(Format::IQ4_XS, "IQ4_XS", 23, 256, 136),
    blocks::<BlockIQ1M>(Format::IQ1_M, "IQ1_M", 29, 256, 56),
    blocks::<BlockTQ1_0>(Format::TQ1_0, "TQ1_0", 34, 256, 54),
    blocks::<BlockTQ2_0>(Format::TQ2_0, "TQ2_0", 35, 256, 66),
    blocks::<BlockMXFP4>(Format::MXFP4, "MXFP4", 39, 32, 17),
    blocks::<BlockNVFP4>(Format::NVFP4, "NVFP4", 40, 64, 36),
    blocks::<BlockQ1_0>(Format::Q1_0, "Q1_0", 41, 128, 18),
    blocks::<BlockQ2_0>(Format::Q2_0, "Q2_0", 42, 64, 18),
];

/// Types ggml dropped; their ids are never given out again.
const REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

// `Format::info` indexes the table by variant.
const _: () = {
    let mut index = 0;
    while index < FORMATS.len() {
        assert!(FORMATS[index].format as usize == index);
        index += 1;
    }
    assert!(FORMATS.len() == Format::Q2_0 as usize + 1);
};

impl Format {
    /// The format a GGUF tensor info names by `id`.
    pub fn from_ggml_id(id: u32) -> Result<Self, FormatError> {
        if let Some(info) = FORMATS.iter().find(|info| info.ggml_id == id) {
            return Ok(info.format);
        }
        match REMOVED.iter().find(|(removed, _)| *removed == id) {
            Some(&(_, name)) => Err(FormatError::Removed { id, name }),
            None => Err(FormatError::Unknown { id }),
        }
    }

    /// The format called `name`, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|info| info.name.eq_ignore_ascii_case(name)).map(|info| info.format)
    }

    /// This format's row of [`FORMATS`].
    pub fn info(self) -> &'static FormatInfo {
        &FORMATS[self as usize]
    }

    /// The GGUF name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The id stored in a GGUF tensor info.
    pub fn ggml_id(self) -> u32 {
        self.info().ggml_id
    }

    /// Elements in one block; 1 for plain numbers.
    pub fn block_elements(self) -> usize {
        self.info().block_elements
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.info().block_bytes
    }

    /// The reference conversion to and from `f32`, if this build has one.
    pub fn codec(self) -> Option<Codec> {
        self.info().codec
    }

    /// Whether encoding without importances loses so much that a model suffers: formats of about two bits and less.
    pub fn encoder_needs_importances(self) -> bool {
        matches!(self, Self::IQ2_XXS | Self::IQ2_XS | Self::IQ1_S | Self::IQ1_M)
    }

    /// Whether several elements share one block.
    pub fn is_quantised(self) -> bool {
        self.block_elements() > 1
    }

    /// Bytes of a row of `elements`: it must be a whole number of blocks and fit 64 bits.
    pub fn row_bytes(self, elements: u64) -> Result<u64, FormatError> {
        let info = self.info();
        let block_elements = info.block_elements as u64;
        if !elements.is_multiple_of(block_elements) {
            return Err(FormatError::PartialBlock {
                format: info.name,
                row_elements: elements,
                block_elements: info.block_elements,
            });
        }
        (elements / block_elements)
            .checked_mul(info.block_bytes as u64)
            .ok_or(FormatError::TooLarge { format: info.name, elements })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A row for plain numbers.
const fn number(format: Format, name: &'static str, ggml_id: u32, bytes: usize, codec: Codec) -> FormatInfo {
    FormatInfo { format, name, ggml_id, block_elements: 1, block_bytes: bytes, codec: Some(codec) }
}

/// A row for a format with a block struct, which must agree with the numbers.
const fn blocks<B: Block>(
    format: Format,
    name: &'static str,
    ggml_id: u32,
    block_elements: usize,
    block_bytes: usize,
) -> FormatInfo {
    assert!(B::ELEMENTS == block_elements && size_of::<B>() == block_bytes && align_of::<B>() == 1);
    FormatInfo { format, name, ggml_id, block_elements, block_bytes, codec: Some(block::codec::<B>()) }
}

/// Why a format cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    /// ggml once had this type and dropped it.
    #[error("tensor type {id} ({name}) was removed from ggml: re-quantise the model from its original weights")]
    Removed {
        /// The id in the file.
        id: u32,
        /// What the id stood for.
        name: &'static str,
    },
    /// No ggml type has this id.
    #[error("tensor type {id} does not exist; this build knows ids 0 to 42")]
    Unknown {
        /// The id in the file.
        id: u32,
    },
    /// A row would end inside a block.
    #[error("a row of {row_elements} elements is no whole number of {format} blocks of {block_elements}")]
    PartialBlock {
        /// The format's name.
        format: &'static str,
        /// Elements in a row.
        row_elements: u64,
        /// Elements in a block.
        block_elements: usize,
    },
    /// The size does not fit 64 bits.
    #[error("{elements} elements of {format} have a byte size over 2^64")]
    TooLarge {
        /// The format's name.
        format: &'static str,
        /// Elements asked for.
        elements: u64,
    },
}
