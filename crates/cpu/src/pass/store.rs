//! Writes keys and values into pages.

use tensor::format::{Block, BlockQ8_0};

use super::Walk;
use crate::kernels::attention::PAGE;
use crate::memory::Shared;
use crate::pages::{BLOCK, PageFormat, code_bytes, key_at, value_at, value_stride, values_start};
use crate::pass::HEAD_WIDTH_MAX;

impl Walk<'_> {
    /// Writes a row's keys and values of the heads from `first_head` on, (heads, head width) each, into its page.
    pub(super) fn store(&self, row: usize, layer: usize, first_head: usize, keys: &[f32], values: &[f32]) {
        let input = self.pass.input;
        let pages = self.pass.pages();
        let layout = pages.layers[layer];
        let position = input.positions[row] as usize;
        let page = input.page_tables[input.sequences[row] as usize].pages[position / PAGE] as usize;
        let vectors = keys.chunks_exact(layout.head_width).zip(values.chunks_exact(layout.head_width));
        for (kv_head, (keys, values)) in (first_head..).zip(vectors) {
            let head = layout.head(pages, page, kv_head);
            match pages.format {
                PageFormat::Halves => self.store_halves(head, position % PAGE, keys, values),
                PageFormat::Codes => store_codes(head, position % PAGE, keys, values),
            }
        }
    }

    fn store_halves(&self, head: Shared<u16>, at: usize, keys: &[f32], values: &[f32]) {
        let width = keys.len();
        let to_f16 = self.pass.exe.kernels.to_f16;
        let mut halves = [0; HEAD_WIDTH_MAX];
        let halves = &mut halves[..width];
        // SAFETY: a position of a sequence belongs to one row, which this thread claimed. Keys of other positions lie between
        // its own, so that no slice may span them.
        unsafe {
            to_f16(keys.as_ptr(), width, halves.as_mut_ptr());
            // The values' slice lies behind all keys, so that its check stands for theirs.
            let to = head.slice_mut(PAGE * width + at * value_stride(width), width);
            let first = head.address_mut(at);
            for (element, half) in halves.iter().enumerate() {
                *first.add(element * PAGE) = *half;
            }
            to_f16(values.as_ptr(), width, to.as_mut_ptr());
        }
    }
}

/// The codes and scales are those of the format's readable codec.
fn store_codes(head: Shared<u16>, at: usize, keys: &[f32], values: &[f32]) {
    let width = keys.len();
    let bytes = head.bytes();
    for (block, (keys, values)) in keys.chunks_exact(BLOCK).zip(values.chunks_exact(BLOCK)).enumerate() {
        let (keys, values) = (BlockQ8_0::encode(keys, None), BlockQ8_0::encode(values, None));
        for (element, (key, value)) in (block * BLOCK..).zip(keys.codes.into_iter().zip(values.codes)) {
            // SAFETY: a position of a sequence belongs to one row, which this thread claimed.
            unsafe {
                *bytes.address_mut(key_at(width, at, element)) = key.cast_unsigned() ^ 0x80;
                *bytes.address_mut(values_start(width) + value_at(at, element)) = value.cast_unsigned();
            }
        }
        for (start, scale) in [(0, keys.d), (values_start(width), values.d)] {
            let place = (start + code_bytes(width)) / 2 + block * PAGE + at;
            // SAFETY: as above.
            unsafe { *head.address_mut(place) = u16::from_le_bytes(scale.0) };
        }
    }
}
