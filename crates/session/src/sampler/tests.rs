//! The chain as a whole: defaults, order of stages, determinism, the drawn distribution, and input that is refused.

use proptest::prelude::*;

use super::{Mirostat, Sampler, SamplerConfig, SamplerError};

/// Every stage off, temperature 1.
fn plain() -> SamplerConfig {
    SamplerConfig { top_k: 0, top_p: 1.0, min_p: 0.0, temperature: 1.0, ..SamplerConfig::llama_cpp_defaults() }
}

fn sampler(config: SamplerConfig, logits: &[f32], seed: u64) -> Sampler {
    Sampler::new(config, logits.len(), seed).unwrap()
}

fn draws(config: &SamplerConfig, logits: &[f32], seed: u64, count: usize) -> Vec<u32> {
    let mut sampler = sampler(config.clone(), logits, seed);
    (0..count).map(|_| sampler.sample(logits).unwrap()).collect()
}

fn seen(config: &SamplerConfig, logits: &[f32]) -> Vec<u32> {
    let mut seen = draws(config, logits, 5, 4000);
    seen.sort_unstable();
    seen.dedup();
    seen
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 9_u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u32 << 20) as f32 - 8.0
        })
        .collect()
}

#[test]
fn greedy_takes_the_first_of_the_highest() {
    let logits = [0.0, 3.0, -1.0, 3.0];
    assert_eq!(draws(&SamplerConfig::greedy(), &logits, 1, 3), [1, 1, 1]);
    let negative = SamplerConfig { temperature: -1.0, ..SamplerConfig::llama_cpp_defaults() };
    assert_eq!(draws(&negative, &logits, 1, 1), [1]);
    let mirostat = SamplerConfig { mirostat: Mirostat::V2 { tau: 5.0, eta: 0.1 }, ..SamplerConfig::greedy() };
    assert_eq!(draws(&mirostat, &logits, 1, 1), [1]);
}

#[test]
fn greedy_still_sees_bias_penalties_and_dry() {
    let logits = [0.0, 3.0, 2.5, 1.0];
    let mut banned = sampler(
        SamplerConfig { logit_bias: vec![(1, f32::NEG_INFINITY), (3, 0.5)], ..SamplerConfig::greedy() },
        &logits,
        1,
    );
    assert_eq!(banned.sample(&logits), Ok(2));
    let mut penalised = sampler(SamplerConfig { repeat_penalty: 1.5, ..SamplerConfig::greedy() }, &logits, 1);
    assert_eq!(penalised.sample(&logits), Ok(1));
    penalised.accept(1);
    assert_eq!(penalised.sample(&logits), Ok(2));
    penalised.reset();
    assert_eq!(penalised.sample(&logits), Ok(1));
    let mut dry = sampler(SamplerConfig { dry_multiplier: 1.0, ..SamplerConfig::greedy() }, &logits, 1);
    for token in [0, 3, 1, 0, 3] {
        dry.accept(token);
    }
    assert_eq!(dry.sample(&logits), Ok(2));
}

#[test]
fn greedy_after_stages_that_drop_the_top_is_the_best_that_is_left() {
    let logits = [0.4_f32, 0.3, 0.2, 0.1].map(f32::ln);
    let xtc = SamplerConfig { xtc_probability: 1.0, xtc_threshold: 0.12, ..SamplerConfig::greedy() };
    assert_eq!(draws(&xtc, &logits, 1, 1), [2]);
}

#[test]
fn penalties_forget_what_left_the_window() {
    let logits = [2.0, 1.9];
    let config = SamplerConfig { penalty_last_n: 3, presence_penalty: 1.0, ..SamplerConfig::greedy() };
    let mut limited = sampler(config.clone(), &logits, 1);
    let mut unlimited = sampler(SamplerConfig { penalty_last_n: -1, ..config }, &logits, 1);
    for step in 0..50 {
        // Token 7 is in no vocabulary of two; it only moves the window.
        let token = if step == 40 { 0 } else { 7 };
        limited.accept(token);
        unlimited.accept(token);
        let in_window = (40..43).contains(&step);
        assert_eq!(limited.sample(&logits), Ok(u32::from(in_window)), "{step}");
        assert_eq!(unlimited.sample(&logits), Ok(u32::from(step >= 40)), "{step}");
    }
}

#[test]
fn the_default_chain_is_that_of_llama_cpp() {
    let config = SamplerConfig::llama_cpp_defaults();
    config.validate().unwrap();
    // Of 100 equal tokens top-k keeps 40, of which top-p 0.95 keeps 38.
    assert_eq!(seen(&config, &[0.0; 100]), (0..38).collect::<Vec<u32>>());
    // Min-p acts before the temperature: at 0.05 the third token is out although 100 degrees would level it.
    let hot = SamplerConfig { temperature: 100.0, top_p: 1.0, ..config };
    assert_eq!(seen(&hot, &[0.96_f32, 0.05, 0.04].map(f32::ln)), [0, 1]);
}

#[test]
fn order_decides_what_is_left() {
    let logits = [0.5_f32, 0.2, 0.15, 0.1, 0.05].map(f32::ln);
    // Top-k first renormalises: two of 0.5 and 0.2 become 0.71 and 0.29, so the first alone reaches 0.7.
    let config = SamplerConfig { top_k: 2, top_p: 0.7, ..plain() };
    assert_eq!(seen(&config, &logits), [0]);
    assert_eq!(seen(&SamplerConfig { top_k: 0, ..config }, &logits), [0, 1]);
    // XTC comes after min-p, so the likely token it keeps is one that min-p let pass.
    let config = SamplerConfig { min_p: 0.35, xtc_probability: 1.0, xtc_threshold: 0.01, ..plain() };
    assert_eq!(seen(&config, &logits), [1]);
}

#[test]
fn each_stage_acts_through_the_chain() {
    let logits = [0.5_f32, 0.2, 0.15, 0.1, 0.05].map(f32::ln);
    assert_eq!(seen(&plain(), &logits), [0, 1, 2, 3, 4]);
    assert_eq!(seen(&SamplerConfig { top_k: 3, ..plain() }, &logits), [0, 1, 2]);
    assert_eq!(seen(&SamplerConfig { top_k: i32::MAX, ..plain() }, &logits), [0, 1, 2, 3, 4]);
    assert_eq!(seen(&SamplerConfig { top_p: 0.6, ..plain() }, &logits), [0, 1]);
    assert_eq!(seen(&SamplerConfig { top_p: 0.0, ..plain() }, &logits), [0]);
    assert_eq!(seen(&SamplerConfig { min_p: 0.25, ..plain() }, &logits), [0, 1, 2]);
    assert_eq!(seen(&SamplerConfig { min_p: 1.0, ..plain() }, &logits), [0]);
    assert_eq!(seen(&SamplerConfig { top_n_sigma: 0.5, ..plain() }, &logits), [0]);
    // The entropy is 1.33 nats; surprises of 1.61, 1.90, 0.69 and 2.30 follow in this order of distance.
    assert_eq!(seen(&SamplerConfig { typical_p: 0.3, ..plain() }, &logits), [1, 2]);
    assert_eq!(seen(&SamplerConfig { typical_p: 0.5, ..plain() }, &logits), [0, 1, 2]);
    assert_eq!(seen(&SamplerConfig { xtc_probability: 1.0, xtc_threshold: 0.12, ..plain() }, &logits), [2, 3, 4]);
    assert_eq!(seen(&SamplerConfig { xtc_probability: 0.5, xtc_threshold: 0.12, ..plain() }, &logits), [0, 1, 2, 3, 4]);
    assert_eq!(seen(&SamplerConfig { xtc_probability: 1.0, xtc_threshold: 0.51, ..plain() }, &logits), [0, 1, 2, 3, 4]);
}

fn numbers<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> Vec<T> {
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn leaves_the_tokens_that_llama_cpp_leaves() {
    for line in include_str!("../../tests/fixtures/llama_cpp_sampler.txt").lines() {
        let fields: Vec<&str> = line.split(';').collect();
        let settings: Vec<f32> = numbers(fields[0]);
        let logits: Vec<f32> = numbers(fields[1]);
        let config = SamplerConfig {
            penalty_last_n: settings[0] as i32,
            repeat_penalty: settings[1],
            frequency_penalty: settings[2],
            presence_penalty: settings[3],
            dry_multiplier: settings[4],
            dry_allowed_length: settings[5] as i32,
            dry_penalty_last_n: settings[6] as i32,
            top_n_sigma: settings[7],
            top_k: settings[8] as i32,
            typical_p: settings[9],
            top_p: settings[10],
            min_p: settings[11],
            xtc_probability: if settings[12] < 0.0 { 0.0 } else { 1.0 },
            xtc_threshold: settings[12].max(0.0),
            // Levels whatever is left, so that few draws find all of it.
            temperature: 1e6,
            ..SamplerConfig::llama_cpp_defaults()
        };
        let run = |config: SamplerConfig, count: usize| {
            let mut sampler = sampler(config, &logits, 1);
            numbers(fields[2]).into_iter().for_each(|token| sampler.accept(token));
            let mut drawn: Vec<u32> = (0..count).map(|_| sampler.sample(&logits).unwrap()).collect();
            drawn.sort_unstable();
            drawn.dedup();
            drawn
        };
        assert_eq!(run(config.clone(), 1500), numbers::<u32>(fields[3]), "{line}");
        assert_eq!(run(SamplerConfig { temperature: 0.0, ..config }, 1), numbers::<u32>(fields[4]), "{line}");
    }
}

#[test]
fn the_same_seed_draws_the_same_tokens() {
    let logits = noise(3000);
    let configs = [
        SamplerConfig::llama_cpp_defaults(),
        plain(),
        SamplerConfig { xtc_probability: 0.5, typical_p: 0.9, dynatemp_range: 0.5, ..plain() },
        SamplerConfig { mirostat: Mirostat::V2 { tau: 5.0, eta: 0.1 }, ..plain() },
    ];
    for config in configs {
        let first = draws(&config, &logits, 42, 50);
        assert_eq!(first, draws(&config, &logits, 42, 50));
        assert_ne!(first, draws(&config, &logits, 43, 50));
        let mut again = sampler(config, &logits, 42);
        again.sample(&logits).unwrap();
        again.reset();
        let second: Vec<u32> = (0..50).map(|_| again.sample(&logits).unwrap()).collect();
        assert_eq!(first, second);
    }
}

/// The stream of a seed never changes from one version to the next.
#[test]
fn seed_42_is_pinned() {
    let logits: Vec<f32> = (0..16_u8).map(|id| f32::from(id % 5) * 0.5).collect();
    let drawn = draws(&SamplerConfig::llama_cpp_defaults(), &logits, 42, 12);
    assert_eq!(drawn, [7, 9, 0, 13, 2, 8, 4, 8, 9, 6, 3, 7]);
}

#[test]
fn drawn_frequencies_are_the_softmax() {
    let logits = [0.0, 1.0, -1.0, 0.5, 2.0, f32::NEG_INFINITY, -0.5, 1.5];
    let temperature = 0.7;
    let count = 40_000;
    let mut observed = [0.0_f64; 8];
    for token in draws(&SamplerConfig { temperature, ..plain() }, &logits, 11, count) {
        observed[token as usize] += 1.0;
    }
    let weights = logits.map(|logit| f64::from(logit / temperature).exp());
    let sum: f64 = weights.iter().sum();
    let expected = weights.map(|weight| weight / sum * count as f64);
    assert_eq!(observed[5], 0.0);
    let chi_square: f64 = (0..8)
        .filter(|&token| token != 5)
        .map(|token| (observed[token] - expected[token]).powi(2) / expected[token])
        .sum();
    // Six degrees of freedom: 22.5 is exceeded once in a thousand seeds.
    assert!(chi_square < 22.5, "{chi_square}: {observed:?} {expected:?}");
}

#[test]
fn one_token_left_is_chosen_by_every_chain() {
    let mut logits = vec![f32::NEG_INFINITY; 50];
    logits[33] = -7.0;
    let all_on = SamplerConfig {
        typical_p: 0.5,
        top_n_sigma: 1.0,
        xtc_probability: 1.0,
        dynatemp_range: 0.5,
        repeat_penalty: 1.1,
        dry_multiplier: 0.8,
        ..SamplerConfig::llama_cpp_defaults()
    };
    let mirostat = SamplerConfig { mirostat: Mirostat::V2 { tau: 5.0, eta: 0.1 }, ..plain() };
    for config in [SamplerConfig::greedy(), SamplerConfig::llama_cpp_defaults(), plain(), all_on, mirostat] {
        assert_eq!(draws(&config, &logits, 3, 2), [33, 33], "{config:?}");
    }
}

#[test]
fn unusable_logits_are_typed_errors() {
    for config in [SamplerConfig::greedy(), SamplerConfig::llama_cpp_defaults()] {
        let mut sampler = sampler(config, &[0.0; 3], 1);
        assert!(matches!(sampler.sample(&[0.0, f32::NAN, 1.0]), Err(SamplerError::BadLogit { token: 1, .. })));
        let infinite = SamplerError::BadLogit { token: 2, logit: f32::INFINITY };
        assert_eq!(sampler.sample(&[0.0, 1.0, f32::INFINITY]), Err(infinite));
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY; 3]), Err(SamplerError::NothingLeft));
        assert_eq!(sampler.sample(&[0.0; 2]), Err(SamplerError::LogitCount { expected: 3, found: 2 }));
    }
    let ban_all = SamplerConfig { logit_bias: vec![(0, f32::NEG_INFINITY)], ..SamplerConfig::greedy() };
    assert_eq!(sampler(ban_all, &[1.0], 1).sample(&[1.0]), Err(SamplerError::NothingLeft));
}

#[test]
fn configurations_that_mean_nothing_are_refused_by_name() {
    let defaults = SamplerConfig::llama_cpp_defaults;
    let cases = [
        ("top_k", SamplerConfig { top_k: -1, ..defaults() }),
        ("top_p", SamplerConfig { top_p: 1.5, ..defaults() }),
        ("min_p", SamplerConfig { min_p: f32::NAN, ..defaults() }),
        ("typical_p", SamplerConfig { typical_p: -0.1, ..defaults() }),
        ("temperature", SamplerConfig { temperature: f32::INFINITY, ..defaults() }),
        ("repeat_penalty", SamplerConfig { repeat_penalty: 0.0, ..defaults() }),
        ("penalty_last_n", SamplerConfig { penalty_last_n: -2, ..defaults() }),
        ("dry_base", SamplerConfig { dry_base: f32::NAN, ..defaults() }),
        ("xtc_probability", SamplerConfig { xtc_probability: 2.0, ..defaults() }),
        ("mirostat.tau", SamplerConfig { mirostat: Mirostat::V2 { tau: f32::NAN, eta: 0.1 }, ..defaults() }),
    ];
    for (name, config) in cases {
        match Sampler::new(config, 10, 1) {
            Err(SamplerError::OutOfRange { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let error = SamplerConfig { top_k: -1, ..defaults() }.validate().unwrap_err();
    assert_eq!(error.to_string(), "sampler: `top_k` is -1; it has to be from 0 to 2147483647");
    let outside = SamplerConfig { logit_bias: vec![(10, 1.0)], ..defaults() };
    assert_eq!(
        Sampler::new(outside, 10, 1).unwrap_err(),
        SamplerError::LogitBiasToken { token: 10, vocabulary_len: 10 }
    );
    let nan = SamplerConfig { logit_bias: vec![(1, f32::NAN)], ..defaults() };
    assert!(matches!(nan.validate(), Err(SamplerError::LogitBias { token: 1, .. })));
    let empty = SamplerConfig { dry_sequence_breakers: vec![vec![1], vec![]], ..defaults() };
    assert_eq!(empty.validate(), Err(SamplerError::SequenceBreaker { index: 1, tokens: 0 }));
}

#[test]
fn working_memory_is_kept_between_tokens() {
    let config = SamplerConfig {
        repeat_penalty: 1.1,
        dry_multiplier: 0.8,
        typical_p: 0.9,
        xtc_probability: 0.5,
        ..SamplerConfig::llama_cpp_defaults()
    };
    let logits = noise(20_000);
    let mut sampler = sampler(config, &logits, 1);
    let mut capacities = Vec::new();
    for step in 0..500 {
        let token = sampler.sample(&logits).unwrap();
        sampler.accept(token);
        let now = [
            sampler.logits.capacity(),
            sampler.counts.capacity(),
            sampler.candidates.items.capacity(),
            sampler.typical_scratch.capacity(),
            sampler.history.tokens.capacity(),
        ];
        if step > 150 {
            assert_eq!(capacities, now);
        }
        capacities = now.to_vec();
    }
}

proptest! {
    /// Any finite logits and any valid configuration choose a token that is not banned.
    #[test]
    fn every_chain_chooses_a_token_that_may_be_chosen(
        logits in prop::collection::vec(prop_oneof![9 => -30.0_f32..30.0, 1 => Just(f32::NEG_INFINITY)], 1..64),
        (top_k, top_p, min_p, typical_p) in (0..80_i32, 0.0_f32..=1.0, 0.0_f32..=1.0, 0.0_f32..=1.0),
        (xtc_probability, xtc_threshold, temperature) in (0.0_f32..=1.0, 0.0_f32..=1.0, -0.5_f32..3.0),
        (dynatemp_range, top_n_sigma, repeat_penalty) in (0.0_f32..1.0, -1.0_f32..3.0, 0.5_f32..2.0),
        (dry_multiplier, mirostat, seed) in (0.0_f32..2.0, any::<bool>(), any::<u64>()),
        history in prop::collection::vec(0..70_u32, 0..200),
    ) {
        prop_assume!(logits.iter().any(|logit| logit.is_finite()));
        let config = SamplerConfig {
            top_k, top_p, min_p, typical_p, xtc_probability, xtc_threshold, temperature, dynatemp_range, top_n_sigma,
            repeat_penalty, dry_multiplier,
            mirostat: if mirostat { Mirostat::V2 { tau: 2.0, eta: 0.3 } } else { Mirostat::Off },
            ..SamplerConfig::llama_cpp_defaults()
        };
        let mut sampler = Sampler::new(config, logits.len(), seed).unwrap();
        history.iter().for_each(|&token| sampler.accept(token));
        for _ in 0..5 {
            let token = sampler.sample(&logits).unwrap();
            prop_assert!(logits[token as usize].is_finite());
            sampler.accept(token);
        }
    }
}

proptest! {
    /// What a device finds, put into order here, comes to the tokens of the whole vocabulary.
    #[test]
    fn likely_tokens_alone_give_the_same_draws(
        logits in prop::collection::vec(prop_oneof![-8.0_f32..8.0, Just(0.0), Just(-0.0), Just(f32::NEG_INFINITY)], 1..300),
        top_k in 1_i32..=64,
        seed in any::<u64>(),
    ) {
        prop_assume!(logits.iter().any(|logit| *logit > f32::NEG_INFINITY));
        let config = SamplerConfig { top_k, ..SamplerConfig::llama_cpp_defaults() };
        let mut whole = sampler(config.clone(), &logits, seed);
        let mut few = sampler(config, &logits, seed);
        let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.truncate(top_k as usize);
        let (draw, numbers) = few.draws(5).unwrap();
        prop_assert_eq!((draw.top_k, numbers.len()), (top_k as usize, 5));
        for number in numbers {
            prop_assert!((0.0..=1.0).contains(&number));
            prop_assert_eq!(whole.sample(&logits).unwrap(), few.sample_among(&ranked).unwrap());
        }
    }
}

#[test]
fn a_device_draws_only_for_samplers_whose_choice_lies_in_a_few_logits() {
    let logits = noise(100);
    let defaults = SamplerConfig::llama_cpp_defaults();
    assert!(sampler(defaults.clone(), &logits, 1).draws(1).is_some());
    let others = [
        SamplerConfig { top_k: 0, ..defaults.clone() },
        SamplerConfig { top_k: 65, ..defaults.clone() },
        SamplerConfig { temperature: 0.0, ..defaults.clone() },
        SamplerConfig { typical_p: 0.9, ..defaults.clone() },
        SamplerConfig { top_n_sigma: 1.0, ..defaults.clone() },
        SamplerConfig { xtc_probability: 0.5, ..defaults.clone() },
        SamplerConfig { dynatemp_range: 0.5, ..defaults.clone() },
        SamplerConfig { repeat_penalty: 1.1, ..defaults.clone() },
        SamplerConfig { dry_multiplier: 0.8, ..defaults.clone() },
        SamplerConfig { logit_bias: vec![(0, 0.0)], ..defaults.clone() },
        SamplerConfig { mirostat: Mirostat::V2 { tau: 5.0, eta: 0.1 }, ..defaults },
    ];
    for config in others {
        assert!(sampler(config.clone(), &logits, 1).draws(1).is_none(), "{config:?}");
    }
}

#[test]
fn candidates_that_are_no_numbers_are_refused_like_logits() {
    let mut sampler = sampler(SamplerConfig::llama_cpp_defaults(), &[0.0; 4], 1);
    for (candidates, token) in [([(2, f32::NAN), (0, 1.0)], 2), ([(3, f32::INFINITY), (0, 1.0)], 3)] {
        let refused = sampler.sample_among(&candidates);
        assert!(matches!(refused, Err(SamplerError::BadLogit { token: found, .. }) if found == token), "{refused:?}");
    }
    assert_eq!(sampler.sample_among(&[(1, f32::NEG_INFINITY)]), Err(SamplerError::NothingLeft));
}
