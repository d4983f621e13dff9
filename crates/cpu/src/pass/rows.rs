//! Row-wise steps: embedding, rotary tables, selection, norms.

use program::{Buffer, Embed, Norm, Unit};

use super::Walk;
use crate::kernels::decode::Decoder;

/// `hidden += norm(projected)`, put off until somebody needs the sum.
#[derive(Clone, Copy)]
pub(super) struct NormedSum<'p> {
    pub(super) weight: &'p [f32],
    pub(super) epsilon: f32,
}

impl Walk<'_> {
    /// Adds what is owed to the hidden rows.
    pub(super) fn settle(&mut self) {
        let Some(sum) = self.owed.take() else { return };
        let rows = self.pass.input.rows();
        self.phase(rows, self.row_chunk(rows), |walk, chunk| {
            for row in chunk {
                // SAFETY: this row was claimed by this thread.
                unsafe { walk.add_normed(sum, row) };
            }
        });
    }

    /// # Safety
    /// The row is claimed, and was projected in an earlier phase.
    pub(super) unsafe fn add_normed(&self, sum: NormedSum<'_>, row: usize) {
        let exe = self.pass.exe;
        let (hidden, width) = self.buffer(Buffer::Hidden);
        // SAFETY: the caller's promise; the weight is a row wide, as the program builder checked.
        unsafe {
            let projected = exe.scratch.projected.slice_mut(row * width, width);
            let at = projected.as_mut_ptr();
            (exe.kernels.norm)(at, sum.weight.as_ptr(), sum.epsilon, width, at);
            let hidden = hidden.slice_mut(row * width, width);
            hidden.iter_mut().zip(projected).for_each(|(sum, value)| *sum += *value);
        }
    }

    /// Cosines and sines of every row for every rope table: (tables, rows, 2, pairs).
    pub(super) fn rotations(&mut self) {
        let (pass, exe) = (self.pass, self.pass.exe);
        let rows = pass.input.rows();
        self.phase(rows, self.row_chunk(rows), |_, chunk| {
            for row in chunk {
                for (table, rope) in exe.ropes.iter().enumerate() {
                    let at = (table * exe.bucket.rows + row) * 2 * exe.rope_pairs;
                    // SAFETY: this row was claimed by this thread.
                    let out = unsafe { exe.scratch.rotations.slice_mut(at, 2 * exe.rope_pairs) };
                    let (cosines, sines) = out.split_at_mut(exe.rope_pairs);
                    let position = f64::from(pass.input.positions[row]);
                    for (pair, frequency) in rope.frequencies.iter().enumerate() {
                        let (sine, cosine) = (position * frequency).sin_cos();
                        cosines[pair] = cosine as f32 * rope.magnitude;
                        sines[pair] = sine as f32 * rope.magnitude;
                    }
                }
            }
        });
    }

    pub(super) fn embed(&mut self, unit: &Unit, step: &Embed) {
        let (pass, exe) = (self.pass, self.pass.exe);
        let index = unit.weights[step.table.0 as usize];
        let spec = exe.program.tensor(index);
        let table = exe.weights[index.0 as usize].table.as_ref().expect("checked before the pass");
        let decoder =
            Decoder::of(&exe.kernels, spec.format).expect("the program builder refuses formats without a codec");
        let (rows, width) = (pass.input.rows(), exe.program.sizes.hidden);
        self.phase(rows, self.row_chunk(rows), |_, chunk| {
            for row in chunk {
                // SAFETY: this row was claimed by this thread.
                let out = unsafe { exe.scratch.hidden.slice_mut(row * width, width) };
                let at = pass.input.tokens[row] as usize * spec.row_bytes();
                let blocks = &table[at..at + spec.row_bytes()];
                decoder.decode(blocks, out);
                if step.scale != 1.0 {
                    out.iter_mut().for_each(|value| *value *= step.scale);
                }
            }
        });
    }

    pub(super) fn select(&mut self) {
        let (pass, exe) = (self.pass, self.pass.exe);
        let width = exe.program.sizes.hidden;
        let rows = pass.input.logit_rows;
        self.phase(rows.len(), self.row_chunk(rows.len()), |_, chunk| {
            for index in chunk {
                // SAFETY: `hidden` was written in an earlier phase; this row of `selected` is this thread's.
                unsafe {
                    let from = exe.scratch.hidden.slice(rows[index] as usize * width, width);
                    exe.scratch.selected.slice_mut(index * width, width).copy_from_slice(from);
                }
            }
        });
    }

    pub(super) fn norm_selected(&mut self, unit: &Unit, step: &Norm) {
        let (pass, exe) = (self.pass, self.pass.exe);
        let width = exe.program.sizes.hidden;
        let rows = pass.input.logit_rows.len();
        let weight = pass.vector(unit, step.weight);
        self.phase(rows, self.row_chunk(rows), |_, chunk| {
            for row in chunk {
                // SAFETY: this row was claimed by this thread.
                unsafe {
                    let at = exe.scratch.selected.slice_mut(row * width, width).as_mut_ptr();
                    (exe.kernels.norm)(at, weight.as_ptr(), step.epsilon, width, at);
                }
            }
        });
    }
}
