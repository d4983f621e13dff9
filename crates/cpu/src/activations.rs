//! Activation rows as the integer kernels read them: int8 codes with one scale for 32 inputs, and a second digit for outliers.

/// Rows that one call of a tile kernel takes: their outliers are one list.
pub(crate) const PANEL_ROWS: usize = 24;

/// Thirty-two quantised activations. A row is `columns / 32` of them, each in a cache line of its own.
///
/// A value is `scale · (code + 254 · high)`, where only outliers have a high digit: see [`Outliers`].
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct ActivationBlock {
    pub(crate) codes: [i8; 32],
    pub(crate) sums: CodeSums,
    /// Which pairs of quads have high digits: bit `pair` for inputs `4 · pair ..` and `16 + 4 · pair ..`, four each.
    pub(crate) outlier_pairs: u8,
    pub(crate) padding: [u8; 15],
}

/// The high digits of a pair of quads of one block: of inputs `4 · pair ..` and `16 + 4 · pair ..`, four each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Outliers {
    pub(crate) codes: [[i8; 4]; 2],
    /// In units of 254 times the block's scale.
    pub(crate) sums: CodeSums,
    /// Which block of its row, or [`Outliers::END`] behind a panel's last.
    pub(crate) block: u32,
    /// Of the panel.
    pub(crate) row: u8,
    pub(crate) pair: u8,
    /// Whether these are its row's first, 1 or 0.
    pub(crate) begins: u8,
    pub(crate) padding: u8,
}

impl Outliers {
    /// More than the number of any block.
    pub(crate) const END: u32 = u32::MAX;

    /// Most entries that the list of a row of so many blocks can have, with its end: those of blocks whose largest square is
    /// over four times the mean, of which there are fewer than one in four.
    pub(crate) fn room(blocks: usize) -> usize {
        blocks / 4 * 4 + 1
    }
}

/// What a product needs to know of some codes beside themselves: their unit, and sums for what weights are shifted by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct CodeSums {
    /// What a code of 1 stands for.
    pub(crate) scale: f32,
    /// `scale · Σ codes`, what a format's minimum is multiplied with.
    pub(crate) scaled_sum: f32,
    /// `-128 · Σ codes`.
    lowered: i32,
    /// `-128 · Σ codes` of the first sixteen inputs.
    lowered_low: i32,
}

impl CodeSums {
    /// From the unit and the sums of the codes of the first sixteen inputs and the others.
    #[inline(always)]
    pub(crate) fn new(scale: f32, low: i32, high: i32) -> CodeSums {
        // Codes of what is no number are any integers.
        let sum = low.wrapping_add(high);
        let lowered = |sum: i32| sum.wrapping_mul(-128);
        CodeSums { scale, scaled_sum: scale * sum as f32, lowered: lowered(sum), lowered_low: lowered(low) }
    }

    /// `scale · Σ codes` of the first sixteen or the others.
    #[inline(always)]
    pub(crate) fn scaled_sum_of(&self, half: usize) -> f32 {
        let lowered = if half == 0 { self.lowered_low } else { self.lowered.wrapping_sub(self.lowered_low) };
        self.scale * -(lowered >> 7) as f32
    }

    /// `-bias · Σ codes`, for a bias that divides 128.
    #[inline(always)]
    pub(crate) fn lowered(&self, bias: i32) -> i32 {
        divide(self.lowered, bias)
    }

    /// `-bias · Σ codes[..16]`.
    #[inline(always)]
    pub(crate) fn lowered_low(&self, bias: i32) -> i32 {
        divide(self.lowered_low, bias)
    }

    /// `-bias · Σ codes[16..]`.
    #[inline(always)]
    pub(crate) fn lowered_high(&self, bias: i32) -> i32 {
        divide(self.lowered.wrapping_sub(self.lowered_low), bias)
    }
}

#[inline(always)]
fn divide(lowered: i32, bias: i32) -> i32 {
    match bias {
        0 => 0,
        128 => lowered,
        _ => lowered >> (7 - bias.trailing_zeros()),
    }
}
