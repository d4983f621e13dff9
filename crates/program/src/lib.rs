//! What a model computes, not who computes it.
//!
//! A [`Program`] is a prologue, layers and an epilogue; each is a [`Template`] of coarse [`Step`]s applied to one row
//! of a weight table. Backends compile a program through the [`Backend`] trait; everything that changes between two
//! tokens travels in a [`PassInput`]. This crate knows no file format, no architecture by name and no device.

pub mod backend;
pub mod builder;
pub mod cost;
pub mod describe;
mod draw;
pub mod input;
pub mod input_check;
pub mod kv;
pub mod program;
pub mod step;
pub mod sums;

pub use backend::{
    Backend, BackendError, Capabilities, ExecutableId, Fence, LedgerRow, RowBucket, Segment, Support, TensorBytes,
};
pub use builder::{ProgramBuilder, ProgramError, UnitBuilder};
pub use draw::{DRAW_TOKENS_MAX, Draw, Drawn};
pub use input::{PAGE_ROWS, PageTable, PassInput};
pub use kv::{KvFormat, KvPlan, KvShape};
pub use program::{Program, Sizes, Template, TemplateIndex, TensorIndex, TensorSpec, Unit};
pub use step::{
    Activation, Attention, Buffer, Embed, Head, LinearAdd, Norm, NormGatedLinear, NormLinear, Projection, RopeKind,
    RopeStore, RopeTable, Slot, Step,
};
