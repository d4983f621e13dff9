//! Steps that multiply with weight matrices: what is multiplied, and what becomes of each output.

use program::{Buffer, Head, LinearAdd, Norm, NormGatedLinear, NormLinear, Projection, Unit};

use super::Walk;
use super::input::{Forms, Source};
use super::rows::NormedSum;
use super::sweep::{PARTS_MAX, Part, Target};
use crate::layout::GROUP_ROWS;

impl<'p> Walk<'p> {
    pub(super) fn norm_linear(&mut self, unit: &Unit, step: &NormLinear) {
        let pass = self.pass;
        let (buffer, width) = self.buffer(Buffer::Qkv);
        let mut parts: [Option<Part<'_>>; PARTS_MAX] = [None; PARTS_MAX];
        let mut biases: [Option<&[f32]>; PARTS_MAX] = [None; PARTS_MAX];
        let mut start = 0;
        for (index, projection) in step.projections.iter().enumerate() {
            parts[index] = Some((pass.matrix(unit, projection.weight), Target { buffer, width, start }));
            biases[index] = projection.bias.map(|slot| pass.vector(unit, slot));
            start += projection.outputs;
        }
        let forms = Forms::of(parts.iter().flatten().map(|(matrix, _)| *matrix));
        let norm = Some((unit, &step.norm));
        let source = Source { buffer: Buffer::Hidden, rows: pass.input.rows(), norm, forms };
        self.sweep(&parts, source, &mut |part, target, done| {
            let outputs = step.projections[part].outputs;
            done.each(|row, first, values| {
                let count = GROUP_ROWS.min(outputs - first);
                // SAFETY: this group of this row belongs to a claimed chunk.
                let out = unsafe { target.outputs(row, first, count) };
                write(out, values, biases[part].map(|bias| &bias[first..first + count]));
            });
        });
    }

    pub(super) fn linear_add(&mut self, unit: &'p Unit, step: &LinearAdd) {
        let pass = self.pass;
        let matrix = pass.matrix(unit, step.projection.weight);
        let bias = step.projection.bias.map(|slot| pass.vector(unit, slot));
        let (hidden, width) = self.buffer(Buffer::Hidden);
        let projected = pass.exe.scratch.projected;
        let forms = Forms::of(std::iter::once(matrix));
        let source = Source { buffer: step.input, rows: pass.input.rows(), norm: None, forms };
        let after_norm = step.post_norm.is_some();
        let target = Target { buffer: if after_norm { projected } else { hidden }, width, start: 0 };
        self.sweep(&[Some((matrix, target)), None, None, None], source, &mut |_, target, done| {
            done.each(|row, first, values| {
                let count = GROUP_ROWS.min(width - first);
                // SAFETY: this group of this row belongs to a claimed chunk.
                let out = unsafe { target.outputs(row, first, count) };
                let bias = bias.map(|bias| &bias[first..first + count]);
                if after_norm { write(out, values, bias) } else { add(out, values, bias) }
            });
        });
        let sum = |norm: &Norm| NormedSum { weight: pass.vector(unit, norm.weight), epsilon: norm.epsilon };
        self.owed = step.post_norm.as_ref().map(sum);
    }

    pub(super) fn norm_gated_linear(&mut self, unit: &Unit, step: &NormGatedLinear) {
        let pass = self.pass;
        let matrices = [pass.matrix(unit, step.gate.weight), pass.matrix(unit, step.up.weight)];
        let bias_of = |projection: &Projection| projection.bias.map(|slot| pass.vector(unit, slot));
        let biases = [bias_of(&step.gate), bias_of(&step.up)];
        let (buffer, width) = self.buffer(Buffer::Gated);
        let target = Target { buffer, width, start: 0 };
        let outputs = step.gate.outputs;
        let gate = (pass.exe.kernels.gate)(step.activation);
        let (rows, forms) = (pass.input.rows(), Forms::of(matrices.into_iter()));
        let source = Source { buffer: Buffer::Hidden, rows, norm: Some((unit, &step.norm)), forms };
        self.sweep_pairs(matrices, target, source, &mut |mut done| {
            done.each_pair(|row, first, pair| {
                let count = GROUP_ROWS.min(outputs - first);
                for (values, bias) in pair.iter_mut().zip(biases) {
                    if let Some(bias) = bias {
                        values.iter_mut().zip(&bias[first..]).for_each(|(value, bias)| *value += bias);
                    }
                }
                let [gates, ups] = pair;
                // SAFETY: both are sixteen values; this group of this row belongs to a claimed chunk.
                unsafe {
                    gate(gates.as_mut_ptr(), ups.as_ptr());
                    write(target.outputs(row, first, count), gates, None);
                }
            });
        });
    }

    pub(super) fn head(&mut self, unit: &Unit, step: &Head) {
        let pass = self.pass;
        let matrix = pass.matrix(unit, step.projection.weight);
        let bias = step.projection.bias.map(|slot| pass.vector(unit, slot));
        let (buffer, width) = self.buffer(Buffer::Logits);
        let target = Target { buffer, width, start: 0 };
        let rows = pass.input.logit_rows.len();
        let forms = Forms::of(std::iter::once(matrix));
        let source = Source { buffer: Buffer::Selected, rows, norm: None, forms };
        self.sweep(&[Some((matrix, target)), None, None, None], source, &mut |_, target, done| {
            done.each(|row, first, values| {
                let count = GROUP_ROWS.min(width - first);
                // SAFETY: this group of this row belongs to a claimed chunk.
                let out = unsafe { target.outputs(row, first, count) };
                write(out, values, bias.map(|bias| &bias[first..first + count]));
                if let Some(cap) = step.soft_cap {
                    out.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
                }
            });
        });
    }
}

/// Writes the leading values, plus the bias.
#[inline]
fn write(out: &mut [f32], values: &[f32; GROUP_ROWS], bias: Option<&[f32]>) {
    // Whole groups have a constant length, which spares a call for each.
    match (<&mut [f32; GROUP_ROWS]>::try_from(&mut *out), bias) {
        (Ok(out), None) => *out = *values,
        (Err(_), None) => write_leading(out, values),
        (_, Some(bias)) => out.iter_mut().zip(values).zip(bias).for_each(|((out, value), bias)| *out = value + bias),
    }
}

/// By itself, or the compiler would join it with the copy of a whole group again.
#[cold]
#[inline(never)]
fn write_leading(out: &mut [f32], values: &[f32; GROUP_ROWS]) {
    out.copy_from_slice(&values[..out.len()]);
}

/// Adds the leading values, plus the bias.
#[inline]
fn add(out: &mut [f32], values: &[f32; GROUP_ROWS], bias: Option<&[f32]>) {
    match (<&mut [f32; GROUP_ROWS]>::try_from(&mut *out), bias) {
        (Ok(out), None) => out.iter_mut().zip(values).for_each(|(out, value)| *out += value),
        (Err(_), None) => out.iter_mut().zip(values).for_each(|(out, value)| *out += value),
        (_, Some(bias)) => out.iter_mut().zip(values).zip(bias).for_each(|((out, value), bias)| *out += value + bias),
    }
}
