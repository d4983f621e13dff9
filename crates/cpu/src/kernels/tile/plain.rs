//! Products of numbers: columns of f32, f16 and bf16 with rows of f32.

#![expect(unsafe_op_in_unsafe_fn, reason = "the contract is that of TileArgs")]

use super::{Product, TileArgs, TileOutput, prefetch_stream, store};
use crate::arch::Isa;
use crate::layout::GROUP_ROWS;

macro_rules! plain {
    ($(#[$doc:meta])* $name:ident, $load:ident, $number:ty) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Product for $name {
            const HEIGHT: usize = 12;

            #[inline(always)]
            unsafe fn tile<I: Isa, const ROWS: usize, const GROUPS: usize, const STREAMS: bool>(
                isa: I,
                args: &TileArgs,
                first_row: usize,
                first_group: usize,
                out: &mut TileOutput,
            ) {
                let rows: [*const f32; ROWS] = std::array::from_fn(|row| args.row(first_row + row));
                let groups: [*const $number; GROUPS] =
                    std::array::from_fn(|group| args.group(first_group + group).cast());
                let mut sums = [[isa.splat(0.0); GROUPS]; ROWS];
                for column in 0..args.columns {
                    let mut weights = [isa.splat(0.0); GROUPS];
                    for group in 0..GROUPS {
                        let at = groups[group].add(column * GROUP_ROWS);
                        if STREAMS {
                            prefetch_stream(isa, at.cast());
                        }
                        weights[group] = isa.$load(at);
                    }
                    for row in 0..ROWS {
                        let input = isa.splat(*rows[row].add(column));
                        for group in 0..GROUPS {
                            sums[row][group] = isa.fma(weights[group], input, sums[row][group]);
                        }
                    }
                }
                store(isa, &sums, (first_row, first_group), out);
            }

            #[inline(always)]
            unsafe fn finish<I: Isa>(_isa: I, _args: &TileArgs, _out: &mut TileOutput) {}
        }
    };
}

plain!(
    /// Columns of f32.
    F32, load, f32
);
plain!(
    /// Columns of f16.
    F16, load_f16, u16
);
plain!(
    /// Columns of bf16.
    Bf16, load_bf16, u16
);
