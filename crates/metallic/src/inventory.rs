//! What this machine can compute on, for those who wonder why a model runs where it does.

use crate::Error;
use crate::device::{self, Device, GpuInfo, Placement, is_taken_unasked, placement_among};
use crate::memory::available_bytes;

/// Everything that could be computed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The processor.
    pub cpu: CpuInfo,
    /// Every GPU that a driver offers, in the order of preference.
    pub gpus: Vec<GpuInfo>,
    /// What [`Device::Auto`] takes for a model that fits.
    pub auto: Placement,
}

/// The processor, as the CPU backend sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuInfo {
    /// Instruction set and threads.
    pub description: String,
    /// Physical cores that this process may use.
    pub cores: usize,
    /// Memory available without swapping; `None` where the system does not say.
    pub available_bytes: Option<u64>,
}

impl Inventory {
    /// Looks at the machine. No device is opened.
    pub fn take() -> Result<Inventory, Error> {
        let cpu = device::open(&Device::Cpu, None)?.backend()?;
        let capabilities = cpu.capabilities();
        let cpu = CpuInfo {
            description: capabilities.description.clone(),
            cores: capabilities.threads,
            available_bytes: available_bytes(),
        };
        let gpus = device::gpus();
        let auto = placement_among(&gpus);
        Ok(Inventory { cpu, gpus, auto })
    }

    /// Why a GPU is taken unasked, or is not.
    pub fn verdict(&self, gpu: &GpuInfo) -> String {
        match gpu.missing {
            Some(missing) => format!("cannot be used: {missing}"),
            None if !is_taken_unasked(gpu) => "only by name: it is a processor that plays a GPU".to_owned(),
            None if self.auto.gpu.as_ref() == Some(gpu) => "by default: it is the best GPU here".to_owned(),
            None => "by name: another one is taken by default".to_owned(),
        }
    }
}
