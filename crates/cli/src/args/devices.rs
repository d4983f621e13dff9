//! Flags of the commands that look at devices rather than at models.

use clap::Args;
use metallic::Device;

use super::THREADS_MAX;

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Fail where there is no GPU; software that plays one is none.
    #[arg(long)]
    pub(crate) require_gpu: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SelftestArgs {
    /// What to check: auto (a GPU if there is one), cpu, gpu, or a part of a GPU's name.
    #[arg(long, visible_alias = "backend", value_name = "NAME", env = "METALLIC_DEVICE", default_value = "auto",
          value_parser = device)]
    pub(crate) device: Device,
    /// Fail rather than check a processor, or software that plays a GPU.
    #[arg(long)]
    pub(crate) require_gpu: bool,
    /// Every shape; takes several times as long.
    #[arg(long)]
    pub(crate) all: bool,
    /// Threads that compute, on the CPU [default: the physical cores].
    #[arg(short, long, value_name = "N", env = "METALLIC_THREADS",
          value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: Option<u32>,
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) fn device(name: &str) -> Result<Device, std::convert::Infallible> {
    Ok(Device::from_name(name))
}
