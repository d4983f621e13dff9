//! The lookup of tokens, which with few rows also makes the first product's inputs, and with a row that goes on by itself
//! follows the choice of its token in one dispatch.

use program::{BackendError, Buffer, Embed, Step, Unit};

use super::kernels::{NormUse, Prepared};
use super::{Dispatch, Grid, Lowering, NONE, Place, UnitDispatches, handed_on, index, norm_of, whole};
use crate::chain::ChoiceBuffers;
use crate::pass::next_pass_counts;
use crate::shader::{CHOOSE_AND_EMBED, EMBED, EMBED_AND_PREPARE, Source};
use crate::weights::{Part, group_of};

/// Files of kernels that embed a row and make the first product's inputs of it.
const EMBEDDING: [&str; 6] =
    ["common.wgsl", "one_matrix.wgsl", "look_up.wgsl", "embedded.wgsl", "prepared.wgsl", "encode.wgsl"];

impl Lowering<'_> {
    pub(super) fn embed(
        &mut self,
        place: &Place<'_>,
        step: &Embed,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let group = self.weights.group(&group_of(place.unit, place.step));
        for part in &group.parts {
            let few = if self.embeds_inputs(Some((place.unit, place.step)), place.after) {
                let files = [&EMBEDDING[..], &["embed_and_prepare.wgsl"]].concat();
                let source = Source::new("embed and prepare", EMBED_AND_PREPARE, &files);
                self.embed_inputs(place, step, part, (source, &[whole(&self.buffers.pass)]), Grid::Rows)
            } else {
                self.embed_rows(place, step, part)
            };
            out.few.push(few);
            let many = self.embed_rows(place, step, part);
            out.many.push(many);
        }
        Ok(())
    }

    /// Chooses the token of a row that goes on by itself and embeds it, where that makes the whole prologue.
    pub(super) fn choose_and_embed(&mut self, place: &Place<'_>, choices: &ChoiceBuffers) -> Option<Dispatch> {
        let Step::Embed(step) = place.step else { return None };
        let whole_prologue = self.program.template(place.unit).steps.len() == 1;
        if !whole_prologue || !self.embeds_inputs(Some((place.unit, place.step)), place.after) {
            return None;
        }
        let group = self.weights.group(&group_of(place.unit, place.step));
        let choosing = ["largest.wgsl", "next_pass.wgsl", "choose.wgsl", "choose_and_embed.wgsl"];
        let source = Source::new("choose and embed", CHOOSE_AND_EMBED, &[&EMBEDDING[..], &choosing].concat())
            .counts(&next_pass_counts(self.rows_max));
        let buffers = [&self.buffers.pass, &choices.best, &choices.chosen].map(whole);
        Some(self.embed_inputs(place, step, &group.parts[0], (source, &buffers), Grid::Fixed(1)))
    }

    /// Whether the step before writes the inputs of this one, which has a norm, with few rows.
    pub(super) fn has_inputs(&self, place: &Place<'_>) -> bool {
        let own = Some((place.unit, place.step));
        handed_on(self.program, place.before, own) || self.embeds_inputs(place.before, own)
    }

    /// Whether the first of two steps is a lookup that writes the second's inputs too. A table in several parts has several
    /// dispatches, which would each have to know whether the row is theirs.
    fn embeds_inputs(&self, first: Option<(&Unit, &Step)>, second: Option<(&Unit, &Step)>) -> bool {
        let (Some((unit, step @ Step::Embed(_))), Some((_, second))) = (first, second) else { return false };
        norm_of(second).is_some() && self.weights.group(&group_of(unit, step)).parts.len() == 1
    }

    fn embed_rows(&mut self, place: &Place<'_>, step: &Embed, part: &Part) -> Dispatch {
        let files = ["common.wgsl", "one_matrix.wgsl", "look_up.wgsl", "embed.wgsl"];
        let source = Source::new("embed", EMBED, &files).formats(&[part.matrices[0].layout]);
        let b = self.buffers;
        let buffers = [&part.buffer, &b.pass, &b.hidden].map(whole);
        let words = self.embedding_words(place, step, part);
        self.dispatch(place.name, source, &words, &buffers, Grid::Rows)
    }

    /// A kernel with [`EMBEDDING`], with the buffers that it has beside those of these files.
    fn embed_inputs(
        &mut self,
        place: &Place<'_>,
        step: &Embed,
        part: &Part,
        (source, buffers): (Source, &[wgpu::BufferBinding<'_>]),
        grid: Grid,
    ) -> Dispatch {
        let (unit, after) = place.after.expect("inputs are some step's");
        let norm = norm_of(after).expect("inputs are those of a step with a norm");
        let start = self.weights.vector(place.number, (place.number_after, index(unit, norm.weight)));
        let hidden = self.program.sizes.hidden;
        let few = self.buffers.few(Buffer::Hidden);
        let inputs = Prepared {
            form: self.form(unit, after),
            norm: Some((start, norm.epsilon, NormUse::Weights)),
            width: hidden,
            stride: hidden,
            sums: few.sums,
            sum_count: few.sum_count,
            keeps: false,
        };
        let source = self.prepared(source.formats(&[part.matrices[0].layout]), &inputs);
        let b = self.buffers;
        let own = [whole(&part.buffer), self.weights.vectors(place.number), whole(&b.hidden), whole(&few.buffer)];
        let buffers = [&own[..], &[whole(&b.nothing)], buffers].concat();
        let words = self.embedding_words(place, step, part);
        self.dispatch(place.name, source, &words, &buffers, grid)
    }

    fn embedding_words(&self, place: &Place<'_>, step: &Embed, part: &Part) -> Vec<u32> {
        let spec = self.program.weight(place.unit, step.table);
        let mut words = self.product(spec.columns, self.program.sizes.hidden);
        words.matrix(0, part, 0, part.matrices[0].rows.start, NONE, 0);
        words.factor = step.scale;
        words.one_matrix()
    }
}
