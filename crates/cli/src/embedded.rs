//! The model inside the binary, for when no file is named.

use metallic::gguf::{GgufError, GgufFile};

/// What it is called in messages.
pub(crate) const NAME: &str = "metallic-storyteller-Q8_0 (built in)";

/// Weights that are used in place want the alignment they have in a mapped file.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../models/storyteller/metallic-storyteller-Q8_0.gguf"));

/// Opens it. Nothing is copied.
pub(crate) fn open() -> Result<GgufFile, GgufError> {
    GgufFile::from_bytes(&MODEL.0)
}
