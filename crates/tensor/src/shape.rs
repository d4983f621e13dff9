//! A tensor's extent, in GGUF's order: the first dimension is the contiguous one.
//!
//! A shape knows nothing of formats or bytes.

use std::fmt;

/// Up to four dimensions; the ones left out count 1. A dimension may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    dimensions: [u64; Shape::DIMENSIONS_MAX],
    dimension_count: usize,
}

impl Shape {
    /// The most dimensions a GGUF tensor has.
    pub const DIMENSIONS_MAX: usize = 4;

    /// The shape with these `dimensions`, contiguous first; `None` over four of them.
    pub fn new(dimensions: &[u64]) -> Option<Self> {
        let mut padded = [1; Self::DIMENSIONS_MAX];
        padded.get_mut(..dimensions.len())?.copy_from_slice(dimensions);
        Some(Self { dimensions: padded, dimension_count: dimensions.len() })
    }

    /// The dimensions as given, contiguous first.
    pub fn dimensions(&self) -> &[u64] {
        &self.dimensions[..self.dimension_count]
    }

    /// Elements in one row, the contiguous dimension.
    pub fn row_elements(&self) -> u64 {
        self.dimensions[0]
    }

    /// How many rows there are; `None` over 64 bits.
    pub fn rows(&self) -> Option<u64> {
        checked_product(&self.dimensions[1..])
    }

    /// How many elements there are; `None` over 64 bits.
    pub fn elements(&self) -> Option<u64> {
        checked_product(&self.dimensions)
    }
}

/// `896 x 151936`, contiguous first; `scalar` without dimensions.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.dimensions().split_first() else {
            return f.write_str("scalar");
        };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|dimension| write!(f, " x {dimension}"))
    }
}

fn checked_product(dimensions: &[u64]) -> Option<u64> {
    if dimensions.contains(&0) {
        return Some(0);
    }
    dimensions.iter().try_fold(1u64, |product, &dimension| product.checked_mul(dimension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_rows_and_elements() {
        let shape = Shape::new(&[896, 151_936]).unwrap();
        assert_eq!(shape.row_elements(), 896);
        assert_eq!(shape.rows(), Some(151_936));
        assert_eq!(shape.elements(), Some(896 * 151_936));
        assert_eq!(shape.dimensions(), [896, 151_936]);
        assert_eq!(shape.to_string(), "896 x 151936");
    }

    #[test]
    fn treats_missing_dimensions_as_one() {
        let scalar = Shape::new(&[]).unwrap();
        assert_eq!((scalar.row_elements(), scalar.elements()), (1, Some(1)));
        assert_eq!(scalar.to_string(), "scalar");
        assert_eq!(Shape::new(&[7]).unwrap().rows(), Some(1));
    }

    #[test]
    fn refuses_a_fifth_dimension_and_an_overflow() {
        assert_eq!(Shape::new(&[1; 5]), None);
        let huge = Shape::new(&[2, 1 << 63, 2]).unwrap();
        assert_eq!((huge.rows(), huge.elements()), (None, None));
        let empty = Shape::new(&[u64::MAX, u64::MAX, 0]).unwrap();
        assert_eq!((empty.rows(), empty.elements()), (Some(0), Some(0)));
    }
}
