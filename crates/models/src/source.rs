//! A model file as the architectures see it: keys under the architecture's prefix, and tensors by name.

use std::fmt::Display;
use std::ops::RangeInclusive;

use gguf::{Array, GgufFile, TensorInfo, Value};
use program::TensorSpec;
use tensor::Format;

use crate::error::ModelError;

/// Divisors of the rotary frequencies, one for each pair: how Llama 3.1 and later scale their context in GGUF.
pub(crate) const ROTARY_DIVISORS: &str = "rope_freqs.weight";

/// A file and the prefix of its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelSource<'f> {
    pub(crate) file: &'f GgufFile,
    pub(crate) architecture: &'static str,
}

impl<'f> ModelSource<'f> {
    /// The full key of a hyperparameter.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    pub(crate) fn value(&self, name: &str) -> Option<Value<'f>> {
        self.file.metadata().get(&self.key(name))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// A required integer within a range.
    pub(crate) fn integer(&self, name: &str, range: RangeInclusive<usize>) -> Result<usize, ModelError> {
        let value = self.value(name).ok_or_else(|| self.missing(name))?;
        let (least, most) = (*range.start(), *range.end());
        let number = value.to_integer();
        let within = number.and_then(|number| usize::try_from(number).ok()).filter(|number| range.contains(number));
        within.ok_or_else(|| {
            let shown = number.map_or_else(|| format!("of type {}", value.kind()), |number| number.to_string());
            self.invalid(name, shown, format!("an integer from {least} to {most}"))
        })
    }

    /// An optional finite number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let number = self.file.metadata().f32(&self.key(name)).map_err(ModelError::Metadata)?;
        match number {
            Some(number) if !number.is_finite() => Err(self.invalid(name, number, "finite".to_owned())),
            other => Ok(other),
        }
    }

    /// An optional text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'f str>, ModelError> {
        self.file.metadata().str(&self.key(name)).map_err(ModelError::Metadata)
    }

    /// An optional array under a key without the architecture's prefix.
    pub(crate) fn metadata_array(&self, key: &str) -> Result<Option<Array<'f>>, ModelError> {
        self.file.metadata().array(key).map_err(ModelError::Metadata)
    }

    pub(crate) fn tensor_count(&self) -> usize {
        self.file.tensors().len()
    }

    /// A required tensor.
    pub(crate) fn tensor(&self, name: &str) -> Result<TensorSpec, ModelError> {
        self.optional_tensor(name)?.ok_or_else(|| ModelError::MissingTensor {
            tensor: name.to_owned(),
            architecture: self.architecture.to_owned(),
        })
    }

    /// A tensor, if the file has it: a vector has 1 row.
    pub(crate) fn optional_tensor(&self, name: &str) -> Result<Option<TensorSpec>, ModelError> {
        self.file.tensor(name).map(spec_of).transpose()
    }

    /// The values of [`ROTARY_DIVISORS`], if the file has it: (pairs).
    pub(crate) fn rotary_divisors(&self, pairs: usize) -> Result<Option<Vec<f64>>, ModelError> {
        let Some(spec) = self.optional_tensor(ROTARY_DIVISORS)? else { return Ok(None) };
        let wrong = |problem: String| ModelError::RotaryDivisors { tensor: ROTARY_DIVISORS.to_owned(), pairs, problem };
        if spec.format != Format::F32 || (spec.rows, spec.columns) != (1, pairs) {
            return Err(wrong(format!("it is {} x {} in {}", spec.rows, spec.columns, spec.format)));
        }
        let info = self.file.tensor(ROTARY_DIVISORS).expect("it was found a few lines above");
        let (numbers, _) = self.file.tensor_bytes(info).as_chunks::<4>();
        let divisors: Vec<f64> = numbers.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
        match divisors.iter().position(|divisor| !divisor.is_finite() || *divisor <= 0.0) {
            Some(index) => Err(wrong(format!("number {index} is {}", divisors[index]))),
            None => Ok(Some(divisors)),
        }
    }

    pub(crate) fn missing(&self, name: &str) -> ModelError {
        ModelError::MissingKey { key: self.key(name) }
    }

    pub(crate) fn invalid(&self, name: &str, value: impl Display, must_be: String) -> ModelError {
        ModelError::InvalidValue { key: self.key(name), value: value.to_string(), must_be }
    }

    pub(crate) fn unsupported(&self, name: &str, value: impl Display, feature: &'static str) -> ModelError {
        ModelError::UnsupportedFeature {
            architecture: self.architecture.to_owned(),
            key: self.key(name),
            value: value.to_string(),
            feature,
        }
    }
}

fn spec_of(info: &TensorInfo) -> Result<TensorSpec, ModelError> {
    let no_matrix = || ModelError::NoMatrix { tensor: info.name().to_owned(), shape: info.shape().to_string() };
    let dimensions = info.shape().dimensions();
    if dimensions.iter().skip(2).any(|extent| *extent != 1) {
        return Err(no_matrix());
    }
    let extent = |index: usize| usize::try_from(dimensions.get(index).copied().unwrap_or(1)).map_err(|_| no_matrix());
    Ok(TensorSpec { name: info.name().to_owned(), format: info.format(), rows: extent(1)?, columns: extent(0)? })
}
