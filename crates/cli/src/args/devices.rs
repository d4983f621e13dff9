//! Flags of the commands that look at devices rather than at models.

use clap::Args;
use metallic::{Device, KvFormat};

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

/// Values of `--cache-type`. llama.cpp has a flag for keys and one for values; here both are stored alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CacheType {
    F16,
    #[value(name = "q8_0")]
    Q8_0,
    F32,
}

impl CacheType {
    pub(crate) fn format(self) -> KvFormat {
        match self {
            CacheType::F16 => KvFormat::F16,
            CacheType::Q8_0 => KvFormat::Q8_0,
            CacheType::F32 => KvFormat::F32,
        }
    }
}

pub(super) fn device(name: &str) -> Result<Device, std::convert::Infallible> {
    Ok(Device::from_name(name))
}
