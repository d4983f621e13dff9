//! How far a backend's numbers may lie from the reference's, and why. Never how far a test would like them to.

use program::{Buffer, Step, Support};
use tensor::Format;

/// The distance between two rows of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Mean squared difference over mean squared value (normalised mean squared error).
    pub nmse: f64,
    /// Largest difference over the root of the mean squared value: what a single wrong element shows up in.
    pub largest: f64,
}

impl Deviation {
    /// Between `actual` and `expected`, of the same length. A number that is not finite lies infinitely far away.
    pub fn between(actual: &[f32], expected: &[f32]) -> Deviation {
        assert_eq!(actual.len(), expected.len(), "rows of two widths cannot be compared");
        let (mut error, mut power, mut largest) = (0.0, 0.0, 0.0_f64);
        for (actual, expected) in actual.iter().zip(expected) {
            let difference = f64::from(*actual) - f64::from(*expected);
            error += difference * difference;
            power += f64::from(*expected) * f64::from(*expected);
            largest = largest.max(difference.abs());
        }
        if error == 0.0 {
            return Deviation::default();
        }
        if !error.is_finite() || !power.is_finite() {
            return Deviation { nmse: f64::INFINITY, largest: f64::INFINITY };
        }
        Deviation { nmse: error / power, largest: largest / (power / expected.len() as f64).sqrt() }
    }

    /// The larger of each measure.
    pub fn worse(self, other: Deviation) -> Deviation {
        Deviation { nmse: self.nmse.max(other.nmse), largest: self.largest.max(other.largest) }
    }

    /// Whether both measures are within `bound`.
    pub fn is_within(self, bound: Deviation) -> bool {
        self.nmse <= bound.nmse && self.largest <= bound.largest
    }
}

/// What lies between the input and the numbers compared, each with a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Only copies and a multiplication: the same bits.
    Exact,
    /// Sums of f32 products, in whatever order.
    Sums,
    /// Keys and values in half precision.
    Pages,
    /// Several layers of steps on top of half-precision pages.
    Layers,
    /// Factors of products in half precision, sums in f32, as matrix units have them.
    Halves,
    /// Keys and values as 8-bit codes.
    CodedPages,
    /// Several layers of steps on top of coded pages.
    CodedLayers,
    /// The same with factors of products in half precision.
    HalvedCodedLayers,
    /// Activations as 8-bit codes.
    Codes,
    /// Activations as 8-bit codes on either side of a gate: into both factors, or of their product.
    GatedCodes,
}

/// Paths with the worst row that may be met on each: what the arithmetic explains, and a margin below two.
///
/// Sums: additions in f32 round by 2⁻²⁵ of a partial sum on average. Some hundred of them add up like a random walk to
/// 10⁻¹³ of the squared terms, and more of the result where large terms cancel.
///
/// Pages: a difference in the last bit of an f32 sometimes falls on the other side of a tie when it is rounded to f16,
/// and is then up to 2⁻¹⁰ of the value, which may be four times the root mean square. One or two elements of a row do.
///
/// Layers: the same, carried on through norms and residual sums.
///
/// Halves: rounding to 11 bits is an error of 2⁻²² ÷ 12 to ÷ 3 of the square of each factor; activations, weights, queries
/// and shares add up to some 3 · 10⁻⁷, and twice that after a second such step.
///
/// Coded pages: a difference in the last bit of an f32 rarely makes a code the next one, a step of the block's largest ÷ 127.
/// Where a row sees one position, that is the step ÷ the values' root mean square, 1.7 ÷ 127 for even values and up to twice
/// that, in one of at least 32 elements: (1.7 ÷ 127)² ÷ 32 of the squares.
///
/// Coded layers: a layer's differences make some hundredth of the next one's codes flip.
///
/// Halved coded layers: halves put 3 · 10⁻⁴ of the root mean square on every key and value, against code steps of
/// 2.3 ÷ 127 of it: a hundredth and a half of the codes flip in the first layer too, 5 · 10⁻⁶ of the squares of keys and
/// as much of values, a layer and for three layers.
///
/// Codes: a block of 32 with largest magnitude m is rounded to steps of m ÷ 127, an error of (m ÷ 127)² ÷ 12. The largest
/// of 32 normal values is near 2.3 times their root mean square: 3 · 10⁻⁵. One block in four may be twice as large as its
/// row and keep a single plane. A row of fifty outputs scatters around that by a quarter, the worst of hundreds by more.
///
/// Gated codes: the product of two normal values has a heavier tail, whose largest of 32 is near 4.5 times the root mean
/// square: 10⁻⁴. Before the gate, the errors of both factors add up, and few large products carry most of a row.
const BOUNDS: [(Path, Deviation); 10] = [
    (Path::Exact, Deviation { nmse: 0.0, largest: 0.0 }),
    (Path::Sums, Deviation { nmse: 5e-12, largest: 2e-5 }),
    (Path::Pages, Deviation { nmse: 5e-8, largest: 4e-3 }),
    (Path::Layers, Deviation { nmse: 1e-7, largest: 2e-3 }),
    (Path::Halves, Deviation { nmse: 1e-6, largest: 1e-2 }),
    (Path::CodedPages, Deviation { nmse: 6e-6, largest: 0.03 }),
    (Path::CodedLayers, Deviation { nmse: 1.2e-5, largest: 0.02 }),
    (Path::HalvedCodedLayers, Deviation { nmse: 3e-5, largest: 0.03 }),
    (Path::Codes, Deviation { nmse: 8e-5, largest: 0.04 }),
    (Path::GatedCodes, Deviation { nmse: 3e-4, largest: 0.1 }),
];

/// The bound of a path.
pub fn bound(path: Path) -> Deviation {
    BOUNDS.iter().find(|(known, _)| *known == path).expect("the table has every path").1
}

impl Path {
    /// The path where factors of products are in half precision too.
    pub fn halved(self) -> Path {
        match self {
            Path::Exact => Path::Exact,
            Path::CodedLayers => Path::HalvedCodedLayers,
            path => path.max(Path::Halves),
        }
    }
}

/// The path that matrices of `format` add to `step` where a backend answers `support` for them.
///
/// A backend that decodes weights multiplies f32 with f32, and so does one with kernels for plain numbers.
pub fn path_of(step: &Step, format: Format, support: Support) -> Path {
    if support != Support::Native || !format.is_quantised() {
        return Path::Sums;
    }
    match step {
        Step::NormGatedLinear(_) => Path::GatedCodes,
        Step::LinearAdd(step) if step.input == Buffer::Gated => Path::GatedCodes,
        _ => Path::Codes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_by_hand() {
        // Differences 0 and 1 over values 3 and 4: 1 ÷ 25, and 1 ÷ √12.5.
        let deviation = Deviation::between(&[3.0, 5.0], &[3.0, 4.0]);
        assert!((deviation.nmse - 0.04).abs() < 1e-12);
        assert!((deviation.largest - 1.0 / 12.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Deviation::between(&[0.0], &[0.0]), Deviation::default());
    }

    #[test]
    fn what_is_not_finite_is_never_within_a_bound() {
        for wrong in [f32::NAN, f32::INFINITY] {
            for (path, bound) in BOUNDS {
                assert!(!Deviation::between(&[wrong, 1.0], &[1.0, 1.0]).is_within(bound), "{path:?}");
                assert!(!Deviation::between(&[1.0, 1.0], &[wrong, 1.0]).is_within(bound), "{path:?}");
            }
        }
        assert!(!Deviation::between(&[1e-30], &[0.0]).is_within(bound(Path::Codes)), "anything is far from zero");
    }
}
