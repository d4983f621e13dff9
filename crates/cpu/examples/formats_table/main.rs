//! Prints the table of docs/formats.md: every format, where it runs, what it loses and how fast its codec is.
//!
//!     cargo run --release -p metallic-cpu --example formats_table
//!
//! One thread; each speed is the best of several runs. A few minutes. It compares with no other program: `tools/compare_encoders.py` does.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use metallic_cpu::resident_bytes;
use program::TensorSpec;
use tensor::{Codec, FORMATS, Format, FormatInfo};
use testkit::Random;

mod product;

const ROWS: usize = 64;
const COLUMNS: usize = 1024;
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut random = Random::new(1);
    let normal = |random: &mut Random| {
        // Box and Muller.
        let (a, b) = (random.signed_unit().abs().max(1e-7), random.signed_unit());
        (-2.0 * a.ln()).sqrt() * (std::f32::consts::PI * b).cos()
    };
    let gauss: Vec<f32> = (0..ROWS * COLUMNS).map(|_| normal(&mut random)).collect();
    // Student's t with four degrees of freedom: a normal number over the root of the mean of four squares.
    let heavy: Vec<f32> = gauss
        .iter()
        .map(|value| {
            let squares: f32 = (0..4).map(|_| normal(&mut random).powi(2)).sum();
            value / (squares / 4.0).sqrt()
        })
        .collect();
    let importances: Vec<f32> = (0..COLUMNS).map(|_| normal(&mut random).powi(2) + 0.01).collect();

    let mut table = String::from(
        "| type | id | bits per weight | on the CPU | memory, of the file | error, normal | error, heavy tails | \
         with importances | decode, GB/s | encode, MB/s | one row, GB/s | 128 rows, Gop/s |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in FORMATS.iter().filter(|row| is_weight(row.format)) {
        if let Some(codec) = row.codec {
            let speed = product::measure(row.format, codec)?;
            let line = line(row, codec, [&gauss, &heavy], &importances);
            writeln!(table, "{line} {:.1} | {:.0} |", speed.one_row, speed.many_rows)?;
        }
    }
    std::io::stdout().write_all(table.as_bytes())?;
    Ok(())
}

/// Formats that files store weights in: not those of activations, nor plain numbers.
fn is_weight(format: Format) -> bool {
    format.is_quantised() && !matches!(format, Format::Q8_1 | Format::Q8_K)
}

fn line(row: &FormatInfo, codec: Codec, sources: [&[f32]; 2], importances: &[f32]) -> String {
    let mut blocks = vec![0; ROWS * COLUMNS / row.block_elements * row.block_bytes];
    let mut values = vec![0.0; ROWS * COLUMNS];
    let ones = [1.0; COLUMNS];
    let errors = sources.map(|source| {
        (codec.encode)(source, &mut blocks);
        (codec.decode)(&blocks, &mut values);
        relative_error(source, &values, &ones)
    });
    let [gauss, _] = sources;
    (codec.encode_weighted)(gauss, importances, &mut blocks);
    (codec.decode)(&blocks, &mut values);
    let weighted = relative_error(gauss, &values, importances);

    let bytes = size_of_val(gauss) as f64;
    let encode = bytes / best_seconds(|| (codec.encode)(gauss, &mut blocks)) / 1e6;
    let decode = bytes / best_seconds(|| (codec.decode)(&blocks, &mut values)) / 1e9;
    let spec = TensorSpec { name: String::new(), format: row.format, rows: ROWS, columns: COLUMNS };
    let (place, memory) = match resident_bytes(&spec) {
        Some(bytes) => ("kernel", format!("{:.2}", bytes as f64 / blocks.len() as f64)),
        None => ("decoded as used", "1.00".to_owned()),
    };
    format!(
        "| {} | {} | {:.4} | {place} | {memory} | {:.4} | {:.4} | {weighted:.4} | {decode:.2} | {encode:.1} |",
        row.name,
        row.ggml_id,
        8.0 * row.block_bytes as f64 / row.block_elements as f64,
        errors[0],
        errors[1],
    )
}

/// Root of the weighted mean square error, over that of the source.
fn relative_error(source: &[f32], decoded: &[f32], weights: &[f32]) -> f64 {
    let (mut error, mut power) = (0.0, 0.0);
    for ((source, decoded), weight) in source.iter().zip(decoded).zip(weights.iter().cycle()) {
        let (source, decoded, weight) = (f64::from(*source), f64::from(*decoded), f64::from(*weight));
        error += weight * (source - decoded).powi(2);
        power += weight * source.powi(2);
    }
    (error / power).sqrt()
}

fn best_seconds(mut run: impl FnMut()) -> f64 {
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}
