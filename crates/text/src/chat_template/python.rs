//! Python's string, list and dict methods, with every method paid for in fuel before it runs.
//!
//! The engine charges for the size of what a method returns, which is too late for one that returns terabytes.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// One unit of fuel pays for this many bytes of text that a method reads.
const BYTES_PER_FUEL: usize = 64;

/// `'{:>9}'.format(…)` may pad no further than this, and `indent` no line.
const FORMAT_WIDTH_MAX: usize = 1000;

/// `text | indent(width=4, first=false, blank=false)` as in Jinja2 3.1, which keeps a line break at the end where the
/// engine's own filter drops it.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
pub(super) fn indent(
    state: &State<'_, '_>,
    text: &str,
    positional: Rest<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let argument = |place: usize, name| match positional.get(place) {
        Some(value) => Ok(Some(value.clone())),
        None => kwargs.get::<Option<Value>>(name),
    };
    let width = argument(0, "width")?;
    let first = argument(1, "first")?.is_some_and(|value| value.is_true());
    let blank = argument(2, "blank")?.is_some_and(|value| value.is_true());
    kwargs.assert_all_used()?;
    let indentation = match &width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(width.clone())?.min(FORMAT_WIDTH_MAX + 1)),
        },
    };
    if indentation.len() > FORMAT_WIDTH_MAX {
        let message = format!("indent: more than {FORMAT_WIDTH_MAX} bytes for each line");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let bytes = text.len() + text.split(is_line_end).count() * indentation.len();
    state.consume_fuel(1 + (bytes / BYTES_PER_FUEL) as u64)?;
    // Jinja2 adds a line break and splits into lines, so that the last line is the text after the last break.
    let text = text.replace("\r\n", "\n");
    let mut out = String::with_capacity(bytes);
    for (number, line) in text.split(is_line_end).enumerate() {
        let wanted = if number == 0 { first } else { blank || !line.is_empty() };
        if number > 0 {
            out.push('\n');
        }
        if wanted {
            out.push_str(&indentation);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// Where Python's `splitlines` splits, besides between CR and LF.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) fn method(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return match (value.kind(), method) {
            (ValueKind::Map, "copy") => {
                from_args::<()>(args)?;
                Ok(value.clone())
            }
            _ => pycompat::unknown_method_callback(state, value, method, args),
        };
    };
    state.consume_fuel(1 + (text.len() / BYTES_PER_FUEL) as u64)?;
    match method {
        "replace" | "join" => by_filter(state, value, method, args),
        "split" | "rsplit" => split(state, text, method == "rsplit", args),
        "splitlines" => {
            state.consume_fuel(text.matches('\n').count() as u64)?;
            pycompat::unknown_method_callback(state, value, method, args)
        }
        "format" => {
            check_format(text)?;
            pycompat::unknown_method_callback(state, value, method, args)
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.split_once(separator).unwrap_or((text, ""));
            let separator = if before.len() == text.len() { "" } else { separator };
            Ok(Value::from(Tuple::from([before, separator, after].map(Value::from))))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.rsplit_once(separator).unwrap_or(("", text));
            let separator = if after.len() == text.len() { "" } else { separator };
            Ok(Value::from(Tuple::from([before, separator, after].map(Value::from))))
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// The engine's filters of the same name check that the fuel can pay before they allocate.
fn by_filter(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if method == "join" {
        let (items,): (&Value,) = from_args(args)?;
        return state.apply_filter("join", &[items.clone(), value.clone()]);
    }
    let mut filter_args = Vec::with_capacity(args.len() + 1);
    filter_args.push(value.clone());
    filter_args.extend_from_slice(args);
    state.apply_filter("replace", &filter_args)
}

fn split(state: &State<'_, '_>, text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, splits_max): (Option<&str>, Option<i64>) = from_args(args)?;
    let pieces_max = match splits_max.map(usize::try_from) {
        Some(Ok(splits)) => splits.saturating_add(1),
        Some(Err(_)) | None => usize::MAX,
    };
    let pieces: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "split: empty separator")),
        Some(separator) => {
            state.consume_fuel(text.matches(separator).count() as u64)?;
            if from_right {
                let mut pieces: Vec<&str> = text.rsplitn(pieces_max, separator).collect();
                pieces.reverse();
                pieces
            } else {
                text.splitn(pieces_max, separator).collect()
            }
        }
        None if pieces_max == usize::MAX => {
            state.consume_fuel(text.split_whitespace().count() as u64)?;
            text.split_whitespace().collect()
        }
        None => {
            return Err(Error::new(ErrorKind::InvalidOperation, "split: a limit without a separator is not supported"));
        }
    };
    Ok(pieces.into_iter().map(Value::from).collect())
}

fn check_format(format: &str) -> Result<(), Error> {
    let mut field_depth = 0_usize;
    let mut number = 0_usize;
    for byte in format.bytes() {
        match byte {
            b'{' => field_depth += 1,
            b'}' => field_depth = field_depth.saturating_sub(1),
            _ => {}
        }
        number = match byte {
            b'0'..=b'9' => number.saturating_mul(10).saturating_add(usize::from(byte - b'0')),
            _ => 0,
        };
        // A width inside the width, `{:{}}`, takes its number from an argument.
        if number > FORMAT_WIDTH_MAX && field_depth > 0 {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("format: a width or precision above {FORMAT_WIDTH_MAX}"),
            ));
        }
    }
    let nested = format.replace("{{", "").split('{').skip(1).any(|field| !field.contains('}'));
    if nested {
        return Err(Error::new(ErrorKind::InvalidOperation, "format: a field inside a field is not supported"));
    }
    Ok(())
}
