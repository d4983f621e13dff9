//! Real models against what llama.cpp says about them (`fixtures/oracle`). The files are fetched by a script, so every
//! test here is ignored by default; together they take one or two minutes, in a release or not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use metallic::gguf::GgufFile;
use metallic::perplexity::{log_sum_exp, perplexity};
use metallic::session::Sequence;
use metallic::text::chat_template::{ChatTemplate, Content, DateTime, Message, RenderInput};
use metallic::text::{DecodeOptions, EncodeOptions, Tokenizer};
use metallic::{Device, LoadOptions, Model};
use serde_json::Value;

const SMOLLM2: Real = Real { oracle: "smollm2", stored: "smollm2-q4_1", file: "SmolLM2-135M-Instruct.Q4_1.gguf" };
const GEMMA3: Real = Real { oracle: "gemma3", stored: "gemma3-q4_k_m", file: "gemma-3-270m-q4_k_m.gguf" };

/// A model and the names of its fixtures.
#[derive(Clone, Copy)]
struct Real {
    oracle: &'static str,
    /// What llama.cpp computed from the file as it is stored.
    stored: &'static str,
    file: &'static str,
}

/// Where `scripts/real-models.sh` puts the files.
#[expect(clippy::disallowed_methods, reason = "tests find the files that a script fetched")]
fn models() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
    from("METALLIC_TEST_MODELS").unwrap_or_else(|| cache().unwrap().join("metallic/test-models"))
}

fn open(file: &str) -> GgufFile {
    let path = models().join(file);
    GgufFile::open(&path).unwrap_or_else(|error| panic!("{}: {error}; run scripts/real-models.sh", path.display()))
}

fn load(real: Real, options: &LoadOptions) -> Model {
    Model::load(open(real.file), options, &mut |_| {}).unwrap()
}

/// Enough context for every prompt and chunk of the fixtures.
fn options() -> LoadOptions {
    LoadOptions { context: Some(1024), ..LoadOptions::new() }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/oracle")).join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn ids_of(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
}

/// The best ids of one step with their logits, best first, and the logarithm of the sum of all exponentials.
struct Top {
    best: Vec<(u32, f64)>,
    log_sum_exp: f64,
}

impl Top {
    fn read(step: &Value) -> Top {
        let logits = step["logits"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
        let best = ids_of(&step["ids"]).into_iter().zip(logits).collect();
        Top { best, log_sum_exp: step["log_sum_exp"].as_f64().unwrap() }
    }

    fn of(logits: &[f32]) -> Top {
        let mut best: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|logit| f64::from(*logit))).collect();
        best.select_nth_unstable_by(20, |a, b| b.1.total_cmp(&a.1));
        best.truncate(20);
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        Top { best, log_sum_exp: log_sum_exp(logits) }
    }
}

/// Differences of log-probabilities to the truth, over the ids that both top lists hold.
#[derive(Debug, Default)]
struct Differences {
    squares: f64,
    count: usize,
    largest: f64,
    steps: usize,
    /// Steps at which the truth's first two are more than ½ apart, and those of them with another best id.
    clear: usize,
    clear_missed: usize,
}

impl Differences {
    fn add(&mut self, found: &Top, truth: &Top) {
        let truths: HashMap<u32, f64> = truth.best.iter().map(|(id, logit)| (*id, logit - truth.log_sum_exp)).collect();
        for (id, logit) in &found.best {
            if let Some(truth) = truths.get(id) {
                let difference = logit - found.log_sum_exp - truth;
                self.squares += difference * difference;
                self.count += 1;
                self.largest = self.largest.max(difference.abs());
            }
        }
        self.steps += 1;
        if truth.best[0].1 - truth.best[1].1 > 0.5 {
            self.clear += 1;
            self.clear_missed += usize::from(found.best[0].0 != truth.best[0].0);
        }
    }

    fn rms(&self) -> f64 {
        (self.squares / self.count as f64).sqrt()
    }
}

fn prompts(name: &str) -> Vec<Value> {
    json(&format!("logits/{name}.json"))["prompts"].as_array().unwrap().clone()
}

fn tops(prompt: &Value) -> Vec<Top> {
    prompt["steps"].as_array().unwrap().iter().map(Top::read).collect()
}

/// Runs every prompt of at most `longest` tokens along the path that the fixtures take, and compares each step.
fn along_the_path(real: Real, model: &mut Model, longest: usize) -> Differences {
    let mut differences = Differences::default();
    for prompt in prompts(&format!("{}-f32ref", real.oracle)) {
        let mut tokens = ids_of(&prompt["tokens"]);
        let encoding = EncodeOptions {
            add_special: prompt["add_special"].as_bool().unwrap(),
            parse_special: prompt["parse_special"].as_bool().unwrap(),
        };
        let text = prompt["text"].as_str().unwrap();
        assert_eq!(model.tokenizer().encode(text, encoding).ids, tokens, "ids of prompt {}", prompt["id"]);
        if tokens.len() > longest {
            continue;
        }
        let first = tokens.len() - 1;
        tokens.extend(ids_of(&prompt["forced"]));
        let truth = tops(&prompt);
        let mut sequence = Sequence::default();
        let engine = model.engine();
        let wanted = |position| position >= first;
        let mut compare = |position: usize, logits: &[f32]| {
            differences.add(&Top::of(logits), &truth[position - first]);
        };
        engine.all_logits(&mut sequence, &tokens, &wanted, &mut compare).unwrap();
        engine.truncate(&mut sequence, 0);
    }
    differences
}

/// What llama.cpp itself differs by when it runs the file as it is stored.
fn llama_cpp(real: Real) -> Differences {
    let mut differences = Differences::default();
    for (stored, truth) in prompts(real.stored).iter().zip(prompts(&format!("{}-f32ref", real.oracle))) {
        assert_eq!((&stored["id"], &stored["forced"]), (&truth["id"], &truth["forced"]));
        for (stored, truth) in tops(stored).iter().zip(tops(&truth)) {
            differences.add(stored, &truth);
        }
    }
    differences
}

fn the_cpu_is_as_near_the_truth_as_llama_cpp(real: Real) {
    let found = along_the_path(real, &mut load(real, &options()), usize::MAX);
    let theirs = llama_cpp(real);
    assert_eq!((found.steps, found.clear_missed), (4 * 65, 0), "{found:?}");
    assert!(found.clear > 150 && found.count > 4000, "{found:?}");
    assert!(found.rms() <= theirs.rms(), "rms {} against {}: {found:?} {theirs:?}", found.rms(), theirs.rms());
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn smollm2_on_the_cpu_is_as_near_the_truth_as_llama_cpp() {
    the_cpu_is_as_near_the_truth_as_llama_cpp(SMOLLM2);
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn gemma3_on_the_cpu_is_as_near_the_truth_as_llama_cpp() {
    the_cpu_is_as_near_the_truth_as_llama_cpp(GEMMA3);
}

/// The first GPU, or software that plays one, along the shorter prompts.
#[expect(clippy::print_stderr, reason = "says that nothing was checked")]
fn the_gpu_is_as_near_the_truth_as_llama_cpp(real: Real) {
    let Some(gpu) = metallic::device::gpus().into_iter().find(|gpu| gpu.missing.is_none()) else {
        eprintln!("no GPU and no software Vulkan here: nothing was checked");
        return;
    };
    let options = LoadOptions { device: Device::Named(gpu.name), logit_rows: 65, ..options() };
    let found = along_the_path(real, &mut load(real, &options), 60);
    let theirs = llama_cpp(real);
    assert_eq!((found.steps, found.clear_missed), (3 * 65, 0), "{found:?}");
    assert!(found.rms() <= theirs.rms(), "rms {} against {}: {found:?} {theirs:?}", found.rms(), theirs.rms());
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn smollm2_on_a_gpu_is_as_near_the_truth_as_llama_cpp() {
    the_gpu_is_as_near_the_truth_as_llama_cpp(SMOLLM2);
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn gemma3_on_a_gpu_is_as_near_the_truth_as_llama_cpp() {
    the_gpu_is_as_near_the_truth_as_llama_cpp(GEMMA3);
}

/// F32 on both sides: what is left is the order of sums, and half-precision tables in llama.cpp's activations.
fn the_reference_is_the_truth(real: Real) {
    let options = LoadOptions { device: Device::Reference, logit_rows: 65, ..options() };
    let found = along_the_path(real, &mut load(real, &options), 60);
    assert_eq!((found.steps, found.clear_missed), (3 * 65, 0), "{found:?}");
    assert!(found.rms() < 2e-3, "rms {}: {found:?}", found.rms());
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn smollm2_on_the_reference_is_llama_cpp_in_f32() {
    the_reference_is_the_truth(SMOLLM2);
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn gemma3_on_the_reference_is_llama_cpp_in_f32() {
    the_reference_is_the_truth(GEMMA3);
}

fn perplexity_is_that_of_the_weights(real: Real) {
    let figures = json("perplexity/figures.json");
    let models = figures["models"].as_array().unwrap();
    let figure = models.iter().find(|figure| figure["file"] == real.file).unwrap();
    let text = std::fs::read_to_string(fixture("perplexity/licences.txt")).unwrap();
    let mut model = load(real, &LoadOptions { logit_rows: 256, ..options() });
    let chunk = figures["context"].as_u64().unwrap() as usize;
    let found = perplexity(&mut model, &text, chunk, &mut |_, _, _| {}).unwrap();
    assert_eq!(found.chunks as u64, figure["chunks"].as_u64().unwrap());
    let (truth, stored) = (figure["perplexity_f32"].as_f64().unwrap(), figure["perplexity"].as_f64().unwrap());
    let off = |perplexity: f64| (perplexity / truth - 1.0).abs();
    assert!(off(found.perplexity) < 0.003, "{found:?}, the truth is {truth}, llama.cpp as stored has {stored}");
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn smollm2_has_the_perplexity_of_its_weights() {
    perplexity_is_that_of_the_weights(SMOLLM2);
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn gemma3_has_the_perplexity_of_its_weights() {
    perplexity_is_that_of_the_weights(GEMMA3);
}

fn check_vocabulary(name: &str) {
    let cases = json(&format!("tokenizer/{name}.json"));
    let file = open(cases["file"].as_str().unwrap());
    let tokenizer = Tokenizer::from_gguf(file.metadata(), None).unwrap();
    let mut encoder = tokenizer.encoder();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 150, "{name}");
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let plain = ids_of(&case["ids"]);
        let parsed = case.get("ids_parse_special").map_or_else(|| plain.clone(), ids_of);
        let mut encode =
            |add_special, parse_special| encoder.encode(text, EncodeOptions { add_special, parse_special }).ids;
        assert_eq!(encode(false, false), plain, "{name} {text:?}");
        assert_eq!(encode(false, true), parsed, "{name} {text:?}, special tokens parsed");
        if let Some(added) = case.get("ids_add_special") {
            assert_eq!(encode(true, true), ids_of(added), "{name} {text:?}, special tokens added");
        }
        let back = tokenizer.decode(&parsed, DecodeOptions { skip_special: false, clean_spaces: true });
        assert_eq!(back, case.get("detokenised").map_or(text, |back| back.as_str().unwrap()), "{name} {parsed:?}");
    }
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn the_models_vocabularies_give_llama_cpps_ids() {
    for name in ["smollm2", "gemma3"] {
        check_vocabulary(name);
    }
}

#[test]
#[ignore = "needs scripts/real-models.sh --vocabularies"]
fn other_vocabularies_give_llama_cpps_ids() {
    for name in ["qwen2", "llama-bpe", "gpt-2", "llama-spm"] {
        check_vocabulary(name);
    }
}

/// The cases that llama.cpp keeps beside its vocabularies: texts in `.inp`, ids in `.out`.
#[test]
#[ignore = "needs scripts/real-models.sh --vocabularies"]
fn every_vocabulary_passes_llama_cpps_own_cases() {
    let mut vocabularies = 0;
    for entry in std::fs::read_dir(models()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(texts) = std::fs::read_to_string(path.with_extension("gguf.inp")) else {
            continue;
        };
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        vocabularies += 1;
        let ids = std::fs::read_to_string(path.with_extension("gguf.out")).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let tokenizer = Tokenizer::from_gguf(file.metadata(), None).unwrap();
        let mut encoder = tokenizer.encoder();
        for (text, ids) in texts.split("\n__ggml_vocab_test__\n").zip(ids.split('\n')) {
            let expected: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let options = EncodeOptions { add_special: false, parse_special: false };
            assert_eq!(encoder.encode(text, options).ids, expected, "{} {text:?}", path.display());
        }
    }
    assert_eq!(vocabularies, 15);
}

fn fnv1a(text: &str) -> String {
    let fold = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

fn message_of(json: &Value) -> Message {
    let mut fields = json.as_object().unwrap().clone();
    let content = match fields.remove("content") {
        Some(Value::String(text)) => Content::Text(text),
        Some(Value::Array(parts)) => Content::Parts(parts),
        _ => Content::Absent,
    };
    let role = fields.remove("role").unwrap().as_str().unwrap().to_owned();
    Message { role, content, fields }
}

#[test]
#[ignore = "needs scripts/real-models.sh --vocabularies"]
fn chat_templates_render_as_jinja2_renders_them() {
    let (cases, expected) = (json("templates/cases.json"), json("templates/expected.json"));
    let expected = expected.as_object().unwrap();
    assert_eq!(expected.len(), 70);
    let now = DateTime { year: 2026, month: 1, day: 2, hour: 3, minute: 4, second: 5 };
    for (name, expected) in expected {
        let template = ChatTemplate::compile(&std::fs::read_to_string(models().join("templates").join(name)).unwrap());
        for (case, input) in cases.as_object().unwrap() {
            let messages: Vec<Message> = input["messages"].as_array().unwrap().iter().map(message_of).collect();
            let input = RenderInput {
                messages: &messages,
                add_generation_prompt: input["add_generation_prompt"].as_bool().unwrap(),
                bos_token: "<s>",
                eos_token: "</s>",
                tools: input.get("tools"),
                extra: &input["extra"].as_object().cloned().unwrap_or_default(),
                now: Some(now),
            };
            let found = match template.as_ref().map(|template| template.render(&input)) {
                Ok(Ok(_)) if expected[case] == "rendered by us only" => "rendered by us only".to_owned(),
                Ok(Ok(text)) => fnv1a(&text),
                Ok(Err(_)) | Err(_) => "error".to_owned(),
            };
            assert_eq!(found, expected[case], "{name}, {case}");
        }
    }
}

/// Logits of every eighth token of a prompt, as bits.
fn bits(model: &mut Model, tokens: &[u32]) -> Vec<u32> {
    let mut bits = Vec::new();
    let mut sequence = Sequence::default();
    let engine = model.engine();
    let mut keep = |_, logits: &[f32]| bits.extend(logits.iter().map(|logit| logit.to_bits()));
    engine.all_logits(&mut sequence, tokens, &|position| position % 8 == 7, &mut keep).unwrap();
    engine.truncate(&mut sequence, 0);
    bits
}

fn long_prompt(real: Real) -> Vec<u32> {
    let prompts = prompts(real.stored);
    let prompt = prompts.iter().find(|prompt| prompt["id"] == "long-600").unwrap();
    ids_of(&prompt["tokens"])
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn threads_and_chunks_change_no_bit_of_a_real_model() {
    for real in [SMOLLM2, GEMMA3] {
        let tokens = &long_prompt(real)[..200];
        let expected = bits(&mut load(real, &LoadOptions { threads: Some(1), ..options() }), tokens);
        for (threads, rows) in [(2, 512), (2, 64), (1, 7), (3, 65)] {
            let mut model = load(real, &LoadOptions { threads: Some(threads), rows: Some(rows), ..options() });
            let same = bits(&mut model, tokens) == expected;
            assert!(same, "{}: {threads} threads, chunks of {rows}", real.file);
        }
    }
}

#[test]
#[ignore = "needs scripts/real-models.sh"]
fn sequences_in_one_batch_get_what_they_get_alone() {
    for real in [SMOLLM2, GEMMA3] {
        let mut model = load(real, &options());
        let vocabulary = model.program().sizes.vocabulary;
        let tokens = long_prompt(real);
        // Beginnings of different lengths, one of them over a page; then four tokens more, one by one.
        let parts = [&tokens[..70], &tokens[100..105], &tokens[300..317]];
        let more = 4;
        let engine = model.engine();
        let mut alone = Vec::new();
        for part in parts {
            let mut sequence = Sequence::default();
            let (start, rest) = part.split_at(part.len() - more);
            engine.extend(&mut sequence, start).unwrap();
            alone.push(
                rest.iter().map(|t| engine.next_logits(&mut sequence, &[*t]).unwrap().to_vec()).collect::<Vec<_>>(),
            );
            engine.truncate(&mut sequence, 0);
        }
        let mut sequences = parts.map(|_| Sequence::default());
        for (sequence, part) in sequences.iter_mut().zip(parts) {
            engine.extend(sequence, &part[..part.len() - more]).unwrap();
        }
        for step in 0..more {
            let next = parts.map(|part| part[part.len() - more + step]);
            let mut rows: Vec<_> = sequences.iter_mut().zip(next).collect();
            let logits = engine.batch_logits(&mut rows).unwrap();
            for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
                assert!(logits == alone[row][step], "{}: sequence {row}, step {step}", real.file);
            }
        }
    }
}
