//! Metadata values as views into the file: nothing is copied until a caller asks for a `String` or a `Vec`.
//!
//! A value is walked and checked once, when the file is opened; the views then read without checks that can fail,
//! and end early (never panic) should the file under a map change meanwhile.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;

use crate::cursor::Cursor;
use crate::error::{GgufError, shown};

mod array;

pub use array::{Array, ArrayBuf, Scalars, Texts, Values};

/// How deep arrays may nest; a plain array has depth 1.
pub const ARRAY_DEPTH_MAX: usize = 8;

/// The type of a metadata value; the discriminant is GGUF's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are the description")]
pub enum ValueKind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Text = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

/// By id: kind, name in messages, and the least bytes of a value, which is the size of a number, the length field of a
/// string, the element type and count of an array.
const KINDS: [(ValueKind, &str, u64); 13] = [
    (ValueKind::U8, "u8", 1),
    (ValueKind::I8, "i8", 1),
    (ValueKind::U16, "u16", 2),
    (ValueKind::I16, "i16", 2),
    (ValueKind::U32, "u32", 4),
    (ValueKind::I32, "i32", 4),
    (ValueKind::F32, "f32", 4),
    (ValueKind::Bool, "bool", 1),
    (ValueKind::Text, "string", 8),
    (ValueKind::Array, "array", 12),
    (ValueKind::U64, "u64", 8),
    (ValueKind::I64, "i64", 8),
    (ValueKind::F64, "f64", 8),
];

impl ValueKind {
    /// The kind with GGUF's `id`.
    pub fn from_id(id: u32) -> Option<Self> {
        KINDS.get(usize::try_from(id).ok()?).map(|row| row.0)
    }

    /// GGUF's id.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The name in messages, such as `u32` or `string`.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].1
    }

    /// The least bytes of one value; all of them for a number or bool.
    fn bytes_min(self) -> u64 {
        KINDS[self as usize].2
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One metadata value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the description")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(Text<'a>),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::U8(_) => ValueKind::U8,
            Self::I8(_) => ValueKind::I8,
            Self::U16(_) => ValueKind::U16,
            Self::I16(_) => ValueKind::I16,
            Self::U32(_) => ValueKind::U32,
            Self::I32(_) => ValueKind::I32,
            Self::F32(_) => ValueKind::F32,
            Self::Bool(_) => ValueKind::Bool,
            Self::Text(_) => ValueKind::Text,
            Self::Array(_) => ValueKind::Array,
            Self::U64(_) => ValueKind::U64,
            Self::I64(_) => ValueKind::I64,
            Self::F64(_) => ValueKind::F64,
        }
    }

    /// The value of any integer type; `None` for every other type, bools included.
    pub fn to_integer(&self) -> Option<i128> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::I8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U64(value) => Some(value.into()),
            Self::I64(value) => Some(value.into()),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::Text(_) | Self::Array(_) => None,
        }
    }

    /// The type as messages name it: `u32`, `array of string`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Array(array) => format!("array of {}", array.kind()),
            other => other.kind().name().to_owned(),
        }
    }

    /// The value on one line for messages: arrays by type and length, strings escaped and cut.
    pub(crate) fn preview(&self) -> String {
        match self {
            Self::Text(text) => format!("\"{}\"", shown(&text.to_lossy())),
            Self::Array(array) => format!("an array of {} {}", array.len(), array.kind()),
            Self::Bool(value) => value.to_string(),
            Self::F32(number) => number.to_string(),
            Self::F64(number) => number.to_string(),
            integer => integer.to_integer().map_or_else(String::new, |number| number.to_string()),
        }
    }

    /// Equality bit for bit, by which a NaN equals itself.
    pub(crate) fn same_bits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::F32(a), Self::F32(b)) => a.to_bits() == b.to_bits(),
            (Self::F64(a), Self::F64(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }

    /// The value that takes up all of `bytes`; `None` if they are too few, which [`walk`] has ruled out.
    pub(crate) fn decode(kind: ValueKind, bytes: &'a [u8]) -> Option<Self> {
        Some(match kind {
            ValueKind::U8 => Self::U8(u8::decode(bytes)?),
            ValueKind::I8 => Self::I8(i8::decode(bytes)?),
            ValueKind::U16 => Self::U16(u16::decode(bytes)?),
            ValueKind::I16 => Self::I16(i16::decode(bytes)?),
            ValueKind::U32 => Self::U32(u32::decode(bytes)?),
            ValueKind::I32 => Self::I32(i32::decode(bytes)?),
            ValueKind::F32 => Self::F32(f32::decode(bytes)?),
            ValueKind::Bool => Self::Bool(bool::decode(bytes)?),
            ValueKind::U64 => Self::U64(u64::decode(bytes)?),
            ValueKind::I64 => Self::I64(i64::decode(bytes)?),
            ValueKind::F64 => Self::F64(f64::decode(bytes)?),
            ValueKind::Text => Self::Text(Text(bytes.split_first_chunk::<8>()?.1)),
            ValueKind::Array => {
                let (kind, rest) = bytes.split_first_chunk()?;
                let (len, body) = rest.split_first_chunk()?;
                Self::Array(Array {
                    kind: ValueKind::from_id(u32::from_le_bytes(*kind))?,
                    len: usize::try_from(u64::from_le_bytes(*len)).ok()?,
                    body,
                })
            }
        })
    }

    /// Appends the value as it stands in a file, without its type id.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(value) => value.encode(out),
            Self::I8(value) => value.encode(out),
            Self::U16(value) => value.encode(out),
            Self::I16(value) => value.encode(out),
            Self::U32(value) => value.encode(out),
            Self::I32(value) => value.encode(out),
            Self::F32(value) => value.encode(out),
            Self::Bool(value) => value.encode(out),
            Self::U64(value) => value.encode(out),
            Self::I64(value) => value.encode(out),
            Self::F64(value) => value.encode(out),
            Self::Text(text) => encode_text(text.as_bytes(), out),
            Self::Array(array) => {
                out.extend_from_slice(&array.kind.id().to_le_bytes());
                out.extend_from_slice(&(array.len as u64).to_le_bytes());
                out.extend_from_slice(array.body);
            }
        }
    }
}

/// A string as the file has it: bytes that ought to be UTF-8 and may not be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// The bytes, without a terminator.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The text, if it is UTF-8.
    pub fn to_str(&self) -> Result<&'a str, Utf8Error> {
        std::str::from_utf8(self.0)
    }

    /// The text with U+FFFD for bytes that are not UTF-8; `Cow::Owned` tells that there were some.
    pub fn to_lossy(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_lossy(), f)
    }
}

/// A number or bool that GGUF can hold.
pub trait Scalar: Copy + private::Sealed {
    /// The type in the file.
    const KIND: ValueKind;
    #[doc(hidden)]
    fn decode(bytes: &[u8]) -> Option<Self>;
    #[doc(hidden)]
    fn encode(self, out: &mut Vec<u8>);
}

mod private {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($number:ident $kind:ident),*) => {$(
        impl private::Sealed for $number {}

        impl Scalar for $number {
            const KIND: ValueKind = ValueKind::$kind;

            fn decode(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
            }

            fn encode(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }

        impl From<$number> for Value<'_> {
            fn from(number: $number) -> Self {
                Self::$kind(number)
            }
        }
    )*};
}

numbers!(u8 U8, i8 I8, u16 U16, i16 I16, u32 U32, i32 I32, f32 F32, u64 U64, i64 I64, f64 F64);

impl private::Sealed for bool {}

impl Scalar for bool {
    const KIND: ValueKind = ValueKind::Bool;

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.first().map(|&byte| byte != 0)
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.push(self.into());
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<Text<'a>> for Value<'a> {
    fn from(text: Text<'a>) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<Array<'a>> for Value<'a> {
    fn from(array: Array<'a>) -> Self {
        Self::Array(array)
    }
}

impl<'a> From<&'a ArrayBuf> for Value<'a> {
    fn from(array: &'a ArrayBuf) -> Self {
        Self::Array(array.as_array())
    }
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

/// Reads a value's type id, in front of a value or of an array's elements.
pub(crate) fn read_kind(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueKind, GgufError> {
    let offset = cursor.offset();
    let id = cursor.u32(format_args!("value type of {}", shown(key)))?;
    ValueKind::from_id(id).ok_or_else(|| GgufError::UnknownValueType { key: key.to_owned(), id, offset })
}

/// Moves `cursor` over a value of `kind`, checking all of it. `depth` counts the arrays around and including it.
pub(crate) fn walk(cursor: &mut Cursor<'_>, kind: ValueKind, depth: usize, key: &str) -> Result<(), GgufError> {
    match kind {
        ValueKind::Text => walk_texts(cursor, 1, key),
        ValueKind::Array => walk_array(cursor, depth, key),
        scalar => walk_scalars(cursor, scalar, 1, key),
    }
}

fn walk_array(cursor: &mut Cursor<'_>, depth: usize, key: &str) -> Result<(), GgufError> {
    if depth > ARRAY_DEPTH_MAX {
        return Err(GgufError::OverLimit {
            field: format!("array depth of {}", shown(key)),
            offset: cursor.offset(),
            value: depth as u64,
            limit: ARRAY_DEPTH_MAX as u64,
        });
    }
    let kind = read_kind(cursor, key)?;
    let count_at = cursor.offset();
    let count = cursor.u64(format_args!("array length of {}", shown(key)))?;
    cursor.check_count(count, kind.bytes_min(), count_at, format_args!("array length of {}", shown(key)))?;
    match kind {
        ValueKind::Text => walk_texts(cursor, count, key),
        ValueKind::Array => (0..count).try_for_each(|_| walk_array(cursor, depth + 1, key)),
        scalar => walk_scalars(cursor, scalar, count, key),
    }
}

fn walk_texts(cursor: &mut Cursor<'_>, count: u64, key: &str) -> Result<(), GgufError> {
    for _ in 0..count {
        let length = cursor.u64(format_args!("string length in {}", shown(key)))?;
        cursor.take(length, format_args!("string of {length} bytes in {}", shown(key)))?;
    }
    Ok(())
}

/// `count` times the size of `kind` does not overflow: one scalar, or a count bounded by the bytes that are left.
fn walk_scalars(cursor: &mut Cursor<'_>, kind: ValueKind, count: u64, key: &str) -> Result<(), GgufError> {
    let offset = cursor.offset();
    let bytes = cursor.take(count * kind.bytes_min(), format_args!("{kind} value of {}", shown(key)))?;
    if kind != ValueKind::Bool {
        return Ok(());
    }
    match bytes.iter().position(|&byte| byte > 1) {
        None => Ok(()),
        Some(index) => {
            let (value, offset) = (bytes[index], offset + index as u64);
            Err(GgufError::BadBool { key: key.to_owned(), value, offset })
        }
    }
}
