//! Everything that changes between two passes. Nothing else may vary, which is what makes replay free.

/// Positions that one page of keys and values holds.
pub const PAGE_ROWS: usize = 64;

/// The pages of one sequence, in order: position `p` lives in page `pages[p / PAGE_ROWS]` at row `p % PAGE_ROWS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageTable {
    /// Page indices into the backend's pool.
    pub pages: Vec<u32>,
}

/// The rows of one pass. A prefill chunk and a decode batch differ only in how many rows they have.
///
/// Rows of one sequence come in order of position, and a row's keys and values are stored before any row attends.
#[derive(Clone, Copy, Debug)]
pub struct PassInput<'a> {
    /// Token id of each row: (rows).
    pub tokens: &'a [u32],
    /// Position of each row in its sequence: (rows).
    pub positions: &'a [u32],
    /// Index into `page_tables` for each row: (rows).
    pub sequences: &'a [u32],
    /// The pages of each sequence.
    pub page_tables: &'a [PageTable],
    /// Rows whose logits are wanted, ascending: (logit rows).
    pub logit_rows: &'a [u32],
}

impl PassInput<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}
