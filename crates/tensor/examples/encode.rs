//! Encodes a file of little-endian f32 for comparison with another program: `encode FORMAT SOURCE OUT [IMPORTANCES]`.
//!
//! It never judges what comes out; `tools/compare_encoders.py` does.

use std::process::ExitCode;

use metallic_tensor::Format;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            std::io::Write::write_all(&mut std::io::stderr(), format!("{problem}\n").as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let [name, source, out, importances @ ..] = arguments else {
        return Err("usage: encode FORMAT SOURCE OUT [IMPORTANCES]".to_owned());
    };
    let format = Format::from_name(name).ok_or_else(|| format!("{name} is no format"))?;
    let codec = format.codec().ok_or_else(|| format!("{name} has no codec"))?;
    let source = read(source)?;
    if !source.len().is_multiple_of(format.block_elements()) {
        return Err(format!("{} values are no whole blocks of {name}", source.len()));
    }
    let mut blocks = vec![0; source.len() / format.block_elements() * format.block_bytes()];
    match importances {
        [] => (codec.encode)(&source, &mut blocks),
        [file, ..] => (codec.encode_weighted)(&source, &read(file)?, &mut blocks),
    }
    std::fs::write(out, blocks).map_err(|error| format!("{out}: {error}"))
}

fn read(path: &str) -> Result<Vec<f32>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let (numbers, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(format!("{path}: {} bytes are no whole f32", bytes.len()));
    }
    Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}
