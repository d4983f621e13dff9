//! The model in the tree, from the file to the answer.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::path::PathBuf;

use metallic::gguf::GgufFile;
use metallic::perplexity::{log_sum_exp, perplexity};
use metallic::session::Sequence;
use metallic::text::EncodeOptions;
use metallic::{
    Device, Event, FinishReason, GenerateOptions, LoadOptions, Message, Model, Prompt, SamplerConfig, Speculation,
};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/storyteller"))
}

fn load(options: &LoadOptions) -> Model {
    let file = GgufFile::open(folder().join("metallic-storyteller-Q8_0.gguf")).unwrap();
    Model::load(file, options, &mut |_| {}).unwrap()
}

fn model() -> Model {
    load(&LoadOptions { threads: Some(2), ..LoadOptions::new() })
}

/// What a generation came to.
#[derive(Debug, PartialEq)]
struct Answer {
    ids: Vec<u32>,
    text: String,
    reason: FinishReason,
}

fn answer(model: &mut Model, prompt: &Prompt<'_>, options: &GenerateOptions) -> Answer {
    let (mut ids, mut whole) = (Vec::new(), String::new());
    for event in model.generate(prompt, options).unwrap() {
        match event.unwrap() {
            Event::Prefill { done, total } => assert!(done <= total),
            Event::Token { id, text } => {
                ids.push(id);
                whole.push_str(&text);
            }
            Event::Finish { reason, text, .. } => {
                whole.push_str(&text);
                return Answer { ids, text: whole, reason };
            }
        }
    }
    panic!("a generation ends with a finish event")
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
}

/// Compares the greedy answers of `model` with llama.cpp's, token by token.
fn answers_are_those_of_llama_cpp(model: &mut Model, ways: &[Speculation]) {
    let text = std::fs::read_to_string(folder().join("greedy-Q8_0.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for case in cases["cases"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let options = EncodeOptions { add_special: true, parse_special: true };
        let ids = model.tokenizer().encode(prompt, options).ids;
        assert_eq!(ids, numbers(&case["prompt_ids"]), "{prompt:?}");

        let expected = numbers(&case["greedy"]);
        let margins: Vec<f64> = case["margins"].as_array().unwrap().iter().map(|m| m.as_f64().unwrap()).collect();
        // Where the best two are near each other, another order of summing may choose the other.
        let sure = margins.iter().position(|margin| *margin < 0.1).unwrap_or(expected.len());
        let ends = model.tokenizer().is_end(*expected.last().unwrap());
        for &speculation in ways {
            let options = GenerateOptions {
                tokens_max: Some(expected.len()),
                speculation: Some(speculation),
                ..GenerateOptions::greedy()
            };
            let found = answer(model, &Prompt::Tokens(&ids), &options);
            // The id that ends an answer is no part of it.
            let told = if ends { expected.len() - 1 } else { expected.len() };
            let sure = sure.min(told);
            assert_eq!(found.ids[..sure], expected[..sure], "{prompt:?} {speculation:?}");
            if sure == told {
                let reason = if ends { FinishReason::Stop } else { FinishReason::Length };
                assert_eq!((found.ids.len(), found.reason), (told, reason), "{prompt:?}");
            }
            compared += sure;
        }
    }
    assert!(compared > ways.len() * 380, "{compared} ids compared");
}

#[test]
fn greedy_answers_are_those_of_llama_cpp() {
    answers_are_those_of_llama_cpp(&mut model(), &[Speculation::Off, Speculation::PromptLookup]);
}

/// Also software that plays a GPU. Where there is none, nothing is checked; `metallic-wgpu` has a test for machines that
/// must have one.
#[test]
fn every_gpu_here_answers_like_llama_cpp_and_like_the_cpu() {
    let gpus: Vec<_> = metallic::device::gpus().into_iter().filter(|gpu| gpu.missing.is_none()).collect();
    if gpus.is_empty() {
        eprintln!("no GPU and no software Vulkan here: nothing was checked");
    }
    let options = GenerateOptions { tokens_max: Some(48), ..GenerateOptions::greedy() };
    let expected = answer(&mut model(), &Prompt::Text("Once upon a time"), &options);
    for gpu in gpus {
        let mut model = load(&LoadOptions { device: Device::Named(gpu.name.clone()), ..LoadOptions::new() });
        let placement = model.placement().clone();
        assert_eq!((placement.backend, placement.gpu.as_ref()), ("gpu", Some(&gpu)), "{placement}");
        assert_eq!(answer(&mut model, &Prompt::Text("Once upon a time"), &options), expected, "{gpu}");
        answers_are_those_of_llama_cpp(&mut model, &[Speculation::Off]);
    }
}

/// A bias of nothing makes the host draw; the device's own draws must be the same.
#[test]
fn every_gpu_here_draws_the_tokens_that_the_host_draws() {
    for gpu in metallic::device::gpus().into_iter().filter(|gpu| gpu.missing.is_none()) {
        let mut model = load(&LoadOptions { device: Device::Named(gpu.name.clone()), ..LoadOptions::new() });
        for seed in 1..=3 {
            let options = GenerateOptions { tokens_max: Some(40), seed: Some(seed), ..GenerateOptions::new() };
            let sampler = SamplerConfig { logit_bias: vec![(0, 0.0)], ..options.sampler.clone() };
            let by_host = GenerateOptions { sampler, ..options.clone() };
            let prompt = Prompt::Text("Once upon a time");
            let drawn = answer(&mut model, &prompt, &options);
            assert_eq!(drawn, answer(&mut model, &prompt, &by_host), "{gpu}, seed {seed}");
        }
    }
}

#[test]
fn a_gpu_is_taken_unasked_only_where_there_is_one_in_hardware() {
    let model = load(&LoadOptions { device: Device::Auto, ..LoadOptions::new() });
    let hardware = metallic::device::gpus().into_iter().find(metallic::device::is_taken_unasked);
    assert_eq!(model.placement().gpu, hardware);
    assert_eq!(model.placement().backend, if hardware.is_some() { "gpu" } else { "cpu" });
}

#[test]
fn a_budget_that_is_too_small_is_refused_on_every_device() {
    let gpus = metallic::device::gpus().into_iter().filter(|gpu| gpu.missing.is_none());
    let devices = gpus.map(|gpu| Device::Named(gpu.name)).chain([Device::Auto, Device::Cpu]);
    for device in devices {
        let options = LoadOptions { device: device.clone(), memory_bytes: Some(1 << 20), ..LoadOptions::new() };
        let file = GgufFile::open(folder().join("metallic-storyteller-Q8_0.gguf")).unwrap();
        let error = Model::load(file, &options, &mut |_| {}).err().unwrap();
        assert_eq!(error.kind(), "does_not_fit", "{device:?}");
    }
}

#[test]
fn a_chat_answer_ends_by_itself_and_joins_the_history() {
    let mut model = model();
    let mut chat = model.chat(GenerateOptions::greedy());
    let mut reasons = Vec::new();
    for question in ["Hello!", "Tell me a story about a fox and a crow."] {
        for event in chat.say(question).unwrap() {
            if let Event::Finish { reason, .. } = event.unwrap() {
                reasons.push(reason);
            }
        }
    }
    assert_eq!(reasons, [FinishReason::Stop; 2]);
    let roles: Vec<&str> = chat.messages().iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    let messages = chat.messages().to_vec();
    assert!(!format!("{messages:?}").contains("<|im_end|>"));
    // By llama.cpp, greedy: the second case with "Hello!" in greedy-Q8_0.json.
    let hello = Message::text("assistant", "Hello! Shall I tell you a story? You may choose who is in it.");
    assert_eq!(messages[1], hello);
}

#[test]
fn a_stop_text_ends_the_answer_and_is_no_part_of_it() {
    let mut model = model();
    let free = GenerateOptions { tokens_max: Some(60), ..GenerateOptions::greedy() };
    let whole = answer(&mut model, &Prompt::Text("Once upon a time"), &free).text;
    // Across the border of two tokens, and in the middle of one.
    for (from, to) in [(40, 52), (71, 73)] {
        let stop = whole[from..to].to_owned();
        let options = GenerateOptions { stop: vec!["never said".to_owned(), stop.clone()], ..free.clone() };
        let found = answer(&mut model, &Prompt::Text("Once upon a time"), &options);
        assert_eq!(found.text, whole[..whole.find(&stop).unwrap()], "{stop:?}");
        assert_eq!(found.reason, FinishReason::Stop);
    }
}

#[test]
fn a_seed_repeats_an_answer_and_another_seed_gives_another() {
    let options = |seed| GenerateOptions { tokens_max: Some(40), seed: Some(seed), ..GenerateOptions::new() };
    let mut model = model();
    let prompt = Prompt::Text("In a little house");
    let first = answer(&mut model, &prompt, &options(1));
    assert_ne!(first, answer(&mut model, &prompt, &options(2)));
    assert_eq!(first, answer(&mut model, &prompt, &options(1)));
    let mut alone = load(&LoadOptions { threads: Some(1), rows: Some(3), ..LoadOptions::new() });
    assert_eq!(first, answer(&mut alone, &prompt, &options(1)), "one thread, chunks of three");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_figures() {
    let mut model = load(&LoadOptions { context: Some(16), ..LoadOptions::new() });
    let ids = vec![300; 17];
    let error = model.generate(&Prompt::Tokens(&ids), &GenerateOptions::greedy()).err().unwrap();
    assert_eq!(error.kind(), "context_overflow");
    assert_eq!(
        error.to_string(),
        "the context holds 16 tokens; 0 are used and 17 more were given: shorten the prompt or load with a larger \
         context (the model allows 1024)"
    );
    // An answer that reaches the end of the context ends there: the last token told needs no position.
    let options = GenerateOptions { ignore_end: true, ..GenerateOptions::greedy() };
    let full = answer(&mut model, &Prompt::Tokens(&ids[..10]), &options);
    assert_eq!((full.ids.len(), full.reason), (7, FinishReason::Length));
}

#[test]
fn a_generation_dropped_in_its_prefill_leaves_the_model_usable() {
    let mut model = load(&LoadOptions { rows: Some(8), threads: Some(2), ..LoadOptions::new() });
    let long: Vec<u32> = (0..40).map(|index| 300 + 7 * index).collect();
    let options = GenerateOptions { tokens_max: Some(20), ..GenerateOptions::greedy() };
    let expected = answer(&mut model, &Prompt::Tokens(&long), &options);

    let mut fresh = load(&LoadOptions { rows: Some(8), threads: Some(2), ..LoadOptions::new() });
    let mut generation = fresh.generate(&Prompt::Tokens(&long), &options).unwrap();
    assert_eq!(generation.next().unwrap().unwrap(), Event::Prefill { done: 8, total: 40 });
    assert_eq!(generation.next().unwrap().unwrap(), Event::Prefill { done: 16, total: 40 });
    drop(generation);
    let mut generation = fresh.generate(&Prompt::Tokens(&long), &options).unwrap();
    assert_eq!(generation.next().unwrap().unwrap(), Event::Prefill { done: 8, total: 24 }, "16 are kept");
    drop(generation);
    // Another beginning, in its answer; then the first again.
    let mut generation = fresh.generate(&Prompt::Text("The old king had three sons"), &options).unwrap();
    while !matches!(generation.next().unwrap().unwrap(), Event::Token { .. }) {}
    drop(generation);
    assert_eq!(answer(&mut fresh, &Prompt::Tokens(&long), &options), expected);
}

#[test]
fn perplexity_is_what_the_readable_backend_says() {
    // Stories by the model itself, and a text that it never saw. In 60 tokens the noise of 8-bit activations is some 0.5 % of the
    // perplexity; in ten times as many, most of which it expects, a tenth of that is left.
    let mut writer = model();
    let options = GenerateOptions { tokens_max: Some(250), ..GenerateOptions::greedy() };
    let beginnings = ["Once upon a time", "The old king had three sons", "A fox and a crow", "One morning the miller"];
    let stories = beginnings.map(|beginning| {
        let story = answer(&mut writer, &Prompt::Text(beginning), &options);
        format!("{beginning}{}\n", story.text)
    });
    let seen = "Once upon a time there was a crow who had found a piece of cheese. She sat down on a high branch to \
        eat it in peace. Just then a fox came by, and she was very hungry. "
        .repeat(3);
    let unseen = "Files are hostile. Every count, length, offset and product is bounded by the bytes that are left.";
    let text = stories.concat() + &seen + unseen;
    let mut figures = Vec::new();
    for device in [Device::Cpu, Device::Reference] {
        let mut model = load(&LoadOptions { device, threads: Some(2), ..LoadOptions::new() });
        figures.push(perplexity(&mut model, &text, 32, &mut |_, _, _| {}).unwrap());
    }
    let [fast, readable] = figures[..] else { panic!("two devices") };
    assert_eq!((fast.tokens, fast.chunks), (readable.tokens, readable.chunks));
    assert_eq!(fast.tokens, fast.chunks * 15);
    assert!((fast.perplexity / readable.perplexity - 1.0).abs() < 0.002, "{fast:?} {readable:?}");
}

#[test]
fn log_probabilities_sum_to_one() {
    let mut model = model();
    let ids = model.encode(&Prompt::Text("Once upon a time")).unwrap();
    let engine = model.engine();
    let logits = engine.next_logits(&mut Sequence::default(), &ids).unwrap();
    let whole = log_sum_exp(logits);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - whole).exp()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
}
