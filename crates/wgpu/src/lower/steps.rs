//! Steps with weight matrices as dispatches, and the selection before the last of them.

use program::{Activation, BackendError, Buffer, Head, LinearAdd, Norm, NormGatedLinear, NormLinear, Projection, Step};

use super::kernels::{MATRICES, Matvec, Mode, NormUse};
use super::{
    Dispatch, Form, Grid, Lowering, Place, UnitDispatches, When, feeds, handed_on, head_fed, index, norm_of, offset,
    whole,
};
use crate::buffers::BLOCK;
use crate::planes::UNIT;
use crate::shader::{ADD_NORMED, Source};
use crate::weights::group_of;

/// Outputs that are also written as inputs of a product.
struct HandedOn {
    /// Where the weights of the norm start that they go through.
    norm: u32,
    form: Form,
    /// Whose few rows they are.
    inputs: Buffer,
}

impl Lowering<'_> {
    pub(super) fn norm_linear(
        &mut self,
        place: &Place<'_>,
        step: &NormLinear,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let width = self.program.sizes.hidden;
        if !self.has_inputs(place) {
            let form = self.form(place.unit, place.step);
            let prepare = self.prepare(place, form, Buffer::Hidden, Some((&step.norm, NormUse::Weights)), width)?;
            out.few.push(prepare);
        }
        let group = self.weights.group(&group_of(place.unit, place.step));
        let outputs = step.projections.iter().scan(0, |end, projection| {
            let start = *end;
            *end += projection.outputs;
            Some(start)
        });
        let projections: Vec<(usize, &Projection, usize)> =
            step.projections.iter().zip(outputs).enumerate().map(|(index, (p, output))| (index, p, output)).collect();
        for part in &group.parts {
            for few in projections.chunks(MATRICES) {
                let mut words = self.product(width, self.program.sizes.qkv);
                words.read_norm(&step.norm, self.buffers.few(Buffer::Hidden), width);
                let mut groups = 0;
                for (at, (index, projection, output)) in few.iter().enumerate() {
                    let start = part.matrices[*index].rows.start;
                    let bias = self.bias(place, projection);
                    words.matrix(at, part, *index, output + start, offset(bias, start), groups);
                    groups += part.matrices[*index].rows.len().div_ceil(BLOCK);
                }
                words.no_matrix_from(few.len());
                let kernel = Matvec { mode: Mode::Store, parts: 1, next: Form::Nothing, head: false };
                let io = (Buffer::Hidden, &self.buffers.qkv, None);
                let matrices = few[0].0..few[0].0 + few.len();
                out.few.push(self.matvec(place, &kernel, (part, matrices), &words, io, groups)?);
            }
        }

        out.many.push(self.prepare_many(
            place,
            Buffer::Hidden,
            Some(&step.norm),
            width,
            self.form_of_many(place.unit, place.step),
        )?);
        for (index, projection, output) in projections {
            for part in &group.parts {
                let start = part.matrices[index].rows.start;
                let mut words = self.product(width, self.program.sizes.qkv);
                words.matrix(0, part, index, output + start, offset(self.bias(place, projection), start), 0);
                out.many.push(self.gemm(place, part, index, &words, Mode::Store, &self.buffers.qkv, false)?);
            }
        }
        Ok(())
    }

    pub(super) fn linear_add(
        &mut self,
        place: &Place<'_>,
        step: &LinearAdd,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let spec = self.program.weight(place.unit, step.projection.weight);
        let (inputs, hidden) = (spec.columns, self.program.sizes.hidden);
        if !feeds(place.before, step) {
            let form = self.form(place.unit, place.step);
            out.few.push(self.prepare(place, form, step.input, None, inputs)?);
        }
        let next = self.hands_on(place);
        let group = self.weights.group(&group_of(place.unit, place.step));
        let bias = self.bias(place, &step.projection);
        let (mode, output) = match &step.post_norm {
            None => (Mode::Add, &self.buffers.hidden),
            Some(_) => (Mode::Store, &self.buffers.projected),
        };
        for part in &group.parts {
            let piece = &part.matrices[0];
            let mut words = self.product(inputs, hidden);
            words.matrix(0, part, 0, piece.rows.start, offset(bias, piece.rows.start), 0);
            words.no_matrix_from(1);
            if let Some(next) = &next {
                words.hand_on(next.norm, self.buffers.few(next.inputs));
            }
            let form = next.as_ref().map_or(Form::Nothing, |next| next.form);
            let kernel = Matvec { mode, parts: 1, next: form, head: false };
            let coded = next.as_ref().map(|next| &self.buffers.few(next.inputs).buffer);
            let groups = piece.rows.len().div_ceil(BLOCK);
            out.few.push(self.matvec(place, &kernel, (part, 0..1), &words, (step.input, output, coded), groups)?);
        }
        out.many.push(self.prepare_many(place, step.input, None, inputs, self.form_of_many(place.unit, place.step))?);
        for part in &group.parts {
            let piece = &part.matrices[0];
            let mut words = self.product(inputs, hidden);
            words.matrix(0, part, 0, piece.rows.start, offset(bias, piece.rows.start), 0);
            out.many.push(self.gemm(place, part, 0, &words, mode, output, false)?);
        }
        if let Some(norm) = &step.post_norm {
            for many in [false, true] {
                let source = Source::new("add_normed", ADD_NORMED, &["add_normed.wgsl"])
                    .counts(&[("WIDTH", hidden as u32), ("NORM_START", self.vector(place, norm.weight))])
                    .number("EPSILON", norm.epsilon);
                let b = self.buffers;
                let buffers = [self.weights.vectors(place.number), whole(&b.projected), whole(&b.hidden)];
                let dispatch = self.dispatch(place.name, source, &[], &buffers, Grid::Rows);
                if many { out.many.push(dispatch) } else { out.few.push(dispatch) }
            }
        }
        Ok(())
    }

    /// What the outputs of a product that adds to the residual stream become along with it.
    fn hands_on(&self, place: &Place<'_>) -> Option<HandedOn> {
        let (unit, number, norm, form, inputs) = match (place.after?, head_fed(self.program)) {
            ((_, Step::Select), Some((unit, norm, head))) => {
                (unit, place.number_after, norm, self.form(unit, head), Buffer::Selected)
            }
            (after, _) if handed_on(self.program, Some((place.unit, place.step)), Some(after)) => {
                (after.0, place.number_after, norm_of(after.1)?, self.form_after(place), Buffer::Hidden)
            }
            _ => return None,
        };
        let norm = self.weights.vector(place.number, (number, index(unit, norm.weight)));
        Some(HandedOn { norm, form, inputs })
    }

    pub(super) fn norm_gated_linear(
        &mut self,
        place: &Place<'_>,
        step: &NormGatedLinear,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let (hidden, gated) = (self.program.sizes.hidden, self.program.sizes.gated);
        if !self.has_inputs(place) {
            let form = self.form(place.unit, place.step);
            out.few.push(self.prepare(place, form, Buffer::Hidden, Some((&step.norm, NormUse::Weights)), hidden)?);
        }
        let next = match place.after {
            Some((_, Step::LinearAdd(after))) if feeds(Some((place.unit, place.step)), after) => self.form_after(place),
            _ => Form::Nothing,
        };
        let group = self.weights.group(&group_of(place.unit, place.step));
        let (gate_bias, up_bias) = (self.bias(place, &step.gate), self.bias(place, &step.up));
        for part in &group.parts {
            let rows = part.matrices[0].rows.clone();
            let mut words = self.product(hidden, gated);
            words.read_norm(&step.norm, self.buffers.few(Buffer::Hidden), hidden);
            words.matrix(0, part, 0, rows.start, offset(gate_bias, rows.start), 0);
            words.matrix(1, part, 1, rows.start, offset(up_bias, rows.start), 0);
            words.no_matrix_from(2);
            words.next_units = (step.gate.outputs.div_ceil(UNIT)) as u32;
            let mode = match step.activation {
                Activation::Silu => Mode::GateSilu,
                Activation::GeluTanh => Mode::GateGelu,
            };
            let kernel = Matvec { mode, parts: 2, next, head: false };
            let coded = (next != Form::Nothing).then_some(&self.buffers.few(Buffer::Gated).buffer);
            let io = (Buffer::Hidden, &self.buffers.gated, coded);
            let groups = rows.len().div_ceil(BLOCK);
            out.few.push(self.matvec(place, &kernel, (part, 0..part.matrices.len()), &words, io, groups)?);
        }
        out.many.push(self.prepare_many(
            place,
            Buffer::Hidden,
            Some(&step.norm),
            hidden,
            self.form_of_many(place.unit, place.step),
        )?);
        let gate = match step.activation {
            Activation::Silu => Mode::GateSilu,
            Activation::GeluTanh => Mode::GateGelu,
        };
        for (which, bias, mode) in [(0, gate_bias, Mode::Store), (1, up_bias, gate)] {
            for part in &group.parts {
                let start = part.matrices[which].rows.start;
                let mut words = self.product(hidden, gated);
                words.matrix(0, part, which, start, offset(bias, start), 0);
                out.many.push(self.gemm(place, part, which, &words, mode, &self.buffers.gated, false)?);
            }
        }
        Ok(())
    }

    /// Gathers the rows that want logits and norms them; few of them in the form that the head reads.
    pub(super) fn select_norm(
        &mut self,
        place: &Place<'_>,
        step: &Norm,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        if !matches!(place.before, Some((_, Step::Select))) {
            return Err(self.unsupported(place, "a norm that is not after a selection"));
        }
        let width = self.program.sizes.hidden;
        let norm = Some((step, NormUse::Whole));
        let form = if matches!(place.after, Some((_, Step::Head(_)))) { self.form_after(place) } else { Form::Floats };
        let when = if head_fed(self.program).is_some() { When::NotSingle } else { When::Always };
        let few = self.prepare(place, form, Buffer::Selected, norm, width)?;
        out.few.push(Dispatch { when, ..few });
        let form = match place.after {
            Some((unit, head @ Step::Head(_))) => self.form_of_many(unit, head),
            _ => Form::Floats,
        };
        let many = self.prepare_many(place, Buffer::Selected, Some(step), width, form)?;
        out.many.push(many);
        Ok(())
    }

    pub(super) fn head(
        &mut self,
        place: &Place<'_>,
        step: &Head,
        out: &mut UnitDispatches,
    ) -> Result<(), BackendError> {
        let sizes = self.program.sizes;
        let group = self.weights.group(&group_of(place.unit, place.step));
        let bias = self.bias(place, &step.projection);
        for part in &group.parts {
            let start = part.matrices[0].rows.start;
            let mut words = self.product(sizes.hidden, sizes.vocabulary);
            words.matrix(0, part, 0, start, offset(bias, start), 0);
            words.no_matrix_from(1);
            words.factor = step.soft_cap.unwrap_or(0.0);
            let kernel = Matvec { mode: Mode::Store, parts: 1, next: Form::Nothing, head: true };
            let io = (Buffer::Selected, &self.buffers.logits, None);
            let groups = part.matrices[0].rows.len().div_ceil(BLOCK);
            let matrices = 0..part.matrices.len();
            let few = self.matvec(place, &kernel, (part, matrices.clone()), &words, io, groups)?;
            let fed = head_fed(self.program);
            let when = if fed.is_some() { When::NotSingle } else { When::Always };
            out.few.push(Dispatch { when, ..few });
            if let Some((_, norm, _)) = fed {
                let mut words = words.clone();
                words.read_norm(norm, self.buffers.few(Buffer::Selected), sizes.hidden);
                let few = self.matvec(place, &kernel, (part, matrices), &words, io, groups)?;
                out.few.push(Dispatch { when: When::Single, ..few });
            }
            out.many.push(self.gemm(place, part, 0, &words, Mode::Store, &self.buffers.logits, true)?);
        }
        Ok(())
    }
}
