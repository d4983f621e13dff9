//! The tensor infos: names, shapes, formats, and where the data is. Never touches the data.

use std::ops::Range;

use tensor::{Format, FormatError, Shape};

use crate::cursor::Cursor;
use crate::error::{GgufError, shown};
use crate::metadata::read_name;

/// ggml holds names in 64 bytes with a terminating NUL.
pub(crate) const NAME_BYTES_MAX: u64 = 63;

/// One tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    name: Box<str>,
    format: Format,
    shape: Shape,
    shard: usize,
    data_offset: u64,
    offset: u64,
    byte_count: u64,
    /// Where the entry itself is, for messages.
    entry_offset: u64,
}

impl TensorInfo {
    /// The name, such as `blk.3.ffn_up.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The format of the elements.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The extent, contiguous dimension first. No dimension is 0; without dimensions there is one element.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Which shard holds the data, from 0; 0 for a model of one file.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Where the data starts, from the start of the shard's data section: the number that the file stores.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// Where the data starts, from the start of the shard's file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the data, without padding.
    pub fn byte_count(&self) -> u64 {
        self.byte_count
    }

    /// Where the table entry is, from the start of the shard's file.
    pub(crate) fn entry_offset(&self) -> u64 {
        self.entry_offset
    }

    pub(crate) fn set_shard(&mut self, shard: usize) {
        self.shard = shard;
    }

    /// The data's place in the file; both ends were checked against the file, which is in the address space.
    pub(crate) fn range(&self) -> Range<usize> {
        self.offset as usize..(self.offset + self.byte_count) as usize
    }
}

/// Reads `count` entries and checks them against the data section. `count` is bounded by the bytes behind the header.
///
/// Data must ascend in the table's order without overlap. Gaps are allowed: they harm nobody.
pub(crate) fn parse(cursor: &mut Cursor<'_>, count: u64, alignment: u32) -> Result<Vec<TensorInfo>, GgufError> {
    let mut tensors = Vec::new();
    for index in 0..count {
        tensors.push(parse_entry(cursor, index)?);
    }
    let data_start = cursor.offset().next_multiple_of(alignment.into());
    let file_bytes = cursor.offset() + cursor.left();
    let mut previous_end = 0;
    for tensor in &mut tensors {
        previous_end = place(tensor, data_start, previous_end, alignment, file_bytes)?;
    }
    Ok(tensors)
}

/// A tensor with its size, its `offset` left at `data_offset`. The writer makes its entries here too.
pub(crate) fn entry(
    name: &str,
    format: Format,
    shape: Shape,
    data_offset: u64,
    entry_offset: u64,
) -> Result<TensorInfo, GgufError> {
    if shape.dimensions().contains(&0) {
        return Err(GgufError::ZeroDimension { name: name.to_owned(), shape, offset: entry_offset });
    }
    let too_large = || GgufError::TensorTooLarge { name: name.to_owned(), shape, data_offset, offset: entry_offset };
    let row_bytes = format.row_bytes(shape.row_elements()).map_err(|cause| match cause {
        FormatError::TooLarge { .. } => too_large(),
        cause => GgufError::TensorFormat { name: name.to_owned(), offset: entry_offset, cause },
    })?;
    // The element count must fit too: callers multiply the dimensions.
    let elements = shape.elements().filter(|&elements| elements <= i64::MAX as u64);
    let byte_count = shape.rows().and_then(|rows| rows.checked_mul(row_bytes)).filter(|_| elements.is_some());
    let byte_count = byte_count.filter(|&bytes| bytes <= i64::MAX as u64).ok_or_else(too_large)?;
    Ok(TensorInfo {
        name: name.into(),
        format,
        shape,
        shard: 0,
        data_offset,
        offset: data_offset,
        byte_count,
        entry_offset,
    })
}

/// Refuses a name that ggml cannot hold. `offset` is that of its length field.
pub(crate) fn check_name_length(length: u64, offset: u64, field: std::fmt::Arguments<'_>) -> Result<(), GgufError> {
    if length == 0 {
        return Err(GgufError::EmptyName { field: field.to_string(), offset });
    }
    if length > NAME_BYTES_MAX {
        return Err(GgufError::OverLimit {
            field: format!("length of {field}"),
            offset,
            value: length,
            limit: NAME_BYTES_MAX,
        });
    }
    Ok(())
}

fn parse_entry(cursor: &mut Cursor<'_>, index: u64) -> Result<TensorInfo, GgufError> {
    let entry_offset = cursor.offset();
    let field = format_args!("name of tensor {index}");
    let length = cursor.u64(format_args!("length of {field}"))?;
    check_name_length(length, entry_offset, field)?;
    let name = read_name(cursor, length, field)?;

    let count_at = cursor.offset();
    let dimension_count = cursor.u32(format_args!("dimension count of tensor {}", shown(name)))? as usize;
    let mut dimensions = [0; Shape::DIMENSIONS_MAX];
    let Some(dimensions) = dimensions.get_mut(..dimension_count) else {
        return Err(GgufError::OverLimit {
            field: format!("dimension count of tensor {}", shown(name)),
            offset: count_at,
            value: dimension_count as u64,
            limit: Shape::DIMENSIONS_MAX as u64,
        });
    };
    for dimension in &mut *dimensions {
        *dimension = cursor.u64(format_args!("dimensions of tensor {}", shown(name)))?;
    }
    let shape = Shape::new(dimensions).expect("the count was checked against the most a shape has");

    let id = cursor.u32(format_args!("type of tensor {}", shown(name)))?;
    let data_offset = cursor.u64(format_args!("data offset of tensor {}", shown(name)))?;
    let format = Format::from_ggml_id(id).map_err(|cause| GgufError::TensorFormat {
        name: name.to_owned(),
        offset: entry_offset,
        cause,
    })?;
    entry(name, format, shape, data_offset, entry_offset)
}

/// Makes the tensor's offset absolute and returns where its data ends in the data section, unpadded.
fn place(
    tensor: &mut TensorInfo,
    data_start: u64,
    previous_end: u64,
    alignment: u32,
    file_bytes: u64,
) -> Result<u64, GgufError> {
    let (name, data_offset, offset) = (|| tensor.name.to_string(), tensor.offset, tensor.entry_offset);
    if !data_offset.is_multiple_of(alignment.into()) {
        return Err(GgufError::TensorMisaligned { name: name(), data_offset, alignment, offset });
    }
    if data_offset < previous_end {
        return Err(GgufError::TensorOverlap { name: name(), data_offset, previous_end, offset });
    }
    let end = data_offset.checked_add(tensor.byte_count).filter(|&end| end <= i64::MAX as u64);
    let file_end = end.and_then(|end| end.checked_add(data_start)).filter(|&end| end <= i64::MAX as u64);
    let (Some(end), Some(file_end)) = (end, file_end) else {
        return Err(GgufError::TensorTooLarge { name: name(), shape: tensor.shape, data_offset, offset });
    };
    let start = data_start + data_offset;
    if file_end > file_bytes {
        return Err(GgufError::Truncated {
            field: format!("tensor {}", shown(&tensor.name)),
            offset: start,
            missing_bytes: file_end - file_bytes,
            file_bytes,
        });
    }
    tensor.offset = start;
    Ok(end)
}
