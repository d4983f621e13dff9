//! The CPU: a readable single-threaded f32 reference, and the fast backend that consumes quantised blocks.
//!
//! Neither knows a model architecture or a file. Unsafe code lives in `arch`, `kernels`, `memory`, `pool` and `pass`.

#![deny(unsafe_code)]

mod activations;
#[expect(unsafe_code, reason = "SIMD intrinsics")]
mod arch;
mod backend;
mod executable;
#[expect(unsafe_code, reason = "SIMD kernels over raw rows")]
#[expect(clippy::needless_range_loop, reason = "tiles walk several small arrays by one index, and unroll")]
mod kernels;
mod layout;
mod matrix;
#[expect(unsafe_code, reason = "one owner of raw memory for everything else")]
mod memory;
mod pages;
#[expect(unsafe_code, reason = "threads that write disjoint parts of shared buffers")]
mod pass;
#[expect(unsafe_code, reason = "hands a borrowed job to threads")]
mod pool;
mod read_rate;
pub mod reference;
mod threads;

pub use arch::IsaChoice;
pub use backend::{CpuBackend, CpuConfig, Repack};
pub use half::f16;
pub use kernels::decode::Decoder;
pub use matrix::resident_bytes;
pub use read_rate::measure_read_gb_s;
pub use reference::ReferenceBackend;
pub use threads::default_threads;
