//! Devices by name: the only place that names backends.

use program::{Backend, BackendError, KvFormat};

use crate::Error;

/// Where a model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The best GPU of this machine where it has one, else the CPU. Software that plays a GPU is not one.
    Auto,
    /// The fast CPU backend.
    Cpu,
    /// The readable single-threaded f32 backend, for comparisons.
    Reference,
    /// The best GPU; loading fails where there is none.
    Gpu,
    /// The first GPU whose name contains this text, whatever its case; also software that plays one.
    Named(String),
}

impl Device {
    /// The device called `name`: `auto`, `cpu`, `gpu`, `reference`, or a part of a GPU's name.
    pub fn from_name(name: &str) -> Device {
        match name {
            "auto" => Device::Auto,
            "cpu" => Device::Cpu,
            "gpu" => Device::Gpu,
            "reference" => Device::Reference,
            _ => Device::Named(name.to_owned()),
        }
    }

    /// The element format of keys and values that the device computes with.
    pub fn kv_format(&self) -> KvFormat {
        match self {
            Device::Auto | Device::Cpu | Device::Gpu | Device::Named(_) => KvFormat::F16,
            Device::Reference => KvFormat::F32,
        }
    }

    /// A backend on this device; `threads` `None` takes all physical cores this process may use.
    pub(crate) fn backend(&self, threads: Option<usize>) -> Result<Box<dyn Backend>, Error> {
        match self {
            Device::Auto => match open_gpu(&gpu::Choice::Best) {
                Err(BackendError::NoDevice { .. }) => Device::Cpu.backend(threads),
                opened => Ok(opened.map_err(session::SessionError::from)?),
            },
            Device::Cpu => {
                let threads = threads.unwrap_or_else(cpu::default_threads);
                let config = cpu::CpuConfig { threads, isa: cpu::IsaChoice::Best };
                Ok(Box::new(cpu::CpuBackend::new(config).map_err(session::SessionError::from)?))
            }
            Device::Reference => Ok(Box::new(cpu::ReferenceBackend::new())),
            Device::Gpu => Ok(open_gpu(&gpu::Choice::Best).map_err(session::SessionError::from)?),
            Device::Named(name) => {
                Ok(open_gpu(&gpu::Choice::Named(name.clone())).map_err(session::SessionError::from)?)
            }
        }
    }
}

fn open_gpu(choice: &gpu::Choice) -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(gpu::GpuBackend::open(choice, gpu::Variants::default())?))
}
