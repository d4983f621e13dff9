use std::ops::Range;

use tensor::Format;
use testkit::Random;

use super::{STREAM_ROWS, STRIP_GROUPS, TileArgs, TileOutput};
use crate::IsaChoice;
use crate::activations::{ActivationBlock, Outliers, PANEL_ROWS};
use crate::arch::Level;
use crate::kernels::Kernels;
use crate::kernels::pack::Packer;
use crate::kernels::quantize::PanelArgs;
use crate::layout::{GROUP_ROWS, Layout};

const COLUMNS: usize = 512;
const BLOCKS: usize = COLUMNS / 32;

/// Results of a row with each group of a strip.
type Row = Vec<[u32; GROUP_ROWS]>;

/// How weights come to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// From memory, for few rows.
    Stream,
    /// From cache.
    Cache,
    /// Written out for many rows, where the instruction set has them so.
    WrittenOut,
}

/// A matrix and rows of activations.
struct Case {
    kernels: Kernels,
    layout: Layout,
    /// A whole strip of groups.
    groups: Vec<u8>,
    values: Vec<f32>,
}

impl Case {
    /// Random weights and activations, some of them outliers.
    fn new(kernels: Kernels, format: Format, layout: Layout) -> Case {
        let mut random = Random::new(1);
        let weights: Vec<f32> = (0..2 * GROUP_ROWS * COLUMNS).map(|_| random.signed_unit()).collect();
        // Two blocks are outliers in every row, and others in a few.
        let value = |at: usize| {
            let (row, block) = (at / COLUMNS, at % COLUMNS / 32);
            let outlier = block == 1 || block == 9 || (block == 12 && row % 5 == 2);
            random.signed_unit() * if outlier { 30.0 } else { 1.0 }
        };
        Case::of(kernels, (format, layout), &weights, (0..PANEL_ROWS * COLUMNS).map(value).collect())
    }

    fn of(kernels: Kernels, (format, layout): (Format, Layout), weights: &[f32], values: Vec<f32>) -> Case {
        let codec = format.codec().expect("a format with a layout has a codec");
        let row_bytes = COLUMNS / format.block_elements() * format.block_bytes();
        let mut matrix = vec![0; 2 * GROUP_ROWS * row_bytes];
        for (row, weights) in matrix.chunks_exact_mut(row_bytes).zip(weights.chunks_exact(COLUMNS)) {
            (codec.encode)(weights, row);
        }
        let packer = Packer::new(&kernels, layout, row_bytes, COLUMNS);
        let mut pair = vec![0; 2 * packer.group_bytes()];
        packer.pack(&matrix, 0..2, &mut pair);
        Case { kernels, layout, groups: pair.repeat(STRIP_GROUPS / 2), values }
    }

    /// What a call with these rows comes to.
    fn run(&self, rows: Range<usize>, group_count: usize, from: From) -> Vec<Row> {
        let (first, rows) = (rows.start, rows.len());
        let values = &self.values[first * COLUMNS..];
        let mut codes = vec![ActivationBlock::default(); rows * BLOCKS];
        let room = rows * Outliers::room(BLOCKS);
        let mut outliers = vec![Outliers::default(); room];
        let plain = matches!(self.layout, Layout::F32 | Layout::F16 | Layout::BF16);
        let products = (self.kernels.products)(self.layout);
        let wide = products.wide.filter(|_| from == From::WrittenOut);
        let written = wide.map(|wide| {
            let mut written = vec![0; STRIP_GROUPS * COLUMNS * wide.column_bytes];
            // SAFETY: the instruction set was detected; both are as long as that many columns are.
            unsafe { (wide.write)(self.groups.as_ptr(), STRIP_GROUPS * COLUMNS, written.as_mut_ptr()) };
            written
        });
        let groups = written.as_ref().unwrap_or(&self.groups);
        let (base, group_bytes) = (groups.as_ptr(), groups.len() / STRIP_GROUPS);
        let mut output: TileOutput = [[[0.0; GROUP_ROWS]; 2]; PANEL_ROWS];
        // SAFETY: the instruction set was detected; each pointer is that of a vector of the length that counts say.
        unsafe {
            for row in 0..rows {
                (self.kernels.quantize)(values[row * COLUMNS..].as_ptr(), BLOCKS, codes[row * BLOCKS..].as_mut_ptr());
            }
            (self.kernels.list_outliers)(&PanelArgs {
                values: values.as_ptr(),
                values_stride: COLUMNS,
                codes: codes.as_ptr(),
                codes_stride: BLOCKS,
                blocks: BLOCKS,
                rows,
                to: outliers.as_mut_ptr(),
                room,
            });
            let place = |outliers: &Outliers| (outliers.block, outliers.pair);
            let shared = outliers.windows(2).any(|two| place(&two[0]) == place(&two[1]));
            assert!(outliers[0].block != 1 || rows < 8 || shared, "rows share outliers");
            let args = TileArgs {
                groups: [base, base.wrapping_add(group_bytes)],
                step: 2 * group_bytes,
                group_count,
                activations: if plain { values.as_ptr().cast() } else { codes.as_ptr().cast() },
                activation_stride: if plain { COLUMNS * 4 } else { BLOCKS * size_of::<ActivationBlock>() },
                outliers: outliers.as_ptr(),
                row_count: rows,
                columns: COLUMNS,
                target: (base, 0),
                streams: from == From::Stream,
            };
            wide.map_or(products.tile, |wide| wide.tile)(&args, &mut output);
        }
        let results = output.as_flattened();
        let row = |row: usize| results[2 * row..][..group_count].iter().map(|group| group.map(f32::to_bits)).collect();
        (0..rows).map(row).collect()
    }
}

/// A row gives the same bits with any number of groups, and alone or among any number of rows.
#[test]
fn tiles_of_all_shapes_agree() {
    for level in Level::all() {
        let isa = level.name();
        for known in tensor::FORMATS.iter().filter(|known| known.codec.is_some()) {
            let Some(layout) = Layout::of(known.format) else { continue };
            let case = Case::new(Kernels::of(level), known.format, layout);
            let alone: Vec<Row> =
                (0..PANEL_ROWS).map(|row| case.run(row..row + 1, STRIP_GROUPS, From::Stream).remove(0)).collect();
            for group_count in [1, 2, 3, STRIP_GROUPS - 1] {
                let strip = case.run(5..6, group_count, From::Stream).remove(0);
                assert!(strip == alone[5][..group_count], "{}, {isa}: {group_count} groups", known.name);
            }
            for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 21, 23, PANEL_ROWS] {
                for from in [From::Stream, From::Cache, From::WrittenOut] {
                    if from == From::Stream && rows > STREAM_ROWS {
                        continue;
                    }
                    for group_count in [1, 2] {
                        let panel = case.run(0..rows, group_count, from);
                        for (row, (found, alone)) in panel.iter().zip(&alone).enumerate() {
                            let same = found[..] == alone[..group_count];
                            assert!(same, "{}, {isa}, {from:?}: row {row} of {rows}, {group_count} groups", known.name);
                        }
                    }
                }
            }
        }
    }
}

/// The largest codes with the largest activations, all of one sign, leave no room that a sum has.
#[test]
fn largest_codes_do_not_overflow() {
    // One of each block is far from the others, which makes theirs the largest codes of their format.
    let weights: Vec<f32> = (0..2 * GROUP_ROWS * COLUMNS).map(|at| if at % 32 == 0 { -1.0 } else { 0.875 }).collect();
    for known in tensor::FORMATS.iter().filter(|known| known.codec.is_some()) {
        let Some(layout) = Layout::of(known.format) else { continue };
        for sign in [1.0, -1.0] {
            let results_of = |level: Level| {
                let values = vec![sign; PANEL_ROWS * COLUMNS];
                let case = Case::of(Kernels::of(level), (known.format, layout), &weights, values);
                let ways = [(1, From::Stream), (PANEL_ROWS, From::Cache), (PANEL_ROWS, From::WrittenOut)];
                let rows = ways.map(|(rows, from)| case.run(0..rows, 2, from)).concat();
                rows.into_iter().flatten().flatten().map(f32::from_bits).collect::<Vec<f32>>()
            };
            let expected = results_of(Level::detect(IsaChoice::Portable));
            for level in Level::all() {
                for (found, expected) in results_of(level).iter().zip(&expected) {
                    let same = (found - expected).abs() <= 1e-5 * expected.abs();
                    assert!(same, "{}, {}: {found} for {expected}", known.name, level.name());
                }
            }
        }
    }
}
