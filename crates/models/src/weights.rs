//! The bytes of a program's weights, in place in the opened file. Nothing is copied or decoded here.

use std::sync::Arc;

use gguf::GgufFile;
use program::{Program, TensorBytes, TensorIndex};

use crate::error::ModelError;

/// The bytes of a weight: a view into `file` that keeps it open.
///
/// Fails with [`ModelError::MissingTensor`] if `file` is not the one that `program` was made from.
pub fn tensor_bytes(file: &GgufFile, program: &Program, tensor: TensorIndex) -> Result<TensorBytes, ModelError> {
    let name = &program.tensor(tensor).name;
    let info = file.tensor(name).ok_or_else(|| ModelError::MissingTensor {
        tensor: name.clone(),
        architecture: program.architecture.clone(),
    })?;
    let data = file.tensor_data(info);
    let (length, again) = (data.len(), data.clone());
    // Advice to the system: where it is refused, the pages stay until memory is short.
    let release = Arc::new(move || drop(again.release()));
    Ok(TensorBytes::new(Arc::new(data), 0..length).with_release(release))
}
