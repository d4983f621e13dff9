//! Copies GPU memory back.

use program::BackendError;
use wgpu::BufferUsages;

use crate::device::{Gpu, lost};

/// Keeps the buffer that results pass through.
pub(crate) struct Reader {
    staging: Option<wgpu::Buffer>,
}

impl Reader {
    pub(crate) fn new() -> Reader {
        Reader { staging: None }
    }

    /// Copies `into.len()` numbers from byte `start` of `source`, after everything that was submitted.
    pub(crate) fn read(
        &mut self,
        gpu: &Gpu,
        source: &wgpu::Buffer,
        start: u64,
        into: &mut [f32],
    ) -> Result<(), BackendError> {
        if into.is_empty() {
            return Ok(());
        }
        let bytes = size_of_val(into) as u64;
        let staging = match self.staging.take().filter(|staging| staging.size() >= bytes) {
            Some(staging) => staging,
            None => gpu.buffer("what is read back", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?,
        };
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        encoder.copy_buffer_to_buffer(source, start, &staging, 0, bytes);
        gpu.queue.submit([encoder.finish()]);
        staging.slice(..bytes).map_async(wgpu::MapMode::Read, |_| {});
        gpu.wait()?;
        {
            let mapped = staging.slice(..bytes).get_mapped_range().map_err(|error| lost(error.to_string()))?;
            bytemuck::cast_slice_mut::<f32, u8>(into).copy_from_slice(&mapped);
        }
        staging.unmap();
        self.staging = Some(staging);
        Ok(())
    }
}
