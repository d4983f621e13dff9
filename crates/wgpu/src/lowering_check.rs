//! The shader texts that a backend has composed, for tests that hand them to other compilers. It compiles nothing.

use crate::backend::GpuBackend;

/// One shader, whole: constants, functions of its formats, and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShaderText {
    /// What it is for, and rows of a pass at most.
    pub name: String,
    /// WGSL.
    pub text: String,
}

impl GpuBackend {
    /// Every shader of the programs that were compiled on this device and given pages, whether it has run or not.
    pub fn shader_texts(&self) -> Vec<ShaderText> {
        let kernels = self.gpu().kernels();
        let texts = kernels.sources().flat_map(|source| {
            source
                .batches()
                .iter()
                .map(|batch| ShaderText { name: format!("{} (batch {batch})", source.name), text: source.text(*batch) })
        });
        texts.collect()
    }
}
