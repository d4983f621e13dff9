//! The ledger: what each step costs by the GPU's own clock.
//!
//! A timestamp after every dispatch keeps dispatches from overlapping a little, so rates are measured without it.

use program::cost::step_cost;
use program::{BackendError, LedgerRow, Program};
use wgpu::{BufferUsages, QUERY_SIZE};

use crate::device::{Gpu, lost};

/// The choice of a token, which is no step of a program. It makes the next row of the embedding too, if it can.
pub(crate) const CHOOSE: &str = "choose";

/// Timestamps of a pass at most: what one query set holds.
const STAMPS_MAX: u32 = wgpu::QUERY_SET_MAX_QUERIES;

/// Timestamps of the passes since the ledger was taken.
pub(crate) struct Clock {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    /// The step before each timestamp but the first.
    steps: Vec<&'static str>,
    rows: Vec<LedgerRow>,
}

impl Clock {
    /// `None` where the device has no timestamps inside passes.
    pub(crate) fn new(gpu: &Gpu) -> Result<Option<Clock>, BackendError> {
        if !gpu.info.timestamps {
            return Ok(None);
        }
        let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: STAMPS_MAX,
        });
        let bytes = u64::from(STAMPS_MAX * QUERY_SIZE);
        let resolved = gpu.buffer("timestamps", bytes, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?;
        let staging = gpu.buffer("timestamps", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        Ok(Some(Clock { set, resolved, staging, steps: Vec::new(), rows: Vec::new() }))
    }

    /// Notes the time at which `step` has run; the first call of a pass notes its beginning.
    pub(crate) fn stamp(&mut self, pass: &mut wgpu::ComputePass<'_>, step: &'static str) {
        let index = self.steps.len() as u32;
        if index < STAMPS_MAX {
            pass.write_timestamp(&self.set, index);
            self.steps.push(step);
        }
    }

    /// Copies the timestamps out at the end of the pass.
    pub(crate) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        let count = self.steps.len() as u32;
        encoder.resolve_query_set(&self.set, 0..count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, u64::from(count * QUERY_SIZE));
    }

    /// Waits for the pass and adds its times.
    pub(crate) fn read(&mut self, gpu: &Gpu) -> Result<(), BackendError> {
        let bytes = (self.steps.len() as u32 * QUERY_SIZE) as u64;
        self.staging.slice(..bytes).map_async(wgpu::MapMode::Read, |_| {});
        gpu.wait()?;
        let ticks: Vec<u64> = {
            let mapped = self.staging.slice(..bytes).get_mapped_range().map_err(|error| lost(error.to_string()))?;
            mapped.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
        };
        self.staging.unmap();
        let seconds = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        let steps = std::mem::take(&mut self.steps);
        for (step, pair) in steps.iter().skip(1).zip(ticks.windows(2)) {
            self.row(step).seconds += pair[1].saturating_sub(pair[0]) as f64 * seconds;
        }
        Ok(())
    }

    /// Counts a unit's work in a pass of `rows`.
    pub(crate) fn count(&mut self, program: &Program, unit: usize, rows: usize) {
        let Some(unit) = program.units().nth(unit) else { return };
        for (name, step) in &program.template(unit).steps {
            let cost = step_cost(program, unit, step);
            let row = self.row(name);
            row.calls += 1;
            row.weight_bytes += cost.weight_bytes;
            row.multiply_adds += cost.multiply_adds_per_row * rows as u64;
        }
    }

    /// Counts choices of tokens.
    pub(crate) fn count_choices(&mut self, count: usize) {
        self.row(CHOOSE).calls += count as u64;
    }

    pub(crate) fn take(&mut self) -> Vec<LedgerRow> {
        std::mem::take(&mut self.rows)
    }

    fn row(&mut self, step: &'static str) -> &mut LedgerRow {
        let index = self.rows.iter().position(|row| row.step == step).unwrap_or_else(|| {
            self.rows.push(LedgerRow { step, calls: 0, weight_bytes: 0, multiply_adds: 0, seconds: 0.0 });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }
}
