//! How fast the device reads its memory: the limit that decoding is measured against.

use std::time::Instant;

use program::BackendError;
use wgpu::BufferUsages;

use crate::device::Gpu;
use crate::shader::{READ_RATE, Source};

/// Bytes to read at most, which no cache holds, and at least.
const BYTES_MAX: u64 = 1 << 30;
const BYTES_MIN: u64 = 64 << 20;

const THREADS: u64 = 256;
const WORKGROUPS: u64 = 2048;

/// Times that the buffer is read in a measurement, so that submitting is a small part of it; and measurements, of which
/// the best counts.
const READS: u32 = 8;
const ROUNDS: usize = 5;

/// GB/s of plain loads. Memory for it is taken for as long as it runs.
pub(crate) fn measure(gpu: &Gpu) -> Result<f64, BackendError> {
    let mut bytes = BYTES_MAX.min(gpu.info.binding_bytes).min(gpu.info.buffer_bytes);
    let step = 8 * 16 * THREADS * WORKGROUPS;
    let source = loop {
        bytes = bytes / step * step;
        match gpu.buffer("memory to read", bytes, BufferUsages::STORAGE) {
            Err(BackendError::OutOfMemory { .. }) if bytes / 2 >= BYTES_MIN => bytes /= 2,
            made => break made?,
        }
    };
    let sums = gpu.buffer("sums of what is read", 4 * THREADS * WORKGROUPS, BufferUsages::STORAGE)?;
    let mut kernels = gpu.kernels();
    let shader = Source::new("read_rate", READ_RATE, &["read_rate.wgsl"]).count("VECTORS", (bytes / 16) as usize);
    let kernel = kernels.kernel(gpu, shader);
    let bind = kernels.bind(gpu, kernel, &[source.as_entire_buffer_binding(), sums.as_entire_buffer_binding()]);
    let mut best = f64::INFINITY;
    for _ in 0..=ROUNDS {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        {
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: None };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            pass.set_pipeline(kernels.pipeline(gpu, kernel, 1));
            pass.set_bind_group(0, &bind, &[]);
            for _ in 0..READS {
                pass.dispatch_workgroups(WORKGROUPS as u32, 1, 1);
            }
        }
        let commands = encoder.finish();
        gpu.wait()?;
        let started = Instant::now();
        gpu.queue.submit([commands]);
        gpu.wait()?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok((u64::from(READS) * bytes) as f64 / best / 1e9)
}
