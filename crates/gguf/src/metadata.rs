//! The key-value section: a checked index over the file's bytes, and typed access to it.
//!
//! Values stay in the file; only keys are copied. Keys mean nothing here, except for `general.alignment`.

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::error::{GgufError, shown};
use crate::source::Source;
use crate::value::{self, Array, Text, Value, ValueKind};

/// The key of the data section's alignment.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of a file that does not say.
pub(crate) const ALIGNMENT_DEFAULT: u32 = 32;

/// 16 MiB: above the largest huge page in use, and small enough that padding fills no disk.
pub(crate) const ALIGNMENT_MAX: u32 = 1 << 24;

/// The longest key that GGUF allows.
pub(crate) const KEY_BYTES_MAX: u64 = 65_535;

/// The metadata of a model, in file order; of a split model, that of its first shard.
#[derive(Clone, Debug)]
pub struct Metadata {
    source: Arc<Source>,
    entries: Vec<Entry>,
    /// Indices into `entries`, sorted by key.
    by_key: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Box<str>,
    kind: ValueKind,
    /// Where the key's length field is.
    offset: usize,
    /// The value's bytes in the file, without the type id.
    start: usize,
    end: usize,
}

impl Metadata {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().filter_map(|entry| Some((&*entry.key, self.value(entry)?)))
    }

    /// The value of `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.value(self.entry(key)?)
    }

    /// The value of `key` as `T`, `None` without the key.
    ///
    /// Integers of any type convert to any integer type that holds their value; `f32` and `f64` to each other;
    /// nothing else converts. Fails with [`GgufError::WrongType`], [`GgufError::OutOfRange`] or
    /// [`GgufError::NotUtf8`].
    pub fn read<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entry(key) else {
            return Ok(None);
        };
        let Some(value) = self.value(entry) else {
            return Ok(None);
        };
        T::from_value(value).map(Some).map_err(|mismatch| mismatch.at(key, entry.start as u64, value, T::EXPECTED))
    }

    /// The value of `key` as `T`, as [`Metadata::read`] does; [`GgufError::MissingKey`] without the key.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.read(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }

    /// [`Metadata::read`] of any integer that fits a `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.read(key)
    }

    /// [`Metadata::read`] of any integer that fits a `u64`.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.read(key)
    }

    /// [`Metadata::read`] of an `f32`, or of an `f64` rounded to it.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.read(key)
    }

    /// [`Metadata::read`] of a bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.read(key)
    }

    /// [`Metadata::read`] of a string that is UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.read(key)
    }

    /// [`Metadata::read`] of an array of any type.
    pub fn array(&self, key: &str) -> Result<Option<Array<'_>>, GgufError> {
        self.read(key)
    }

    /// Reads `count` entries and checks all of them. `count` is bounded by the bytes behind the header.
    pub(crate) fn parse(source: &Arc<Source>, cursor: &mut Cursor<'_>, count: u64) -> Result<Self, GgufError> {
        let mut entries = Vec::new();
        for index in 0..count {
            entries.push(parse_entry(cursor, index)?);
        }
        let mut by_key: Vec<usize> = (0..entries.len()).collect();
        by_key.sort_by(|&a, &b| entries[a].key.cmp(&entries[b].key).then(a.cmp(&b)));
        if let Some(pair) = by_key.windows(2).find(|pair| entries[pair[0]].key == entries[pair[1]].key) {
            let (first, second) = (&entries[pair[0]], &entries[pair[1]]);
            return Err(GgufError::DuplicateKey {
                key: second.key.to_string(),
                offset: second.offset as u64,
                first_offset: first.offset as u64,
            });
        }
        Ok(Self { source: Arc::clone(source), entries, by_key })
    }

    /// `general.alignment`, checked: a `u32` and a power of two. One that is no multiple of 8 is accepted: offsets
    /// are multiples of it all the same, and ggml reads such files.
    pub(crate) fn alignment(&self) -> Result<u32, GgufError> {
        let Some(entry) = self.entry(ALIGNMENT_KEY) else {
            return Ok(ALIGNMENT_DEFAULT);
        };
        let offset = entry.start as u64;
        match self.value(entry) {
            Some(Value::U32(alignment)) => check_alignment(alignment, offset),
            other => Err(GgufError::WrongType {
                key: ALIGNMENT_KEY.to_owned(),
                expected: "u32",
                found: other.map_or_else(String::new, |value| value.describe()),
                offset,
            }),
        }
    }

    /// Where the value of `key` starts in the file.
    pub(crate) fn value_offset(&self, key: &str) -> Option<u64> {
        self.entry(key).map(|entry| entry.start as u64)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let place = self.by_key.binary_search_by(|&index| (*self.entries[index].key).cmp(key)).ok()?;
        Some(&self.entries[self.by_key[place]])
    }

    /// `None` only if the file changed under the map.
    fn value(&self, entry: &Entry) -> Option<Value<'_>> {
        Value::decode(entry.kind, self.source.bytes().get(entry.start..entry.end)?)
    }
}

/// `alignment`, if the data section can have it. `offset` is that of the value.
pub(crate) fn check_alignment(alignment: u32, offset: u64) -> Result<u32, GgufError> {
    if alignment.is_power_of_two() && alignment <= ALIGNMENT_MAX {
        return Ok(alignment);
    }
    Err(GgufError::BadAlignment { alignment, offset, limit: ALIGNMENT_MAX })
}

fn parse_entry(cursor: &mut Cursor<'_>, index: u64) -> Result<Entry, GgufError> {
    let offset = cursor.position();
    let field = format_args!("length of key {index}");
    let length = cursor.u64(field)?;
    if length == 0 {
        return Err(GgufError::EmptyName { field: format!("key {index}"), offset: offset as u64 });
    }
    if length > KEY_BYTES_MAX {
        return Err(GgufError::OverLimit {
            field: field.to_string(),
            offset: offset as u64,
            value: length,
            limit: KEY_BYTES_MAX,
        });
    }
    let key = read_name(cursor, length, format_args!("key {index}"))?;
    let kind = value::read_kind(cursor, key)?;
    let start = cursor.position();
    value::walk(cursor, kind, 1, key)?;
    Ok(Entry { key: key.into(), kind, offset, start, end: cursor.position() })
}

/// Takes `length` bytes that must be UTF-8.
pub(crate) fn read_name<'a>(
    cursor: &mut Cursor<'a>,
    length: u64,
    field: std::fmt::Arguments<'_>,
) -> Result<&'a str, GgufError> {
    let offset = cursor.offset();
    let bytes = cursor.take(length, field)?;
    std::str::from_utf8(bytes).map_err(|error| GgufError::NotUtf8 {
        field: field.to_string(),
        offset: offset + error.valid_up_to() as u64,
        lossy: String::from_utf8_lossy(bytes).into_owned(),
    })
}

/// A type that [`Metadata::read`] can give.
pub trait FromValue<'a>: Sized {
    /// The type's name in messages.
    #[doc(hidden)]
    const EXPECTED: &'static str;
    #[doc(hidden)]
    fn from_value(value: Value<'a>) -> Result<Self, Mismatch>;
}

/// Why a value is not the type asked for.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Mismatch {
    Type,
    Range,
    Utf8 { valid_bytes: usize },
}

impl Mismatch {
    fn at(self, key: &str, offset: u64, value: Value<'_>, expected: &'static str) -> GgufError {
        match self {
            Self::Type => GgufError::WrongType { key: key.to_owned(), expected, found: value.describe(), offset },
            Self::Range => GgufError::OutOfRange { key: key.to_owned(), value: value.preview(), expected, offset },
            Self::Utf8 { valid_bytes } => GgufError::NotUtf8 {
                field: format!("string of {}", shown(key)),
                // The string starts behind its length field.
                offset: offset + 8 + valid_bytes as u64,
                lossy: match value {
                    Value::Text(text) => text.to_lossy().into_owned(),
                    _ => String::new(),
                },
            },
        }
    }
}

macro_rules! integers {
    ($($integer:ident),*) => {$(
        impl FromValue<'_> for $integer {
            const EXPECTED: &'static str = stringify!($integer);

            fn from_value(value: Value<'_>) -> Result<Self, Mismatch> {
                value.to_integer().ok_or(Mismatch::Type)?.try_into().map_err(|_| Mismatch::Range)
            }
        }
    )*};
}

integers!(u8, i8, u16, i16, u32, i32, u64, i64, usize);

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "f32";

    fn from_value(value: Value<'_>) -> Result<Self, Mismatch> {
        match value {
            Value::F32(number) => Ok(number),
            // Rounds; only a finite number that would become infinite is refused.
            Value::F64(number) if number.is_finite() && !(number as f32).is_finite() => Err(Mismatch::Range),
            Value::F64(number) => Ok(number as f32),
            _ => Err(Mismatch::Type),
        }
    }
}

impl FromValue<'_> for f64 {
    const EXPECTED: &'static str = "f64";

    fn from_value(value: Value<'_>) -> Result<Self, Mismatch> {
        match value {
            Value::F32(number) => Ok(number.into()),
            Value::F64(number) => Ok(number),
            _ => Err(Mismatch::Type),
        }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "bool";

    fn from_value(value: Value<'_>) -> Result<Self, Mismatch> {
        match value {
            Value::Bool(value) => Ok(value),
            _ => Err(Mismatch::Type),
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "string";

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        match value {
            Value::Text(text) => text.to_str().map_err(|error| Mismatch::Utf8 { valid_bytes: error.valid_up_to() }),
            _ => Err(Mismatch::Type),
        }
    }
}

impl<'a> FromValue<'a> for Text<'a> {
    const EXPECTED: &'static str = "string";

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        match value {
            Value::Text(text) => Ok(text),
            _ => Err(Mismatch::Type),
        }
    }
}

impl<'a> FromValue<'a> for Array<'a> {
    const EXPECTED: &'static str = "array";

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        match value {
            Value::Array(array) => Ok(array),
            _ => Err(Mismatch::Type),
        }
    }
}
