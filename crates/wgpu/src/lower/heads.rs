//! Rotation, storage and attention as dispatches.

use program::{Attention, BackendError, Buffer, KvFormat, Norm, RopeStore, Step};

use super::{Form, Grid, Lowering, NONE, Place, UnitDispatches, When, hands_on_attention, whole};
use crate::buffers::{MATRIX_TILE_ROWS, SPLITS_MAX};
use crate::planes::UNIT;
use crate::shader::{
    ATTENTION_MERGE, ATTENTION_ROWS, ATTENTION_ROWS_SPLIT, ATTENTION_TILES, Binding, ROPE_STORE, Source,
};

impl Lowering<'_> {
    pub(super) fn rope_store(
        &mut self,
        place: &Place<'_>,
        step: &RopeStore,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let attends = matches!(place.after, Some((_, Step::Attention(_))));
        for many in [false, true] {
            let mut files = vec!["pass.wgsl", "heads.wgsl", "rope_store.wgsl"];
            files.extend_from_slice(self.kv_files("store"));
            let source = self.heads("rope_store", ROPE_STORE, &files, place, (step, None));
            let (b, rope, pages) = (self.buffers, self.kv.rope(&step.rope), self.kv.pages(place.layer()));
            let vectors = self.weights.vectors(place.number);
            let buffers = [whole(&b.pass), vectors, whole(rope), whole(&b.qkv), whole(pages)];
            let heads = (step.heads + 2 * step.kv_heads) as u32;
            let mut dispatch = self.dispatch(place.name, source, &[], &buffers, Grid::PerRow(heads));
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
        let form = if hands_on_attention(place, step) { self.form_after(place) } else { Form::Nothing };
        let encode = ["pass.wgsl", "heads.wgsl", "encode.wgsl", "hand_on_head.wgsl"];
        let b = self.buffers;
        let coded = &b.few(Buffer::Attention).buffer;
        let (rope, pages) = (self.kv.rope(&store.rope), self.kv.pages(place.layer()));
        let vectors = self.weights.vectors(place.number);
        let octets = store.head_width / 8;
        let (least, most) = self.gpu.info.subgroup;
        let shuffles = octets.is_power_of_two() && octets <= least as usize;
        let joined = if shuffles && least == most { least as usize / octets } else { 1 };
        let variants = [
            (When::Apart { split: false }, true, false),
            (When::Apart { split: true }, true, true),
            (When::Together { split: false }, false, false),
            (When::Together { split: true }, false, true),
        ];
        for (when, stores, split) in variants {
            let (bindings, mut files) = if split {
                (ATTENTION_ROWS_SPLIT, vec!["pass.wgsl", "heads.wgsl", "attention_rows.wgsl", "finish_split.wgsl"])
            } else {
                (ATTENTION_ROWS, [&encode[..], &["attention_rows.wgsl", "finish_head.wgsl"]].concat())
            };
            files.extend_from_slice(self.kv_files("own"));
            let source = self
                .heads("attention", bindings, &files, place, (store, Some(step)))
                .flag("STORES", stores)
                .flag("SPLIT", split)
                .flag("SHUFFLES", shuffles)
                .flag("ACROSS", self.across())
                .count("JOINED", joined)
                .count("OUTPUT", form as usize);
            let mut buffers = vec![whole(&b.pass), vectors.clone(), whole(rope), whole(&b.qkv), whole(pages)];
            if split {
                buffers.push(whole(&b.partials));
            } else {
                buffers.extend([whole(&b.attention), whole(coded)]);
            }
            let heads = step.heads as u32;
            let mut dispatch = self.dispatch(place.name, source, &[], &buffers, Grid::PerSplit(heads));
            dispatch.when = when;
            out.few.push(dispatch);
        }
        let files = [&encode[..], &["attention_merge.wgsl"]].concat();
        let source = self
            .heads("attention_merge", ATTENTION_MERGE, &files, place, (store, Some(step)))
            .count("SPLITS_MAX", SPLITS_MAX)
            .flag("ACROSS", self.across())
            .count("OUTPUT", form as usize);
        let buffers = [whole(&b.pass), whole(&b.attention), whole(coded), whole(&b.partials)];
        let mut merge = self.dispatch(place.name, source, &[], &buffers, Grid::PerRow(step.heads as u32));
        merge.when = When::Split;
        out.few.push(merge);
        self.attention_tiles(place, (store, step), out);
        Ok(())
    }

    /// Attention of many rows.
    fn attention_tiles(
        &mut self,
        place: &Place<'_>,
        (store, step): (&RopeStore, &Attention),
        out: &mut UnitDispatches,
    ) {
        let (b, rope, pages) = (self.buffers, self.kv.rope(&store.rope), self.kv.pages(place.layer()));
        let vectors = self.weights.vectors(place.number);
        let matrix_units = self.buffers.tile_rows == MATRIX_TILE_ROWS;
        let (file, use_of_kv) =
            if matrix_units { ("attention_matrix_units.wgsl", "tile") } else { ("attention_tiles.wgsl", "read") };
        let mut files = vec!["pass.wgsl", "heads.wgsl", file];
        files.extend_from_slice(self.kv_files(use_of_kv));
        let mut source = self.heads("attention_tiles", ATTENTION_TILES, &files, place, (store, Some(step)));
        if matrix_units {
            source = source.matrix_units();
        }
        let buffers =
            [whole(&b.pass), vectors, whole(rope), whole(&b.qkv), whole(pages), whole(&b.attention), whole(&b.tiles)];
        let tiles = self.dispatch(place.name, source, &[], &buffers, Grid::PerTile(step.heads as u32));
        out.many.push(tiles);
    }

    /// Files for keys and values in their format: to store them, to read them as octets, the same with the row's own, or to
    /// load them as tiles.
    fn kv_files(&self, use_of_kv: &str) -> &'static [&'static str] {
        match (self.kv.format == KvFormat::Q8_0, use_of_kv) {
            (false, "store") => &["store_halves.wgsl"],
            (false, "own") => &["kv_halves.wgsl", "own_halves.wgsl"],
            (false, "tile") => &["tile_halves.wgsl"],
            (false, _) => &["kv_halves.wgsl"],
            (true, "store") => &["quantised.wgsl", "store_codes.wgsl"],
            (true, "own") => &["quantised.wgsl", "kv_codes.wgsl", "own_codes.wgsl"],
            (true, "tile") => &["kv_codes.wgsl", "tile_codes.wgsl"],
            (true, _) => &["kv_codes.wgsl"],
        }
    }

    /// A kernel with the constants of `heads.wgsl`.
    fn heads(
        &self,
        name: &str,
        bindings: &'static [Binding],
        files: &[&'static str],
        place: &Place<'_>,
        (store, attention): (&RopeStore, Option<&Attention>),
    ) -> Source {
        // Norms belong to the step that rotates, which is of the same unit.
        let norm = |norm: &Option<Norm>| {
            norm.as_ref().map_or((NONE, 0.0), |norm| (self.vector(place, norm.weight), norm.epsilon))
        };
        let ((query_norm, query_epsilon), (key_norm, key_epsilon)) = (norm(&store.query_norm), norm(&store.key_norm));
        let starts = self.kv.starts(place.layer());
        let counts = [
            ("ROWS_MAX", self.rows_max as u32),
            ("LOGIT_ROWS_MAX", self.logit_rows_max as u32),
            ("HEADS", store.heads as u32),
            ("KV_HEADS", store.kv_heads as u32),
            ("WIDTH", store.head_width as u32),
            ("PAIRS", store.rope.frequencies.len() as u32),
            ("STRIDE", self.program.sizes.qkv as u32),
            ("QUERY_NORM", query_norm),
            ("KEY_NORM", key_norm),
            ("PASS_WORDS", (self.buffers.pass.size() / 4) as u32),
            ("PAGES", self.kv.page_count as u32),
            ("VALUES", starts.values),
            ("SCALES", starts.scales[0]),
            ("VALUE_SCALES", starts.scales[1]),
            ("WINDOW", attention.and_then(|attention| attention.window).unwrap_or(0)),
            ("UNITS", (store.heads * store.head_width).div_ceil(UNIT) as u32),
            ("OUTPUT_STRIDE", self.program.sizes.attention as u32),
        ];
        Source::new(name, bindings, files)
            .counts(&counts)
            .number("QUERY_EPSILON", query_epsilon)
            .number("KEY_EPSILON", key_epsilon)
            .number("SCALE", attention.map_or(1.0, |attention| attention.scale))
            .number("SOFT_CAP", attention.and_then(|attention| attention.soft_cap).unwrap_or(0.0))
            .flag("INTERLEAVED", store.rope.kind == program::RopeKind::Interleaved)
    }
}
