//! Pages of keys and values: who holds which.

use program::{PAGE_ROWS, PageTable};

use crate::SessionError;

/// The free pages of a pool.
#[derive(Debug)]
pub(crate) struct PagePool {
    free: Vec<u32>,
    count: usize,
}

impl PagePool {
    /// A pool of `count` free pages.
    pub(crate) fn new(count: u32) -> PagePool {
        // Handed out from the end: low pages first.
        PagePool { free: (0..count).rev().collect(), count: count as usize }
    }

    /// Gives `table` pages enough for `positions`.
    pub(crate) fn grow(&mut self, table: &mut PageTable, positions: usize) -> Result<(), SessionError> {
        let wanted = positions.div_ceil(PAGE_ROWS);
        let missing = wanted.saturating_sub(table.pages.len());
        if missing > self.free.len() {
            return Err(SessionError::OutOfPages {
                wanted: missing * PAGE_ROWS,
                free: self.free.len() * PAGE_ROWS,
                total: self.count * PAGE_ROWS,
            });
        }
        table.pages.extend(self.free.drain(self.free.len() - missing..).rev());
        Ok(())
    }

    /// Takes back the pages of `table` beyond `positions`.
    pub(crate) fn shrink(&mut self, table: &mut PageTable, positions: usize) {
        let kept = positions.div_ceil(PAGE_ROWS).min(table.pages.len());
        self.free.extend(table.pages.drain(kept..).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_lent_once_and_come_back() {
        let mut pool = PagePool::new(4);
        let (mut a, mut b) = (PageTable::default(), PageTable::default());
        pool.grow(&mut a, 65).unwrap();
        pool.grow(&mut b, 1).unwrap();
        assert_eq!((a.pages.clone(), b.pages.clone()), (vec![0, 1], vec![2]));
        pool.grow(&mut a, 128).unwrap();
        assert_eq!(a.pages, [0, 1]);
        let error = pool.grow(&mut b, 3 * PAGE_ROWS).unwrap_err();
        assert!(matches!(error, SessionError::OutOfPages { wanted: 128, free: 64, total: 256 }));
        pool.shrink(&mut a, 10);
        pool.grow(&mut b, 3 * PAGE_ROWS).unwrap();
        assert_eq!(b.pages, [2, 1, 3]);
    }
}
