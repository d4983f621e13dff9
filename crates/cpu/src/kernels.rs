//! The table of kernels for the instruction set that the processor has, chosen once.

pub(crate) mod attention;
pub(crate) mod codes;
pub(crate) mod decode;
pub(crate) mod pack;
pub(crate) mod quantize;
pub(crate) mod tile;
pub(crate) mod vector;

use program::Activation;
use tensor::Format;

use crate::activations::ActivationBlock;
use crate::arch::Level;
use crate::kernels::attention::PageFn;
use crate::kernels::attention::coded::CodedQuery;
use crate::kernels::decode::DecodeFn;
use crate::kernels::pack::PackFn;
use crate::kernels::quantize::PanelArgs;
use crate::kernels::tile::{STREAM_ROWS, TileFn};
use crate::layout::Layout;
use crate::pages::PageFormat;

/// Function pointers of one instruction set.
///
/// # Safety
/// A value exists only for an instruction set that the processor has, so the functions' remaining contract is that
/// pointers cover the lengths given.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// What multiplies with a layout.
    pub(crate) products: fn(Layout) -> Products,
    /// One page of attention.
    pub(crate) page: fn(PageFormat) -> PageFn,
    /// A query as codes: the query, its width, the scale of the scores, output.
    pub(crate) code_query: unsafe fn(*const f32, usize, f32, &mut CodedQuery),
    /// RMSNorm: input, weight, epsilon, width, output.
    pub(crate) norm: unsafe fn(*const f32, *const f32, f32, usize, *mut f32),
    /// Quantisation of a row: input, blocks, output. Marks what has outliers.
    pub(crate) quantize: unsafe fn(*const f32, usize, *mut ActivationBlock),
    /// Outliers of a panel of rows.
    pub(crate) list_outliers: unsafe fn(&PanelArgs),
    /// `gate = activation(gate) · up` for sixteen values.
    pub(crate) gate: fn(Activation) -> unsafe fn(*mut f32, *const f32),
    /// f32 to f16: input, count, output.
    pub(crate) to_f16: unsafe fn(*const f32, usize, *mut u16),
    /// Decoding of the file's blocks, for the formats that have it.
    pub(crate) decode: fn(Format) -> Option<DecodeFn>,
    /// Repacking of sixteen rows, for the layouts that have it, and the bytes of a row that it takes at once.
    pub(crate) pack: fn(Layout) -> Option<(PackFn, usize)>,
}

/// Rows from which on codes are written out: with fewer, it takes longer than it saves.
const WRITTEN_ROWS: usize = 32;

const _: () = assert!(WRITTEN_ROWS > STREAM_ROWS, "what is written out is never one stream");

/// What multiplies with a layout.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    pub(crate) tile: TileFn,
    /// Where it pays.
    pub(crate) wide: Option<Wide>,
}

/// Weights written out for many rows, group by group: the same numbers, with less to do for each tile.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    /// From groups side by side, for so many columns in all.
    pub(crate) write: unsafe fn(*const u8, usize, *mut u8),
    pub(crate) tile: TileFn,
    /// What a group takes for each column.
    pub(crate) column_bytes: usize,
    /// Rows from which on it pays.
    pub(crate) rows: usize,
}

macro_rules! kernels {
    ($module:ident, $codes:ident, $decoders:ident, $token:path, $make:expr $(, $features:literal)?) => {
        mod $module {
            //! Entry points compiled for one instruction set.

            use program::Activation;

            use crate::activations::{ActivationBlock, PANEL_ROWS};
            use crate::arch::{Isa, ManyRows};
            use crate::kernels::attention::coded::{self, CodedQuery};
            use crate::kernels::attention::{self, PageArgs, PageFn};
            use crate::kernels::codes::*;
            use crate::kernels::decode::$decoders::decoder;
            use crate::kernels::pack::{FourBytes, Pack, PackFn, TwoBytes, pack};
            use crate::kernels::quantize::{self, PanelArgs};
            use crate::kernels::tile::{$codes, Bf16, F16, F32, TileArgs, TileFn, TileOutput, tile};
            use crate::kernels::{Products, WRITTEN_ROWS, Wide, vector};
            use crate::layout::{GROUP_ROWS, Layout};
            use crate::pages::PageFormat;

            pub(super) fn table(_proof: $token) -> super::Kernels {
                super::Kernels {
                    products,
                    page,
                    code_query,
                    norm,
                    quantize,
                    list_outliers,
                    gate,
                    to_f16,
                    decode: decoder,
                    pack: packer,
                }
            }

            fn products(layout: Layout) -> Products {
                match layout {
                    Layout::Q8_0 => of_codes::<Q8_0>(),
                    Layout::Q4_0 => of_codes::<Q4_0>(),
                    Layout::Q4_1 => of_codes::<Q4_1>(),
                    Layout::Q5_0 => of_codes::<Q5_0>(),
                    Layout::Q5_1 => of_codes::<Q5_1>(),
                    Layout::Q4K => of_codes::<Q4K>(),
                    Layout::Q5K => of_codes::<Q5K>(),
                    Layout::Q6K => of_codes::<Q6K>(),
                    Layout::IQ4NL => of_codes::<IQ4NL>(),
                    Layout::IQ4XS => of_codes::<IQ4XS>(),
                    Layout::MXFP4 => of_codes::<MXFP4>(),
                    Layout::NVFP4 => of_codes::<NVFP4>(),
                    Layout::IQ3S => of_codes::<IQ3S>(),
                    Layout::IQ3XXS => of_codes::<IQ3XXS>(),
                    Layout::IQ2S | Layout::IQ2XS | Layout::IQ2XXS => of_codes::<IQ2>(),
                    Layout::IQ1S => of_codes::<IQ1S>(),
                    Layout::IQ1M => of_codes::<IQ1M>(),
                    Layout::Q3K => of_codes::<Q3K>(),
                    Layout::Q2K => of_codes::<Q2K>(),
                    Layout::TQ1_0 | Layout::TQ2_0 => of_codes::<Ternary>(),
                    Layout::Q2_0 => of_codes::<Q2_0>(),
                    Layout::Q1_0 => of_codes::<Q1_0>(),
                    Layout::F32 => Products { tile: f32_entry, wide: None },
                    Layout::F16 => of_halves(f16_entry, widen_f16),
                    Layout::BF16 => of_halves(bf16_entry, widen_bf16),
                }
            }

            fn of_codes<C: Codes>() -> Products {
                let tile: Option<TileFn> = match const { <$token as Isa>::MANY_ROWS } {
                    ManyRows::Packed => None,
                    ManyRows::Codes => Some(codes::<Written<C>>),
                    ManyRows::Bytes => Some(match (C::HALVES, C::MINIMUM) {
                        (false, false) => codes::<Bytes<false, false>>,
                        (false, true) => codes::<Bytes<false, true>>,
                        (true, false) => codes::<Bytes<true, false>>,
                        (true, true) => codes::<Bytes<true, true>>,
                    }),
                };
                let (column_bytes, rows) = (column_bytes::<C>(), WRITTEN_ROWS);
                Products { tile: codes::<C>, wide: tile.map(|tile| Wide { write: written::<C>, tile, column_bytes, rows }) }
            }

            fn of_halves(tile: TileFn, write: unsafe fn(*const u8, usize, *mut u8)) -> Products {
                let column_bytes = Layout::F32.group_bytes(1);
                Products { tile, wide: Some(Wide { write, tile: f32_entry, column_bytes, rows: 4 * PANEL_ROWS }) }
            }

            fn page(format: PageFormat) -> PageFn {
                match format {
                    PageFormat::Halves => halves_page,
                    PageFormat::Codes => coded_page,
                }
            }

            fn packer(layout: Layout) -> Option<(PackFn, usize)> {
                fn of<P: Pack>() -> Option<(PackFn, usize)> {
                    Some((packed::<P>, P::BLOCK))
                }
                match layout {
                    Layout::Q8_0 => of::<Q8_0>(),
                    Layout::Q4_0 => of::<Q4_0>(),
                    Layout::Q4_1 => of::<Q4_1>(),
                    Layout::Q5_0 => of::<Q5_0>(),
                    Layout::Q5_1 => of::<Q5_1>(),
                    Layout::Q4K => of::<Q4K>(),
                    Layout::Q5K => of::<Q5K>(),
                    Layout::Q6K => of::<Q6K>(),
                    Layout::IQ4NL => of::<IQ4NL>(),
                    Layout::MXFP4 => of::<MXFP4>(),
                    Layout::F16 | Layout::BF16 => of::<TwoBytes>(),
                    Layout::F32 => of::<FourBytes>(),
                    _ => None,
                }
            }

            fn gate(activation: Activation) -> unsafe fn(*mut f32, *const f32) {
                match activation {
                    Activation::Silu => silu,
                    Activation::GeluTanh => gelu,
                }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn codes<C: Codes>(args: &TileArgs, out: &mut TileOutput) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { $codes::<_, C>($make, args, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn packed<P: Pack>(rows: *const u8, row_bytes: usize, out: *mut u8) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { pack::<_, P>($make, rows, row_bytes, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn f32_entry(args: &TileArgs, out: &mut TileOutput) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { tile::<_, F32>($make, args, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn f16_entry(args: &TileArgs, out: &mut TileOutput) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { tile::<_, F16>($make, args, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn bf16_entry(args: &TileArgs, out: &mut TileOutput) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { tile::<_, Bf16>($make, args, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn halves_page(args: &mut PageArgs<'_>) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { attention::page($make, args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn coded_page(args: &mut PageArgs<'_>) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { coded::page($make, args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn code_query(query: *const f32, width: usize, scale: f32, coded: &mut CodedQuery) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { coded::code_query($make, query, width, scale, coded) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn norm(x: *const f32, weight: *const f32, epsilon: f32, width: usize, out: *mut f32) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { vector::norm($make, x, weight, epsilon, width, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn quantize(x: *const f32, blocks: usize, out: *mut ActivationBlock) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { quantize::quantize($make, x, blocks, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn list_outliers(args: &PanelArgs) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { quantize::list_outliers($make, args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn silu(gate: *mut f32, up: *const f32) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { vector::gate_silu($make, gate, up) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn gelu(gate: *mut f32, up: *const f32) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { vector::gate_gelu($make, gate, up) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn written<C: Codes>(from: *const u8, columns: usize, to: *mut u8) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { write_out::<_, C>($make, from, columns, to) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn widen_f16(from: *const u8, columns: usize, to: *mut u8) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { vector::widen::<_, false>($make, from.cast(), GROUP_ROWS * columns, to.cast()) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn widen_bf16(from: *const u8, columns: usize, to: *mut u8) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { vector::widen::<_, true>($make, from.cast(), GROUP_ROWS * columns, to.cast()) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn to_f16(from: *const f32, count: usize, to: *mut u16) {
                // SAFETY: the caller's contract is the callee's.
                unsafe { vector::to_f16($make, from, count, to) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(
    avx512_vnni,
    codes_by_row,
    avx512,
    crate::arch::avx512::Avx512Vnni,
    crate::arch::avx512::Avx512Vnni::assume(),
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
kernels!(
    avx512,
    codes_by_row,
    avx512,
    crate::arch::avx512::Avx512,
    crate::arch::avx512::Avx512::assume(),
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
kernels!(
    avx2_vnni,
    codes_by_row,
    avx2,
    crate::arch::avx2::Avx2Vnni,
    crate::arch::avx2::Avx2Vnni::assume(),
    "avxvnni,avx2,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, codes_by_row, avx2, crate::arch::avx2::Avx2, crate::arch::avx2::Avx2::assume(), "avx2,fma,f16c");
#[cfg(target_arch = "aarch64")]
kernels!(
    neon_i8mm,
    codes_by_matrix,
    neon,
    crate::arch::neon::NeonI8mm,
    crate::arch::neon::NeonI8mm::assume(),
    "neon,dotprod,i8mm"
);
#[cfg(target_arch = "aarch64")]
kernels!(
    neon_dot,
    codes_by_row,
    neon,
    crate::arch::neon::NeonDot,
    crate::arch::neon::NeonDot::assume(),
    "neon,dotprod"
);
#[cfg(target_arch = "aarch64")]
kernels!(neon, codes_by_row, neon, crate::arch::neon::Neon, crate::arch::neon::Neon::assume(), "neon");
kernels!(portable, codes_by_row, portable, crate::arch::portable::Portable, crate::arch::portable::Portable);

impl Kernels {
    /// The kernels of an instruction set.
    pub(crate) fn of(level: Level) -> Kernels {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni(proof) => avx512_vnni::table(proof),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(proof) => avx512::table(proof),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Vnni(proof) => avx2_vnni::table(proof),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(proof) => avx2::table(proof),
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm(proof) => neon_i8mm::table(proof),
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot(proof) => neon_dot::table(proof),
            #[cfg(target_arch = "aarch64")]
            Level::Neon(proof) => neon::table(proof),
            Level::Portable(proof) => portable::table(proof),
        }
    }
}
