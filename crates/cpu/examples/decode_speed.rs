//! Prints how fast blocks are decoded to f32: by the readable codec and by the SIMD decoder, which must give the same bits,
//! and what threads add where the values stay in a cache and where they go to memory.
//!
//!     cargo run --release -p metallic-cpu --example decode_speed

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use metallic_cpu::{Decoder, IsaChoice};
use tensor::Format;
use testkit::Random;

/// A row that stays in the first cache, as one that is looked up does.
const ELEMENTS: usize = 2048;
const REPEATS: usize = 2000;
const RUNS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::from(
        "| type | codec, GB/s | AVX2 or less, GB/s | best, GB/s | best over codec |\n|---|---|---|---|---|\n",
    );
    let mut random = Random::new(1);
    let source: Vec<f32> = (0..ELEMENTS).map(|_| random.signed_unit()).collect();
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4_K, Format::Q6_K] {
        let codec = format.codec().ok_or("no codec")?;
        let mut blocks = vec![0; ELEMENTS / format.block_elements() * format.block_bytes()];
        (codec.encode)(&source, &mut blocks);
        let mut expected = vec![0.0; ELEMENTS];
        let plain = rate(|| (codec.decode)(std::hint::black_box(&blocks), &mut expected));
        write!(text, "| {format} | {plain:.1} |")?;
        let mut last = 0.0;
        for isa in [IsaChoice::AtMostAvx2, IsaChoice::Best] {
            let decoder = Decoder::new(format, isa).ok_or("this processor has the readable codec only")?;
            let mut values = vec![f32::NAN; ELEMENTS];
            last = rate(|| decoder.decode(std::hint::black_box(&blocks), &mut values));
            let same = values.iter().zip(&expected).all(|(value, expected)| value.to_bits() == expected.to_bits());
            if !same {
                return Err(format!("{format}, {isa:?}: other values than the codec's").into());
            }
            write!(text, " {last:.1} |")?;
        }
        writeln!(text, " {:.1} |", last / plain)?;
    }
    threads_table(&mut text, &source)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Decodes a table of many rows, its blocks read from memory: each row into the same 8 KB, and each into its own.
fn threads_table(text: &mut String, source: &[f32]) -> Result<(), Box<dyn Error>> {
    let threads = metallic_cpu::default_threads();
    text.push_str("\n| type | who decodes | threads | into cache, GB/s | into memory, GB/s |\n|---|---|---|---|---|\n");
    let mut values = vec![0.0; ROWS * ELEMENTS];
    for format in [Format::Q8_0, Format::Q4_K, Format::Q6_K] {
        let codec = format.codec().ok_or("no codec")?;
        let row_bytes = ELEMENTS / format.block_elements() * format.block_bytes();
        let mut row = vec![0; row_bytes];
        (codec.encode)(source, &mut row);
        let blocks = row.repeat(ROWS);
        let decoder = Decoder::new(format, IsaChoice::Best).ok_or("this processor has the readable codec only")?;
        for (who, decode) in [
            ("codec", &(|blocks: &[u8], values: &mut [f32]| (codec.decode)(blocks, values)) as &Decode),
            ("SIMD", &|blocks: &[u8], values: &mut [f32]| decoder.decode(blocks, values)),
        ] {
            for threads in [1, threads] {
                let share = ROWS.div_ceil(threads);
                let parts = || blocks.chunks(share * row_bytes);
                let cached = table_rate(|| {
                    on_each(parts().collect(), |blocks: &[u8]| {
                        let mut values = [0.0; ELEMENTS];
                        for row in blocks.chunks_exact(row_bytes) {
                            decode(row, &mut values);
                            std::hint::black_box(&values);
                        }
                    });
                });
                let stored = table_rate(|| {
                    let parts = parts().zip(values.chunks_mut(share * ELEMENTS)).collect();
                    on_each(parts, |(blocks, values): (&[u8], &mut [f32])| decode(blocks, values));
                });
                writeln!(text, "| {format} | {who} | {threads} | {cached:.1} | {stored:.1} |")?;
            }
        }
    }
    Ok(())
}

type Decode<'d> = dyn Fn(&[u8], &mut [f32]) + Sync + 'd;

/// Rows of the table: 256 MB of values.
const ROWS: usize = 32_768;

/// Runs `job` on every part, each on a thread of its own.
fn on_each<T: Send>(parts: Vec<T>, job: impl Fn(T) + Sync) {
    let job = &job;
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || job(part));
        }
    });
}

/// The best of several runs over the table, in 10⁹ bytes of f32 a second.
fn table_rate(mut run: impl FnMut()) -> f64 {
    let seconds = (0..5).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    (4 * ELEMENTS * ROWS) as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e9
}

/// The best of several runs, in 10⁹ bytes of f32 a second.
fn rate(mut run: impl FnMut()) -> f64 {
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        (0..REPEATS).for_each(|_| run());
        start.elapsed().as_secs_f64()
    });
    (4 * ELEMENTS * REPEATS) as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e9
}
