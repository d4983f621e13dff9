//! Devices by name: the only place that names backends. It says what was chosen and why, and prints nothing.

use std::fmt;

use gpu::{Choice, DeviceKind, GpuBackend, Variants};
use program::{Backend, BackendError, KvFormat};
use session::SessionError;

use crate::Error;
use crate::memory::available_bytes;

/// What a GPU's driver says of it.
pub use gpu::DeviceInfo as GpuInfo;
/// Where a GPU's arithmetic happens.
pub use gpu::DeviceKind as GpuKind;

/// Where a model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The best GPU of this machine where it has one and the model fits it, else the CPU. Software that plays a GPU is
    /// not one. [`crate::Model::placement`] says what came of it.
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

    /// How the device stores keys and values where nobody asks for something else.
    pub fn kv_format(&self) -> KvFormat {
        match self {
            Device::Auto | Device::Cpu | Device::Gpu | Device::Named(_) => KvFormat::F16,
            Device::Reference => KvFormat::F32,
        }
    }

    /// The GPU in hardware that this is, without opening it: for callers who would rather fail than run on a processor.
    ///
    /// # Errors
    /// [`BackendError::NoDevice`] with the devices there are, where it is a processor, software or nothing.
    pub fn require_gpu(&self) -> Result<GpuInfo, Error> {
        let known = gpus();
        let found = match self {
            Device::Auto | Device::Gpu => known.iter().find(|gpu| is_taken_unasked(gpu)),
            Device::Named(name) => known.iter().find(|gpu| gpu.is_called(name)),
            Device::Cpu | Device::Reference => None,
        };
        found.filter(|gpu| is_taken_unasked(gpu)).cloned().ok_or_else(|| {
            let wanted = match self {
                Device::Auto | Device::Gpu => "a GPU in hardware".to_owned(),
                Device::Named(name) => format!("a GPU in hardware called {name:?}"),
                Device::Cpu => "a GPU, and `cpu` is none".to_owned(),
                Device::Reference => "a GPU, and `reference` is none".to_owned(),
            };
            let names: Vec<String> = known.iter().map(GpuInfo::to_string).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join("; ") };
            SessionError::from(BackendError::NoDevice { backend: "gpu", wanted, known }).into()
        })
    }
}

/// Every GPU that a driver offers, in the order of preference; software last.
pub fn gpus() -> Vec<GpuInfo> {
    gpu::devices()
}

/// Whether [`Device::Auto`] and [`Device::Gpu`] may take it.
pub fn is_taken_unasked(gpu: &GpuInfo) -> bool {
    gpu.kind != DeviceKind::Software && gpu.missing.is_none()
}

/// Where something runs, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The backend's short name: `cpu`, `gpu`, `reference`.
    pub backend: &'static str,
    /// The GPU, where it is one.
    pub gpu: Option<GpuInfo>,
    /// Why this one.
    pub reason: Reason,
}

/// Why a device was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller named it.
    Asked,
    /// It is the best GPU here.
    BestGpu,
    /// The CPU, because no driver offers a GPU; with what would be taken by name only.
    NoGpu {
        /// Software that plays a GPU.
        software: Vec<String>,
    },
    /// The CPU, because the GPU there is cannot be used for this.
    Refused {
        /// The GPU.
        gpu: String,
        /// What it or its driver said, with sizes where memory was short.
        why: String,
    },
}

impl Reason {
    /// Whether the device that was preferred was there and failed: slower than expected, so to be told always.
    pub fn is_second_choice(&self) -> bool {
        matches!(self, Reason::Refused { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Asked => f.write_str("asked for"),
            Reason::BestGpu => f.write_str("the best GPU here"),
            Reason::NoGpu { software } if software.is_empty() => f.write_str("no GPU driver here"),
            Reason::NoGpu { software } => {
                write!(f, "no GPU here; software ({}) is only taken by name", software.join("; "))
            }
            Reason::Refused { gpu, why } => write!(f, "{gpu} was not used: {why}"),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.gpu {
            Some(gpu) => write!(f, "{}: {gpu}, {}", self.backend, self.reason),
            None => write!(f, "{}: {}", self.backend, self.reason),
        }
    }
}

/// Makes backends on one device.
pub(crate) struct Opened {
    pub(crate) placement: Placement,
    source: Source,
}

/// Backends on one GPU share what was compiled for it.
enum Source {
    Cpu { threads: usize },
    Reference,
    Gpu(GpuBackend),
}

impl Opened {
    /// Another backend.
    pub(crate) fn backend(&self) -> Result<Box<dyn Backend>, Error> {
        Ok(match &self.source {
            Source::Cpu { threads } => {
                let repack = cpu::Repack::Behind;
                let config = cpu::CpuConfig { threads: *threads, isa: cpu::IsaChoice::Best, repack };
                Box::new(cpu::CpuBackend::new(config).map_err(SessionError::from)?)
            }
            Source::Reference => Box::new(cpu::ReferenceBackend::new()),
            Source::Gpu(gpu) => Box::new(gpu.share()),
        })
    }

    /// Bytes that a model may take where the caller sets no limit.
    pub(crate) fn budget_bytes(&self) -> u64 {
        let system = || available_bytes().unwrap_or(u64::MAX);
        match &self.placement.gpu {
            None => system(),
            Some(gpu) => match gpu.kind {
                // Where the driver does not say, it is asked by allocating, and refuses what does not fit.
                // An eighth of its memory stays for displays, other programs and the driver's own needs.
                DeviceKind::Discrete | DeviceKind::Virtual => gpu.memory_bytes.map_or(u64::MAX, |bytes| bytes / 8 * 7),
                DeviceKind::Integrated | DeviceKind::Software | DeviceKind::Other => {
                    system().min(gpu.memory_bytes.unwrap_or(u64::MAX))
                }
            },
        }
    }

    /// The CPU in place of this GPU, after `error`; `None` where the caller asked for the GPU, or where the error has
    /// nothing to do with it.
    pub(crate) fn instead(&self, device: &Device, threads: Option<usize>, error: &SessionError) -> Option<Opened> {
        let gpu = self.placement.gpu.as_ref().filter(|_| *device == Device::Auto)?;
        match error {
            SessionError::DoesNotFit { .. }
            | SessionError::Backend(
                BackendError::OutOfMemory { .. }
                | BackendError::Unsupported { .. }
                | BackendError::KvFormat { .. }
                | BackendError::DeviceLost { .. },
            ) => Some(on_cpu(threads, Reason::Refused { gpu: gpu.to_string(), why: error.to_string() })),
            _ => None,
        }
    }
}

/// Opens a device; `threads` `None` takes all physical cores this process may use.
pub(crate) fn open(device: &Device, threads: Option<usize>) -> Result<Opened, Error> {
    let opened = match device {
        Device::Auto => match open_gpu(&Choice::Best, Reason::BestGpu) {
            Ok(opened) => Ok(opened),
            Err(BackendError::NoDevice { .. }) => Ok(on_cpu(threads, reason_without_gpu(&gpus()))),
            Err(error) => Ok(on_cpu(threads, Reason::Refused { gpu: "the GPU".to_owned(), why: error.to_string() })),
        },
        Device::Cpu => Ok(on_cpu(threads, Reason::Asked)),
        Device::Reference => {
            let placement = Placement { backend: "reference", gpu: None, reason: Reason::Asked };
            Ok(Opened { placement, source: Source::Reference })
        }
        Device::Gpu => open_gpu(&Choice::Best, Reason::BestGpu),
        Device::Named(name) => open_gpu(&Choice::Named(name.clone()), Reason::Asked),
    };
    Ok(opened.map_err(SessionError::from)?)
}

/// What [`Device::Auto`] would take of `gpus`, without opening it.
pub(crate) fn placement_among(gpus: &[GpuInfo]) -> Placement {
    match gpus.iter().find(|gpu| is_taken_unasked(gpu)) {
        Some(gpu) => Placement { backend: "gpu", gpu: Some(gpu.clone()), reason: Reason::BestGpu },
        None => Placement { backend: "cpu", gpu: None, reason: reason_without_gpu(gpus) },
    }
}

fn open_gpu(choice: &Choice, reason: Reason) -> Result<Opened, BackendError> {
    let gpu = GpuBackend::open(choice, Variants::default())?;
    let placement = Placement { backend: "gpu", gpu: Some(gpu.device().clone()), reason };
    Ok(Opened { placement, source: Source::Gpu(gpu) })
}

fn on_cpu(threads: Option<usize>, reason: Reason) -> Opened {
    let placement = Placement { backend: "cpu", gpu: None, reason };
    Opened { placement, source: Source::Cpu { threads: threads.unwrap_or_else(cpu::default_threads) } }
}

/// `gpus` holds none that would be taken.
fn reason_without_gpu(gpus: &[GpuInfo]) -> Reason {
    let unusable = gpus.iter().find(|gpu| gpu.kind != DeviceKind::Software);
    if let Some((gpu, why)) = unusable.and_then(|gpu| Some((gpu, gpu.missing?))) {
        return Reason::Refused { gpu: gpu.to_string(), why: why.to_owned() };
    }
    Reason::NoGpu { software: gpus.iter().map(|gpu| gpu.name.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str, kind: GpuKind, missing: Option<&'static str>) -> GpuInfo {
        GpuInfo {
            name: name.to_owned(),
            api: "Vulkan".to_owned(),
            driver: String::new(),
            kind,
            subgroup: (32, 32),
            integer_dot: true,
            matrix_units: false,
            timestamps: true,
            threads_max: 1024,
            binding_bytes: 1 << 27,
            buffer_bytes: 1 << 31,
            memory_bytes: Some(1 << 34),
            unified: false,
            missing,
        }
    }

    #[test]
    fn software_is_never_taken_unasked() {
        let software = gpu("llvmpipe", GpuKind::Software, None);
        let chosen = placement_among(std::slice::from_ref(&software));
        assert_eq!(chosen.backend, "cpu");
        assert_eq!(chosen.to_string(), "cpu: no GPU here; software (llvmpipe) is only taken by name");
        assert_eq!(placement_among(&[]).to_string(), "cpu: no GPU driver here");
        let chosen = placement_among(&[gpu("NVIDIA H100", GpuKind::Discrete, None), software]);
        assert_eq!(chosen.to_string(), "gpu: NVIDIA H100 (Vulkan, discrete GPU), the best GPU here");
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_named_with_the_reason() {
        let old = gpu("Old", GpuKind::Integrated, Some("its driver offers no subgroup operations"));
        let chosen = placement_among(&[old]);
        assert!(chosen.reason.is_second_choice());
        assert_eq!(
            chosen.to_string(),
            "cpu: Old (Vulkan, integrated GPU) was not used: its driver offers no subgroup operations"
        );
    }

    #[test]
    fn only_what_a_gpu_cannot_do_sends_a_model_to_the_cpu_and_only_unasked() {
        let info = gpu("Small", GpuKind::Discrete, None);
        let placement = Placement { backend: "gpu", gpu: Some(info), reason: Reason::BestGpu };
        let opened = Opened { placement, source: Source::Reference };
        assert_eq!(opened.budget_bytes(), 14 << 30, "an eighth of 16 GiB is left");
        let memory = || {
            SessionError::Backend(BackendError::OutOfMemory {
                backend: "gpu",
                what: "weights".to_owned(),
                bytes: 12_345,
            })
        };
        let instead = opened.instead(&Device::Auto, Some(1), &memory()).expect("the CPU has room");
        assert_eq!(instead.placement.backend, "cpu");
        let line = instead.placement.to_string();
        assert!(line.contains("Small") && line.contains("12345 bytes for weights"), "{line}");
        assert!(opened.instead(&Device::Gpu, Some(1), &memory()).is_none());
        assert!(opened.instead(&Device::Auto, Some(1), &SessionError::EmptyPrompt).is_none());
        let on_cpu = on_cpu(Some(1), Reason::Asked);
        assert!(on_cpu.instead(&Device::Auto, Some(1), &memory()).is_none());
    }
}
