//! Prints how fast blocks are decoded: by the readable codec and by the SIMD decoder, which must give the same bits.
//!
//!     cargo run --release -p metallic-cpu --example decode_speed

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use metallic_cpu::{Decoder, IsaChoice, f16};
use tensor::format::FORMATS;
use testkit::Random;

/// A row that stays in the first cache, as one that is looked up does.
const ELEMENTS: usize = 2048;
const REPEATS: usize = 2000;
const RUNS: usize = 15;

/// Rows of activations begin where a line of the cache does.
#[repr(align(64))]
struct Row<T>([T; ELEMENTS]);

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::from(
        "| type | codec, GB/s | AVX2 or less, GB/s | best, GB/s | best over codec | to f16, of the time |\n\
         |---|---|---|---|---|---|\n",
    );
    let mut random = Random::new(1);
    let source: Vec<f32> = (0..ELEMENTS).map(|_| random.signed_unit()).collect();
    for info in FORMATS {
        let (format, codec) = (info.format, info.codec.ok_or("no codec")?);
        let best = Decoder::new(format, IsaChoice::Best).ok_or("no codec")?;
        if !best.is_simd() {
            continue;
        }
        let mut blocks = vec![0; ELEMENTS / format.block_elements() * format.block_bytes()];
        (codec.encode)(&source, &mut blocks);
        let mut row = Row([0.0; ELEMENTS]);
        let expected = &mut row.0;
        let plain = rate(|| (codec.decode)(std::hint::black_box(&blocks), expected));
        write!(text, "| {format} | {plain:.1} |")?;
        let mut last = 0.0;
        for isa in [IsaChoice::AtMostAvx2, IsaChoice::Best] {
            let decoder = Decoder::new(format, isa).ok_or("no codec")?;
            let mut row = Row([f32::NAN; ELEMENTS]);
            let values = &mut row.0;
            last = rate(|| decoder.decode(std::hint::black_box(&blocks), values));
            let same =
                values.iter().zip(expected.iter()).all(|(value, expected)| value.to_bits() == expected.to_bits());
            if !same {
                return Err(format!("{format}, {isa:?}: other values than the codec's").into());
            }
            write!(text, " {last:.1} |")?;
        }
        let mut halves = Row([f16::ZERO; ELEMENTS]);
        let to_f16 = rate(|| best.decode_f16(std::hint::black_box(&blocks), &mut halves.0));
        writeln!(text, " {:.1} | {:.2} |", last / plain, last / to_f16)?;
    }
    if !text.ends_with(" |\n") {
        return Err("this processor has the readable codecs only".into());
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
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
