//! `/set`: settings of the conversation by the names of their flags.

use std::str::FromStr;

use metallic::GenerateOptions;

use super::command::problem;

/// A setting's name, how it is shown, and how it is changed.
struct Setting {
    name: &'static str,
    get: fn(&GenerateOptions) -> String,
    set: fn(&mut GenerateOptions, &str) -> Option<()>,
}

macro_rules! number {
    ($name:literal, $field:ident) => {
        Setting {
            name: $name,
            get: |options| options.sampler.$field.to_string(),
            set: |options, text| parse(text).map(|value| options.sampler.$field = value),
        }
    };
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "n-predict",
        get: |options| or_minus_one(options.tokens_max),
        set: |options, text| unless_minus_one(text).map(|value| options.tokens_max = value),
    },
    Setting {
        name: "seed",
        get: |options| or_minus_one(options.seed),
        set: |options, text| unless_minus_one(text).map(|value| options.seed = value),
    },
    number!("temp", temperature),
    number!("top-k", top_k),
    number!("top-p", top_p),
    number!("min-p", min_p),
    number!("typical", typical_p),
    number!("top-n-sigma", top_n_sigma),
    number!("repeat-penalty", repeat_penalty),
    number!("repeat-last-n", penalty_last_n),
    number!("presence-penalty", presence_penalty),
    number!("frequency-penalty", frequency_penalty),
    number!("dry-multiplier", dry_multiplier),
    number!("dry-base", dry_base),
    number!("dry-allowed-length", dry_allowed_length),
    number!("dry-penalty-last-n", dry_penalty_last_n),
    number!("xtc-probability", xtc_probability),
    number!("xtc-threshold", xtc_threshold),
    number!("dynatemp-range", dynatemp_range),
    number!("dynatemp-exp", dynatemp_exponent),
];

/// All settings, one a line.
pub(super) fn list(options: &GenerateOptions) -> String {
    let line = |setting: &Setting| format!("  {:<20} {}", setting.name, (setting.get)(options));
    SETTINGS.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Changes one; a value that means nothing changes nothing.
pub(super) fn set(options: &mut GenerateOptions, name: &str, value: &str) -> anyhow::Result<()> {
    let setting = SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .ok_or_else(|| problem(format!("there is no setting {name}; /set alone lists them")))?;
    let mut changed = options.clone();
    (setting.set)(&mut changed, value).ok_or_else(|| problem(format!("{value} is no value for {name}")))?;
    changed.sampler.validate().map_err(|error| problem(error.to_string()))?;
    *options = changed;
    Ok(())
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn or_minus_one<T: ToString>(value: Option<T>) -> String {
    value.map_or("-1".to_owned(), |value| value.to_string())
}

fn unless_minus_one<T: FromStr>(text: &str) -> Option<Option<T>> {
    if text == "-1" { Some(None) } else { parse(text).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_and_show() {
        let mut options = GenerateOptions::new();
        for (name, value) in [("temp", "0.25"), ("top-k", "7"), ("seed", "9"), ("n-predict", "3")] {
            set(&mut options, name, value).unwrap();
            assert!(list(&options).contains(&format!("  {name:<20} {value}")), "{}", list(&options));
        }
        assert_eq!((options.sampler.top_k, options.seed, options.tokens_max), (7, Some(9), Some(3)));
        set(&mut options, "seed", "-1").unwrap();
        assert_eq!(options.seed, None);
    }

    #[test]
    fn values_without_meaning_change_nothing() {
        let mut options = GenerateOptions::new();
        for (name, value) in [("temp", "hot"), ("top-p", "2"), ("nothing", "1"), ("seed", "-2"), ("temp", "nan")] {
            assert!(set(&mut options, name, value).is_err(), "{name} {value}");
        }
        assert_eq!(options, GenerateOptions::new());
    }
}
