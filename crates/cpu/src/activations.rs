//! Activation rows as the integer kernels read them: int8 codes with one scale for 32 inputs.

/// Rows that one call of a tile kernel takes: their second planes are one list.
pub(crate) const PANEL_ROWS: usize = 24;

/// Thirty-two quantised activations. A row is `columns / 32` of them, each in a cache line of its own.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct ActivationBlock {
    /// Value ÷ scale, rounded to nearest.
    pub(crate) codes: [i8; 32],
    /// Largest magnitude ÷ 127.
    pub(crate) scale: f32,
    /// `scale · Σ codes`, what a format's minimum is multiplied with.
    pub(crate) scaled_sum: f32,
    /// `-128 · Σ codes`.
    pub(crate) lowered: i32,
    /// `-128 · Σ codes[..16]`.
    pub(crate) lowered_low: i32,
    /// Of a second plane: which block of its row it belongs to, or [`ActivationBlock::END`] behind a panel's last.
    pub(crate) block: u32,
    /// Of a second plane: its row in the panel.
    pub(crate) row: u32,
    /// Of a second plane: whether it is its row's first, 1 or 0.
    pub(crate) begins: u8,
    /// Of a first plane: whether it has a second one, 1 or 0.
    pub(crate) outlier: u8,
    pub(crate) padding: [u8; 6],
}

impl ActivationBlock {
    /// More than the number of any block.
    pub(crate) const END: u32 = u32::MAX;

    /// Second planes that a row of so many blocks can have: those of blocks whose square is over four times the mean. And
    /// one more, for the end of the list.
    pub(crate) fn second_planes(blocks: usize) -> usize {
        blocks / 4 + 1
    }

    /// `scale · Σ codes` of the first sixteen or the others.
    #[inline(always)]
    pub(crate) fn scaled_sum_of(&self, half: usize) -> f32 {
        let lowered = if half == 0 { self.lowered_low } else { self.lowered - self.lowered_low };
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
        divide(self.lowered - self.lowered_low, bias)
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
