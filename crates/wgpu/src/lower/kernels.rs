//! Products and the preparation of their inputs: kernels with their parameters.

use program::{BackendError, Buffer, Norm};

use super::{BLOCK_ROWS, Dispatch, Form, Grid, Lowering, NONE, Place, index};
use crate::buffers::{Few, parameters};
use crate::planes::UNIT;
use crate::shader::{GEMM, GEMM_MATRIX_UNITS, MATVEC, PREPARE, Source};
use crate::weights::Part;

/// Outputs that a workgroup of `matvec.wgsl` makes where no other step reads them in blocks.
pub(super) const FREE_ROWS: usize = 8;

/// Matrices of one `matvec.wgsl`.
pub(super) const MATRICES: usize = 3;

impl Lowering<'_> {
    pub(super) fn product(&self, inputs: usize, output_width: usize) -> ProductWords {
        ProductWords {
            units: inputs.div_ceil(UNIT) as u32,
            output_width: output_width as u32,
            ..ProductWords::default()
        }
    }

    pub(super) fn matvec(
        &mut self,
        place: &Place<'_>,
        kernel: &Matvec,
        (part, matrices): (&Part, std::ops::Range<usize>),
        words: &ProductWords,
        (input, output, coded): (Buffer, &wgpu::Buffer, &wgpu::Buffer),
        groups: usize,
    ) -> Result<Dispatch, BackendError> {
        let form = self.form(place.unit, place.step);
        let params = parameters(self.gpu, &words.words())?;
        let accumulate = if form == Form::Codes { "matvec_codes.wgsl" } else { "matvec_values.wgsl" };
        let layouts: Vec<_> = part.matrices[matrices].iter().map(|piece| piece.layout).collect();
        let files = ["common.wgsl", accumulate, "matvec.wgsl", "encode.wgsl"];
        let source = Source::new(format!("{} with few rows", place.name), MATVEC, &files)
            .batched()
            .count("THREADS", (32 * kernel.group_rows()).min(self.gpu.info.threads_max))
            .count("GROUP_ROWS", kernel.group_rows())
            .count("MODE", kernel.mode as usize)
            .count("OUTPUT", kernel.next as usize)
            .count("PARTS", kernel.parts)
            .flag("HEAD", kernel.head)
            .formats(&layouts);
        let b = self.buffers;
        let inputs = &b.few(input).buffer;
        let buffers = [&part.buffer, &part.buffer, &params, &self.weights.vectors, &b.pass, inputs, output, coded];
        Ok(self.dispatch(place.name, source, &buffers, Grid::Fixed(groups as u32)))
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact about one product")]
    pub(super) fn gemm(
        &mut self,
        place: &Place<'_>,
        part: &Part,
        which: usize,
        words: &ProductWords,
        mode: Mode,
        output: &wgpu::Buffer,
        head: bool,
    ) -> Result<Dispatch, BackendError> {
        let piece = &part.matrices[which];
        let b = self.buffers;
        let outputs = piece.rows.len();
        let name = format!("{} with many rows", place.name);
        if self.form_of_many(place.unit, place.step) == Form::Halves {
            let words = ProductWords { sums: self.row_scales() as u32, ..words.clone() };
            let params = parameters(self.gpu, &words.words())?;
            let source = Source::new(name, GEMM_MATRIX_UNITS, &["common.wgsl", "gemm_matrix_units.wgsl"])
                .matrix_units()
                .count("MODE", mode as usize)
                .flag("HEAD", head)
                .formats(&[piece.layout])
                .fetched(&piece.layout);
            let vectors = &self.weights.vectors;
            let buffers = [&part.buffer, &part.buffer, &params, vectors, &b.pass, &b.many, output, &b.many];
            let groups = outputs.div_ceil(128) as u32;
            let grid = if head { Grid::PerLogitBlock(groups) } else { Grid::PerRowBlock(groups) };
            return Ok(self.dispatch(place.name, source, &buffers, grid));
        }
        let params = parameters(self.gpu, &words.words())?;
        let source = Source::new(name, GEMM, &["common.wgsl", "gemm.wgsl"])
            .count("MODE", mode as usize)
            .flag("HEAD", head)
            .formats(&[piece.layout]);
        let buffers = [&part.buffer, &part.buffer, &params, &self.weights.vectors, &b.pass, &b.many, output];
        let groups = outputs.div_ceil(64) as u32;
        let grid = if head { Grid::PerLogitTile(groups) } else { Grid::PerRowTile(groups) };
        Ok(self.dispatch(place.name, source, &buffers, grid))
    }

    /// Inputs of a product with few rows from `from`; `Selected` is gathered from `Hidden` and kept.
    pub(super) fn prepare(
        &mut self,
        place: &Place<'_>,
        form: Form,
        from: Buffer,
        norm: Option<(&Norm, NormUse)>,
        width: usize,
    ) -> Result<Dispatch, BackendError> {
        let few = self.buffers.few(from);
        let target = (&few.buffer, few.sums, few.sum_count);
        self.prepare_into(place, form, from, norm, width, target)
    }

    pub(super) fn prepare_many(
        &mut self,
        place: &Place<'_>,
        from: Buffer,
        norm: Option<&Norm>,
        width: usize,
        form: Form,
    ) -> Result<Dispatch, BackendError> {
        let norm = norm.map(|norm| (norm, NormUse::Whole));
        self.prepare_into(place, form, from, norm, width, (&self.buffers.many, self.row_scales(), 0))
    }

    /// Word of `many` where the scales of rows of halves start.
    pub(super) fn row_scales(&self) -> usize {
        self.buffers.many_row_scales
    }

    pub(super) fn prepare_into(
        &mut self,
        place: &Place<'_>,
        form: Form,
        from: Buffer,
        norm: Option<(&Norm, NormUse)>,
        width: usize,
        (target, sums, sum_count): (&wgpu::Buffer, usize, usize),
    ) -> Result<Dispatch, BackendError> {
        let gathers = from == Buffer::Selected;
        let source_buffer = if gathers { Buffer::Hidden } else { from };
        let words = [
            width as u32,
            width.div_ceil(UNIT) as u32,
            norm.map_or(NONE, |(norm, _)| self.weights.vector(index(place.unit, norm.weight))),
            norm.map_or(0.0, |(norm, _)| norm.epsilon).to_bits(),
            self.program.buffer_width(source_buffer) as u32,
            sums as u32,
            sum_count as u32,
            0,
        ];
        let params = parameters(self.gpu, &words)?;
        let source = Source::new("prepare", PREPARE, &["pass.wgsl", "prepare.wgsl", "encode.wgsl"])
            .count("ROWS_MAX", self.rows_max)
            .count("LOGIT_ROWS_MAX", self.logit_rows_max)
            .count("OUTPUT", form as usize)
            .count("NORM", norm.map_or(0, |(_, how)| how as usize))
            .flag("GATHER", gathers)
            .flag("KEEP", gathers);
        let b = self.buffers;
        let kept = if gathers { &b.selected } else { &b.nothing };
        let buffers = [&b.pass, &params, &self.weights.vectors, b.get(source_buffer), target, kept];
        let grid = if gathers { Grid::LogitRows } else { Grid::Rows };
        Ok(self.dispatch(place.name, source, &buffers, grid))
    }
}

/// How `prepare.wgsl` uses a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NormUse {
    Weights = 1,
    Whole = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Store = 0,
    Add = 1,
    GatedSilu = 2,
    GatedGelu = 3,
}

pub(super) struct Matvec {
    pub(super) mode: Mode,
    /// Matrices that make one output together.
    pub(super) parts: usize,
    pub(super) next: Form,
    pub(super) head: bool,
}

impl Matvec {
    /// Outputs of a workgroup.
    pub(super) fn group_rows(&self) -> usize {
        if self.next == Form::Nothing { FREE_ROWS } else { BLOCK_ROWS }
    }
}

/// `Params` of `common.wgsl`.
#[derive(Clone, Debug, Default)]
pub(super) struct ProductWords {
    pub(super) matrices: [[u32; 8]; MATRICES],
    pub(super) units: u32,
    pub(super) output_width: u32,
    pub(super) soft_cap: f32,
    pub(super) norm_width: u32,
    pub(super) norm_epsilon: f32,
    pub(super) sums: u32,
    pub(super) sum_count: u32,
    pub(super) next_norm: u32,
    pub(super) next_units: u32,
    pub(super) next_sums: u32,
    pub(super) next_sum_count: u32,
}

impl ProductWords {
    /// Puts matrix `which` of a part into place `at`; its rows make the outputs from `output` on.
    pub(super) fn matrix(&mut self, at: usize, part: &Part, which: usize, output: usize, bias: u32, group: usize) {
        let piece = &part.matrices[which];
        let [codes, high, scales, supers] = piece.starts;
        self.matrices[at] = [codes, high, scales, supers, piece.rows.len() as u32, output as u32, bias, group as u32];
    }

    /// No workgroup is for the matrices from `at` on.
    pub(super) fn no_matrix_from(&mut self, at: usize) {
        for matrix in &mut self.matrices[at..] {
            matrix[7] = u32::MAX;
        }
    }

    pub(super) fn read_norm(&mut self, norm: &Norm, few: &Few, width: usize) {
        self.norm_width = width as u32;
        self.norm_epsilon = norm.epsilon;
        self.sums = few.sums as u32;
        self.sum_count = few.sum_count as u32;
    }

    pub(super) fn hand_on(&mut self, norm: u32, few: &Few) {
        self.next_norm = norm;
        self.next_units = few.units as u32;
        self.next_sums = few.sums as u32;
        self.next_sum_count = few.sum_count as u32;
    }

    pub(super) fn words(&self) -> Vec<u32> {
        let mut words: Vec<u32> = self.matrices.concat();
        words.extend([self.units, self.output_width, self.soft_cap.to_bits(), self.norm_width]);
        words.extend([self.norm_epsilon.to_bits(), self.sums, self.sum_count, self.next_norm]);
        words.extend([self.next_units, self.next_sums, self.next_sum_count, 0]);
        words
    }
}
