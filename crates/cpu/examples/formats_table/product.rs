//! How fast a large matrix of a format is multiplied with one row and with many. Never whether the result is right.

use std::sync::Arc;

use metallic_cpu::{CpuBackend, CpuConfig, IsaChoice, Repack};
use program::{
    Backend, BackendError, Embed, Head, KvFormat, KvPlan, Norm, PageTable, PassInput, Program, ProgramBuilder,
    ProgramError, Projection, RowBucket, Segment, Sizes, Step, TensorBytes, TensorIndex, TensorSpec,
};
use tensor::{Codec, Format};
use testkit::Random;

/// Inputs.
const INPUTS: usize = 2048;
/// Outputs: with those inputs more weights than a cache holds.
const OUTPUTS: usize = 40_000;
/// Rows of a pass that is bound by arithmetic.
const ROWS: usize = 128;
/// Encoded once and repeated, as encoders are slow and products do not look at what they multiply.
const ENCODED_ROWS: usize = 16;
const RUNS: usize = 4;

/// The product of one thread.
pub(crate) struct Speed {
    /// One row: 10⁹ bytes of the file's weights a second.
    pub(crate) one_row: f64,
    /// Many rows: 10⁹ multiplications and additions a second.
    pub(crate) many_rows: f64,
}

pub(crate) fn measure(format: Format, codec: Codec) -> Result<Speed, Box<dyn std::error::Error>> {
    let program = Arc::new(head(format)?);
    let mut backend = CpuBackend::new(CpuConfig { threads: 1, isa: IsaChoice::Best, repack: Repack::First })?;
    let executable = backend.compile(&program, RowBucket { rows: ROWS, logit_rows: ROWS })?;
    backend.allocate(executable, KvPlan { pages: ROWS.div_ceil(program::PAGE_ROWS), format: KvFormat::F16 })?;
    for (index, spec) in (0..).map(TensorIndex).zip(&program.tensors) {
        let bytes = weights(spec, codec);
        let length = bytes.len();
        let fence = backend.upload(executable, index, TensorBytes::new(Arc::new(bytes), 0..length))?;
        backend.wait(fence)?;
    }
    let mut best = |rows: usize| -> Result<(f64, f64), BackendError> {
        let mut rates = (0.0_f64, 0.0_f64);
        for _ in 0..RUNS {
            pass(&mut backend, executable, &program, rows)?;
            for row in backend.take_ledger().iter().filter(|row| row.step == "head") {
                rates.0 = rates.0.max(row.weight_bytes as f64 / row.seconds / 1e9);
                rates.1 = rates.1.max(2.0 * row.multiply_adds as f64 / row.seconds / 1e9);
            }
        }
        Ok(rates)
    };
    Ok(Speed { one_row: best(1)?.0, many_rows: best(ROWS)?.1 })
}

/// A program that looks rows up and multiplies them with the same table.
fn head(format: Format) -> Result<Program, ProgramError> {
    let sizes = Sizes { hidden: INPUTS, vocabulary: OUTPUTS, context: ROWS, qkv: 1, attention: 1, gated: 1 };
    let mut builder = ProgramBuilder::new("table", sizes);
    let table = || TensorSpec { name: "table".to_owned(), format, rows: OUTPUTS, columns: INPUTS };
    let mut unit = builder.unit("prologue");
    let slot = unit.weight(table(), OUTPUTS, INPUTS)?;
    unit.step("embed", Step::Embed(Embed { table: slot, scale: 1.0 }));
    let prologue = unit.finish();
    let mut unit = builder.unit("epilogue");
    unit.step("select", Step::Select);
    let norm = TensorSpec { name: "norm".to_owned(), format: Format::F32, rows: 1, columns: INPUTS };
    let weight = unit.weight(norm, 1, INPUTS)?;
    unit.step("norm", Step::Norm(Norm { weight, epsilon: 1e-6 }));
    let weight = unit.weight(table(), OUTPUTS, INPUTS)?;
    let projection = Projection { weight, bias: None, outputs: OUTPUTS };
    unit.step("head", Step::Head(Head { projection, soft_cap: None }));
    let epilogue = unit.finish();
    Ok(builder.finish(prologue, Vec::new(), epilogue))
}

fn weights(spec: &TensorSpec, codec: Codec) -> Vec<u8> {
    let mut random = Random::named(1, &spec.name);
    if spec.format == Format::F32 {
        return vec![1.0_f32; spec.rows * spec.columns].iter().flat_map(|value| value.to_le_bytes()).collect();
    }
    let values: Vec<f32> = (0..ENCODED_ROWS * spec.columns).map(|_| random.signed_unit()).collect();
    let mut rows = vec![0; ENCODED_ROWS * spec.row_bytes()];
    (codec.encode)(&values, &mut rows);
    rows.repeat(spec.rows / ENCODED_ROWS)
}

fn pass(
    backend: &mut CpuBackend,
    executable: program::ExecutableId,
    program: &Program,
    rows: usize,
) -> Result<(), BackendError> {
    let tokens: Vec<u32> = (0..).take(rows).collect();
    let input = PassInput {
        tokens: &tokens,
        positions: &tokens,
        sequences: &vec![0; rows],
        page_tables: &[PageTable { pages: (0..).take(ROWS.div_ceil(program::PAGE_ROWS)).collect() }],
        logit_rows: &tokens,
    };
    let fence = backend.submit(executable, &Segment::whole(program), &input)?;
    backend.wait(fence)
}
