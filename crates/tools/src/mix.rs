//! The table of quantisation types that a file can be made of. Most are mixes: a format for most tensors and, by
//! [`crate::quantize`]'s rules, others where errors cost more.
//!
//! Names, ids (`general.file_type`) and default formats are llama.cpp's (`llama.h`, `llama-quant.cpp`).

use tensor::{FORMATS, Format};

use crate::error::ToolError;

/// A type of file, as `metallic quantize` and llama.cpp name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the row in MIXES describes each")]
#[expect(non_camel_case_types, reason = "mixes keep llama.cpp's names")]
pub enum Mix {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q2_K_S,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ2_M,
    IQ3_XXS,
    IQ3_XS,
    IQ3_S,
    IQ3_M,
    IQ4_XS,
    IQ4_NL,
    TQ1_0,
    TQ2_0,
    MXFP4_MOE,
    MXFP4,
    NVFP4,
    Q1_0,
    Q2_0,
    Copy,
}

/// One row of [`MIXES`].
#[derive(Clone, Copy, Debug)]
pub struct MixInfo {
    /// The mix this row describes.
    pub mix: Mix,
    /// Its name.
    pub name: &'static str,
    /// Another name for it.
    pub alias: Option<&'static str>,
    /// `general.file_type`; none for a copy, which keeps the file's.
    pub file_type: Option<u32>,
    /// What most tensors become; none for a copy.
    pub format: Option<Format>,
    /// What it is for, in a few words.
    pub description: &'static str,
}

/// Every mix, in the order of [`Mix`]'s variants.
pub static MIXES: &[MixInfo] = &[
    row(Mix::F32, "F32", 0, Format::F32, "single precision"),
    row(Mix::F16, "F16", 1, Format::F16, "half precision; values over 65504 are refused"),
    row(Mix::BF16, "BF16", 32, Format::BF16, "the upper half of F32"),
    row(Mix::Q4_0, "Q4_0", 2, Format::Q4_0, "4.5 bits, a scale for 32 weights"),
    row(Mix::Q4_1, "Q4_1", 3, Format::Q4_1, "5 bits, a scale and a minimum for 32 weights"),
    row(Mix::Q5_0, "Q5_0", 8, Format::Q5_0, "5.5 bits, a scale for 32 weights"),
    row(Mix::Q5_1, "Q5_1", 9, Format::Q5_1, "6 bits, a scale and a minimum for 32 weights"),
    row(Mix::Q8_0, "Q8_0", 7, Format::Q8_0, "8.5 bits, nearly lossless"),
    row(Mix::Q2_K, "Q2_K", 10, Format::Q2_K, "2.6 bits and more for sensitive tensors"),
    row(Mix::Q2_K_S, "Q2_K_S", 21, Format::Q2_K, "2.6 bits; wants an importance matrix"),
    row(Mix::Q3_K_S, "Q3_K_S", 11, Format::Q3_K, "3.4 bits"),
    alias(Mix::Q3_K_M, "Q3_K_M", "Q3_K", 12, Format::Q3_K, "3.4 bits and more for sensitive tensors"),
    row(Mix::Q3_K_L, "Q3_K_L", 13, Format::Q3_K, "3.4 bits and still more for sensitive tensors"),
    row(Mix::Q4_K_S, "Q4_K_S", 14, Format::Q4_K, "4.5 bits"),
    alias(Mix::Q4_K_M, "Q4_K_M", "Q4_K", 15, Format::Q4_K, "4.5 bits and more for sensitive tensors; the usual choice"),
    row(Mix::Q5_K_S, "Q5_K_S", 16, Format::Q5_K, "5.5 bits"),
    alias(Mix::Q5_K_M, "Q5_K_M", "Q5_K", 17, Format::Q5_K, "5.5 bits and more for sensitive tensors"),
    row(Mix::Q6_K, "Q6_K", 18, Format::Q6_K, "6.6 bits"),
    row(Mix::IQ1_S, "IQ1_S", 24, Format::IQ1_S, "1.6 bits; needs an importance matrix to be of use"),
    row(Mix::IQ1_M, "IQ1_M", 31, Format::IQ1_M, "1.75 bits; needs an importance matrix to be of use"),
    row(Mix::IQ2_XXS, "IQ2_XXS", 19, Format::IQ2_XXS, "2.1 bits; wants an importance matrix"),
    row(Mix::IQ2_XS, "IQ2_XS", 20, Format::IQ2_XS, "2.3 bits; wants an importance matrix"),
    row(Mix::IQ2_S, "IQ2_S", 28, Format::IQ2_XS, "2.3 bits and more for sensitive tensors; wants an importance matrix"),
    row(Mix::IQ2_M, "IQ2_M", 29, Format::IQ2_S, "2.6 bits and more for sensitive tensors; wants an importance matrix"),
    row(Mix::IQ3_XXS, "IQ3_XXS", 23, Format::IQ3_XXS, "3.1 bits; wants an importance matrix"),
    row(Mix::IQ3_XS, "IQ3_XS", 22, Format::IQ3_S, "3.4 bits, 3.1 in the middle layers"),
    row(Mix::IQ3_S, "IQ3_S", 26, Format::IQ3_S, "3.4 bits"),
    row(Mix::IQ3_M, "IQ3_M", 27, Format::IQ3_S, "3.4 bits and more for sensitive tensors"),
    row(Mix::IQ4_XS, "IQ4_XS", 30, Format::IQ4_XS, "4.25 bits, uneven steps"),
    row(Mix::IQ4_NL, "IQ4_NL", 25, Format::IQ4_NL, "4.5 bits, uneven steps, a scale for 32 weights"),
    row(Mix::TQ1_0, "TQ1_0", 36, Format::TQ1_0, "1.7 bits, for models trained with weights -1, 0 and 1"),
    row(Mix::TQ2_0, "TQ2_0", 37, Format::TQ2_0, "2.1 bits, for models trained with weights -1, 0 and 1"),
    row(Mix::MXFP4_MOE, "MXFP4_MOE", 38, Format::MXFP4, "4.25 bits for experts, Q8_0 for the rest"),
    row(Mix::MXFP4, "MXFP4", 38, Format::MXFP4, "4.25 bits, 4-bit floats with a power of two for 32 weights"),
    row(Mix::NVFP4, "NVFP4", 39, Format::NVFP4, "4.5 bits, 4-bit floats with an 8-bit scale for 16 weights"),
    row(Mix::Q1_0, "Q1_0", 40, Format::Q1_0, "1.1 bits, for models trained with weights -1 and 1"),
    row(Mix::Q2_0, "Q2_0", 41, Format::Q2_0, "2.25 bits, for models trained with four weights"),
    MixInfo {
        mix: Mix::Copy,
        name: "COPY",
        alias: None,
        file_type: None,
        format: None,
        description: "tensors as they are",
    },
];

// `Mix::info` indexes the table by variant.
const _: () = {
    let mut index = 0;
    while index < MIXES.len() {
        assert!(MIXES[index].mix as usize == index);
        index += 1;
    }
    assert!(MIXES.len() == Mix::Copy as usize + 1);
};

impl Mix {
    /// The mix called `name`, whatever its case.
    pub fn from_name(name: &str) -> Result<Mix, ToolError> {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        let found = MIXES.iter().find(|info| is(info.name) || info.alias.is_some_and(is));
        found.map(|info| info.mix).ok_or_else(|| {
            let known: Vec<&str> = MIXES.iter().map(|info| info.name).collect();
            ToolError::UnknownMix { name: name.to_owned(), known: known.join(", ") }
        })
    }

    /// This mix's row of [`MIXES`].
    pub fn info(self) -> &'static MixInfo {
        &MIXES[self as usize]
    }
}

/// The format called `name`, if weights are stored in it: no integers, and none that only exists while computing.
pub fn weight_format(name: &str) -> Result<Format, ToolError> {
    use Format as F;
    let others = [F::F64, F::I8, F::I16, F::I32, F::I64, F::Q8_1, F::Q8_K];
    let is_weight = |format: Format| !others.contains(&format);
    Format::from_name(name).filter(|format| is_weight(*format)).ok_or_else(|| {
        let known = FORMATS.iter().filter(|info| is_weight(info.format)).map(|info| info.name);
        ToolError::UnknownMix { name: name.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
    })
}

const fn row(mix: Mix, name: &'static str, file_type: u32, format: Format, description: &'static str) -> MixInfo {
    MixInfo { mix, name, alias: None, file_type: Some(file_type), format: Some(format), description }
}

const fn alias(
    mix: Mix,
    name: &'static str,
    alias: &'static str,
    file_type: u32,
    format: Format,
    description: &'static str,
) -> MixInfo {
    MixInfo { mix, name, alias: Some(alias), file_type: Some(file_type), format: Some(format), description }
}
