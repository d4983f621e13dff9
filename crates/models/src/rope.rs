//! Rotary frequencies: base, linear scaling, YaRN and per-pair divisors resolved into one table.
//!
//! Pair `i` of `d` rotated elements turns by `base^(-2i/d)` radians per position (Su et al. 2021, arXiv 2104.09864,
//! §3.2.2). Everything is `f64`, since a frequency is later multiplied by a position of up to 10⁶.

use std::f64::consts::TAU;

use program::{RopeKind, RopeTable};

/// What the metadata says about rotation.
#[derive(Clone, Debug)]
pub(crate) struct RopeConfig {
    /// Rotated elements of a head: even.
    pub(crate) dimensions: usize,
    pub(crate) base: f64,
    pub(crate) scaling: RopeScaling,
    /// Multiplies sine and cosine besides what YaRN asks for.
    pub(crate) magnitude: f32,
    /// Divides each frequency: (dimensions / 2). Llama 3.1's factors for wavelengths (low frequencies ÷ 8, high ones
    /// ÷ 1, a ramp between) come from the converter in this form.
    pub(crate) divisors: Option<Vec<f64>>,
}

/// How frequencies are stretched to a longer context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RopeScaling {
    None,
    /// Position interpolation: all frequencies ÷ `factor` (Chen et al. 2023, arXiv 2306.15595).
    Linear {
        factor: f64,
    },
    /// Peng et al. 2023, arXiv 2309.00071, §3.2 and §3.4.
    Yarn {
        factor: f64,
        original_context: usize,
        beta_fast: f64,
        beta_slow: f64,
    },
}

impl RopeConfig {
    /// The same rotation with another base and nothing else: what local layers use.
    pub(crate) fn unscaled(&self, base: f64) -> RopeConfig {
        RopeConfig {
            dimensions: self.dimensions,
            base,
            scaling: RopeScaling::None,
            magnitude: self.magnitude,
            divisors: None,
        }
    }

    pub(crate) fn table(&self, kind: RopeKind) -> RopeTable {
        let frequencies = (0..self.dimensions / 2).map(|pair| {
            let plain = self.base.powf(-2.0 * pair as f64 / self.dimensions as f64);
            let divisor = self.divisors.as_ref().map_or(1.0, |divisors| divisors[pair]);
            self.scaled(pair, plain / divisor)
        });
        let magnitude = match self.scaling {
            RopeScaling::Yarn { factor, .. } => self.magnitude * yarn_magnitude(factor),
            RopeScaling::None | RopeScaling::Linear { .. } => self.magnitude,
        };
        RopeTable { kind, frequencies: frequencies.collect(), magnitude }
    }

    fn scaled(&self, pair: usize, frequency: f64) -> f64 {
        match self.scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow } => {
                let kept = self.yarn_kept(pair, original_context, beta_fast, beta_slow);
                frequency * kept + frequency / factor * (1.0 - kept)
            }
        }
    }

    /// How much of a pair's own frequency YaRN keeps: 1 for pairs that turn more than `beta_fast` times within the
    /// original context, 0 below `beta_slow` times, and a ramp over the pairs between (§3.2, "NTK-by-parts").
    ///
    /// The ends of the ramp are whole pairs, rounded outwards, as in the authors' own code.
    fn yarn_kept(&self, pair: usize, original_context: usize, beta_fast: f64, beta_slow: f64) -> f64 {
        let pair_with_turns = |turns: f64| {
            self.dimensions as f64 * (original_context as f64 / (turns * TAU)).ln() / (2.0 * self.base.ln())
        };
        let low = pair_with_turns(beta_fast).floor().max(0.0);
        let high = pair_with_turns(beta_slow).ceil().min(self.dimensions as f64 - 1.0);
        1.0 - ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
    }
}

/// `√(1/t) = 0.1 ln(factor) + 1` (§3.4), applied to queries and keys through sine and cosine.
fn yarn_magnitude(factor: f64) -> f32 {
    if factor <= 1.0 { 1.0 } else { (0.1 * factor.ln() + 1.0) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(scaling: RopeScaling) -> RopeConfig {
        RopeConfig { dimensions: 8, base: 10_000.0, scaling, magnitude: 1.0, divisors: None }
    }

    fn assert_near(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() <= 1e-12 * expected.abs(), "{actual} is not {expected}");
        }
    }

    #[test]
    fn frequencies_fall_by_the_base() {
        let table = config(RopeScaling::None).table(RopeKind::Half);
        assert_near(&table.frequencies, &[1.0, 0.1, 0.01, 0.001]);
        assert_eq!(table.magnitude, 1.0);
    }

    #[test]
    fn linear_scaling_and_divisors_divide() {
        let mut config = config(RopeScaling::Linear { factor: 4.0 });
        config.divisors = Some(vec![1.0, 2.0, 4.0, 8.0]);
        assert_near(&config.table(RopeKind::Half).frequencies, &[0.25, 0.0125, 0.000_625, 0.000_031_25]);
    }

    /// With base 10⁴, 8 dimensions and 4096 positions, pair p turns 4096 / 2π · 10^-p times: 651.9, 65.19, 6.519, 0.652.
    /// 32 turns lie at pair 1.309 (down to 1) and 1 turn at pair 2.814 (up to 3), so pair 2 is half way.
    #[test]
    fn yarn_keeps_fast_pairs_and_interpolates_slow_ones() {
        let scaling = RopeScaling::Yarn { factor: 4.0, original_context: 4096, beta_fast: 32.0, beta_slow: 1.0 };
        let table = config(scaling).table(RopeKind::Half);
        assert_near(&table.frequencies, &[1.0, 0.1, 0.01 * 0.5 + 0.0025 * 0.5, 0.000_25]);
        assert!((table.magnitude - 1.138_629_4).abs() < 1e-6, "0.1 ln 4 + 1, not {}", table.magnitude);
    }

    #[test]
    fn local_layers_drop_every_scaling() {
        let mut config = config(RopeScaling::Linear { factor: 8.0 });
        config.divisors = Some(vec![2.0; 4]);
        let table = config.unscaled(100.0).table(RopeKind::Half);
        assert_near(&table.frequencies, &[1.0, 0.316_227_766_016_837_94, 0.1, 0.031_622_776_601_683_79]);
    }
}
