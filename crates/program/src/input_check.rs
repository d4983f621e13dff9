//! Refuses passes that break a promise, before anything is computed: what unsafe code and unchecked shaders rely on.

use crate::backend::{BackendError, Segment};
use crate::input::{PAGE_ROWS, PassInput};

/// What the numbers of a pass must stay within.
#[derive(Clone, Copy, Debug)]
pub struct InputLimits {
    /// Rows of a pass.
    pub rows: usize,
    /// Rows of a pass that want logits.
    pub logit_rows: usize,
    /// Layers of the program.
    pub layers: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// Pages of the pool.
    pub pages: usize,
}

/// Checks inputs; keeps its memory from pass to pass.
#[derive(Debug, Default)]
pub struct InputCheck {
    /// For each page, the sequence that writes it and the page's place in that sequence's table.
    writers: Vec<Option<(u32, usize)>>,
    /// For each page table, the lowest position that its next row may have.
    next: Vec<u32>,
}

impl InputCheck {
    /// Refuses a pass that breaks a promise.
    pub fn check(
        &mut self,
        segment: &Segment,
        input: &PassInput<'_>,
        limits: &InputLimits,
    ) -> Result<(), BackendError> {
        let rows = input.rows();
        check("rows", rows as u64, limits.rows as u64)?;
        check("layers", segment.layers.end as u64, limits.layers as u64)?;
        check("positions given", rows as u64, input.positions.len() as u64)?;
        check("sequences given", rows as u64, input.sequences.len() as u64)?;
        check("logit rows", input.logit_rows.len() as u64, limits.logit_rows as u64)?;
        for row in input.logit_rows {
            check("logit row", u64::from(*row) + 1, rows as u64)?;
        }
        self.next.clear();
        self.next.resize(input.page_tables.len(), 0);
        self.writers.clear();
        self.writers.resize(limits.pages, None);
        for row in 0..rows {
            check_row(input, row, limits)?;
            let (sequence, position) = (input.sequences[row], input.positions[row]);
            let next = &mut self.next[sequence as usize];
            check("lowest position left", u64::from(*next), u64::from(position))?;
            *next = position.saturating_add(1);
            self.claim(input, sequence, position)?;
        }
        for (sequence, table) in input.page_tables.iter().enumerate() {
            let read = (self.next[sequence] as usize).div_ceil(PAGE_ROWS);
            for (place, page) in table.pages[..read].iter().enumerate() {
                let writer = self.writers[*page as usize];
                let foreign = writer.is_some_and(|writer| writer != (sequence as u32, place));
                check("sequences that read a page another one writes", u64::from(foreign), 0)?;
            }
        }
        Ok(())
    }

    /// Notes the page that a row writes: no other sequence may write it, nor the same one at another place.
    fn claim(&mut self, input: &PassInput<'_>, sequence: u32, position: u32) -> Result<(), BackendError> {
        let place = position as usize / PAGE_ROWS;
        let page = input.page_tables[sequence as usize].pages[place];
        let writer = self.writers[page as usize].get_or_insert((sequence, place));
        let foreign = *writer != (sequence, place);
        check("sequences or places that write one page", u64::from(foreign) + 1, 1)
    }
}

fn check_row(input: &PassInput<'_>, row: usize, limits: &InputLimits) -> Result<(), BackendError> {
    check("token id", u64::from(input.tokens[row]) + 1, limits.vocabulary as u64)?;
    let sequence = input.sequences[row] as usize;
    check("sequence", sequence as u64 + 1, input.page_tables.len() as u64)?;
    let table = &input.page_tables[sequence].pages;
    let page = input.positions[row] as usize / PAGE_ROWS;
    check("position's page", page as u64 + 1, table.len() as u64)?;
    let ends = row + 1 == input.rows() || input.sequences[row + 1] != input.sequences[row];
    check("page", u64::from(table[page]) + 1, limits.pages as u64)?;
    if !ends {
        return Ok(());
    }
    // Later rows of a run see at least what earlier ones do.
    for index in &table[..=page] {
        check("page", u64::from(*index) + 1, limits.pages as u64)?;
    }
    Ok(())
}

/// `value` must not be over `limit`.
pub fn check(what: &'static str, value: u64, limit: u64) -> Result<(), BackendError> {
    if value > limit { Err(BackendError::InvalidPass { what, value, limit }) } else { Ok(()) }
}
