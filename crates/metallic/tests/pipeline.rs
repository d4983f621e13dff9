//! Every architecture from a file to text: written, loaded, generated, on both devices.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use metallic::gguf::GgufFile;
use metallic::session::Sequence;
use metallic::tensor::Format;
use metallic::{Device, Event, FinishReason, GenerateOptions, LoadOptions, Message, Model, Prompt};
use testkit::{TinyFormats, TinyModel};

fn load(file: GgufFile, device: Device, rows: usize) -> Model {
    let options = LoadOptions { device, rows: Some(rows), threads: Some(2), ..LoadOptions::new() };
    Model::load(file, &options, &mut |_| {}).unwrap()
}

fn generated(model: &mut Model, prompt: &Prompt<'_>) -> (Vec<u32>, String, FinishReason) {
    let options = GenerateOptions { tokens_max: Some(24), ignore_end: true, ..GenerateOptions::greedy() };
    let (mut ids, mut whole, mut end) = (Vec::new(), String::new(), None);
    for event in model.generate(prompt, &options).unwrap() {
        match event.unwrap() {
            Event::Prefill { .. } => {}
            Event::Token { id, text } => {
                ids.push(id);
                whole.push_str(&text);
            }
            Event::Finish { reason, text, .. } => {
                whole.push_str(&text);
                end = Some(reason);
            }
        }
    }
    (ids, whole, end.unwrap())
}

#[test]
fn every_architecture_answers_the_same_on_both_devices() {
    assert_eq!(metallic::models::ARCHITECTURES.len(), 6, "a new architecture joins this test by its row");
    for architecture in metallic::models::ARCHITECTURES {
        let file = || TinyModel::new(architecture.name, 3).file();
        let messages = [Message::text("user", "In the theatre?")];
        let mut answers = Vec::new();
        for (device, rows) in [(Device::Cpu, 512), (Device::Cpu, 5), (Device::Reference, 512)] {
            let mut model = load(file(), device, rows);
            let found = generated(&mut model, &Prompt::Messages(&messages));
            assert_eq!((found.0.len(), found.2), (24, FinishReason::Length), "{}", architecture.name);
            answers.push(found);
        }
        assert_eq!(answers[0], answers[1], "{}: chunks of 5", architecture.name);
        assert_eq!(answers[0], answers[2], "{}: the reference", architecture.name);
    }
}

#[test]
fn quantised_files_stay_near_the_reference() {
    for architecture in metallic::models::ARCHITECTURES {
        for format in [Format::Q4_0, Format::Q5_1, Format::Q8_0, Format::Q2_K, Format::Q4_K, Format::Q6_K, Format::BF16]
        {
            let formats = TinyFormats { head: Some(Format::Q6_K), ..TinyFormats::uniform(format) };
            let tiny = TinyModel { formats, ..TinyModel::wide(architecture.name, 3) };
            let ids: Vec<u32> = (0..40).map(|index| 11 * index % 266).collect();
            let logits = [Device::Cpu, Device::Reference].map(|device| {
                let mut model = load(tiny.file(), device, 512);
                model.engine().next_logits(&mut Sequence::default(), &ids).unwrap().to_vec()
            });
            let [fast, readable] = logits;
            let error: f64 = fast.iter().zip(&readable).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let power: f64 = readable.iter().map(|b| f64::from(*b).powi(2)).sum();
            // A layer adds up to 4 · 10⁻⁴ (`testkit::tolerance`: 10⁻⁴ about each gate, 3 to 8 · 10⁻⁵ elsewhere); there are two.
            assert!(error / power < 1e-3, "{} {}: NMSE {:.1e}", architecture.name, format.name(), error / power);
        }
    }
}

/// A scale that is no number spoils every sum it is in; the answer must not be a text all the same.
#[test]
fn weights_that_are_no_numbers_are_an_error() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut parts = TinyModel::new("qwen2", 3).parts();
        let values = parts.tensor_mut("output_norm.weight");
        values.values = Some(vec![bad; 64]);
        for device in [Device::Cpu, Device::Reference] {
            let mut model = load(parts.file(), device, 512);
            let options = GenerateOptions { tokens_max: Some(4), ..GenerateOptions::greedy() };
            let last = model.generate(&Prompt::Text("the"), &options).unwrap().last().unwrap();
            let message = last.unwrap_err().to_string();
            assert!(message.contains("logit"), "{message}");
        }
    }
}
