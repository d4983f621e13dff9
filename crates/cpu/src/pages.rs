//! Where keys and values lie: one head's keys and values of a page side by side, so that attention reads them in order.
//!
//! | format | keys | values |
//! | --- | --- | --- |
//! | halves | (element, position) | (position, element, the width rounded up to 16) |
//! | codes | (32 positions, 4 elements, position, element), then scales (block, position) | (block, 4 positions, element, position), then scales (block, position) |
//!
//! Codes are Q8_0's: bytes in fours that one dot instruction sums, in lines of 32 lanes; those of keys are stored + 128,
//! as [`crate::arch::Isa::dot_biased`] takes them. Scales are halves.

use program::{BackendError, KvFormat, KvPlan, KvShape, PAGE_ROWS};

use crate::memory::{Region, Shared, Use};

/// Elements that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a line: 32 lanes of four codes.
pub(crate) const LINE_BYTES: usize = 128;

/// How elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFormat {
    /// IEEE half precision.
    Halves,
    /// Q8_0.
    Codes,
}

impl PageFormat {
    /// Formats that pages can have, in the words of plans.
    pub(crate) const PLANNED: [KvFormat; 2] = [KvFormat::F16, KvFormat::Q8_0];

    fn of(format: KvFormat) -> Option<PageFormat> {
        match format {
            KvFormat::F16 => Some(PageFormat::Halves),
            KvFormat::Q8_0 => Some(PageFormat::Codes),
            KvFormat::F32 => None,
        }
    }
}

/// Keys and values of all layers.
pub(crate) struct Pages {
    _region: Region,
    /// In units of two bytes: halves, or pairs of codes.
    pub(crate) elements: Shared<u16>,
    pub(crate) count: usize,
    pub(crate) format: PageFormat,
    pub(crate) layers: Vec<PageLayout>,
}

impl Pages {
    pub(crate) fn new(shapes: &[KvShape], plan: KvPlan) -> Result<Pages, BackendError> {
        let format = PageFormat::of(plan.format).ok_or_else(|| BackendError::KvFormat {
            backend: "cpu",
            format: plan.format.name(),
            known: PageFormat::PLANNED.map(KvFormat::name).join(", "),
        })?;
        let refused =
            || BackendError::OutOfMemory { backend: "cpu", what: "keys and values".to_owned(), bytes: u64::MAX };
        let mut layers = Vec::new();
        let mut end = 0_usize;
        for shape in shapes {
            let layout = PageLayout { start: end, format, head_width: shape.head_width, kv_heads: shape.heads };
            let page = shape.heads * layout.head_elements();
            end = plan.pages.checked_mul(page).and_then(|layer| layer.checked_add(end)).ok_or_else(refused)?;
            layers.push(layout);
        }
        let region = Region::new(end.checked_mul(2).ok_or_else(refused)?, Use::Sparse, "keys and values")?;
        Ok(Pages { elements: region.shared(), _region: region, count: plan.pages, format, layers })
    }
}

/// Where a layer's pages lie, in units of two bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageLayout {
    start: usize,
    format: PageFormat,
    pub(crate) head_width: usize,
    kv_heads: usize,
}

impl PageLayout {
    /// Units of one head's keys and values in a page.
    fn head_elements(&self) -> usize {
        match self.format {
            PageFormat::Halves => PAGE_ROWS * (self.head_width + value_stride(self.head_width)),
            PageFormat::Codes => values_start(self.head_width),
        }
    }

    /// One head of a page: its keys, followed by its values.
    pub(crate) fn head(&self, pages: &Pages, page: usize, kv_head: usize) -> Shared<u16> {
        let length = self.head_elements();
        pages.elements.part(self.start + (page * self.kv_heads + kv_head) * length, length)
    }
}

/// Elements of a stored row of values in halves, and of a row of outputs: whole vectors of sixteen.
pub(crate) fn value_stride(head_width: usize) -> usize {
    head_width.next_multiple_of(16)
}

/// Bytes of a head's codes in a page, for keys or for values. Scales follow them.
pub(crate) fn code_bytes(head_width: usize) -> usize {
    PAGE_ROWS * head_width
}

/// Bytes of a head's keys in a page, codes and scales: values begin there.
pub(crate) fn values_start(head_width: usize) -> usize {
    code_bytes(head_width) + 2 * PAGE_ROWS * (head_width / BLOCK)
}

/// Where the code of a key's element lies, among the codes.
pub(crate) fn key_at(head_width: usize, position: usize, element: usize) -> usize {
    let (half, lane) = (position / 32, position % 32);
    (half * (head_width / 4) + element / 4) * LINE_BYTES + 4 * lane + element % 4
}

/// Where the code of a value's element lies, among the codes.
pub(crate) fn value_at(position: usize, element: usize) -> usize {
    let (block, lane) = (element / BLOCK, element % BLOCK);
    (block * (PAGE_ROWS / 4) + position / 4) * LINE_BYTES + 4 * lane + position % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_take_what_plans_say_and_no_two_codes_share_a_place() {
        for head_width in [32, 64, 96, 256] {
            let layout = PageLayout { start: 0, format: PageFormat::Codes, head_width, kv_heads: 1 };
            assert_eq!(2 * layout.head_elements(), 2 * PAGE_ROWS * KvFormat::Q8_0.bytes(head_width));
            let places = (0..PAGE_ROWS).flat_map(|p| (0..head_width).map(move |e| (p, e)));
            let mut keys: Vec<usize> = places.clone().map(|(p, e)| key_at(head_width, p, e)).collect();
            let mut values: Vec<usize> = places.map(|(p, e)| value_at(p, e)).collect();
            keys.sort_unstable();
            values.sort_unstable();
            let all: Vec<usize> = (0..code_bytes(head_width)).collect();
            assert!(keys == all && values == all);
        }
    }
}
