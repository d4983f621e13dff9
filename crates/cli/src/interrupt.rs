//! Ctrl-C. Ends the program, unless an answer is being written: then it is a wish that the answer stops.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a program that was interrupted: 128 and SIGINT.
pub(crate) const EXIT_CODE: u8 = 130;

static ANSWERING: AtomicBool = AtomicBool::new(false);
static WANTED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C. Where the system refuses, Ctrl-C ends the program as it does by itself.
pub(crate) fn install() {
    let _ = ctrlc::set_handler(|| {
        let first = !WANTED.swap(true, Ordering::SeqCst);
        if !(first && ANSWERING.load(Ordering::SeqCst)) {
            end();
        }
    });
}

/// While this lives, the first Ctrl-C sets [`Answering::stopped`]; a second one ends the program.
pub(crate) struct Answering(());

impl Answering {
    pub(crate) fn begin() -> Answering {
        WANTED.store(false, Ordering::SeqCst);
        ANSWERING.store(true, Ordering::SeqCst);
        Answering(())
    }

    /// Whether Ctrl-C was pressed since the beginning.
    pub(crate) fn stopped(&self) -> bool {
        WANTED.load(Ordering::SeqCst)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        ANSWERING.store(false, Ordering::SeqCst);
        WANTED.store(false, Ordering::SeqCst);
    }
}

/// Ends the program as interrupted.
pub(crate) fn end() -> ! {
    // Nobody is left to hear of a failure.
    let _ = std::io::stdout().flush();
    std::process::exit(EXIT_CODE.into())
}
