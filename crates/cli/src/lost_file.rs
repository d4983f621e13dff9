//! A mapped model file that loses bytes while it is in use: an error and exit code 1, where the system would end the
//! program with a signal. Nothing can go on: the instruction that read what is gone has no result.

use std::sync::OnceLock;

use rustix::io::write;
use rustix::stdio::stderr;
use signal_hook::consts::SIGBUS;
use signal_hook::low_level::{exit, register};

use crate::output::{Output, Problem};

/// Made in advance, since a signal's handler may not allocate.
static MESSAGE: OnceLock<Vec<u8>> = OnceLock::new();

/// Takes over SIGBUS. Where the system refuses, it ends the program as it does by itself.
pub(crate) fn install(out: &Output) {
    let error = Problem::lost_file(
        "the model file lost bytes while it was in use, or its disk cannot be read: load it again, with --no-mmap if \
         something else writes to it",
    );
    let message = MESSAGE.get_or_init(|| (out.error_line(&error) + "\n").into_bytes());
    let report = move || {
        let mut rest = message.as_slice();
        while let Ok(written @ 1..) = write(stderr(), rest) {
            rest = &rest[written..];
        }
        exit(1);
    };
    // SAFETY: `report` only calls write(2) and _exit(2), which are safe in a signal's handler, on bytes that no longer
    // change; it neither allocates nor locks nor panics, since `written` is at most the length of `rest`.
    let _ = unsafe { register(SIGBUS, report) };
}
