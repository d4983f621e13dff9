//! Products and the preparation of their inputs: kernels with their parameters.

use program::{BackendError, Buffer, Norm};

use super::{Dispatch, Form, Grid, Lowering, NONE, Place, whole};
use crate::buffers::{BLOCK, Few};
use crate::device::{DeviceInfo, DeviceKind};
use crate::planes::{Layout, UNIT};
use crate::shader::{
    FewRows, GEMM, GEMM_FILES, GEMM_MATRIX_UNITS, GEMM_MATRIX_UNITS_FILES, MATVEC, MATVEC_HANDING_ON, PREPARE, Sharing,
    Source,
};
use crate::weights::Part;

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
        (input, output, coded): (Buffer, &wgpu::Buffer, Option<&wgpu::Buffer>),
        groups: usize,
    ) -> Result<Dispatch, BackendError> {
        let form = self.form(place.unit, place.step);
        let accumulate = if form == Form::Codes { "matvec_codes.wgsl" } else { "matvec_values.wgsl" };
        let layouts: Vec<_> = part.matrices[matrices].iter().map(|piece| piece.layout).collect();
        let (bindings, hand_on) = match coded {
            Some(_) => (MATVEC_HANDING_ON, "hand_on_block.wgsl"),
            None => (MATVEC, "hand_on_nothing.wgsl"),
        };
        let mut files = vec!["common.wgsl", "outputs.wgsl", accumulate, "matvec.wgsl", hand_on];
        if coded.is_some() {
            files.push("encode.wgsl");
        }
        let source = Source::new(format!("{} with few rows", place.name), bindings, &files)
            .batched(few_rows(words.units as usize, groups * BLOCK, kernel, &layouts, &self.gpu.info))
            .count("MODE", kernel.mode as usize)
            .count("OUTPUT", kernel.next as usize)
            .count("PARTS", kernel.parts)
            .flag("HEAD", kernel.head)
            .flag("ACROSS", self.across())
            .number("SOFT_CAP", words.factor)
            .number("NORM_EPSILON", words.norm_epsilon)
            .counts(&words.counts())
            .count("LANES_MIN", self.gpu.info.subgroup.0 as usize)
            .text_in_front(&words.matrices())
            .flag("MINS", layouts.iter().any(Layout::has_mins))
            .formats(&layouts);
        let b = self.buffers;
        let inputs = &b.few(input).buffer;
        let vectors = self.weights.vectors(place.number);
        let mut buffers = vec![whole(&part.buffer), vectors, whole(&b.pass), whole(inputs), whole(output)];
        buffers.extend(coded.map(whole));
        Ok(self.dispatch(place.name, source, &[], &buffers, Grid::Fixed(groups as u32)))
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
            let words = ProductWords { row_scales: self.row_scales() as u32, ..words.clone() };
            let source = Source::new(name, GEMM_MATRIX_UNITS, GEMM_MATRIX_UNITS_FILES)
                .matrix_units()
                .count("MODE", mode as usize)
                .flag("HEAD", head)
                .formats(&[piece.layout])
                .fetched(&piece.layout);
            let (vectors, many) = (self.weights.vectors(place.number), whole(&b.many));
            let buffers = [whole(&part.buffer), vectors, whole(&b.pass), many.clone(), whole(output), many];
            let groups = outputs.div_ceil(128) as u32;
            let grid = if head { Grid::PerLogitBlock(groups) } else { Grid::PerRowBlock(groups) };
            return Ok(self.dispatch(place.name, source, &words.one_matrix(), &buffers, grid));
        }
        let source = Source::new(name, GEMM, GEMM_FILES)
            .count("MODE", mode as usize)
            .flag("HEAD", head)
            .formats(&[piece.layout]);
        let vectors = self.weights.vectors(place.number);
        let buffers = [whole(&part.buffer), vectors, whole(&b.pass), whole(&b.many), whole(output)];
        let groups = outputs.div_ceil(64) as u32;
        let grid = if head { Grid::PerLogitTile(groups) } else { Grid::PerRowTile(groups) };
        Ok(self.dispatch(place.name, source, &words.one_matrix(), &buffers, grid))
    }

    /// Whether eight neighbouring threads are of one subgroup, on every device of the kind.
    pub(super) fn across(&self) -> bool {
        self.gpu.info.subgroup.0 >= 8
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
        let inputs = Prepared {
            form,
            norm: norm.map(|(norm, how)| (self.vector(place, norm.weight), norm.epsilon, how)),
            width,
            stride: self.program.buffer_width(source_buffer),
            sums,
            sum_count,
            keeps: gathers,
        };
        let files = ["pass.wgsl", "prepared.wgsl", "prepare.wgsl", "encode.wgsl"];
        let source = self
            .prepared(Source::new("prepare", PREPARE, &files), &inputs)
            .count("ROWS_MAX", self.rows_max)
            .count("LOGIT_ROWS_MAX", self.logit_rows_max)
            .flag("GATHER", gathers);
        let b = self.buffers;
        let kept = if gathers { &b.selected } else { &b.nothing };
        let vectors = self.weights.vectors(place.number);
        let buffers = [whole(&b.pass), vectors, whole(b.get(source_buffer)), whole(target), whole(kept)];
        let grid = if gathers { Grid::LogitRows } else { Grid::Rows };
        Ok(self.dispatch(place.name, source, &[], &buffers, grid))
    }

    /// A kernel with the constants of `prepared.wgsl`.
    pub(super) fn prepared(&self, source: Source, inputs: &Prepared) -> Source {
        let (norm_start, epsilon, norm) =
            inputs.norm.map_or((NONE, 0.0, 0), |(start, epsilon, how)| (start, epsilon, how as u32));
        let counts = [
            ("WIDTH", inputs.width as u32),
            ("UNITS", inputs.width.div_ceil(UNIT) as u32),
            ("NORM_START", norm_start),
            ("STRIDE", inputs.stride as u32),
            ("SUMS", inputs.sums as u32),
            ("SUM_COUNT", inputs.sum_count as u32),
            ("OUTPUT", inputs.form as u32),
            ("NORM", norm),
        ];
        source.counts(&counts).number("EPSILON", epsilon).flag("ACROSS", self.across()).flag("KEEP", inputs.keeps)
    }
}

/// What `prepared.wgsl` makes of a row.
pub(super) struct Prepared {
    pub(super) form: Form,
    /// Start of the norm's weights among the vectors, its epsilon, and how it is used.
    pub(super) norm: Option<(u32, f32, NormUse)>,
    pub(super) width: usize,
    /// Elements from one row of the source to the next.
    pub(super) stride: usize,
    /// Word of the target where sums of squares, or scales of rows, start, and how many a row has.
    pub(super) sums: usize,
    pub(super) sum_count: usize,
    /// Whether rows are also written as f32.
    pub(super) keeps: bool,
}

/// How `prepared.wgsl` uses a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NormUse {
    Weights = 1,
    Whole = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Store = 0,
    Add = 1,
    GateSilu = 2,
    GateGelu = 3,
}

pub(super) struct Matvec {
    pub(super) mode: Mode,
    /// Matrices that make one output together.
    pub(super) parts: usize,
    pub(super) next: Form,
    pub(super) head: bool,
}

/// Lanes of a team of `matvec.wgsl`.
const TEAM: usize = 4;

/// Lanes that share an output, if there are outputs enough for a wide GPU or a processor plays it, and at most.
const LANES: usize = 32;
const LANES_MAX: usize = 128;

/// Lanes of a product at most, so that all are under way at once on a wide GPU.
const PRODUCT_LANES_MAX: usize = 5 << 18;

/// How a product shares its work. With one row of the pass, some thirty lanes take an output, or one of each part; up to
/// four times as many where that leaves a wide GPU idle. With several rows, two outputs share what is read of the rows.
/// So many lanes that all have units to the end.
fn few_rows(units: usize, outputs: usize, kernel: &Matvec, layouts: &[Layout], info: &DeviceInfo) -> FewRows {
    let most = if info.kind == DeviceKind::Software { LANES } else { LANES_MAX };
    let lanes_max = (PRODUCT_LANES_MAX / outputs.max(1)).min(info.threads_max / BLOCK).clamp(LANES, most);
    // Codes that are taken apart from bits and headers take registers, so fewer are under way at a time.
    let simple = layouts.iter().all(|layout| matches!(layout.name, "q8_0" | "q4_0"));
    let ahead = match kernel.parts {
        2 => 1,
        _ if simple => 4,
        _ => 2,
    };
    let of_lane = units.div_ceil(lanes_max);
    let shares = units.div_ceil(of_lane).div_ceil(TEAM);
    let sharing = |batch: usize, rows: usize, ahead: usize| {
        // Whole subgroups, and a thread for each output of each row.
        let threads = (shares * TEAM * BLOCK / rows).max(batch * BLOCK).next_multiple_of(info.subgroup.1 as usize);
        Sharing { rows, ahead, shares, threads }
    };
    FewRows { single: sharing(1, 1, of_lane.min(ahead)), several: sharing(crate::shader::FEW_ROWS, 2, 1) }
}

/// What a kernel with matrices is told: parameters that differ from layer to layer, and constants.
#[derive(Clone, Debug, Default)]
pub(super) struct ProductWords {
    pub(super) matrices: [[u32; 8]; MATRICES],
    pub(super) units: u32,
    pub(super) output_width: u32,
    pub(super) factor: f32,
    pub(super) row_scales: u32,
    pub(super) norm_width: u32,
    pub(super) norm_epsilon: f32,
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
        self.sum_count = few.sum_count as u32;
    }

    pub(super) fn hand_on(&mut self, norm: u32, few: &Few) {
        self.next_norm = norm;
        self.next_units = few.units as u32;
        self.next_sums = few.sums as u32;
        self.next_sum_count = few.sum_count as u32;
    }

    /// Matrices of `matvec.wgsl`.
    fn matrices(&self) -> String {
        let names = ["FIRST", "SECOND", "THIRD"];
        let line = |(name, matrix): (&str, &[u32; 8])| {
            let words: Vec<String> = matrix.iter().map(|word| format!("{word}u")).collect();
            format!("const {name} = Matrix({});\n", words.join(", "))
        };
        names.into_iter().zip(&self.matrices).map(line).collect()
    }

    /// Constants of `matvec.wgsl`.
    fn counts(&self) -> [(&'static str, u32); 8] {
        [
            ("UNITS", self.units),
            ("OUTPUT_WIDTH", self.output_width),
            ("NORM_WIDTH", self.norm_width),
            ("SUM_COUNT", self.sum_count),
            ("NEXT_UNITS", self.next_units),
            ("NEXT_SUMS", self.next_sums),
            ("NEXT_SUM_COUNT", self.next_sum_count),
            ("NEXT_NORM", self.next_norm),
        ]
    }

    /// `Params` of `one_matrix.wgsl`.
    pub(super) fn one_matrix(&self) -> Vec<u32> {
        let mut words = self.matrices[0].to_vec();
        words.extend([self.units, self.output_width, self.factor.to_bits(), self.row_scales]);
        words
    }
}
