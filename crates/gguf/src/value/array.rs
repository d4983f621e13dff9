//! Arrays: views into the file, their iterators, and the buffer from which the writer takes one.

use std::fmt;
use std::marker::PhantomData;

use super::{Scalar, Text, Value, ValueKind, encode_text, walk};
use crate::cursor::Cursor;

/// An array, still in the file.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    pub(super) kind: ValueKind,
    pub(super) len: usize,
    pub(super) body: &'a [u8],
}

impl<'a> Array<'a> {
    /// The type of the elements.
    pub fn kind(&self) -> ValueKind {
        self.kind
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements, whatever their type.
    pub fn iter(&self) -> Values<'a> {
        Values { kind: self.kind, left: self.len, cursor: Cursor::new(self.body, 0) }
    }

    /// The elements of a string array, without allocation; `None` for other arrays.
    pub fn texts(&self) -> Option<Texts<'a>> {
        (self.kind == ValueKind::Text).then_some(Texts { left: self.len, rest: self.body })
    }

    /// The elements of an array of exactly `T`, without allocation; `None` for other arrays.
    pub fn scalars<T: Scalar>(&self) -> Option<Scalars<'a, T>> {
        (self.kind == T::KIND).then_some(Scalars { rest: self.body, scalar: PhantomData })
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Values<'a>;

    fn into_iter(self) -> Values<'a> {
        self.iter()
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterator over the elements of any array.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    kind: ValueKind,
    left: usize,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut end = self.cursor;
        walk(&mut end, self.kind, 1, "").ok()?;
        let bytes = self.cursor.take(end.offset() - self.cursor.offset(), format_args!("array element")).ok()?;
        Value::decode(self.kind, bytes)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

/// Iterator over the elements of a string array.
#[derive(Clone, Debug)]
pub struct Texts<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Texts<'a> {
    type Item = Text<'a>;

    fn next(&mut self) -> Option<Text<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (length, rest) = self.rest.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        self.rest = rest;
        Some(Text::from(text))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

/// Iterator over the elements of an array of numbers or bools.
#[derive(Clone, Debug)]
pub struct Scalars<'a, T> {
    rest: &'a [u8],
    scalar: PhantomData<T>,
}

impl<T: Scalar> Iterator for Scalars<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let (scalar, rest) = self.rest.split_at_checked(size_of::<T>())?;
        self.rest = rest;
        T::decode(scalar)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rest.len() / size_of::<T>();
        (left, Some(left))
    }
}

impl<T: Scalar> ExactSizeIterator for Scalars<'_, T> {}

/// An array in memory, encoded as in a file; what the writer takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayBuf {
    kind: ValueKind,
    len: usize,
    body: Vec<u8>,
}

impl ArrayBuf {
    /// An array of numbers or bools.
    pub fn scalars<T: Scalar>(scalars: &[T]) -> Self {
        let mut body = Vec::with_capacity(size_of_val(scalars));
        scalars.iter().for_each(|scalar| scalar.encode(&mut body));
        Self { kind: T::KIND, len: scalars.len(), body }
    }

    /// An array of strings.
    pub fn texts<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        let (mut len, mut body) = (0, Vec::new());
        for text in texts {
            encode_text(text.as_ref(), &mut body);
            len += 1;
        }
        Self { kind: ValueKind::Text, len, body }
    }

    /// An array of arrays. Readers of other projects refuse these.
    pub fn arrays<'a>(arrays: impl IntoIterator<Item = Array<'a>>) -> Self {
        let (mut len, mut body) = (0, Vec::new());
        for array in arrays {
            Value::Array(array).encode(&mut body);
            len += 1;
        }
        Self { kind: ValueKind::Array, len, body }
    }

    /// The array as a view.
    pub fn as_array(&self) -> Array<'_> {
        Array { kind: self.kind, len: self.len, body: &self.body }
    }
}
