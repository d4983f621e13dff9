//! Progress bars on stderr. They are gone when their work is done, and never there where stderr is no terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Work that takes no longer than this needs no bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// A bar that appears when work takes long. Dropping it takes it away.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    wanted: bool,
}

impl Progress {
    /// A bar counting bytes.
    pub(crate) fn of_bytes(out: &Output) -> Progress {
        Progress::new(out, "{msg} {wide_bar} {bytes}/{total_bytes} {eta}")
    }

    /// A bar counting things.
    pub(crate) fn of_items(out: &Output) -> Progress {
        Progress::new(out, "{msg} {wide_bar} {pos}/{len} {eta}")
    }

    fn new(out: &Output, template: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template(template).expect("templates are ours, and tested"));
        Progress { bar, started: Instant::now(), wanted: out.progress() }
    }

    /// Shows how far the work is.
    pub(crate) fn set(&mut self, message: &str, done: u64, total: u64) {
        if self.wanted && self.started.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.wanted = false;
        }
        if self.bar.message() != message {
            self.bar.set_message(message.to_owned());
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Verbosity;

    #[test]
    fn templates_are_valid() {
        let out = Output::new(Verbosity::Quiet, false);
        Progress::of_bytes(&out).set("loading", 1, 2);
        Progress::of_items(&out).set("prompt", 1, 2);
    }
}
