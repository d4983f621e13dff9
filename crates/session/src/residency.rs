//! Plans memory before it is used: weights, pages and scratch against a budget, to the byte.
//!
//! Sizes come from the program's tensor table and step costs, never from formulas of an architecture.

use program::cost::kv_bytes_per_position;
use program::{KvFormat, PAGE_ROWS, Program, RowBucket};

use crate::SessionError;

/// What to plan for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanRequest {
    /// Positions wanted; `None` takes the model's own, or as many as fit.
    pub context: Option<usize>,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Rows of a pass.
    pub rows: RowBucket,
    /// Bytes that all weights take where they will lie.
    pub weight_bytes: u64,
    /// Bytes that may be used in all.
    pub budget_bytes: u64,
}

/// What will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Positions to hold.
    pub context: usize,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Every tensor, as the backend keeps it.
    pub weight_bytes: u64,
    /// Keys and values of `context` positions, in whole pages.
    pub kv_bytes: u64,
    /// Activation buffers.
    pub scratch_bytes: u64,
}

impl Plan {
    /// Pages that hold the context.
    pub fn pages(&self) -> usize {
        self.context.div_ceil(PAGE_ROWS)
    }

    /// The sum of all parts.
    pub fn total_bytes(&self) -> u64 {
        self.weight_bytes + self.kv_bytes + self.scratch_bytes
    }
}

/// Plans `program` within the request's budget.
///
/// # Errors
/// [`SessionError::DoesNotFit`] with all sizes and the largest context that would fit.
pub fn plan(program: &Program, request: &PlanRequest) -> Result<Plan, SessionError> {
    let weight_bytes = request.weight_bytes;
    let scratch_bytes = scratch_bytes(program, request.rows);
    let page_bytes = kv_bytes_per_position(program, request.kv_format).saturating_mul(PAGE_ROWS as u64);
    let left = request.budget_bytes.saturating_sub(weight_bytes.saturating_add(scratch_bytes));
    let pages_that_fit = left.checked_div(page_bytes).unwrap_or(u64::MAX);
    let context_that_fits = usize::try_from(pages_that_fit.saturating_mul(PAGE_ROWS as u64)).unwrap_or(usize::MAX);
    let fits = weight_bytes.saturating_add(scratch_bytes) <= request.budget_bytes;
    let context = request.context.unwrap_or_else(|| program.sizes.context.min(context_that_fits.max(PAGE_ROWS)));
    let kv_bytes = page_bytes.saturating_mul(context.div_ceil(PAGE_ROWS) as u64);
    if !fits || context > context_that_fits {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        return Err(SessionError::DoesNotFit {
            needed_mib: mib(weight_bytes.saturating_add(scratch_bytes).saturating_add(kv_bytes)),
            weights_mib: mib(weight_bytes),
            kv_mib: mib(kv_bytes),
            scratch_mib: mib(scratch_bytes),
            context,
            available_mib: mib(request.budget_bytes),
            context_that_fits: if fits { context_that_fits } else { 0 },
        });
    }
    Ok(Plan { context, kv_format: request.kv_format, weight_bytes, kv_bytes, scratch_bytes })
}

/// Rows of a pass: `most`, halved down to `least` as long as activations take more than `bytes`.
pub(crate) fn bucket_within(
    program: &Program,
    (most, least): (usize, usize),
    logit_rows: usize,
    bytes: u64,
) -> RowBucket {
    let fits = |rows| scratch_bytes(program, RowBucket { rows, logit_rows }) <= bytes;
    RowBucket { rows: halved_until(fits, (most.max(1), least.max(1))), logit_rows }
}

fn halved_until(fits: impl Fn(usize) -> bool, (most, least): (usize, usize)) -> usize {
    let mut rows = most;
    while rows / 2 >= least && !fits(rows) {
        rows /= 2;
    }
    rows
}

/// Bytes of every activation buffer for `rows`, plus the widest input in f32 and quantised form.
fn scratch_bytes(program: &Program, rows: RowBucket) -> u64 {
    let sizes = program.sizes;
    let row = 2 * sizes.hidden + sizes.qkv + sizes.attention + sizes.gated + 3 * sizes.gated.max(sizes.hidden);
    let logit_row = sizes.hidden + sizes.vocabulary;
    4 * (rows.rows as u64 * row as u64 + rows.logit_rows as u64 * logit_row as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_shrink_by_halves_to_what_fits_and_not_below_the_least() {
        let rows = |limits, fitting: usize| halved_until(|rows| rows <= fitting, limits);
        assert_eq!(rows((2048, 512), 2048), 2048);
        assert_eq!(rows((2048, 512), 2047), 1024);
        assert_eq!(rows((2048, 512), 600), 512);
        assert_eq!(rows((2048, 512), 0), 512);
        assert_eq!(rows((700, 700), 0), 700);
        assert_eq!(rows((1, 1), 0), 1);
    }
}
