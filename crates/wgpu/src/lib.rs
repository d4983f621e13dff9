//! GPUs through one set of WGSL shaders: Vulkan, Metal and DX12 by wgpu.
//!
//! It compiles the same programs as the CPU backends, and knows no model architecture and no file. Unsafe code stands in
//! `device`, `heaps`, `shader` and `staging`.

#![deny(unsafe_code)]

mod backend;
mod buffers;
mod chain;
mod clock;
#[expect(unsafe_code, reason = "wgpu asks for a promise before it opens experimental features")]
mod device;
mod executable;
#[cfg_attr(not(target_vendor = "apple"), expect(unsafe_code, reason = "asks Vulkan what wgpu does not tell"))]
mod heaps;
mod kv;
mod lower;
mod lowering_check;
mod pass;
mod planes;
mod read;
mod read_rate;
#[expect(unsafe_code, reason = "shaders of this crate run without index checks")]
mod shader;
#[expect(unsafe_code, reason = "threads write parts of mapped memory")]
mod staging;
mod weights;

pub use backend::GpuBackend;
pub use device::{Choice, DeviceInfo, DeviceKind, Variants, devices};
pub use executable::Counters;
pub use lowering_check::ShaderText;
