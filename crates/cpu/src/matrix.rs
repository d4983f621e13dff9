//! A weight matrix as the kernels read it: repacked into the interleaved layout, on its way there, or the file's blocks in
//! place.

use std::ops::Range;

use program::{TensorBytes, TensorSpec};
use tensor::Format;

use crate::kernels::Products;
use crate::layout::{GROUP_ROWS, Layout};
use crate::memory::Shared;
use crate::pass::landing::Pending;

/// Where a matrix's weights are.
#[derive(Clone)]
pub(crate) enum Storage {
    /// In the arena, from this byte on, in this layout; what is pending is packed as it is used.
    Packed { arena: Shared<u8>, at: usize, layout: Layout, pending: Option<Pending> },
    /// As the file has them; each group is decoded to f32 columns when it is used.
    Blocks { bytes: TensorBytes, format: Format, row_bytes: usize },
}

/// A matrix and its shape.
#[derive(Clone)]
pub(crate) struct Matrix {
    pub(crate) storage: Storage,
    /// Outputs.
    pub(crate) rows: usize,
    /// Inputs.
    pub(crate) columns: usize,
    /// The kernels of its layout.
    pub(crate) products: Products,
}

impl Matrix {
    /// Groups of sixteen rows, the last padded.
    pub(crate) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP_ROWS)
    }

    /// Bytes of a group in the layout the kernel reads.
    pub(crate) fn group_bytes(&self) -> usize {
        match &self.storage {
            Storage::Packed { layout, .. } => layout.group_bytes(self.columns),
            Storage::Blocks { .. } => Layout::F32.group_bytes(self.columns),
        }
    }

    /// Whether the blocks stay as the file has them and are decoded group by group.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self.storage, Storage::Blocks { .. })
    }

    /// Whether the kernel reads quantised activations; otherwise it reads f32.
    pub(crate) fn reads_codes(&self) -> bool {
        match &self.storage {
            Storage::Packed { layout, .. } => !matches!(layout, Layout::F32 | Layout::F16 | Layout::BF16),
            Storage::Blocks { .. } => false,
        }
    }

    /// The groups from `groups.start` on that lie in the arena, and their address; `None` where the first does not.
    pub(crate) fn landed(&self, groups: &Range<usize>) -> Option<(Range<usize>, *const u8)> {
        let Storage::Packed { arena, at, pending, .. } = &self.storage else { return None };
        let landed = pending.as_ref().map_or(groups.end, |pending| pending.landed().min(groups.end));
        (groups.start < landed).then(|| (groups.start..landed, arena.address(at + groups.start * self.group_bytes())))
    }

    /// Packs groups that have not landed into `staging`.
    pub(crate) fn pack(&self, groups: Range<usize>, staging: &mut [u8]) {
        if let Storage::Packed { pending: Some(pending), .. } = &self.storage {
            pending.packer.pack(&pending.bytes, groups, staging);
        }
    }

    /// Decodes a group of blocks in place into columns of f32; for packed groups there is nothing to decode.
    pub(crate) fn decode_group(&self, group: usize, columns: &mut Vec<f32>) -> *const u8 {
        if let Storage::Blocks { bytes, format, row_bytes } = &self.storage {
            let first = group * GROUP_ROWS;
            let count = GROUP_ROWS.min(self.rows - first);
            let rows = &bytes[first * row_bytes..(first + count) * row_bytes];
            decode_columns(*format, rows, *row_bytes, self.columns, columns);
        }
        columns.as_ptr().cast()
    }
}

/// Decodes up to sixteen rows into f32 columns of sixteen; missing rows are zero.
fn decode_columns(format: Format, rows: &[u8], row_bytes: usize, columns: usize, scratch: &mut Vec<f32>) {
    let codec = format.codec().expect("the program builder refuses formats without a codec");
    scratch.clear();
    scratch.resize(columns * (GROUP_ROWS + 1), 0.0);
    let (columns_out, row_out) = scratch.split_at_mut(columns * GROUP_ROWS);
    for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        (codec.decode)(bytes, row_out);
        for (value, column) in row_out.iter().zip(columns_out.chunks_exact_mut(GROUP_ROWS)) {
            column[row] = *value;
        }
    }
}

/// Bytes that a matrix takes in the interleaved layout of its format; `None` where it stays as the file has it, and is
/// decoded as it is used.
pub fn resident_bytes(spec: &TensorSpec) -> Option<usize> {
    Layout::of(spec.format).map(|layout| spec.rows.div_ceil(GROUP_ROWS) * layout.group_bytes(spec.columns))
}
