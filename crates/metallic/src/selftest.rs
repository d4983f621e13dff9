//! Does this machine's device compute what the readable reference computes? Tiny programs, no model needed.

use conformance::{Report, Suite};
use program::Backend;

use crate::Error;
use crate::device::{self, Device, Placement};

/// Which cases are run, and how a case's name is made.
pub use conformance::Selection;
/// How far numbers were apart, and how far they may be on each path through the arithmetic.
pub use conformance::tolerance::{Deviation, Path, bound};

/// What came of it.
#[derive(Clone, Debug)]
pub struct SelfTest {
    /// The device that was tested.
    pub placement: Placement,
    /// Driver or instruction set.
    pub description: String,
    /// Cases that were run.
    pub cases: usize,
    /// One line for each case that deviates, fails or is not supported: its name, and by how much it is off.
    pub failures: Vec<String>,
    /// The worst row met on each path, with its case.
    pub worst: Vec<(Path, Deviation, String)>,
}

/// Runs the selected cases on `device`; `progress` hears cases done, and cases in all.
///
/// # Errors
/// A device that is not there or cannot be opened. What deviates is no error but in the result.
pub fn selftest(
    device: &Device,
    threads: Option<usize>,
    selection: Selection,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<SelfTest, Error> {
    let opened = device::open(device, threads)?;
    let description = opened.backend()?.capabilities().description.clone();
    let suite = Suite::new(selection, &mut || Box::new(cpu::ReferenceBackend::new()) as Box<dyn Backend>);
    let cases = suite.names().count();
    let mut report = Report::default();
    for case in 0..cases {
        progress(case, cases);
        suite.check_case(case, &mut *opened.backend()?, &mut report);
    }
    progress(cases, cases);
    let worst = report.worst.into_iter().map(|(path, (deviation, case))| (path, deviation, case)).collect();
    Ok(SelfTest {
        placement: opened.placement,
        description,
        cases: cases - report.refused,
        failures: report.failures,
        worst,
    })
}
