//! Products of two rows by two, and the moves around them, against scalar arithmetic. Covers no other method.

use testkit::Random;

use super::{integer, lanes, stored, stored_i32};
use crate::arch::Isa;
use crate::arch::byte_matrix::ByteMatrix;
use crate::arch::neon::NeonI8mm;

struct Input {
    weights: [[u8; 64]; 2],
    /// (pair, activation row, input).
    rows: [[[i8; 8]; 2]; 2],
    /// Below 2^20, exact in f32.
    sums: [[i32; 16]; 2],
}

/// A method's name and the lanes of its two vectors.
type Results = Vec<(&'static str, [[f32; 16]; 2])>;

#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn operations(isa: NeonI8mm, input: &Input) -> Results {
    // SAFETY: the caller has detected the features; each pointer is that of an array of the length that the method reads.
    unsafe {
        let [a, b] = [isa.load_bytes(input.weights[0].as_ptr()), isa.load_bytes(input.weights[1].as_ptr())];
        let floats = input.sums.map(|row| row.map(|number| number as f32));
        let [c, d] = [isa.load(floats[0].as_ptr()), isa.load(floats[1].as_ptr())];
        let inputs = input.rows.each_ref().map(|[first, second]| isa.inputs(first.as_ptr(), second.as_ptr()));
        let multiply = |weights| {
            let [first, second] = isa.multiply([isa.round(c), isa.round(d)], weights, inputs);
            [stored_i32(isa, first), stored_i32(isa, second)]
        };
        let [low, high] = isa.eights(a, b);
        let twice = isa.twice(c);
        let apart = isa.untangle([c, d]);
        let alternate = stored(isa, isa.alternate([floats[0][0], floats[0][1]]));
        let alternate_i32 = stored_i32(isa, isa.alternate_i32([input.sums[1][0], input.sums[1][1]]));
        vec![
            ("multiply", multiply(a)),
            ("eights, low", multiply(low)),
            ("eights, high", multiply(high)),
            ("alternate", [alternate, alternate_i32]),
            ("twice", [stored(isa, twice[0]), stored(isa, twice[1])]),
            ("untangle", [stored(isa, apart[0]), stored(isa, apart[1])]),
        ]
    }
}

/// What the documentation of [`ByteMatrix`] says about the input.
fn expected(input: &Input) -> Results {
    let [c, d] = input.sums.map(|row| row.map(|number| number as f32));
    let multiply = |weight: &dyn Fn(usize, usize) -> u8| {
        [0, 1].map(|pair| {
            lanes(|lane| {
                let row = &input.rows[pair][lane % 2];
                let products = (0..8).map(|k| i32::from(weight(lane / 2, k)) * i32::from(row[k]));
                (input.sums[pair][lane] + products.sum::<i32>()) as f32
            })
        })
    };
    let eights = |from: usize| multiply(&|row, k| input.weights[k / 4][4 * (from + row) + k % 4]);
    let tangled = |at: usize| if at < 16 { c[at] } else { d[at - 16] };
    vec![
        ("multiply", multiply(&|row, k| input.weights[0][8 * row + k])),
        ("eights, low", eights(0)),
        ("eights, high", eights(8)),
        ("alternate", [lanes(|lane| c[lane % 2]), lanes(|lane| d[lane % 2])]),
        ("twice", [0, 8].map(|from| lanes(|lane| c[from + lane / 2]))),
        ("untangle", [0, 1].map(|row| lanes(|lane| tangled(2 * lane + row)))),
    ]
}

#[track_caller]
fn assert_agree(isa: NeonI8mm, input: &Input) {
    // SAFETY: `isa` is the proof.
    let actual = unsafe { operations(isa, input) };
    assert_eq!(actual, expected(input));
}

#[test]
fn products_of_two_rows_by_two_agree_with_scalar_arithmetic() {
    let Some(isa) = NeonI8mm::detect() else { return };
    let mut random = Random::new(1);
    for _ in 0..4096 {
        assert_agree(
            isa,
            &Input {
                weights: std::array::from_fn(|_| std::array::from_fn(|_| random.bits() as u8)),
                rows: std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| random.bits() as i8))),
                sums: std::array::from_fn(|_| lanes(|_| integer(&mut random, 1 << 20))),
            },
        );
    }
}

#[test]
fn the_largest_products_of_two_rows_by_two_are_exact() {
    let Some(isa) = NeonI8mm::detect() else { return };
    for weight in [0, 127, 128, 255] {
        for rows in [[[127; 8], [-128; 8]], [[-128; 8], [-128; 8]]] {
            let sums = [[-(1 << 20); 16], [1 << 20; 16]];
            assert_agree(isa, &Input { weights: [[weight; 64]; 2], rows: [rows, [[127; 8]; 2]], sums });
        }
    }
}
