//! Rotation, storage and attention as dispatches.

use program::{Attention, BackendError, Buffer, Norm, RopeStore, Step};

use super::{Form, Grid, Lowering, NONE, Place, UnitDispatches, When, hands_on_attention, index};
use crate::buffers::{MATRIX_TILE_ROWS, parameters};
use crate::planes::UNIT;
use crate::shader::{ATTENTION_MERGE, ATTENTION_ROWS, ATTENTION_TILES, ROPE_STORE, Source};

impl Lowering<'_> {
    pub(super) fn rope_store(
        &mut self,
        place: &Place<'_>,
        step: &RopeStore,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let attends = matches!(place.after, Some((_, Step::Attention(_))));
        for many in [false, true] {
            let params = parameters(self.gpu, &self.heads(place, step, None))?;
            let source =
                heads_source("rope_store", ROPE_STORE, &["pass.wgsl", "heads.wgsl", "rope_store.wgsl"], step, self);
            let b = self.buffers;
            let buffers =
                [&b.pass, &params, &self.weights.vectors, self.kv.rope(&step.rope), &b.qkv, self.kv.pages(place.layer)];
            let heads = (step.heads + 2 * step.kv_heads) as u32;
            let mut dispatch = self.dispatch(place.name, source, &buffers, Grid::PerRow(heads));
            if !many && attends {
                dispatch.when = When::Shared;
            }
            if many { out.many.push(dispatch) } else { out.few.push(dispatch) }
        }
        Ok(())
    }

    pub(super) fn attention(
        &mut self,
        place: &Place<'_>,
        step: &Attention,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let Some((_, Step::RopeStore(store))) = place.before else {
            return Err(self.unsupported(place, "attention without a rotation before it"));
        };
        let params = parameters(self.gpu, &self.heads(place, store, Some(step)))?;
        let form = if hands_on_attention(place, step) { self.form_after(place) } else { Form::Nothing };
        let encode = ["pass.wgsl", "heads.wgsl", "encode.wgsl"];
        let b = self.buffers;
        let coded = &b.few(Buffer::Attention).buffer;
        let (rope, pages) = (self.kv.rope(&store.rope), self.kv.pages(place.layer));
        let variants = [
            (When::Apart { split: false }, true, false),
            (When::Apart { split: true }, true, true),
            (When::Together { split: false }, false, false),
            (When::Together { split: true }, false, true),
        ];
        for (when, stores, split) in variants {
            let files = [&encode[..], &["attention_rows.wgsl"]].concat();
            let source = heads_source("attention", ATTENTION_ROWS, &files, store, self)
                .flag("STORES", stores)
                .flag("SPLIT", split)
                .count("OUTPUT", form as usize);
            let buffers =
                [&b.pass, &params, &self.weights.vectors, rope, &b.qkv, pages, &b.attention, coded, &b.partials];
            let heads = step.heads as u32;
            let mut dispatch = self.dispatch(place.name, source, &buffers, Grid::PerSplit(heads));
            dispatch.when = when;
            out.few.push(dispatch);
        }
        let files = [&encode[..], &["attention_merge.wgsl"]].concat();
        let source =
            heads_source("attention_merge", ATTENTION_MERGE, &files, store, self).count("OUTPUT", form as usize);
        let buffers = [&b.pass, &params, &b.attention, coded, &b.partials];
        let mut merge = self.dispatch(place.name, source, &buffers, Grid::PerRow(step.heads as u32));
        merge.when = When::Split;
        out.few.push(merge);

        let matrix_units = self.buffers.tile_rows == MATRIX_TILE_ROWS;
        let file = if matrix_units { "attention_matrix_units.wgsl" } else { "attention_tiles.wgsl" };
        let mut source =
            heads_source("attention_tiles", ATTENTION_TILES, &["pass.wgsl", "heads.wgsl", file], store, self);
        if matrix_units {
            source = source.matrix_units();
        }
        let buffers = [&b.pass, &params, &self.weights.vectors, rope, &b.qkv, pages, &b.attention, &b.tiles];
        let tiles = self.dispatch(place.name, source, &buffers, Grid::PerTile(step.heads as u32));
        out.many.push(tiles);
        Ok(())
    }

    /// Parameters of `heads.wgsl`.
    pub(super) fn heads(&self, place: &Place<'_>, store: &RopeStore, attention: Option<&Attention>) -> [u32; 12] {
        // The attention of a layer may have another unit's slots; norms belong to the step that rotates.
        let norm = |norm: &Option<Norm>| {
            norm.as_ref()
                .map_or((NONE, 0.0), |norm| (self.weights.vector(index(place.unit, norm.weight)), norm.epsilon))
        };
        let ((query_norm, query_epsilon), (key_norm, key_epsilon)) = (norm(&store.query_norm), norm(&store.key_norm));
        let units = (store.heads * store.head_width).div_ceil(UNIT);
        [
            self.program.sizes.qkv as u32,
            query_norm,
            key_norm,
            query_epsilon.to_bits(),
            key_epsilon.to_bits(),
            self.kv.values_start(place.layer),
            attention.and_then(|attention| attention.window).unwrap_or(0),
            attention.map_or(1.0, |attention| attention.scale).to_bits(),
            attention.and_then(|attention| attention.soft_cap).unwrap_or(0.0).to_bits(),
            units as u32,
            self.program.sizes.attention as u32,
            0,
        ]
    }
}

fn heads_source(
    name: &str,
    bindings: &'static [crate::shader::Binding],
    files: &[&'static str],
    store: &RopeStore,
    lowering: &Lowering<'_>,
) -> Source {
    Source::new(name, bindings, files)
        .count("ROWS_MAX", lowering.rows_max)
        .count("LOGIT_ROWS_MAX", lowering.logit_rows_max)
        .count("HEADS", store.heads)
        .count("KV_HEADS", store.kv_heads)
        .count("WIDTH", store.head_width)
        .count("PAIRS", store.rope.frequencies.len())
        .flag("INTERLEAVED", store.rope.kind == program::RopeKind::Interleaved)
}
