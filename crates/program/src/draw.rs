//! Tokens that a device draws itself, so that the next pass need not wait for the host.

/// Most tokens that a backend draws among.
pub const DRAW_TOKENS_MAX: usize = 64;

/// How the token of the next pass is drawn: among the `top_k` tokens with the highest logits, of these the most likely that
/// have `top_p` of the probability together, of these those at least `min_p` times as likely as the first, with
/// probabilities in proportion to e^(logit ÷ temperature).
///
/// A device's arithmetic may draw a neighbour of the token that the host would have drawn. So it returns what it drew
/// among, and the host has the last word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// From 1 to [`DRAW_TOKENS_MAX`].
    pub top_k: usize,
    /// From 0 to 1.
    pub top_p: f32,
    /// From 0 to 1.
    pub min_p: f32,
    /// Above 0.
    pub temperature: f32,
}

/// What one pass came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// The token that the next pass was run on.
    pub token: u32,
    /// The tokens with the highest logits and these, highest first, of equals the lower token first. Logits that are no
    /// numbers count as the highest; those of −∞ may be missing at the end.
    pub candidates: Vec<(u32, f32)>,
}
