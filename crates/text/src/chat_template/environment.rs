//! The engine as Hugging Face sets it up, plus the limits that make a hostile template end.

use std::cell::Cell;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{DynObject, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use super::{json, python, source};

pub(super) const TEMPLATE_NAME: &str = "chat_template";

/// An assigned value nested deeper than this is refused. Messages with tools are about ten deep.
const VALUE_DEPTH_MAX: usize = 64;

/// The engine counts about ten for each nested macro call.
const RECURSION_MAX: usize = 250;

pub(super) fn environment(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_unknown_method_callback(python::method);
    // Without this an error has a line but no column.
    environment.set_debug(true);
    environment.remove_global("debug");
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("indent", python::indent);
    environment.add_filter(source::ASSIGNED, assigned);
    environment.add_filter(source::ASSIGNED_MEMBER, assigned_member);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", raise_exception);
    environment.add_template_owned(TEMPLATE_NAME, source)?;
    Ok(environment)
}

/// As in Python: the engine iterates over `none` as if it were empty, and templates tell by this whether there are tools.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// As in Python, where strings and dicts have a length and can be indexed too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// The message of a `raise_exception` call, found again in the chain of causes.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let message = message.to_string();
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn assigned(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    bounded(state, value, false)
}

/// A namespace inside a namespace could contain itself, and nothing that walks values would end.
fn assigned_member(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    bounded(state, value, true)
}

fn bounded(state: &State<'_, '_>, value: Value, is_member: bool) -> Result<Value, Error> {
    // A lazy sequence hides how deep it is and may yield its items only once.
    let value = match value.kind() {
        ValueKind::Iterable => collect(state, &value)?,
        ValueKind::Seq | ValueKind::Map => value,
        _ => return Ok(value),
    };
    check_depth(state, &value, is_member, &Cell::new(0))?;
    Ok(value)
}

fn collect(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let mut items = Vec::new();
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

fn check_depth(state: &State<'_, '_>, value: &Value, is_member: bool, depth: &Cell<usize>) -> Result<(), Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return Ok(());
    }
    if depth.get() == VALUE_DEPTH_MAX {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("an assigned value is nested more than {VALUE_DEPTH_MAX} deep"),
        ));
    }
    if is_member && value.as_object().is_some_and(is_namespace) {
        return Err(Error::new(ErrorKind::InvalidOperation, "a namespace cannot be stored inside a namespace"));
    }
    depth.set(depth.get() + 1);
    let is_map = value.kind() == ValueKind::Map;
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        let item = if is_map { value.get_item(&item)? } else { item };
        check_depth(state, &item, is_member, depth)?;
    }
    depth.set(depth.get() - 1);
    Ok(())
}

/// The engine keeps the type private, so its name is all there is to go by; a test holds this to the engine.
fn is_namespace(object: &DynObject) -> bool {
    object.type_name().ends_with("::Namespace")
}
