//! Importance matrices hold sums of squared inputs: checked by hand where the input is known, and between backends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::ops::ControlFlow;

use metallic::Device;
use metallic::gguf::GgufFile;
use metallic::importance::{ImportanceOptions, collect};
use metallic::text::{EncodeOptions, Tokenizer};
use metallic::tools::Importance;
use testkit::tiny_gguf::TinyModel;

const TEXT: &str = "the thing in the inn is thin, and then the other thing is in there too: the end of the thing.";
const CHUNK: usize = 16;

fn options(device: Device) -> ImportanceOptions {
    ImportanceOptions {
        device,
        threads: Some(1),
        chunk: CHUNK,
        chunks_max: None,
        output: true,
        pre_tokenizer: None,
        dataset: "text".to_owned(),
    }
}

fn measure(file: &GgufFile, options: &ImportanceOptions) -> Importance {
    collect(file, TEXT, options, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

fn floats(file: &GgufFile, name: &str) -> Vec<f32> {
    let bytes = file.tensor_bytes(file.tensor(name).unwrap());
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

#[test]
fn the_first_layers_inputs_are_the_normed_embeddings() {
    let file = TinyModel::new("qwen2", 5).file();
    let matrix = measure(&file, &options(Device::Reference));
    let tokenizer = Tokenizer::from_gguf(file.metadata(), None).unwrap();
    assert_eq!(tokenizer.added_bos(), None);
    let ids = tokenizer.encode(TEXT, EncodeOptions { add_special: true, parse_special: false }).ids;
    let (table, norm) = (floats(&file, "token_embd.weight"), floats(&file, "blk.0.attn_norm.weight"));
    let rows = ids.len() / CHUNK * CHUNK;
    assert!(rows >= 2 * CHUNK);
    let mut sums = vec![0.0_f64; norm.len()];
    for id in &ids[..rows] {
        let row = &table[*id as usize * norm.len()..][..norm.len()];
        let mean: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / row.len() as f64;
        for ((sum, value), weight) in sums.iter_mut().zip(row).zip(&norm) {
            *sum += (f64::from(*value) * f64::from(*weight)).powi(2) / (mean + 1e-6);
        }
    }
    for name in ["attn_q", "attn_k", "attn_v"] {
        let entry = &matrix.entries[&format!("blk.0.{name}.weight")];
        assert_eq!(entry.counts, [rows as f32]);
        for (found, expected) in entry.sums.iter().zip(&sums) {
            assert!((f64::from(*found) - expected).abs() < 1e-4 * expected, "{found} {expected}");
        }
    }
    assert_eq!((matrix.chunks as usize, matrix.chunk_tokens as usize), (rows / CHUNK, CHUNK));
}

#[test]
fn backends_agree_on_every_matrix() {
    for architecture in ["llama", "gemma3"] {
        let file = TinyModel::new(architecture, 9).file();
        let reference = measure(&file, &options(Device::Reference));
        let cpu = measure(&file, &options(Device::Cpu));
        // Seven matrices in each of two layers, and the output, which is the embedding table.
        assert_eq!(reference.entries.len(), 15);
        assert!(reference.entries.contains_key("token_embd.weight"));
        for (name, entry) in &reference.entries {
            let other = &cpu.entries[name];
            let largest = entry.sums.iter().fold(0.0, |largest: f32, sum| largest.max(*sum));
            assert!(largest > 0.0, "{architecture} {name}");
            for (left, right) in entry.sums.iter().zip(&other.sums) {
                // The CPU backend keeps keys and values as halves.
                assert!((left - right).abs() < 5e-3 * largest, "{architecture} {name}: {left} {right}");
            }
        }
        let without = measure(&file, &ImportanceOptions { output: false, chunks_max: Some(1), ..options(Device::Cpu) });
        assert_eq!((without.entries.len(), without.chunks), (14, 1));
    }
}
