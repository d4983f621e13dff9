//! GGUF files: metadata, tensor table, zero-copy views, and a writer.
//!
//! [`GgufFile::open`] maps a model (all shards of a split one), checks every count, length, offset and product
//! against the bytes that are there, and hands out views into the map. The crate never decodes a weight, never
//! interprets a key beyond the container's own (`general.alignment`, `split.*`), and never allocates by a number
//! it read. The format is described in `docs/gguf.md` of the ggml repository; where ggml is stricter than that
//! page, ggml is followed.
//!
//! ```
//! use metallic_gguf::{GgufFile, Writer};
//! use tensor::{Format, Shape};
//!
//! let mut writer = Writer::new();
//! writer.set("general.architecture", "llama")?.set("llama.block_count", 2u32)?;
//! writer.tensor("output_norm.weight", Format::F32, Shape::new(&[4]).unwrap())?;
//! let bytes = writer.to_vec(|_tensor, out| out.write_all(&[0; 16]))?;
//!
//! let file = GgufFile::from_bytes(bytes)?;
//! assert_eq!(file.metadata().require::<u64>("llama.block_count")?, 2);
//! let tensor = file.tensor("output_norm.weight").unwrap();
//! assert_eq!(file.tensor_bytes(tensor), [0; 16]);
//! # Ok::<(), metallic_gguf::GgufError>(())
//! ```

#![deny(unsafe_code)]

pub mod error;
pub mod file;
pub mod metadata;
pub mod tensor_table;
pub mod value;
pub mod writer;

mod cursor;
mod header;
mod lookalike;
#[expect(unsafe_code, reason = "a file map cannot be made without it; see the module's contract")]
mod source;
mod split;

pub use error::GgufError;
pub use file::{Access, GgufFile, OpenConfig, TensorData};
pub use lookalike::Lookalike;
pub use metadata::Metadata;
pub use split::shard_suffix;
pub use tensor_table::TensorInfo;
pub use value::{Array, ArrayBuf, Scalar, Text, Value, ValueKind};
pub use writer::{Staged, Writer};
