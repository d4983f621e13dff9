//! Bytes and operations of steps, from shapes and formats alone: what plans and ledgers are made of.

use crate::kv::KvFormat;
use crate::program::{Program, Unit};
use crate::step::Step;

/// What one step costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCost {
    /// Stored bytes of all matrices and vectors the step reads in full.
    pub weight_bytes: u64,
    /// Multiply-adds for each row of the pass, matrices only.
    pub multiply_adds_per_row: u64,
}

/// The cost of `step` with the weights of `unit`.
///
/// An embedding reads one row of its table for each row of the pass, so it counts no weight bytes.
pub fn step_cost(program: &Program, unit: &Unit, step: &Step) -> StepCost {
    let matrices = step.matrices();
    let bytes = matrices.iter().chain(&step.vectors()).map(|slot| program.weight(unit, *slot).bytes() as u64).sum();
    let multiply_adds = matrices
        .iter()
        .map(|slot| program.weight(unit, *slot))
        .map(|spec| spec.rows as u64 * spec.columns as u64)
        .sum();
    StepCost { weight_bytes: bytes, multiply_adds_per_row: multiply_adds }
}

/// Weight bytes that one decoded token reads: every matrix and vector once.
pub fn weight_bytes_per_token(program: &Program) -> u64 {
    program
        .units()
        .flat_map(|unit| program.template(unit).steps.iter().map(move |(_, step)| step_cost(program, unit, step)))
        .map(|cost| cost.weight_bytes)
        .sum()
}

/// Bytes of keys and values that one position takes over all layers.
pub fn kv_bytes_per_position(program: &Program, format: KvFormat) -> u64 {
    program.kv_shapes().iter().map(|shape| 2 * format.bytes(shape.width()) as u64).sum()
}
