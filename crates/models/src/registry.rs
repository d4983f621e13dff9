//! The table of architectures, and loading: from an opened file to a program.

use std::collections::HashSet;
use std::sync::Arc;

use gguf::GgufFile;
use program::{Program, TensorBytes, TensorIndex};

use crate::error::ModelError;
use crate::source::{ModelSource, ROTARY_DIVISORS};
use crate::weights;
use crate::{gemma, gemma2, gemma3, llama, qwen2, qwen3};

/// One row of [`ARCHITECTURES`].
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// `general.architecture` in a GGUF file.
    pub name: &'static str,
    /// Which models these are, in one line.
    pub description: &'static str,
    build: fn(&ModelSource<'_>) -> Result<Program, ModelError>,
}

/// Every architecture that this build runs, by name.
pub static ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "gemma", description: "Gemma 1", build: gemma::build },
    Architecture { name: "gemma2", description: "Gemma 2", build: gemma2::build },
    Architecture { name: "gemma3", description: "Gemma 3, text", build: gemma3::build },
    Architecture { name: "llama", description: "Llama 1 to 3, SmolLM, Mistral, TinyLlama", build: llama::build },
    Architecture { name: "qwen2", description: "Qwen2, Qwen2.5", build: qwen2::build },
    Architecture { name: "qwen3", description: "Qwen3 without experts", build: qwen3::build },
];

/// A model that can be run: what to compute, and where its weights are.
#[derive(Clone, Debug)]
pub struct Model {
    /// The row of the registry it was built with.
    pub architecture: &'static Architecture,
    /// What to compute.
    pub program: Arc<Program>,
    /// The file it came from; it stays open as long as the model or any of its weights.
    pub file: GgufFile,
}

impl Model {
    /// Positions the model was made for.
    pub fn context(&self) -> usize {
        self.program.sizes.context
    }

    /// The bytes of a weight, in place in the file.
    pub fn tensor_bytes(&self, tensor: TensorIndex) -> TensorBytes {
        weights::tensor_bytes(&self.file, &self.program, tensor).expect("the program was made from this file")
    }
}

/// Builds the program of the model in `file`. Reads metadata and the tensor table, no weights.
pub fn load(file: &GgufFile) -> Result<Model, ModelError> {
    const KEY: &str = "general.architecture";
    let name = file.metadata().str(KEY).map_err(ModelError::Metadata)?;
    let name = name.ok_or_else(|| ModelError::MissingKey { key: KEY.to_owned() })?;
    let architecture = find(name)?;
    let source = ModelSource { file, architecture: architecture.name };
    let program = (architecture.build)(&source)?;
    refuse_unexpected(&source, &program)?;
    Ok(Model { architecture, program: Arc::new(program), file: file.clone() })
}

fn find(name: &str) -> Result<&'static Architecture, ModelError> {
    ARCHITECTURES.iter().find(|row| row.name == name).ok_or_else(|| ModelError::UnknownArchitecture {
        architecture: name.to_owned(),
        nearest: nearest(name),
        supported: ARCHITECTURES.iter().map(|row| row.name).collect::<Vec<_>>().join(", "),
    })
}

/// A tensor that no step reads means that the file asks for more than the program computes.
fn refuse_unexpected(source: &ModelSource<'_>, program: &Program) -> Result<(), ModelError> {
    let used: HashSet<&str> = program.tensors.iter().map(|spec| spec.name.as_str()).collect();
    let mut unexpected = source
        .file
        .tensors()
        .iter()
        .map(|info| info.name())
        .filter(|name| !used.contains(name) && *name != ROTARY_DIVISORS);
    match unexpected.next() {
        None => Ok(()),
        Some(first) => Err(ModelError::UnexpectedTensor {
            tensor: first.to_owned(),
            count: 1 + unexpected.count(),
            architecture: program.architecture.clone(),
        }),
    }
}

/// The supported name with the fewest edits, if they are fewer than half of its letters.
fn nearest(name: &str) -> Option<&'static str> {
    // Names are short; a long one is near to none, and its distance would cost its length times ours.
    if name.len() > 64 {
        return None;
    }
    let (row, edits) = ARCHITECTURES.iter().map(|row| (row, edits(name, row.name))).min_by_key(|(_, edits)| *edits)?;
    (2 * edits < row.name.len().max(name.len())).then_some(row.name)
}

/// Insertions, deletions and replacements between two names (Levenshtein 1966).
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, right) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_get_the_nearest_and_the_list() {
        let message = |name| find(name).unwrap_err().to_string();
        assert_eq!(
            message("qwen2moe"),
            "architecture `qwen2moe` is not supported (the nearest is `qwen2`); this build runs: \
             gemma, gemma2, gemma3, llama, qwen2, qwen3"
        );
        assert!(message("gemma3n").contains("`gemma3`"));
        assert!(!message("mamba2").contains("nearest"));
        assert!(!message(&"gemma3".repeat(20_000)).contains("nearest"));
    }

    #[test]
    fn edits_count_as_defined() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn rows_are_sorted_and_distinct() {
        assert!(ARCHITECTURES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
