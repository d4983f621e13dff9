//! GPUs: which there are, which one to take, and one that was opened.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use program::BackendError;
use wgpu::{BufferUsages, Features};

use crate::heaps::memory_bytes;
use crate::shader::{Kernels, PARAMETER_BYTES};

pub(crate) const NAME: &str = "gpu";

/// What a GPU's driver says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device's name.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12`.
    pub api: String,
    /// Driver and version.
    pub driver: String,
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// Lanes that run together, at least and at most.
    pub subgroup: (u32, u32),
    /// Integer dot products of 8-bit codes in hardware.
    pub integer_dot: bool,
    /// Matrix units that multiply 16 × 16 halves.
    pub matrix_units: bool,
    /// Timestamps for the ledger of `bench`.
    pub timestamps: bool,
    /// Most threads of a workgroup.
    pub threads_max: usize,
    /// Most bytes that a kernel can see of one buffer.
    pub binding_bytes: u64,
    /// Most bytes of a buffer.
    pub buffer_bytes: u64,
    /// It shares the processor's memory, and buffers can be written in place.
    pub unified: bool,
    /// Bytes of its memory, which on integrated GPUs and in software is the machine's; `None` where the driver does not say.
    pub memory_bytes: Option<u64>,
    /// Why the backend cannot use it; `None` where it can.
    pub missing: Option<&'static str>,
}

/// Where a device's arithmetic happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU that a virtual machine was given.
    Virtual,
    /// A processor that plays a GPU. Never taken unasked.
    Software,
    /// The driver does not say.
    Other,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DeviceKind::Discrete => "discrete GPU",
            DeviceKind::Integrated => "integrated GPU",
            DeviceKind::Virtual => "virtual GPU",
            DeviceKind::Software => "software",
            DeviceKind::Other => "unknown kind",
        })
    }
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.api, self.kind)
    }
}

impl DeviceInfo {
    /// Whether `name` is a part of its name, whatever the case.
    pub fn is_called(&self, name: &str) -> bool {
        !name.is_empty() && self.name.to_lowercase().contains(&name.to_lowercase())
    }
}

/// Every GPU that a driver offers, best first: discrete, integrated, virtual, unknown, software.
pub fn devices() -> Vec<DeviceInfo> {
    adapters().iter().map(describe).collect()
}

fn adapters() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.sort_by_key(|adapter| rank(describe(adapter).kind));
    adapters
}

fn rank(kind: DeviceKind) -> u32 {
    match kind {
        DeviceKind::Discrete => 0,
        DeviceKind::Integrated => 1,
        DeviceKind::Virtual => 2,
        DeviceKind::Other => 3,
        DeviceKind::Software => 4,
    }
}

fn describe(adapter: &wgpu::Adapter) -> DeviceInfo {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    let immediates = features.contains(Features::IMMEDIATES) && limits.max_immediate_size >= PARAMETER_BYTES;
    let needed = [
        (features.contains(Features::SUBGROUP), "its driver offers no subgroup operations"),
        (info.subgroup_min_size >= 4, "its subgroups have fewer than four lanes"),
        (immediates, "its driver takes no parameters of 128 bytes along with commands"),
    ];
    let missing = needed.iter().find(|(offered, _)| !offered).map(|(_, reason)| *reason);
    let shares_memory = matches!(info.device_type, wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Cpu);
    DeviceInfo {
        name: info.name.clone(),
        api: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::Cpu => DeviceKind::Software,
            wgpu::DeviceType::Other => DeviceKind::Other,
        },
        subgroup: (info.subgroup_min_size, info.subgroup_max_size),
        integer_dot: info.backend != wgpu::Backend::Metal,
        matrix_units: has_matrix_units(adapter),
        timestamps: features.contains(Features::TIMESTAMP_QUERY | Features::TIMESTAMP_QUERY_INSIDE_PASSES),
        threads_max: limits.max_compute_invocations_per_workgroup as usize,
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        unified: shares_memory && features.contains(Features::MAPPABLE_PRIMARY_BUFFERS),
        memory_bytes: memory_bytes(adapter),
        missing,
    }
}

/// Half-precision products of 16 × 16 with f32 sums; `shaders/gemm_matrix_units.wgsl` is written for these.
fn has_matrix_units(adapter: &wgpu::Adapter) -> bool {
    let features = Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16 | Features::SUBGROUP_BARRIER;
    let (half, single) = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
    let info = adapter.get_info();
    adapter.features().contains(features)
        // The shaders give each lane its share of a tile.
        && (info.subgroup_min_size, info.subgroup_max_size) == (32, 32)
        && adapter.cooperative_matrix_properties().iter().any(|size| {
            (size.m_size, size.n_size, size.k_size) == (16, 16, 16) && (size.ab_type, size.cr_type) == (half, single)
        })
}

/// Which GPU to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The best one that is no software.
    Best,
    /// The first whose name contains this text, whatever its case; also software.
    Named(String),
}

/// Which kernels a device is given; for tests and measurements, `None` is what suits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variants {
    /// Products of single rows by integer dot products rather than by f32.
    pub integer_dot: Option<bool>,
    /// Products of many rows by matrix units. On a device without them such kernels can be looked at, but not run.
    pub matrix_units: Option<bool>,
    /// Weights written in place, where memory is unified, rather than copied.
    pub unified: Option<bool>,
}

/// An opened GPU.
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) info: DeviceInfo,
    failure: Arc<Mutex<Option<Failure>>>,
    kernels: Mutex<Kernels>,
}

/// What wgpu reported outside of a call.
#[derive(Clone, Debug)]
enum Failure {
    OutOfMemory(String),
    Lost(String),
}

impl Gpu {
    pub(crate) fn open(choice: &Choice, variants: Variants) -> Result<Gpu, BackendError> {
        let adapters = adapters();
        let suits = |info: &DeviceInfo| match choice {
            Choice::Best => info.kind != DeviceKind::Software && info.missing.is_none(),
            Choice::Named(name) => info.is_called(name),
        };
        let found = adapters.iter().find(|adapter| suits(&describe(adapter)));
        let Some(adapter) = found else {
            let known: Vec<String> = adapters.iter().map(|adapter| describe(adapter).to_string()).collect();
            return Err(BackendError::NoDevice {
                backend: NAME,
                wanted: match choice {
                    Choice::Best => "a GPU".to_owned(),
                    Choice::Named(name) => format!("a GPU called {name:?}"),
                },
                known: if known.is_empty() { "none".to_owned() } else { known.join("; ") },
            });
        };
        let mut info = describe(adapter);
        if let Some(reason) = info.missing {
            return Err(lost(format!("{info} cannot be used: {reason}")));
        }
        info.integer_dot = variants.integer_dot.unwrap_or(info.integer_dot);
        info.matrix_units = variants.matrix_units.unwrap_or(info.matrix_units);
        info.unified &= variants.unified.unwrap_or(true);
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: None,
            required_features: wanted_features(adapter.features(), &info),
            required_limits: adapter.limits(),
            experimental_features: experimental(&info),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        }))
        .map_err(|error| lost(format!("{info} could not be opened: {error}")))?;
        let failure = Arc::new(Mutex::new(None));
        watch(&device, &failure);
        Ok(Gpu { device, queue, info, failure, kernels: Mutex::default() })
    }

    /// Memory that kernels read and write; `bytes` are rounded up to whole vectors.
    pub(crate) fn buffer(&self, what: &str, bytes: u64, usage: BufferUsages) -> Result<wgpu::Buffer, BackendError> {
        self.make_buffer(what, bytes, usage, false)
    }

    /// Memory that the host sees and writes before the GPU does.
    pub(crate) fn mapped_buffer(
        &self,
        what: &str,
        bytes: u64,
        usage: BufferUsages,
    ) -> Result<wgpu::Buffer, BackendError> {
        self.make_buffer(what, bytes, usage, true)
    }

    fn make_buffer(
        &self,
        what: &str,
        bytes: u64,
        usage: BufferUsages,
        mapped: bool,
    ) -> Result<wgpu::Buffer, BackendError> {
        let size = bytes.max(16).next_multiple_of(16);
        let refused = || BackendError::OutOfMemory { backend: NAME, what: what.to_owned(), bytes: size };
        let limit = self.info.buffer_bytes.min(if usage.contains(BufferUsages::STORAGE) {
            self.info.binding_bytes
        } else {
            u64::MAX
        });
        if size > limit {
            return Err(refused());
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: mapped };
        let buffer = self.device.create_buffer(&descriptor);
        match pollster::block_on(scope.pop()) {
            Some(_) => Err(refused()),
            None => Ok(buffer),
        }
    }

    /// The kernels of this device.
    pub(crate) fn kernels(&self) -> MutexGuard<'_, Kernels> {
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong since the device was opened, outside of the calls that ask for it.
    pub(crate) fn check(&self) -> Result<(), BackendError> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Failure::OutOfMemory(what)) => {
                Err(BackendError::OutOfMemory { backend: NAME, what: what.clone(), bytes: 0 })
            }
            Some(Failure::Lost(reason)) => Err(lost(reason.clone())),
        }
    }

    /// Waits for everything that was submitted.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.check()?;
        polled.map(|_| ()).map_err(|error| lost(error.to_string()))
    }
}

pub(crate) fn lost(reason: String) -> BackendError {
    BackendError::DeviceLost { backend: NAME, reason }
}

fn wanted_features(offered: Features, info: &DeviceInfo) -> Features {
    let mut wanted =
        Features::SUBGROUP | Features::IMMEDIATES | Features::TIMESTAMP_QUERY | Features::TIMESTAMP_QUERY_INSIDE_PASSES;
    if info.unified {
        wanted |= Features::MAPPABLE_PRIMARY_BUFFERS;
    }
    if info.matrix_units {
        wanted |= Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16 | Features::SUBGROUP_BARRIER;
    }
    offered & wanted
}

/// Matrix units are an experimental feature of wgpu.
fn experimental(info: &DeviceInfo) -> wgpu::ExperimentalFeatures {
    if info.matrix_units {
        // SAFETY: the only experimental feature asked for is cooperative matrices, whose one shader loads whole tiles
        // from workgroup memory; it runs only on devices that list its sizes.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// Keeps the first failure that wgpu reports by callback.
fn watch(device: &wgpu::Device, failure: &Arc<Mutex<Option<Failure>>>) {
    let keep = |failure: &Arc<Mutex<Option<Failure>>>, found: Failure| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
    };
    let noted = Arc::clone(failure);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        keep(
            &noted,
            match error {
                wgpu::Error::OutOfMemory { .. } => Failure::OutOfMemory("a pass".to_owned()),
                wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                    Failure::Lost(description)
                }
            },
        );
    }));
    let noted = Arc::clone(failure);
    device.set_device_lost_callback(move |reason, message| {
        // Reported at the end of every device's life.
        if reason != wgpu::DeviceLostReason::Destroyed {
            keep(&noted, Failure::Lost(message));
        }
    });
}
