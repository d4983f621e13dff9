//! Devices by name: the only place that names backends.

use program::{Backend, KvFormat};

use crate::Error;

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The fast CPU backend.
    Cpu,
    /// The readable single-threaded f32 backend, for comparisons.
    Reference,
}

const KNOWN: &str = "cpu, reference";

impl Device {
    /// The device called `name`.
    pub fn from_name(name: &str) -> Result<Device, Error> {
        match name {
            "cpu" => Ok(Device::Cpu),
            "reference" => Ok(Device::Reference),
            _ => Err(Error::UnknownDevice { name: name.to_owned(), known: KNOWN }),
        }
    }

    /// The element format of keys and values that the device computes with.
    pub fn kv_format(self) -> KvFormat {
        match self {
            Device::Cpu => KvFormat::F16,
            Device::Reference => KvFormat::F32,
        }
    }

    /// A backend on this device; `threads` `None` takes all physical cores this process may use.
    pub(crate) fn backend(self, threads: Option<usize>) -> Result<Box<dyn Backend>, Error> {
        match self {
            Device::Cpu => {
                let threads = threads.unwrap_or_else(cpu::default_threads);
                let config = cpu::CpuConfig { threads, isa: cpu::IsaChoice::Best };
                Ok(Box::new(cpu::CpuBackend::new(config).map_err(session::SessionError::from)?))
            }
            Device::Reference => Ok(Box::new(cpu::ReferenceBackend::new())),
        }
    }
}
