//! Preparations that lead a phase: rows shared out among threads, ready a panel at a time.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Walk;
use crate::activations::PANEL_ROWS;

/// Progress of each panel of rows.
#[derive(Default)]
pub(super) struct Panels(Vec<Panel>);

/// In a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Panel {
    /// Rows that the preparation in progress is done with.
    arrived: AtomicUsize,
    /// The last preparation that is done with all of them.
    ready: AtomicUsize,
}

/// A preparation of rows, counted from the start of the pass.
#[derive(Clone, Copy)]
pub(super) struct Led(usize);

impl Led {
    /// None, which nobody has to wait for.
    pub(super) const NOTHING: Led = Led(0);

    pub(super) fn is_nothing(self) -> bool {
        self.0 == 0
    }
}

impl Panels {
    /// Forgets the last pass, and has room for this many rows.
    pub(super) fn clear(&mut self, rows: usize) {
        self.0.clear();
        self.0.resize_with(rows.div_ceil(PANEL_ROWS), Panel::default);
    }
}

impl Walk<'_> {
    /// Prepares rows for the phase that comes next. `row` gets each row that this thread claims; whoever ends a panel's last
    /// row hands the panel's rows to `panel`. On return all rows are claimed: whoever needs some has to wait for them.
    pub(super) fn lead(
        &mut self,
        rows: usize,
        mut row: impl FnMut(&mut Self, usize),
        mut panel: impl FnMut(&mut Self, Range<usize>),
    ) -> Led {
        self.led += 1;
        let led = self.led;
        self.claim_all(rows, self.row_chunk(rows), |walk, chunk| {
            for index in chunk {
                row(walk, index);
                let first = index / PANEL_ROWS * PANEL_ROWS;
                let whole = first..rows.min(first + PANEL_ROWS);
                let progress = &walk.pass.panels.0[index / PANEL_ROWS];
                if progress.arrived.fetch_add(1, Ordering::AcqRel) + 1 == whole.len() {
                    panel(walk, whole);
                    progress.arrived.store(0, Ordering::Relaxed);
                    progress.ready.store(led, Ordering::Release);
                }
            }
        });
        Led(led)
    }

    /// Waits until the panels of these rows are ready. Only for the phase that was led: the next may change the rows.
    pub(super) fn wait_for(&self, Led(led): Led, rows: Range<usize>) {
        for panel in &self.pass.panels.0[rows.start / PANEL_ROWS..rows.end.div_ceil(PANEL_ROWS)] {
            self.worker.wait_until(|| panel.ready.load(Ordering::Acquire) >= led);
        }
    }
}
