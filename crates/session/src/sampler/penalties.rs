//! Repetition, frequency and presence penalties over the latest tokens.

/// The three penalties of one configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Penalties {
    /// 1 is off.
    pub(super) repeat: f32,
    /// Per occurrence; 0 is off.
    pub(super) frequency: f32,
    /// Once; 0 is off.
    pub(super) presence: f32,
}

impl Penalties {
    pub(super) fn is_off(&self) -> bool {
        self.repeat == 1.0 && self.frequency == 0.0 && self.presence == 0.0
    }

    /// Changes the logits of the tokens in `window`. `counts` has an entry, zero before and after, for every token.
    pub(super) fn apply(&self, window: &[u32], counts: &mut [u32], logits: &mut [f32]) {
        for &token in window {
            if let Some(count) = counts.get_mut(token as usize) {
                *count += 1;
            }
        }
        for &token in window {
            let token = token as usize;
            let (Some(count), Some(logit)) = (counts.get_mut(token), logits.get_mut(token)) else {
                continue;
            };
            if *count > 0 {
                *logit = self.penalised(*logit, *count);
                *count = 0;
            }
        }
    }

    /// Dividing a negative logit would reward the repetition, so it is multiplied instead.
    fn penalised(&self, logit: f32, count: u32) -> f32 {
        let repeated = if logit <= 0.0 { logit * self.repeat } else { logit / self.repeat };
        repeated - (count as f32 * self.frequency + self.presence)
    }
}

#[cfg(test)]
mod tests {
    use super::Penalties;

    #[test]
    fn each_token_is_penalised_once_by_its_count() {
        let penalties = Penalties { repeat: 2.0, frequency: 0.25, presence: 0.5 };
        let mut logits = [4.0, -4.0, 0.0, 1.0];
        let mut counts = [0; 4];
        penalties.apply(&[1, 0, 1, 1, 2, 99], &mut counts, &mut logits);
        assert_eq!(logits, [4.0 / 2.0 - 0.75, -8.0 - 1.25, -0.75, 1.0]);
        assert_eq!(counts, [0; 4]);
    }

    #[test]
    fn a_banned_token_stays_banned() {
        let penalties = Penalties { repeat: 0.5, frequency: -1.0, presence: 0.0 };
        let mut logits = [f32::NEG_INFINITY];
        penalties.apply(&[0], &mut [0], &mut logits);
        assert_eq!(logits, [f32::NEG_INFINITY]);
    }
}
