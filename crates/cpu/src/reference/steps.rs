//! What each step computes, in the words of `program::step`.

use std::f32::consts::PI;

use program::{
    Activation, Attention, Buffer, Embed, Head, LinearAdd, Norm, NormGatedLinear, NormLinear, PassInput, Program,
    Projection, RopeKind, RopeStore, RopeTable, Slot, Step, TensorBytes, TensorSpec, Unit,
};

use super::buffers::{Buffers, KvPool, Rows};

/// One unit applied to the rows of a pass whose input was checked and whose weights are there.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) program: &'a Program,
    pub(super) unit: &'a Unit,
    pub(super) layer: usize,
    pub(super) weights: &'a [Option<TensorBytes>],
    pub(super) input: &'a PassInput<'a>,
    pub(super) buffers: &'a mut Buffers,
    pub(super) pool: &'a mut KvPool,
}

impl<'a> Pass<'a> {
    pub(super) fn run(&mut self, step: &Step) {
        match step {
            Step::Embed(step) => self.embed(step),
            Step::NormLinear(step) => self.norm_linear(step),
            Step::RopeStore(step) => self.rope_store(step),
            Step::Attention(step) => self.attention(step),
            Step::LinearAdd(step) => self.linear_add(step),
            Step::NormGatedLinear(step) => self.norm_gated_linear(step),
            Step::Select => self.select(),
            Step::Norm(norm) => self.norm(norm),
            Step::Head(step) => self.head(step),
        }
    }

    fn embed(&mut self, step: &Embed) {
        let table = self.matrix(step.table);
        for (row, token) in self.input.tokens.iter().enumerate() {
            let hidden = self.buffers.hidden.row_mut(row);
            table.decode_row(*token as usize, hidden);
            for value in hidden {
                *value *= step.scale;
            }
        }
    }

    fn norm_linear(&mut self, step: &NormLinear) {
        let normed = self.normed_hidden(&step.norm);
        let mut start = 0;
        for projection in &step.projections {
            let projected = self.project(projection, &normed, self.input.rows());
            for row in 0..self.input.rows() {
                self.buffers.qkv.row_mut(row)[start..][..projection.outputs].copy_from_slice(projected.row(row));
            }
            start += projection.outputs;
        }
    }

    fn rope_store(&mut self, step: &RopeStore) {
        let query_norm = step.query_norm.as_ref().map(|norm| (self.vector(norm.weight), norm.epsilon));
        let key_norm = step.key_norm.as_ref().map(|norm| (self.vector(norm.weight), norm.epsilon));
        let query_width = step.heads * step.head_width;
        let kv_width = step.kv_heads * step.head_width;
        for row in 0..self.input.rows() {
            let position = self.input.positions[row];
            let (queries, keys_and_values) = self.buffers.qkv.row_mut(row).split_at_mut(query_width);
            let (keys, values) = keys_and_values.split_at_mut(kv_width);
            for (heads, norm) in [(queries, &query_norm), (&mut *keys, &key_norm)] {
                for head in heads.chunks_exact_mut(step.head_width) {
                    if let Some((weight, epsilon)) = norm {
                        normalise(head, weight, *epsilon);
                    }
                    rotate(head, position, &step.rope);
                }
            }
            let pages = &self.input.page_tables[self.input.sequences[row] as usize];
            self.pool.store(self.layer, pages, position as usize, keys, &values[..kv_width]);
        }
    }

    fn attention(&mut self, step: &Attention) {
        let heads_per_kv_head = step.heads / step.kv_heads;
        for row in 0..self.input.rows() {
            let position = self.input.positions[row] as usize;
            let pages = &self.input.page_tables[self.input.sequences[row] as usize];
            let first = step.window.map_or(0, |window| (position + 1).saturating_sub(window as usize));
            for head in 0..step.heads {
                let query = &self.buffers.qkv.row(row)[head * step.head_width..][..step.head_width];
                let kv_start = head / heads_per_kv_head * step.head_width;
                let kv_head = kv_start..kv_start + step.head_width;

                let mut shares: Vec<f32> = (first..=position)
                    .map(|seen| dot(query, &self.pool.keys(self.layer, pages, seen)[kv_head.clone()]) * step.scale)
                    .map(|score| step.soft_cap.map_or(score, |cap| soft_capped(score, cap)))
                    .collect();
                softmax(&mut shares);

                let output = &mut self.buffers.attention.row_mut(row)[head * step.head_width..][..step.head_width];
                output.fill(0.0);
                for (share, seen) in shares.iter().zip(first..) {
                    let values = &self.pool.values(self.layer, pages, seen)[kv_head.clone()];
                    for (sum, value) in output.iter_mut().zip(values) {
                        *sum += share * value;
                    }
                }
            }
        }
    }

    fn linear_add(&mut self, step: &LinearAdd) {
        let mut projected = self.project(&step.projection, self.buffers.get(step.input), self.input.rows());
        let post_norm = step.post_norm.as_ref().map(|norm| (self.vector(norm.weight), norm.epsilon));
        for row in 0..self.input.rows() {
            let addend = projected.row_mut(row);
            if let Some((weight, epsilon)) = &post_norm {
                normalise(addend, weight, *epsilon);
            }
            for (hidden, addend) in self.buffers.hidden.row_mut(row).iter_mut().zip(&*addend) {
                *hidden += addend;
            }
        }
    }

    fn norm_gated_linear(&mut self, step: &NormGatedLinear) {
        let normed = self.normed_hidden(&step.norm);
        let gate = self.project(&step.gate, &normed, self.input.rows());
        let up = self.project(&step.up, &normed, self.input.rows());
        for row in 0..self.input.rows() {
            let gated = self.buffers.gated.row_mut(row).iter_mut();
            for (gated, (gate, up)) in gated.zip(gate.row(row).iter().zip(up.row(row))) {
                *gated = activated(*gate, step.activation) * up;
            }
        }
    }

    fn select(&mut self) {
        for (selected, row) in self.input.logit_rows.iter().enumerate() {
            let hidden = self.buffers.hidden.row(*row as usize);
            self.buffers.selected.row_mut(selected).copy_from_slice(hidden);
        }
    }

    fn norm(&mut self, norm: &Norm) {
        let weight = self.vector(norm.weight);
        for selected in 0..self.input.logit_rows.len() {
            normalise(self.buffers.selected.row_mut(selected), &weight, norm.epsilon);
        }
    }

    fn head(&mut self, step: &Head) {
        let rows = self.input.logit_rows.len();
        let projected = self.project(&step.projection, self.buffers.get(Buffer::Selected), rows);
        for row in 0..rows {
            for (logit, projected) in self.buffers.logits.row_mut(row).iter_mut().zip(projected.row(row)) {
                *logit = step.soft_cap.map_or(*projected, |cap| soft_capped(*projected, cap));
            }
        }
    }

    fn normed_hidden(&self, norm: &Norm) -> Rows {
        let weight = self.vector(norm.weight);
        let mut normed = Rows::new(self.input.rows(), self.buffers.hidden.width);
        for row in 0..self.input.rows() {
            normed.row_mut(row).copy_from_slice(self.buffers.hidden.row(row));
            normalise(normed.row_mut(row), &weight, norm.epsilon);
        }
        normed
    }

    /// Output `o` of each row is the dot product of weight row `o` with that row, plus the bias: (rows, outputs).
    fn project(&self, projection: &Projection, inputs: &Rows, rows: usize) -> Rows {
        let matrix = self.matrix(projection.weight);
        let bias = projection.bias.map(|slot| self.vector(slot));
        let mut outputs = Rows::new(rows, projection.outputs);
        let mut weight_row = vec![0.0; matrix.spec.columns];
        for output in 0..projection.outputs {
            matrix.decode_row(output, &mut weight_row);
            let bias = bias.as_ref().map_or(0.0, |bias| bias[output]);
            for row in 0..rows {
                outputs.row_mut(row)[output] = dot(&weight_row, &inputs.row(row)[..weight_row.len()]) + bias;
            }
        }
        outputs
    }

    fn vector(&self, slot: Slot) -> Vec<f32> {
        let matrix = self.matrix(slot);
        let mut values = vec![0.0; matrix.spec.columns];
        matrix.decode_row(0, &mut values);
        values
    }

    fn matrix(&self, slot: Slot) -> Matrix<'a> {
        let index = self.unit.weights[slot.0 as usize];
        let bytes = self.weights[index.0 as usize].as_ref().expect("uploads were checked before the pass");
        Matrix { spec: self.program.tensor(index), bytes }
    }
}

/// A stored weight.
#[derive(Debug)]
struct Matrix<'a> {
    spec: &'a TensorSpec,
    bytes: &'a [u8],
}

impl Matrix<'_> {
    fn decode_row(&self, row: usize, values: &mut [f32]) {
        let codec = self.spec.format.codec().expect("formats were checked when the program was compiled");
        let row_bytes = self.spec.row_bytes();
        (codec.decode)(&self.bytes[row * row_bytes..][..row_bytes], values);
    }
}

/// Sum of products. Eight sums that do not wait for each other let the compiler use vector registers.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (left_eights, left_rest) = left.as_chunks::<8>();
    let (right_eights, right_rest) = right.as_chunks::<8>();
    for (left, right) in left_eights.iter().zip(right_eights) {
        for lane in 0..8 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (b + f)) + ((c + g) + (d + h)) + rest
}

/// RMSNorm in place.
pub(super) fn normalise(values: &mut [f32], weight: &[f32], epsilon: f32) {
    let mean_square = dot(values, values) / values.len() as f32;
    let scale = 1.0 / (mean_square + epsilon).sqrt();
    for (value, weight) in values.iter_mut().zip(weight) {
        *value *= scale * weight;
    }
}

/// Rotates the pairs of one head by `position × frequency`. Angles are `f64`: at position 10⁵ an `f32` is off by 10⁻².
pub(super) fn rotate(head: &mut [f32], position: u32, rope: &RopeTable) {
    let pairs = rope.frequencies.len();
    for (pair, frequency) in rope.frequencies.iter().enumerate() {
        let (sine, cosine) = (f64::from(position) * frequency).sin_cos();
        let (sine, cosine) = (sine as f32 * rope.magnitude, cosine as f32 * rope.magnitude);
        let (first, second) = match rope.kind {
            RopeKind::Half => (pair, pair + pairs),
            RopeKind::Interleaved => (2 * pair, 2 * pair + 1),
        };
        let (x, y) = (head[first], head[second]);
        head[first] = x * cosine - y * sine;
        head[second] = x * sine + y * cosine;
    }
}

/// Exponentials that sum to 1. The largest score is subtracted first, so that none overflows.
pub(super) fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

pub(super) fn activated(gate: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Silu => gate / (1.0 + (-gate).exp()),
        Activation::GeluTanh => {
            0.5 * gate * (1.0 + ((2.0 / PI).sqrt() * (gate + 0.044_715 * gate * gate * gate)).tanh())
        }
    }
}

pub(super) fn soft_capped(value: f32, cap: f32) -> f32 {
    cap * (value / cap).tanh()
}
