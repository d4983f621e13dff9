//! Input rows of a product: normed, and quantised where the matrices read codes. Never multiplies anything.

use std::ops::Range;

use program::{Buffer, Norm, Unit};

use super::Walk;
use super::panels::Led;
use crate::activations::{ActivationBlock, Outliers};
use crate::kernels::quantize::PanelArgs;
use crate::matrix::Matrix;
use crate::memory::Shared;

/// Input rows of a product in the forms its matrices read.
#[derive(Clone, Copy)]
pub(super) struct Input {
    plain: Shared<f32>,
    plain_width: usize,
    codes: Shared<ActivationBlock>,
    codes_width: usize,
    /// A panel's list begins where that of its first row alone would.
    outliers: Shared<Outliers>,
    outliers_width: usize,
    pub(super) rows: usize,
    /// The preparation of its rows; nothing where every thread prepares its own.
    pub(super) led: Led,
}

/// Where the input rows of a product come from, and what is done to them first.
#[derive(Clone, Copy)]
pub(super) struct Source<'s> {
    pub(super) buffer: Buffer,
    pub(super) rows: usize,
    pub(super) norm: Option<(&'s Unit, &'s Norm)>,
    pub(super) forms: Forms,
}

/// What the matrices of a step read of a row of the input, and in which forms.
#[derive(Clone, Copy, Default)]
pub(super) struct Forms {
    codes: bool,
    /// Inputs of the matrices, which can be fewer than the buffer's rows have room for.
    inputs: usize,
}

impl Forms {
    pub(super) fn of<'m>(matrices: impl Iterator<Item = &'m Matrix>) -> Forms {
        let mut forms = Forms::default();
        for matrix in matrices {
            forms.codes |= matrix.reads_codes();
            forms.inputs = matrix.columns;
        }
        forms
    }
}

impl Input {
    /// The first row of a panel as `matrix` reads it, the bytes from one row to the next, and the panel's outliers.
    pub(super) fn panel(&self, matrix: &Matrix, row: usize) -> (*const u8, usize, *const Outliers) {
        if matrix.reads_codes() {
            let codes = self.codes.address(row * self.codes_width);
            let outliers = self.outliers.address(row * self.outliers_width);
            (codes.cast(), self.codes_width * size_of::<ActivationBlock>(), outliers)
        } else {
            let plain = self.plain.address(row * self.plain_width);
            (plain.cast(), self.plain_width * size_of::<f32>(), std::ptr::null())
        }
    }
}

impl Walk<'_> {
    /// Norms and quantises the rows of `source.buffer`, once they have what they are owed. A single row that only has to be
    /// read is left to be prepared by every thread for itself, which is cheaper than to wait for another.
    pub(super) fn prepare(&mut self, source: Source<'_>) -> Input {
        if source.buffer != Buffer::Hidden {
            self.settle();
        }
        let owed = self.owed.take();
        let scratch = &self.pass.exe.scratch;
        let (from, width) = self.buffer(source.buffer);
        let own = source.rows == 1 && owed.is_none();
        let codes_width = scratch.input_width / 32;
        let outliers_width = Outliers::room(codes_width);
        let mut input = Input {
            plain: scratch.plain,
            plain_width: width,
            codes: scratch.codes,
            codes_width,
            outliers: scratch.outliers,
            outliers_width,
            rows: source.rows,
            led: Led::NOTHING,
        };
        if own {
            let index = self.worker.index;
            input.plain = scratch.own_plain.part(index * scratch.input_width, scratch.input_width);
            input.codes = scratch.own_codes.part(index * codes_width, codes_width);
            input.outliers = scratch.own_outliers.part(index * outliers_width, outliers_width);
        }
        if source.norm.is_none() {
            input.plain = from;
        }
        if !own {
            let row = |walk: &mut Self, row| {
                // SAFETY: this row was claimed by this thread.
                unsafe {
                    if let Some(sum) = owed {
                        walk.add_normed(sum, row);
                    }
                    walk.prepare_row(source, row, input);
                }
            };
            let panel = |walk: &mut Self, rows| {
                if source.forms.codes {
                    // SAFETY: the thread that ended the last of these rows is the only one to come here.
                    unsafe { walk.list_outliers(source.forms, rows, input) };
                }
            };
            input.led = self.lead(source.rows, row, panel);
        }
        input
    }

    /// Prepares a single row for this thread, if this is the first chunk it claims of a product.
    pub(super) fn prepare_own(&self, source: Source<'_>, input: Input, prepared: &mut bool) {
        if input.led.is_nothing() && !*prepared {
            let scratch = &self.pass.exe.scratch;
            let plain = scratch.own_plain.part(self.worker.index * scratch.input_width, scratch.input_width);
            // SAFETY: the thread's own windows; the source is settled while a chunk of this phase is held.
            unsafe {
                self.prepare_row(source, 0, Input { plain, ..input });
                if source.forms.codes {
                    self.list_outliers(source.forms, 0..1, input);
                }
            }
            *prepared = true;
        }
    }

    /// # Safety
    /// The source row is settled, and no other thread uses the row of `to`.
    unsafe fn prepare_row(&self, source: Source<'_>, row: usize, to: Input) {
        let exe = self.pass.exe;
        let (from, width) = self.buffer(source.buffer);
        // SAFETY: the caller's promise.
        unsafe {
            let mut from = from.slice(row * width, width).as_ptr();
            if let Some((unit, norm)) = source.norm {
                let plain = to.plain.slice_mut(row * to.plain_width, width).as_mut_ptr();
                (exe.kernels.norm)(from, self.pass.vector(unit, norm.weight).as_ptr(), norm.epsilon, width, plain);
                from = plain;
            }
            if source.forms.codes {
                let blocks = source.forms.inputs / 32;
                let codes = to.codes.slice_mut(row * to.codes_width, blocks).as_mut_ptr();
                (exe.kernels.quantize)(from, blocks, codes);
            }
        }
    }

    /// Lists the outliers of a panel of rows.
    ///
    /// # Safety
    /// The rows are prepared, and no other thread uses the panel's list.
    unsafe fn list_outliers(&self, forms: Forms, rows: Range<usize>, input: Input) {
        let blocks = forms.inputs / 32;
        let room = rows.len() * Outliers::room(blocks);
        // SAFETY: the caller's promise.
        unsafe {
            (self.pass.exe.kernels.list_outliers)(&PanelArgs {
                values: input.plain.address(rows.start * input.plain_width),
                values_stride: input.plain_width,
                codes: input.codes.address(rows.start * input.codes_width),
                codes_stride: input.codes_width,
                blocks,
                rows: rows.len(),
                to: input.outliers.slice_mut(rows.start * input.outliers_width, room).as_mut_ptr(),
                room,
            });
        }
    }
}
