//! Norms and rotates heads of queries and keys, and stores keys and values.

use std::ops::Range;

use program::{Attention, Norm, RopeKind, RopeStore, Unit};

use super::Walk;
use super::panels::Led;

/// The step, and what it needs of its unit.
#[derive(Clone, Copy)]
pub(super) struct Rope<'p> {
    step: &'p RopeStore,
    /// Weights and epsilons.
    query_norm: Option<(&'p [f32], f32)>,
    key_norm: Option<(&'p [f32], f32)>,
    /// Which of the tables of rotations.
    table: usize,
    pub(super) layer: usize,
}

impl Rope<'_> {
    /// Whether the step that follows reads the same heads.
    pub(super) fn is_for(&self, step: &Attention) -> bool {
        (self.step.heads, self.step.kv_heads, self.step.head_width) == (step.heads, step.kv_heads, step.head_width)
    }
}

impl<'p> Walk<'p> {
    pub(super) fn rope(&self, unit: &'p Unit, step: &'p RopeStore, table: usize, layer: usize) -> Rope<'p> {
        let pass = self.pass;
        let norm_of = |norm: &'p Option<Norm>| norm.as_ref().map(|n| (pass.vector(unit, n.weight), n.epsilon));
        let (query_norm, key_norm) = (norm_of(&step.query_norm), norm_of(&step.key_norm));
        Rope { step, query_norm, key_norm, table, layer }
    }

    /// Leads the attention step.
    pub(super) fn rope_store(&mut self, rope: Rope<'_>) -> Led {
        self.lead(
            self.pass.input.rows(),
            // SAFETY: this row was claimed by this thread.
            |walk, row| unsafe { walk.rope_store_heads(rope, row, 0..rope.step.kv_heads) },
            |_, _| {},
        )
    }

    /// The heads of keys and values, with the heads of queries that read them, of one row.
    ///
    /// # Safety
    /// They belong to a claimed chunk, and were written in an earlier phase.
    pub(super) unsafe fn rope_store_heads(&self, rope: Rope<'_>, row: usize, kv_heads: Range<usize>) {
        let exe = self.pass.exe;
        let Rope { step, query_norm, key_norm, table, layer } = rope;
        let (head, group, pairs) = (step.head_width, step.heads / step.kv_heads, step.rope.frequencies.len());
        let first_value = step.heads + step.kv_heads;
        let keys = step.heads + kv_heads.start..step.heads + kv_heads.end;
        let values = first_value + kv_heads.start..first_value + kv_heads.end;
        // SAFETY: the caller's promise; rotations are of an earlier phase. The three parts lie apart.
        let ([queries, keys, values], rotations) = unsafe {
            let qkv = exe.scratch.qkv.part(row * exe.program.sizes.qkv, exe.program.sizes.qkv);
            let heads_of = |heads: Range<usize>| qkv.slice_mut(heads.start * head, heads.len() * head);
            let at = (table * exe.bucket.rows + row) * 2 * exe.rope_pairs;
            let queries = kv_heads.start * group..kv_heads.end * group;
            ([queries, keys, values].map(heads_of), exe.scratch.rotations.slice(at, 2 * exe.rope_pairs))
        };
        let (cosines, sines) = (&rotations[..pairs], &rotations[exe.rope_pairs..][..pairs]);
        for (heads, norm) in [(queries, query_norm), (&mut *keys, key_norm)] {
            for vector in heads.chunks_exact_mut(head) {
                if let Some((weight, epsilon)) = norm {
                    let at = vector.as_mut_ptr();
                    // SAFETY: weight and vector are `head` long, as the program builder checked.
                    unsafe { (exe.kernels.norm)(at, weight.as_ptr(), epsilon, head, at) };
                }
                rotate(vector, step.rope.kind, cosines, sines);
            }
        }
        self.store(row, layer, kv_heads.start, keys, values);
    }
}

/// Rotates the leading `2 × pairs` elements of a head.
fn rotate(vector: &mut [f32], kind: RopeKind, cosines: &[f32], sines: &[f32]) {
    let pairs = cosines.len();
    match kind {
        RopeKind::Half => {
            let (first, second) = vector[..2 * pairs].split_at_mut(pairs);
            for pair in 0..pairs {
                let (x, y) = (first[pair], second[pair]);
                first[pair] = x * cosines[pair] - y * sines[pair];
                second[pair] = x * sines[pair] + y * cosines[pair];
            }
        }
        RopeKind::Interleaved => {
            for (pair, xy) in vector[..2 * pairs].chunks_exact_mut(2).enumerate() {
                let (x, y) = (xy[0], xy[1]);
                xy[0] = x * cosines[pair] - y * sines[pair];
                xy[1] = x * sines[pair] + y * cosines[pair];
            }
        }
    }
}
