//! Verify a model file: what a loader checks, and what only reading every byte shows.
//!
//! Nothing is repaired and nothing is an error: a file that cannot even be opened gives a report with one problem.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use gguf::{Access, GgufFile, OpenConfig, TensorInfo, Value};
use serde::Serialize;
use sha2::{Digest, Sha256};
use text::chat_template::ChatTemplate;
use text::{EncodeOptions, Tokenizer};

use crate::destination;
use crate::error::ToolError;
use crate::watch::{Meter, Watch};

/// Elements that are decoded at a time.
const PIECE_ELEMENTS: usize = 1 << 16;

/// Bytes that are hashed at a time.
const HASH_BYTES: usize = 1 << 20;

/// How to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Hash the files.
    pub file_hashes: bool,
    /// Hash each tensor, so that two files can be compared whatever their metadata.
    pub tensor_hashes: bool,
    /// Rules for splitting text, in place of the file's.
    pub pre_tokenizer: Option<String>,
    /// How the bytes reach memory; [`Access::Read`] for a file that others may change meanwhile.
    pub access: Access,
    /// Threads that decode.
    pub threads: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub ok: bool,
    /// What is wrong, and would make an answer wrong or fail.
    pub problems: Vec<Finding>,
    /// What is odd, or could not be checked.
    pub warnings: Vec<Finding>,
    /// Each file with its size and hash.
    pub files: Vec<FileReport>,
    /// How many tensors there are.
    pub tensors: usize,
    /// How many values were looked at.
    pub values: u64,
    /// Each tensor's hash, where asked for.
    pub tensor_hashes: Vec<TensorHash>,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check: `structure`, `values`, `model`, `tokenizer`, `template`.
    pub check: &'static str,
    /// The tensor, where it is one.
    pub tensor: Option<String>,
    /// What, where, and what to do.
    pub message: String,
}

/// One file of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal, where asked for.
    pub sha256: Option<String>,
}

/// One tensor's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorHash {
    /// Its name.
    pub name: String,
    /// SHA-256 of its bytes in hexadecimal.
    pub sha256: String,
}

/// Checks the model at `path`, any shard of a split one.
///
/// # Errors
/// Only for what is not the file's fault: reading failed half-way, a thread could not be started, `watch` ended it.
pub fn verify(path: &Path, options: &VerifyOptions, watch: &mut Watch<'_>) -> Result<Report, ToolError> {
    let mut report = Report {
        ok: true,
        problems: Vec::new(),
        warnings: Vec::new(),
        files: Vec::new(),
        tensors: 0,
        values: 0,
        tensor_hashes: Vec::new(),
    };
    match GgufFile::open_with(path, OpenConfig { access: options.access }) {
        Err(error) => report.problem("structure", None, error.to_string()),
        Ok(file) => check(&file, options, watch, &mut report)?,
    }
    report.ok = report.problems.is_empty();
    Ok(report)
}

impl Report {
    fn problem(&mut self, check: &'static str, tensor: Option<&str>, message: String) {
        self.problems.push(Finding { check, tensor: tensor.map(str::to_owned), message });
    }

    fn warning(&mut self, check: &'static str, tensor: Option<&str>, message: String) {
        self.warnings.push(Finding { check, tensor: tensor.map(str::to_owned), message });
    }
}

fn check(
    file: &GgufFile,
    options: &VerifyOptions,
    watch: &mut Watch<'_>,
    report: &mut Report,
) -> Result<(), ToolError> {
    report.tensors = file.tensors().len();
    check_layout(file, report);
    check_texts(file, report);
    check_model(file, report);
    check_tokenizer(file, options, report);
    let tensor_bytes: u64 = file.tensors().iter().map(TensorInfo::byte_count).sum();
    let hashed = if options.file_hashes { file.file_bytes() } else { 0 };
    let mut meter = Meter::new(watch, tensor_bytes.saturating_add(hashed));
    for tensor in file.tensors() {
        file.check_unchanged()?;
        let bytes = file.tensor_bytes(tensor);
        check_values(tensor, bytes, options.threads, &mut meter, report)?;
        if options.tensor_hashes {
            report
                .tensor_hashes
                .push(TensorHash { name: tensor.name().to_owned(), sha256: hex(&Sha256::digest(bytes)) });
        }
        // Advice to the system: where it is refused, the pages stay until memory is short.
        let _ = file.release(tensor);
    }
    for path in destination::paths(file) {
        let unreadable = |cause| ToolError::Read { path: path.clone(), cause };
        let bytes = std::fs::metadata(&path).map_err(unreadable)?.len();
        let sha256 = options.file_hashes.then(|| hash_file(&path, &mut meter)).transpose()?;
        report.files.push(FileReport { path, bytes, sha256 });
    }
    Ok(())
}

/// What the reader accepts and a writer does not leave: bytes that belong to nothing.
fn check_layout(file: &GgufFile, report: &mut Report) {
    let mut ends = vec![None; file.shard_count()];
    for tensor in file.tensors() {
        let start = tensor.data_offset();
        let end: Option<u64> = ends[tensor.shard()];
        let expected = end.unwrap_or(0).next_multiple_of(u64::from(file.alignment()));
        if file.shard_count() == 1 && start > expected {
            let gap = start - expected;
            report.warning("structure", Some(tensor.name()), format!("{gap} bytes in front of it belong to no tensor"));
        }
        ends[tensor.shard()] = Some(start + tensor.byte_count());
    }
    let Some(last) = file.tensors().last().filter(|_| file.shard_count() == 1) else { return };
    let end = (last.offset() + last.byte_count()).next_multiple_of(u64::from(file.alignment()));
    if file.file_bytes() > end {
        let rest = file.file_bytes() - end;
        report.warning("structure", None, format!("{rest} bytes behind the last tensor belong to nothing"));
    }
}

/// Strings of the metadata: UTF-8 everywhere but among tokens, and a chat template that can be rendered.
fn check_texts(file: &GgufFile, report: &mut Report) {
    for (key, value) in file.metadata().iter() {
        if let Value::Text(text) = value
            && text.to_str().is_err()
        {
            report.warning("structure", None, format!("the value of {key} is not UTF-8"));
        }
    }
    let template = file.metadata().str("tokenizer.chat_template").ok().flatten();
    if let Some(Err(error)) = template.map(ChatTemplate::compile) {
        report.warning("template", None, format!("chats cannot be rendered: {error}"));
    }
}

/// Whether the tensors and keys make a model that this build runs.
fn check_model(file: &GgufFile, report: &mut Report) {
    match models::load(file) {
        Ok(_) => {}
        Err(error @ models::ModelError::UnknownArchitecture { .. }) => {
            report.warning("model", None, format!("shapes were not checked: {error}"));
        }
        Err(error) if file.tensors().is_empty() => {
            report.warning("model", None, format!("there are no tensors, only metadata: {error}"));
        }
        Err(error) => report.problem("model", None, error.to_string()),
    }
}

/// Whether text survives the way to tokens and back.
fn check_tokenizer(file: &GgufFile, options: &VerifyOptions, report: &mut Report) {
    if file.metadata().get("tokenizer.ggml.model").is_none() {
        return report.warning("tokenizer", None, "the file has no tokenizer".to_owned());
    }
    let tokenizer = match Tokenizer::from_gguf(file.metadata(), options.pre_tokenizer.as_deref()) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return report.problem("tokenizer", None, error.to_string()),
    };
    for note in tokenizer.notes() {
        report.warning("tokenizer", None, format!("{note:?}"));
    }
    let plain = EncodeOptions { add_special: false, parse_special: false };
    for sample in SAMPLES {
        let encoding = tokenizer.encode(sample, plain);
        if let Some(id) = encoding.ids.iter().find(|id| **id as usize >= tokenizer.token_count()) {
            report.problem(
                "tokenizer",
                None,
                format!("{sample:?} becomes the id {id}, which is outside the vocabulary"),
            );
            continue;
        }
        let bytes: Vec<u8> =
            encoding.ids.iter().filter_map(|id| tokenizer.token_bytes(*id)).flatten().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        // Some vocabularies put a space in front of every text.
        let same = text == *sample || text.strip_prefix(' ') == Some(sample);
        if !same && encoding.unencodable.is_empty() {
            report.problem("tokenizer", None, format!("{sample:?} comes back as {text:?}"));
        }
    }
}

/// Texts of several scripts, with spaces, digits, line breaks and marks, that any vocabulary must give back.
const SAMPLES: &[&str] = &[
    "Hello, world! It's 3.14159 o'clock.",
    "  two  spaces\tand a tab\n\n\nthree lines ",
    "fn main() { println!(\"{}\", 1 << 20); }",
    "Größe, naïve, Ωμέγα, Привет, 你好世界, 日本語, 한국어, हिन्दी, العربية",
    "🦀🚀 e\u{301} ﬁ ½ ²",
    "0123456789 1000000 12345678901234567890",
];

/// Looks at every value of a tensor: a NaN or infinity anywhere makes every answer one.
fn check_values(
    tensor: &TensorInfo,
    bytes: &[u8],
    threads: usize,
    meter: &mut Meter<'_, '_>,
    report: &mut Report,
) -> Result<(), ToolError> {
    let format = tensor.format();
    let Some(codec) = format.codec() else {
        let message = format!("its values were not checked: this build cannot decode {format}");
        report.warning("values", Some(tensor.name()), message);
        return meter.add(tensor.name(), bytes.len() as u64);
    };
    let blocks = (PIECE_ELEMENTS / format.block_elements()).max(1);
    let pieces = Mutex::new((0_u64..).zip(bytes.chunks(blocks * format.block_bytes())));
    let (bad, first_bad, zero) = (AtomicU64::new(0), AtomicU64::new(u64::MAX), AtomicBool::new(true));
    let work = || {
        let mut values = vec![0.0; blocks * format.block_elements()];
        loop {
            let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, piece)) = next else { break };
            let values = &mut values[..piece.len() / format.block_bytes() * format.block_elements()];
            (codec.decode)(piece, values);
            let wrong = values.iter().filter(|value| !value.is_finite()).count();
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                bad.fetch_add(wrong as u64, Ordering::Relaxed);
                first_bad.fetch_min(index * (blocks * format.block_elements()) as u64 + at as u64, Ordering::Relaxed);
            }
            if values.iter().any(|value| *value != 0.0) {
                zero.store(false, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.clamp(1, bytes.len().div_ceil(blocks * format.block_bytes()).max(1)) {
            thread::Builder::new().spawn_scoped(scope, work).map_err(ToolError::Thread)?;
        }
        work();
        Ok::<(), ToolError>(())
    })?;
    report.values += tensor.shape().elements().unwrap_or(0);
    let bad = bad.into_inner();
    if bad > 0 {
        let (first, columns) = (first_bad.into_inner(), tensor.shape().row_elements());
        let (row, column) = (first / columns, first % columns);
        let message =
            format!("{bad} values are NaN or infinite, the first at row {row}, column {column}: fetch it again");
        report.problem("values", Some(tensor.name()), message);
    } else if zero.into_inner() && tensor.name().ends_with(".weight") {
        report.warning("values", Some(tensor.name()), "all its values are zero".to_owned());
    }
    meter.add(tensor.name(), bytes.len() as u64)
}

fn hash_file(path: &Path, meter: &mut Meter<'_, '_>) -> Result<String, ToolError> {
    let unreadable = |cause: io::Error| ToolError::Read { path: path.to_path_buf(), cause };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(hex(&hash.finalize())),
            count => {
                hash.update(&buffer[..count]);
                meter.add(&name, count as u64)?;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
